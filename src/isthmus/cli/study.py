"""`isthmus study`: a whole study, from images to a report; or a file that describes one, and what it would train."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options

if TYPE_CHECKING:
    from isthmus.report.studies import Outlook


GO_WITH = {  # what may be given beside each option that does one thing and stops
    "init": {"name", "data", "overwrite"},
    "schema": set[str](),
    "print_toml": {"name", "data", "changes", "seed", "fast", "skip_bad"},
}


def study(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="digits, signs, or a study file (TOML).", show_default=False),
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write FILE, by default study.toml, with every key explained, and stop.")
    ] = False,
    print_toml: Annotated[
        bool, typer.Option("--print-toml", help="Print the study as a study file, to start your own from, and stop.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of study files, and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and about how long it takes here, and stop.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="A name from `isthmus data list`, or a path; by default that of the file, mnist-5k for digits, "
            "sign-digits for signs (drawn-hands where those cannot be had).",
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
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Decides the split, the weights and the order of the data; by default that of the file, or 0.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    fast: Annotated[bool, typer.Option("--fast", help="The same exercises with a third of the updates.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that train side by side in a sweep; by default one a thread.",
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
    """Train, measure and report. NAME `digits` does exercises D1 to D8, `signs` S1 to S3, on images of your own too; a
    study of your own is a FILE, which --init writes and docs/study-file.md explains.

    Of a built-in study the settings are data.height, data.width, data.grey and, for digits, noise: --set
    data.height=48 --set data.width=48. Of a file they are its keys: --set networks.conv.training.epochs=3.
    """
    from isthmus.errors import InputError

    asked = {"--init": init, "--print-toml": print_toml, "--schema": schema, "--dry-run": dry_run}
    given = [option for option, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are different things to do: give one of them.")
    _check_alone(context)
    if schema:
        from isthmus.studies.study_text import schema_text

        typer.echo(schema_text(), nl=False)
        return
    if init:
        typer.echo(_write_template(Path(name or "study.toml"), data, overwrite=overwrite))
        return
    if name is None:
        raise InputError("Name a study: digits, signs, or a file; `isthmus study --init` writes one to start from.")
    from isthmus.cli.console import Console
    from isthmus.cli.reading import reading
    from isthmus.report.studies import Request, foresee, run_study, study_toml

    request = Request(name, data, changes, seed, fast, skip_bad)
    if print_toml:
        typer.echo(study_toml(request), nl=False)
        return
    options.prepare_process()
    console = Console(quiet=quiet, progress=not no_progress)
    if dry_run:
        outlook = foresee(request, device=options.choose_device(device), workers=workers, reporter=console)
        typer.echo(json.dumps(_facts(outlook)) if as_json else draw(outlook))
        return
    with reading(console):
        report, summary = run_study(
            name,
            data,
            out or Path("studies") / Path(name).stem,
            changes=changes,
            seed=seed,
            fast=fast,
            device=options.choose_device(device),
            workers=workers,
            prepare=options.prepare_process,
            skip_bad=skip_bad,
            resume=resume,
            overwrite=overwrite,
            reporter=console,
        )
    typer.echo(json.dumps(summary) if as_json else f"report: {report}")


def draw(outlook: Outlook) -> str:
    """What would be trained as a table, and how long it should take."""
    estimates = outlook.estimates
    head = ("run", "network", "parameters", "epochs", "updates", "about")
    rows = [
        (e.run, e.network, f"{e.parameters:,}", f"{e.epochs:,}", f"{e.updates:,}", _time(e.seconds))
        for e in estimates.runs
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    count = len(rows)
    beside = f", {estimates.workers} side by side" if estimates.workers > 1 else ""
    last = (
        f"{count} training{'' if count == 1 else 's'}{beside}: about {_time(estimates.seconds)}. This is an estimate "
        f"from a few timed updates of each network on this machine; the analyses and the report come on top."
    )
    return "\n".join([outlook.images, *outlook.notes, "", *(line.rstrip() for line in lines), "", last])


def _time(seconds: float) -> str:
    """
    >>> _time(0.34), _time(75.2), _time(7325.0)
    ('0.3 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _facts(outlook: Outlook) -> dict[str, object]:
    estimates = outlook.estimates
    runs = [asdict(each) for each in estimates.runs]
    return {"runs": runs, "seconds": estimates.seconds, "workers": estimates.workers, "notes": list(outlook.notes)}


def _check_alone(context: typer.Context) -> None:
    """Raises: InputError for what is given beside an option that has no use for it."""
    from isthmus.errors import InputError

    options = {str(option.name): option for option in context.command.params}
    given = [name for name in options if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    for action, allowed in GO_WITH.items():
        if not context.params[action]:
            continue
        others = [name for name in given if name not in {action, "quiet", "no_progress", *allowed}]
        if others:
            called = [str(context.params[name]) if name == "name" else options[name].opts[0] for name in others]
            raise InputError(f"{options[action].opts[0]} has no use for {', '.join(called)}; leave that out.")


def _write_template(path: Path, data: str | None, *, overwrite: bool) -> str:
    """Write a study file to start from; returns what to do next."""
    from isthmus.errors import InputError, RunExistsError
    from isthmus.studies.study_text import template
    from isthmus.writing import write_bytes

    if path.suffix != ".toml":
        raise InputError(
            f"--init writes a TOML file, and {path} does not end in .toml: call it {path}.toml. To start from a "
            f"built-in study, `isthmus study digits --print-toml > my.toml`."
        )
    if path.is_dir():
        raise RunExistsError(f"{path} is a folder; name a file to write.")
    if path.exists() and not overwrite:
        raise RunExistsError(f"{path} exists already; add --overwrite to replace it, or name another file.")
    try:
        content = template(data or "mnist-5k", str(path)).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The path {data or str(path)!r} is not UTF-8, which TOML needs; rename it.") from error
    write_bytes(path, content)
    return f"{path} is a study to change as you like; `isthmus study {path} --dry-run` says what it would train."
