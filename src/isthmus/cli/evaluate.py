"""`isthmus evaluate`: a finished run on images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A folder that `isthmus train` or a study wrote.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="A name from `isthmus data list`, or a path; by default the test part of what RUN was trained on.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Of a VAE's importance-weighted bound; 0 leaves it out.")
    ] = 0,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
) -> None:
    """Measure a finished run on all images of DATA, or on the test part of its own; warn if it was trained on any.

    Its own images are loaded again and divided as for the training; they have to be the same.
    """
    from isthmus.errors import InputError
    from isthmus.runs import Run
    from isthmus.training.evaluation import evaluate as measure
    from isthmus.training.evaluation import held_out, prepare

    if data is None and skip_bad:
        raise InputError("--skip-bad belongs to DATA; without it the images are read as for the training.")
    images = held_out(Run(run)) if data is None else prepare(Run(run), data, skip_bad=skip_bad)
    figures = measure(run, images, samples=samples)
    if as_json:
        chosen = {
            "data": images.name if data is None else data,
            "part": "test" if data is None else "all",
            "images": len(images),
        }
        typer.echo(json.dumps({"run": str(run), **chosen, "figures": figures}))
        return
    if data is None:
        typer.echo(f"{'images':24} {len(images):,}, the test part of {images.name}")
    for name, value in figures.items():
        typer.echo(f"{name:24} {value:.5g}")
