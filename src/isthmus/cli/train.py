"""`isthmus train`: one network, one set of images, one run folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def train(
    network: Annotated[
        str,
        typer.Argument(metavar="NETWORK", help="lab, strong, linear, vae, denoiser or classifier.", show_default=False),
    ],
    data: options.Data,
    out: options.Out,
    changes: options.Set = [],  # noqa: B006
    seed: options.Seed = 0,
    device: options.Device = "auto",
    skip_bad: options.SkipBad = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="DIR",
            help="Write curves, and a picture at the end, for TensorBoard too, into a folder of DIR named as the run.",
            show_default=False,
        ),
    ] = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train one network on images and write a run folder.

    Settings are model.*, training.* and data.*, for example --set model.latent_dim=16 --set training.epochs=20.
    On several devices: torchrun --nproc-per-node 2 -m isthmus train ...
    """
    from isthmus.cli.console import Console
    from isthmus.cli.reading import reading
    from isthmus.studies.single import train_one
    from isthmus.training.distributed import joined, leads
    from isthmus.training.events import logging_events

    options.prepare_process()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(joined(options.choose_device(device)))
        console = Console(quiet=quiet or not leads(), progress=not no_progress)
        written = stack.enter_context(logging_events(tensorboard if leads() else None))
        stack.enter_context(reading(console))
        figures = train_one(
            network,
            data,
            out,
            changes=changes,
            seed=seed,
            device=place,
            skip_bad=skip_bad,
            resume=resume,
            overwrite=overwrite,
            reporter=console,
        )
        leader = leads()
    if not leader:
        return
    if as_json:
        events = {"events": str(written[0])} if written else {}
        typer.echo(json.dumps({"run": str(out), "figures": figures, **events}))
    else:
        for name, value in figures.items():
            typer.echo(f"{name:24} {value:.5g}")
        for folder in written:
            typer.echo(f"events: {folder} (tensorboard --logdir {tensorboard})")
        typer.echo(f"run: {out}")
