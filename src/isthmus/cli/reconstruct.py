"""`isthmus reconstruct`: what the code of a trained run keeps of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import Images, report


def reconstruct(
    run: options.Coder,
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path(
        "reconstructed"
    ),
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Encode IMAGES and decode them again with a trained RUN, and say how much was lost.

    Images are brought to the size and channels of the training. Writes original/ and reconstructed/, a picture an
    image; table.csv, with mse and psnr of each; sheet.png, some images beside their reconstructions.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED
    from isthmus.report.redrawn import reconstruct_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("reconstruct") as progress:
        found = reconstruct_into(out, run, images, overwrite=overwrite, device=place, progress=progress)
    report(found.stream, console)
    count, figures = len(found.mse), found.figures()
    if as_json:
        facts = {"run": str(run), "out": str(out), "images": count, "figures": figures, "left_out": found.stream.bad}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"{'images':24} {count:,}")
        for name, value in figures.items():
            typer.echo(f"{name:24} {value:.5g}")
        typer.echo(f"reconstructed: {out}")
    if found.stream.bad:
        raise SystemExit(FAILED)
