"""`isthmus encode`: the code of every image, by a trained autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import Images, report


def encode(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A finished run of an autoencoder or `vae`, or a study with one.", show_default=False
        ),
    ],
    images: Images,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The file to write: .npz, .csv or .parquet.", show_default=False
        ),
    ],
    posterior: Annotated[
        bool, typer.Option("--posterior", help="Of a vae, also write the standard deviation of each number.")
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails",
            help="To a .parquet also write each image and its place in a plane, for Hugging Face datasets and "
            "embedding-atlas.",
        ),
    ] = False,
    device: options.Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Write the code of each of IMAGES, of a vae the mean, with its path and its class where that is known.

    Images are brought to the size and channels of the training.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED
    from isthmus.training.codes import encode_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("encode") as progress:
        found = encode_into(
            out,
            run,
            images,
            posterior=posterior,
            thumbnails=thumbnails,
            overwrite=overwrite,
            device=place,
            progress=progress,
        )
    report(found.stream, console)
    count, size = found.codes.shape
    if as_json:
        facts = {"run": str(run), "out": str(out), "images": count, "code_size": size, "left_out": found.stream.bad}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"codes: {out} ({count:,} image{'s' if count > 1 else ''}, {size} numbers each)")
    if found.stream.bad:
        raise SystemExit(FAILED)
