"""`isthmus outliers`: the images that are least like those a run was trained on."""

from __future__ import annotations

import json
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import Images, printable
from isthmus.cli.generate import Density

if TYPE_CHECKING:
    from isthmus.latent.outliers import Strangeness


class By(StrEnum):
    """What makes an image strange."""

    ERROR = "error"
    DENSITY = "density"


def outliers(
    run: options.Coder,
    images: Images,
    by: Annotated[
        By | None,
        typer.Option(
            "--by",
            help="error: badly reconstructed, the default of images. density: a code that is unlikely among those of "
            "RUN, the default of a file of codes.",
            show_default=False,
        ),
    ] = None,
    density: Annotated[
        Density | None,
        typer.Option(
            "--density",
            help="For --by density: normal, gaussian, mixture, kernel or histogram. By default what is kept with RUN, "
            "or a mixture fitted to its training codes.",
            show_default=False,
        ),
    ] = None,
    outlier_class: Annotated[
        str | None,
        typer.Option(
            "--outlier-class",
            metavar="NAME",
            help="The class of IMAGES that is known to be strange: also say how well it is found (AUROC).",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many images the sheet shows, at most 500.")] = 30,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("outliers"),
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Find those of IMAGES that are least like what RUN was trained on. They may also be a file of codes.

    Writes sheet.png, the strangest images, each beside its reconstruction, and table.csv, the scores of all. A density
    that is fitted for it is kept with the run.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED
    from isthmus.report.sheets import outliers_into

    console = Console(quiet=quiet, progress=not no_progress)
    place = options.choose_device(device)
    with console.progress("outliers") as progress:
        found = outliers_into(
            out,
            run,
            images,
            by_density=None if by is None else by is By.DENSITY,
            density=None if density is None else density.value,
            outlier_class=outlier_class,
            shown=count,
            overwrite=overwrite,
            device=place,
            progress=progress,
        )
    for note in found.notes:
        console.say(note)
    for name, reason in found.left_out.items():
        print(f"left out: {printable(name)} {reason}", file=sys.stderr)
    if as_json:
        facts = {"run": str(run), "out": str(out), **_facts(found)}
        typer.echo(json.dumps({**facts, "left_out": found.left_out}))
    else:
        _print(found)
        typer.echo(f"sheet: {out / 'sheet.png'}, table: {out / 'table.csv'}")
    if found.left_out:
        raise SystemExit(FAILED)


def _facts(found: Strangeness) -> dict[str, object]:
    scores = [float(found.scores[i]) for i in found.order]
    strangest = [
        {"path": found.names[i], "class": found.labels[i], "score": score if math.isfinite(score) else None}
        for i, score in zip(found.order[: len(found.pictures)], scores, strict=False)
    ]
    known = {} if found.auroc is None else {"auroc": found.auroc, "outliers": found.outliers}
    by = By.ERROR if found.density is None else By.DENSITY
    return {
        "by": by.value,
        "density": found.density,
        "figures": {"images": len(found.names), **known},
        "strangest": strangest,
    }


def _print(found: Strangeness) -> None:
    which = "error per pixel" if found.density is None else f"-log p under the {found.density}, nats"
    middle = found.scores[found.order[len(found.order) // 2]]
    first = found.order[0]
    typer.echo(f"{'images':24} {len(found.names):,}")
    typer.echo(f"{'score':24} {which}")
    typer.echo(f"{'median score':24} {middle:.5g}")
    typer.echo(f"{'strangest':24} {found.scores[first]:.5g}, {printable(found.names[first])}")
    if found.auroc is not None:
        typer.echo(f"{'auroc':24} {found.auroc:.4f}, of {found.outliers:,} outliers")
