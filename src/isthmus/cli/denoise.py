"""`isthmus denoise`: damaged images to restored ones, with a trained run."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from isthmus.cli import options
from isthmus.cli.classify import printable


class Method(StrEnum):
    """How to restore."""

    BOTTLENECK = "bottleneck"
    MAP = "map"


class Prior(StrEnum):
    """What MAP believes about codes before it sees the image."""

    NORMAL = "normal"
    GAUSSIAN = "gaussian"
    MIXTURE = "mixture"
    KERNEL = "kernel"
    HISTOGRAM = "histogram"  # refused, with the reason


class Solver(StrEnum):
    """How MAP is solved."""

    BFGS = "bfgs"
    LM = "lm"
    ADAM = "adam"


def denoise(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A finished run, of `vae` for --method map, or a study with one.", show_default=False
        ),
    ],
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="An image, a folder, an .npz, Parquet, IDX or CSV file, or a name.",
            show_default=False,
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
        typer.Option(
            "--sigma",
            metavar="S|auto",
            help="Of the noise, on the [0, 1] scale; auto estimates it from each image, too low where it was clipped.",
            show_default=False,
        ),
    ] = None,
    prior: Annotated[
        Prior | None,
        typer.Option(
            "--prior",
            help="normal, the N(0, I) of a VAE, or one fitted to the run's training codes: gaussian, mixture, kernel.",
            show_default=False,
        ),
    ] = None,
    solver: Annotated[
        Solver | None,
        typer.Option("--solver", help="bfgs: fast; lm: exact (Levenberg-Marquardt); adam: usual.", show_default=False),
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option("--restarts", min=1, help="Starts of MAP; all but one from random codes.", show_default=False),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write the standard deviation of each pixel.")
    ] = False,
    clip: Annotated[bool, typer.Option("--clip", help="Clip the damaged images to [0, 1], as a camera would.")] = False,
    resize: options.Resize = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("denoised"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides the damage, and the restarts.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Restore IMAGES with a trained RUN; without --degrade they count as damaged by noise of unknown strength.

    Writes restored/, damaged/ (where they were damaged here) and table.csv.
    """
    from isthmus.cli.console import Console
    from isthmus.data.degrade import Recipe, parse_recipe
    from isthmus.errors import FAILED, InputError
    from isthmus.inverse.pictures import Options, denoise_into, summary
    from isthmus.networks.autoencoder import Autoencoder
    from isthmus.networks.denoiser import Denoiser
    from isthmus.networks.variational import VAE
    from isthmus.training.predict import find_run

    if degrade is None and (clip or damaged):
        raise InputError("--clip and --damaged say more of --degrade: give it too.")
    if clip and damaged:
        raise InputError("--clip is a part of the damage done here, and with --damaged none is; give one of them.")
    chosen = Options(
        method.value,
        Recipe("noise", 0.0, 0.0) if degrade is None else parse_recipe(degrade),
        damaged=damaged or degrade is None,
        clip=clip,
        sigma=_sigma(sigma),
        prior=None if prior is None else prior.value,
        solver=None if solver is None else solver.value,
        restarts=restarts,
        uncertainty=uncertainty,
        seed=seed,
    )
    options.prepare_process()
    place = options.choose_device(device)
    fitting = (VAE,) if method is Method.MAP and prior in (None, Prior.NORMAL) else (Autoencoder, VAE)
    found = find_run(run, fitting if method is Method.MAP else (Autoencoder, VAE, Denoiser))
    console = Console(quiet=quiet, progress=not no_progress)
    with console.progress("denoise") as progress:
        restored, pictures = denoise_into(
            out, found, images, chosen, resize=resize, overwrite=overwrite, device=place, progress=progress
        )
    facts = summary(restored)
    if clip:
        console.say("damaged images were clipped to [0, 1]: their noise is no longer Gaussian, as MAP takes it to be")
    for name, reason in pictures.bad.items():
        print(f"left out: {printable(name)} {reason}", file=sys.stderr)
    if as_json:
        typer.echo(json.dumps({"run": str(run), "out": str(out), "figures": facts, "left_out": pictures.bad}))
    else:
        for name, value in facts.items():
            typer.echo(f"{name:24} {value if isinstance(value, str) else format(value, '.5g')}")
        typer.echo(f"restored: {out}")
    if pictures.bad:
        raise SystemExit(FAILED)


def _sigma(text: str | None) -> float | Literal["auto"] | None:
    from isthmus.errors import InputError

    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--sigma {text!r} is neither a number nor auto.") from error
