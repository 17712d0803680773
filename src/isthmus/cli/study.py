"""`isthmus study`: a whole study, from images to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits or signs.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="A name from `isthmus data list`, or a path; by default mnist-5k for digits, sign-digits for signs "
            "(drawn-hands where those cannot be had).",
            show_default=False,
        ),
    ] = None,
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
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that train side by side in `signs`; by default one a thread.",
            show_default=False,
        ),
    ] = None,
    skip_bad: options.SkipBad = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train, measure and report: NAME `digits` does exercises D1 to D8, `signs` S1 to S3, on images of your own too.

    Settings are data.height, data.width, data.grey and, for digits, noise: --set data.height=48 --set data.width=48.
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
        workers=workers,
        prepare=options.prepare_process,
        skip_bad=skip_bad,
        resume=resume,
        overwrite=overwrite,
        reporter=Console(quiet=quiet, progress=not no_progress),
    )
    typer.echo(json.dumps(summary) if as_json else f"report: {report}")
