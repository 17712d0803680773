"""`isthmus interpolate`: the pictures between two images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def interpolate(
    run: options.Coder,
    first: Annotated[str, typer.Argument(metavar="A", help="The image file to start from.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The image file to end at.", show_default=False)],
    steps: Annotated[
        int, typer.Option("--steps", help="Pictures on each way, those of A and B included, from 3 to 50.")
    ] = 9,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path(
        "interpolated"
    ),
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Draw the pictures between the images A and B: codes on the way from one to the other, decoded by RUN.

    One way is straight; the other keeps its distance from the origin, as the codes of a `vae` do. Writes strip.png and
    codes.npz, which `isthmus decode` takes.
    """
    from isthmus.cli.console import Console
    from isthmus.report.sheets import interpolate_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("interpolate"):
        found = interpolate_into(out, run, first, second, steps=steps, overwrite=overwrite, device=place)
    for note in found.notes:
        console.say(note)
    if as_json:
        facts = {"run": str(run), "out": str(out), "from": first, "to": second, "steps": steps}
        typer.echo(json.dumps({**facts, "ways": list(found.codes)}))
    else:
        ways = " and ".join(found.codes)
        typer.echo(f"strip: {out / 'strip.png'}, codes: {out / 'codes.npz'} ({ways}, {steps} steps each)")
