"""`isthmus explore`: a run's codes in the browser, to walk through by hand."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import options

if TYPE_CHECKING:
    from isthmus.cli.console import Console
    from isthmus.explorer.bundle import Explorer, Source


class Layout(StrEnum):
    """A map beside those of the code's own axes."""

    NONE = "none"
    TSNE = "tsne"


def explore(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run, or a study with a single one that has codes."),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="The images of the map: a name or a path; by default the test part of what RUN was trained on.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="DIR", help="Write a folder for any web server, and stop.", show_default=False
        ),
    ] = None,
    single_file: Annotated[
        Path | None,
        typer.Option(
            "--single-file",
            metavar="FILE",
            help="Write one .html that opens from disk, and stop; beside a study's report, the report links to it.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Of the server; by default a free one.", show_default=False)
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    layout: Annotated[
        Layout, typer.Option("--layout", help="tsne: a map that keeps neighbours too (needs openTSNE).")
    ] = Layout.NONE,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier",
            metavar="RUN",
            help="A run that tells the classes of images; by default the best of the same study.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing explorer.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Show RUN in a browser: the map of its codes, a decoder that draws wherever one points, images of one's own.

    The networks run in the page. Without --export or --single-file it is shown by a server on this machine, for this
    machine alone, until Ctrl-C.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import InputError
    from isthmus.explorer.bundle import Source

    if export is not None and single_file is not None:
        raise InputError("--export writes a folder, --single-file a file: give one of them.")
    if (export is not None or single_file is not None) and (port is not None or no_browser):
        raise InputError("--port and --no-browser belong to the server, and nothing is served here: leave them out.")
    if overwrite and export is None and single_file is None:
        raise InputError("--overwrite belongs to --export or --single-file; nothing is written without them.")
    source = Source(run, data, classifier, layout.value)
    console = Console(quiet=quiet, progress=not no_progress)
    if export is not None:
        _export(source, export, console, overwrite=overwrite, as_json=as_json)
    elif single_file is not None:
        _single_file(source, single_file, console, overwrite=overwrite, as_json=as_json)
    else:
        _serve(source, port or 0, console, browser=not no_browser, as_json=as_json)


def _export(source: Source, folder: Path, console: Console, *, overwrite: bool, as_json: bool) -> None:
    from isthmus.explorer.target import replacing

    with replacing(folder, overwrite=overwrite) as made:
        explorer = _build(source, made, console)
    if as_json:
        _print_facts(explorer, out=str(folder), bytes=explorer.bytes)
        return
    typer.echo(
        f"explorer: {folder} ({explorer.bytes / 1e6:.1f} MB, {explorer.count:,} images); any web server shows it"
    )


def _single_file(source: Source, path: Path, console: Console, *, overwrite: bool, as_json: bool) -> None:
    from isthmus.explorer.links import link, report_of
    from isthmus.explorer.single import single_file
    from isthmus.explorer.target import check_file
    from isthmus.runs import Run
    from isthmus.writing import write_bytes

    check_file(path, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="isthmus-") as place:
        explorer = _build(source, Path(place), console)
        content = single_file(Path(place))
    write_bytes(path, content)
    report = report_of(Run(explorer.run), path)
    linked = report is not None and link(report, path, explorer.title)
    if as_json:
        _print_facts(explorer, out=str(path), bytes=len(content), linked_in=str(report) if linked else None)
        return
    typer.echo(
        f"explorer: {path} ({len(content) / 1e6:.1f} MB, {explorer.count:,} images); a browser opens it from disk"
    )
    if linked:
        typer.echo(f"linked in: {report}")


def _serve(source: Source, port: int, console: Console, *, browser: bool, as_json: bool) -> None:
    from isthmus.explorer.serve import Server

    # The port is taken before the work, which lasts some seconds, so that one that is in use is said at once.
    with tempfile.TemporaryDirectory(prefix="isthmus-") as place, Server(Path(place), port) as server:
        explorer = _build(source, Path(place), console)
        if as_json:
            _print_facts(explorer, address=server.address, bytes=explorer.bytes)
        else:
            typer.echo(f"explorer: {server.address} ({explorer.count:,} images); Ctrl-C ends it")
        if browser and not webbrowser.open(server.address):
            console.say(f"no browser could be opened from here; open {server.address} in one")
        server.serve_forever(poll_interval=0.1)


def _build(source: Source, folder: Path, console: Console) -> Explorer:
    from isthmus.explorer.bundle import build

    with console.progress("encode") as progress:
        explorer = build(source, folder, say=console.say, progress=progress)
    for line in (*explorer.notes, *explorer.missing):
        console.say(line)
    return explorer


def _print_facts(explorer: Explorer, **more: Any) -> None:
    facts = {
        "run": str(explorer.run),
        "images": explorer.count,
        "missing": list(explorer.missing),
        "apart_from_torch": explorer.error,
    }
    print(json.dumps({**facts, **more}), flush=True)
