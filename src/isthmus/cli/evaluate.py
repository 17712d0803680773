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
    data: options.Data,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Of a VAE's importance-weighted bound; 0 leaves it out.")
    ] = 0,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
) -> None:
    """Measure a finished run on all images of DATA; warn if it was trained on any of them."""
    from isthmus.training.evaluation import evaluate as measure

    figures = measure(run, data, skip_bad=skip_bad, samples=samples)
    if as_json:
        typer.echo(json.dumps({"run": str(run), "data": data, "figures": figures}))
    else:
        for name, value in figures.items():
            typer.echo(f"{name:24} {value:.5g}")
