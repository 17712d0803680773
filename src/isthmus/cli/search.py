"""`isthmus search`: the images whose codes are nearest to those of other images."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import printable

if TYPE_CHECKING:
    from isthmus.latent.search import Found

PRINTED = 10  # queries answered on a terminal; the table has all


def search(
    run: options.Coder,
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="An image to look for, a folder of them, or whatever DATA may be.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Where to look: a folder, an .npz, Parquet, IDX or CSV file, a name, or codes by `isthmus encode`. "
            "By default what RUN was trained on.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many images to find for each, at most 1000.")] = 10,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("found"),
    resize: options.Resize = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Find the images of DATA that are most like QUERY: those with the nearest codes.

    Images of DATA are brought to the size and channels of the training. Writes sheet.png, the images side by side, and
    table.csv, with the distances. Of a file of codes the sheet shows what RUN decodes.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED
    from isthmus.report.sheets import search_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("search") as progress:
        found = search_into(
            out,
            run,
            query,
            data,
            count=count,
            resize=resize,
            overwrite=overwrite,
            device=place,
            progress=progress,
        )
    for note in found.notes:
        console.say(note)
    for left_out in (found.queries_left_out, found.left_out):
        for name, reason in left_out.items():
            print(f"left out: {printable(name)} {reason}", file=sys.stderr)
    if as_json:
        typer.echo(json.dumps({"run": str(run), "out": str(out), **_facts(found)}))
    else:
        _print(found)
        typer.echo(f"sheet: {out / 'sheet.png'}, table: {out / 'table.csv'}")
    if found.queries_left_out or found.left_out:
        raise SystemExit(FAILED)


def _facts(found: Found) -> dict[str, object]:
    answers, names = [], found.among.names()
    for i, name in enumerate(found.queries.names()):
        near = [
            {"path": names[place], "class": found.among.label(place), "distance": _finite(distance)}
            for place, distance in zip(found.nearest.index[i], found.nearest.distances[i].tolist(), strict=True)
        ]
        answers.append({"query": name, "found": near})
    return {
        "queries": len(found.queries),
        "images": len(found.among),
        "code_size": found.among.codes.shape[1],
        "found": answers,
        "queries_left_out": found.queries_left_out,
        "left_out": found.left_out,
    }


def _finite(distance: float) -> float | None:
    """JSON has no infinity, the distance of codes whose squares float32 cannot hold."""
    return distance if math.isfinite(distance) else None


def _print(found: Found) -> None:
    """Print the nearest of each query in aligned columns; of many queries only the first."""
    from rich.cells import cell_len

    shown = min(len(found.queries), PRINTED)
    rows = [("query", "nearest", "class", "distance")]
    for i in range(shown):
        name = printable(found.queries.names()[i])
        for rank, place in enumerate(found.nearest.index[i][: 1 if len(found.queries) > 1 else None]):
            label = printable(found.among.label(place) or "-")
            rows.append((name, printable(found.among.names()[place]), label, f"{found.nearest.distances[i, rank]:.5g}"))
    widths = [max(cell_len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [f"{cell}{' ' * (width - cell_len(cell))}" for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, row[3]]))
    if shown < len(found.queries):
        typer.echo(f"and {len(found.queries) - shown:,} more queries, in the table")
    images = f"{len(found.among):,} image{'s' if len(found.among) > 1 else ''}"
    typer.echo(f"{len(found.queries):,} quer{'ies' if len(found.queries) > 1 else 'y'} among {images}")
