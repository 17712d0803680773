"""`isthmus generate`: new images from a trained run."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


class Density(StrEnum):
    """What codes are drawn from."""

    NORMAL = "normal"
    GAUSSIAN = "gaussian"
    MIXTURE = "mixture"
    KERNEL = "kernel"
    HISTOGRAM = "histogram"


def generate(
    run: options.Coder,
    density: Annotated[
        Density | None,
        typer.Option(
            "--density",
            help="normal, the N(0, I) of a VAE and its default, or one fitted to the run's training codes: gaussian, "
            "mixture (default of an autoencoder), kernel, histogram (codes of 3 or so numbers at most).",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many images to draw, at most 10000.")] = 64,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("generated"),
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Decides the codes.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw images from a trained RUN: codes from a density, decoded.

    Writes samples.png (all on one sheet), samples/ (a picture each; samples.npz of more than 1000), table.csv, with
    the log density of each, and codes.npz. A density that is fitted for it is kept with the run.
    """
    from isthmus.cli.console import Console
    from isthmus.latent.sampling import generate_into

    drawn = generate_into(
        out,
        run,
        density=None if density is None else density.value,
        count=count,
        seed=seed,
        overwrite=overwrite,
        device=options.choose_device(device),
    )
    for note in drawn.notes:
        Console(quiet=quiet).say(note)
    nats = drawn.heldout_nats
    if as_json:
        figures = {"images": count, "heldout_nats": nats if nats is not None and math.isfinite(nats) else None}
        typer.echo(json.dumps({"run": str(run), "out": str(out), "density": drawn.density, "figures": figures}))
        return
    typer.echo(f"{'density':24} {drawn.density}")
    typer.echo(f"{'images':24} {count}")
    if nats is not None:
        typer.echo(f"{'test codes, nats each':24} {nats:.5g}")
    typer.echo(f"samples: {out / 'samples.png'}")
