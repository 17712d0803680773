"""`isthmus study`: a whole study, from images to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits.", show_default=False)],
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="A name from `isthmus data list`, or a path.")
    ] = "mnist-5k",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="The folder to write; by default studies/NAME.",
            show_default=False,
        ),
    ] = None,
    changes: options.Set = [],  # noqa: B006
    seed: options.Seed = 0,
    device: options.Device = "auto",
    fast: Annotated[bool, typer.Option("--fast", help="The same exercises with a third of the updates.")] = False,
    skip_bad: options.SkipBad = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train, measure and report: NAME `digits` does exercises D1 to D8 on digits or on images of your own.

    Settings are data.height, data.width, data.grey and noise, for example --set data.height=64 --set data.width=64.
    """
    from isthmus.cli.console import Console
    from isthmus.report.studies import run_study

    options.prepare_process()
    folder = out or Path("studies") / name
    report, summary = run_study(
        name,
        data,
        folder,
        changes=changes,
        seed=seed,
        fast=fast,
        device=options.choose_device(device),
        skip_bad=skip_bad,
        resume=resume,
        overwrite=overwrite,
        reporter=Console(quiet=quiet, progress=not no_progress),
    )
    typer.echo(json.dumps(summary) if as_json else f"report: {report}")
