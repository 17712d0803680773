"""`isthmus denoise`: damaged images to restored ones, with a trained run."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


class Method(StrEnum):
    """How to restore."""

    BOTTLENECK = "bottleneck"
    MAP = "map"


class Prior(StrEnum):
    """What MAP believes about codes before it sees the image."""

    NORMAL = "normal"
    GAUSSIAN = "gaussian"


class Solver(StrEnum):
    """How MAP is solved."""

    BFGS = "bfgs"
    LM = "lm"
    ADAM = "adam"


def denoise(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run, of `vae` for --method map.", show_default=False),
    ],
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES", help="An image, a folder, an .npz or IDX file, or a name.", show_default=False
        ),
    ],
    method: Annotated[Method, typer.Option("--method", help="Through the code, or the code that explains best.")] = (
        Method.MAP
    ),
    degrade: Annotated[
        str | None,
        typer.Option(
            "--degrade",
            metavar="KIND:AMOUNT",
            help="noise:0.25, mask:0.5, blur:1.5, lowres:2, or one with noise: blur:1.5+noise:0.1. "
            "Whole images are damaged so, then restored and compared.",
            show_default=False,
        ),
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="IMAGES are damaged already, in the way --degrade says.")
    ] = False,
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", metavar="S|auto", help="Of the noise, on the [0, 1] scale.", show_default=False),
    ] = None,
    prior: Annotated[
        Prior, typer.Option("--prior", help="N(0, I) of a VAE, or a Gaussian fitted to the run's training codes.")
    ] = Prior.NORMAL,
    solver: Annotated[
        Solver, typer.Option("--solver", help="Fast, exact (Levenberg-Marquardt), or usual.")
    ] = Solver.BFGS,
    restarts: Annotated[
        int, typer.Option("--restarts", min=1, help="Starts of MAP; all but one from random codes.")
    ] = 1,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write the standard deviation of each pixel.")
    ] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Clip the damaged images to [0, 1], as a camera would.")] = False,
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring images to the size the run was trained with.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("denoised"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides the damage, and the restarts.")] = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore IMAGES with a trained RUN; without --degrade they count as damaged by noise of unknown strength.

    Writes restored/, damaged/ (where they were damaged here) and table.csv.
    """
    from isthmus.cli.console import Console
    from isthmus.data.degrade import Recipe, parse_recipe
    from isthmus.errors import FAILED, InputError
    from isthmus.inverse.pictures import denoise_into, summary
    from isthmus.runs import Run

    if clip and (damaged or degrade is None):
        raise InputError("--clip is a part of the damage done here: give --degrade, without --damaged.")
    recipe = Recipe("noise", 0.0, 0.0) if degrade is None else parse_recipe(degrade)
    options.prepare_process()
    restored, pictures = denoise_into(
        out,
        Run(run),
        images,
        recipe=recipe,
        damaged=damaged or degrade is None,
        resize=resize,
        overwrite=overwrite,
        method=method.value,
        clip=clip,
        sigma=_sigma(sigma),
        prior=prior.value,
        solver=solver.value,
        restarts=restarts,
        uncertainty=uncertainty,
        seed=seed,
    )
    console = Console(quiet=quiet)
    facts = summary(restored)
    if clip:
        console.say("damaged images were clipped to [0, 1]: their noise is no longer Gaussian, as MAP takes it to be")
    for name, reason in pictures.bad.items():
        console.say(f"left out: {name} {reason}")
    if as_json:
        typer.echo(json.dumps({"run": str(run), "out": str(out), "figures": facts, "left_out": pictures.bad}))
    else:
        for name, value in facts.items():
            typer.echo(f"{name:24} {value if isinstance(value, str) else format(value, '.5g')}")
        typer.echo(f"restored: {out}")
    if pictures.bad:
        raise SystemExit(FAILED)


def _sigma(text: str | None) -> float | str | None:
    from isthmus.errors import InputError

    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--sigma {text!r} is neither a number nor auto.") from error
