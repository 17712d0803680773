"""`isthmus classify`: the class of every image, by a trained classifier."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options

if TYPE_CHECKING:
    from isthmus.cli.console import Console
    from isthmus.data.batches import Stream
    from isthmus.training.predict import Classified

Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="An image, a folder (searched below), an .npz, Parquet, IDX or CSV file, or a name.",
        show_default=False,
    ),
]


def classify(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run of `classifier`, or a study with one.", show_default=False),
    ],
    images: Images,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Also write a folder: table.csv and sheet.png.", show_default=False
        ),
    ] = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Say which class each of IMAGES is of, and how probable that is.

    Images are brought to the size and channels of the training. Where folders or labels name classes of the RUN, the
    share of right answers is given too, over images that were not trained on.

    With --out it writes table.csv, the probabilities of all, and sheet.png, the images it is least sure of.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED, InputError
    from isthmus.training.predict import classify_images

    if overwrite and out is None:
        raise InputError("--overwrite says what to do with a folder that exists: give --out too, or leave it out.")
    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("classify") as progress:
        if out is None:
            found = classify_images(run, images, device=place, progress=progress)
        else:
            from isthmus.report.sheets import classify_into

            found = classify_into(out, run, images, overwrite=overwrite, device=place, progress=progress)
    report(found.stream, console)
    if as_json:
        typer.echo(json.dumps(_records(found)))
        console.say(_summary(found))
    else:
        _print_table(found)
        typer.echo(_summary(found))
        if out is not None:
            typer.echo(f"sheet: {out / 'sheet.png'}, table: {out / 'table.csv'}")
    if found.stream.bad:
        raise SystemExit(FAILED)


def report(stream: Stream, console: Console) -> None:
    """Say on stderr what was changed to images, and which were left out."""
    for note in stream.notes():
        console.say(note)
    for name, reason in stream.bad.items():
        print(f"left out: {printable(name)} {reason}", file=sys.stderr)


def printable(name: str) -> str:
    r"""A name for a terminal: line breaks, escapes and bytes that are no text as \n, \x1b, \udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _records(found: Classified) -> list[dict[str, object]]:
    rows = zip(found.names, found.predicted, found.probabilities.tolist(), strict=True)
    return [
        {"path": name, "class": predicted, "probabilities": dict(zip(found.classes, row, strict=True))}
        for name, predicted, row in rows
    ]


def _print_table(found: Classified) -> None:
    """Print aligned columns, as wide as they need to be."""
    from rich.cells import cell_len

    highest = found.probabilities.max(1).tolist()
    rows = [("path", "class", "probability")]
    for name, predicted, probability in zip(found.names, found.predicted, highest, strict=True):
        rows.append((printable(name), printable(predicted), f"{probability:.4f}"))
    first, second = (max(cell_len(row[i]) for row in rows) for i in range(2))
    for name, predicted, last in rows:
        typer.echo(f"{name}{' ' * (first - cell_len(name))}  {predicted}{' ' * (second - cell_len(predicted))}  {last}")


def _summary(found: Classified) -> str:
    from isthmus.metrics import wilson_interval

    count = len(found.names)
    text = f"{count:,} image{'s' if count > 1 else ''}"
    right, total = found.right()
    if total:
        low, high = wilson_interval(right, total)
        which = "with a known class" + (" and not trained on" if found.seen.any() else "")
        share = f"{100 * right / total:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        return f"{text}; of {total:,} {which}, {right:,} {'is' if right == 1 else 'are'} right ({share})"
    if found.seen.any():
        return f"{text}; all with a known class were trained on, so no share of right answers is given"
    return text
