"""`isthmus decode`: codes to images, by the decoder of a trained run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import printable


def decode(
    run: options.Coder,
    codes: Annotated[
        Path,
        typer.Argument(
            metavar="CODES",
            help="A file of `isthmus encode` (.npz, .csv, .parquet), or a plain array (N, D), .npy or .npz.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("decoded"),
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Draw the image of each of CODES with the decoder of RUN.

    Writes images/, a picture called after the path or the number of its code; table.csv; sheet.png, some of them.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED
    from isthmus.report.redrawn import decode_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("decode") as progress:
        found = decode_into(out, run, codes, overwrite=overwrite, device=place, progress=progress)
    for note in found.notes:
        console.say(note)
    for name, reason in found.bad.items():
        print(f"left out: {printable(name)} {reason}", file=sys.stderr)
    if as_json:
        facts = {"run": str(run), "codes": str(codes), "out": str(out), "images": found.count, "left_out": found.bad}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"images: {out / 'images'} ({found.count:,}), some of them on {out / 'sheet.png'}")
    if found.bad:
        raise SystemExit(FAILED)
