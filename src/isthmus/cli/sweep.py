"""`isthmus sweep`: every network of a study file trained, in processes of this machine or on a Ray cluster."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options
from isthmus.cli.study import draw

if TYPE_CHECKING:
    from isthmus.report.studies import Outlook
    from isthmus.studies.sweeping import Row

SOME_FAILED = 3
ENGINES = ("process", "ray", "stacked")
ON_TOP = "; the analyses and the report come on top"  # of a study, which is foreseen in the same way
SHOWN = ("validation_loss", "validation_accuracy")


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).", show_default=False)],
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="process|ray",
            help="process trains in processes of this machine, ray on the cluster that RAY_ADDRESS names, or without "
            "that on one started here.",
        ),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Trainings at a time; by default one a thread, on a cluster as many as it has room for.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to write; by default sweeps/NAME of the file."),
    ] = None,
    changes: options.Set = [],  # noqa: B006
    device: options.Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and about how long it takes here, and stop.")
    ] = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train every network of a study file side by side, and write a table of what became of them: nothing else of the
    file is done. docs/howto/sweeps.md has examples.

    A training that diverges is an answer; one that fails leaves the others alone, is named at the end with exit code 3,
    and is tried again with --resume. `isthmus study FILE` trains the same and writes a report.
    """
    _check_engine(engine)
    from isthmus.cli.console import Console
    from isthmus.cli.reading import reading
    from isthmus.report.studies import Request, foresee
    from isthmus.studies.sweeping import Means, failed, run_sweep, sweep_settings

    options.prepare_process()
    console = Console(quiet=quiet, progress=not no_progress)
    place = _device(device, engine)
    if dry_run:
        sweep_settings(file, changes)
        outlook = foresee(Request(str(file), changes=changes), device=place, workers=workers, reporter=console)
        typer.echo(json.dumps(_facts(outlook)) if as_json else draw(outlook).replace(ON_TOP, ""))
        return
    folder = out or Path("sweeps") / file.stem
    means = Means("ray" if engine == "ray" else "process", workers, place, options.prepare_process)
    with reading(console):
        rows = run_sweep(
            file, folder, changes=changes, means=means, resume=resume, overwrite=overwrite, reporter=console
        )
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "trials": [asdict(row) for row in rows]}))
    else:
        typer.echo(f"{drawn(rows)}\n\nsweep: {folder}")
    bad = failed(rows)
    if bad:
        listed = "".join(f"\n  {row.name}: {(row.error or '').splitlines()[-1]}" for row in bad)
        typer.echo(f"error: {len(bad)} of {len(rows)} trainings failed; --resume tries them again:{listed}", err=True)
        raise typer.Exit(SOME_FAILED)


def drawn(rows: list[Row]) -> str:
    """The runs as a table to read: settings that were swept, the losses that training chose by, seconds."""
    swept = list(dict.fromkeys(path for row in rows for path in row.swept))
    figures = [name for name in SHOWN if any(name in row.figures for row in rows)]
    lines = [["run", "status", *(path.rpartition(".")[2] for path in swept), *figures, "seconds"]]
    for row in rows:
        values = [*(_cell(row.swept.get(path)) for path in swept), *(_cell(row.figures.get(name)) for name in figures)]
        lines.append([row.name, row.status, *values, f"{row.seconds:.1f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _facts(outlook: Outlook) -> dict[str, object]:
    found = outlook.estimates
    return {"runs": [asdict(each) for each in found.runs], "seconds": found.seconds, "workers": found.workers}


def _cell(value: object) -> str:
    """
    >>> [_cell(value) for value in (None, 0.0123456, 16, [64, 32])]
    ['', '0.01235', '16', '64x32']
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _check_engine(engine: str) -> None:
    """Raises: InputError for an engine that there is not."""
    from isthmus.errors import InputError

    if engine == "stacked":
        raise InputError(
            "--engine stacked, several networks in one pass on a GPU, is not built: there was no GPU to measure it on. "
            "Take process; or ray, which with --device cuda trains several networks on one GPU."
        )
    if engine not in ENGINES:
        raise InputError(f"--engine {engine!r} is not known; choose process or ray.")


def _device(name: str, engine: str) -> str:
    """What the workers train on: those of a cluster elsewhere have devices that this machine need not have."""
    if engine != "ray":
        return options.choose_device(name)
    if name != "auto":
        return name
    here = "cpu" if os.environ.get("RAY_ADDRESS") else options.choose_device(name)
    return "cuda" if here == "cuda" else "cpu"
