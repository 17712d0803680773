"""`isthmus evaluate`: a finished run on images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, get_args

import typer

from isthmus.cli import options


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run, or a study with a single one.", show_default=False),
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

    Its own images are loaded again and divided as for the training; they have to be the same. In JSON a figure that is
    not finite is null.
    """
    from isthmus.errors import InputError
    from isthmus.networks.catalog import Network
    from isthmus.training.evaluation import evaluate as measure
    from isthmus.training.evaluation import held_out, prepare
    from isthmus.training.predict import find_run

    if data is None and skip_bad:
        raise InputError("--skip-bad belongs to DATA; without it the images are read as for the training.")
    chosen = find_run(run, get_args(Network))
    images = held_out(chosen) if data is None else prepare(chosen, data, skip_bad=skip_bad)
    figures = measure(chosen, images, samples=samples)
    if as_json:
        facts = {
            "run": str(chosen.folder),
            "data": images.name if data is None else data,
            "part": "test" if data is None else "all",
            "images": len(images),
            "figures": {name: value if math.isfinite(value) else None for name, value in figures.items()},
        }
        typer.echo(json.dumps(facts))
        return
    if data is None:
        typer.echo(f"{'images':24} {len(images):,}, the test part of {images.name}")
    for name, value in figures.items():
        typer.echo(f"{name:24} {value:.5g}")
