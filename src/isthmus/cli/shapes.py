"""`isthmus shapes`: what every layer of a network puts out, sees and costs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.networks.autoencoder import ImageShape
    from isthmus.networks.shapes import LayerRow
    from isthmus.settings import ModelSettings

SIZE, CHANNELS, CLASSES = 64, 1, 10


def shapes(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN",
            help="lab, strong, linear, vae, denoiser or classifier; or the folder of a finished run.",
            show_default=False,
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="N|HxW", help=f"Height and width of the images, {SIZE} or 48x64. [default: {SIZE}]"
        ),
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, help=f"1 is grey, 3 is colour. [default: {CHANNELS}]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=2, help=f"Of a classifier. [default: {CLASSES}]")
    ] = None,
    changes: options.Set = [],  # noqa: B006  # Typer copies it
    as_json: options.Json = False,
) -> None:
    """Print each layer of a network: output shape, receptive field, parameters, multiply-adds for one image.

    In a layer, s is the stride, p the padding, o the output padding, d the dilation, g the groups, where they are not
    the usual ones; it sees its receptive field, in pixels of the image. A run has its own images and classes; a network
    by name is built for those you give.
    """
    import torch

    from isthmus.networks.catalog import NETWORKS, build
    from isthmus.networks.shapes import layer_table

    if network in NETWORKS:
        model, shape, count = _named(network, size, channels, classes, changes)
    else:
        model, shape, count = _of_run(network, size, channels, classes, changes)
    with torch.device("meta"):  # shapes without weights: a large network takes no time and no memory
        built = build(model, shape, classes=count)
    rows = layer_table(built, shape)
    totals = {"parameters": sum(r.parameters for r in rows), "multiply_adds": sum(r.multiply_adds for r in rows)}
    if as_json:
        facts = {"network": model.name, "image_shape": shape, "layers": [asdict(row) for row in rows], **totals}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"{model.name}, images {_cross(shape)}\n\n{draw(rows, width=_width())}")


def draw(rows: Sequence[LayerRow], *, width: int | None = None) -> str:
    """The rows as a table with totals below. At a given width long kinds are folded; numbers and names never are."""
    from rich.console import Console
    from rich.table import Table

    cells = [
        (
            row.name or "-",
            row.kind,
            _cross(row.output) or "1",
            "-" if row.receptive_field is None else _cross(row.receptive_field),
            f"{row.parameters:,}",
            f"{row.multiply_adds:,}",
        )
        for row in rows
    ]
    totals = (f"{sum(row.parameters for row in rows):,}", f"{sum(row.multiply_adds for row in rows):,}")
    titles = ("layer", "kind", "output", "sees", "parameters", "multiply-adds")
    lines = [titles, *cells, ("total", "", "", "", *totals)]
    needed = [max(len(line[i]) for line in lines) + 2 for i in range(len(titles))]
    room = None if width is None else width - (sum(needed) - needed[1]) + 2  # the last column has no gap behind it
    kind = needed[1] if room is None else min(needed[1], max(room, 16))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=None)
    for i, title in enumerate(titles):
        right = title not in ("layer", "kind")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "kind", overflow="fold")
        table.columns[i].width = (kind if title == "kind" else needed[i]) - 2
    for name, words, *numbers in (*cells, [""] * 6, lines[-1]):
        head, comma, rest = words.partition(", ")
        whole = len(words) <= kind - 2 or len(head) + 1 > kind - 2
        table.add_row(name, words if whole else f"{head}{comma.strip()}\n{rest}", *numbers)
    out = StringIO()
    Console(file=out, width=kind + sum(needed), color_system=None, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _width() -> int | None:
    """Of the terminal; None where the table goes to a file or another program, which need one line a layer."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _cross(numbers: Sequence[int] | str) -> str:
    return numbers if isinstance(numbers, str) else "x".join(map(str, numbers))


def _named(
    name: str, size: str | None, channels: int | None, classes: int | None, changes: list[str]
) -> tuple[ModelSettings, ImageShape, int]:
    from isthmus.errors import InputError
    from isthmus.settings import nearest, parse_assignments, validate_model

    tree = parse_assignments(changes)
    for key in tree:
        if key != "model":
            raise InputError(f"--set {key}: only model.* settings change a network's layers; {nearest(key, ['model'])}")
    settings: Any = tree.get("model", {})
    if not isinstance(settings, dict):
        raise InputError(f"--set model={settings!r} is not a setting; write for example model.width=32.")
    if settings.get("name", name) != name:
        raise InputError(f"--set model.name={settings['name']} contradicts `shapes {name}`; name one network.")
    if classes is not None and name != "classifier":
        raise InputError(f"--classes {classes} belongs to the classifier; {name} has no classes, leave it out.")
    height, width = _size(str(SIZE) if size is None else size)
    shape = (CHANNELS if channels is None else channels, height, width)
    return validate_model({**settings, "name": name}), shape, CLASSES if classes is None else classes


def _of_run(
    folder: str, size: str | None, channels: int | None, classes: int | None, changes: list[str]
) -> tuple[ModelSettings, ImageShape, int]:
    from isthmus.errors import InputError
    from isthmus.networks.catalog import NETWORKS
    from isthmus.runs import Run
    from isthmus.settings import nearest, validate_model

    if not Path(folder).exists():
        raise InputError(
            f"There is no network {folder!r}, nor a run in a folder of that name; {nearest(folder, NETWORKS)}"
        )
    if changes:
        raise InputError(
            f"--set {changes[0]}: the run {folder} is trained and cannot be changed; name a network instead."
        )
    run = Run(Path(folder))
    shape, config = run.image_shape(), run.config()
    model = validate_model(config["model"])
    count = len(config["classes"]) if model.name == "classifier" else 0
    asked = {
        "--size": (None if size is None else _size(size), shape[1:]),
        "--channels": (channels, shape[0]),
        "--classes": (classes, count),
    }
    for option, (wanted, given) in asked.items():
        if wanted is not None and wanted != given:
            words = [_cross(value) if isinstance(value, tuple) else str(value) for value in (wanted, given)]
            raise InputError(
                f"{option} {words[0]} contradicts the run {folder}, trained with {words[1]}; leave it out, or "
                f"name the network ({model.name}) instead of the run."
            )
    return model, shape, count


def _size(text: str) -> tuple[int, int]:
    """64 or 48x64 to (height, width). Raises: InputError."""
    from isthmus.errors import InputError
    from isthmus.networks.convolution import LARGEST, SMALLEST

    found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text.strip().lower())
    if found is None:
        raise InputError(f"--size {text!r} is not a size; write 64, or 48x64 for height and width.")
    height, width = int(found[1]), int(found[2] or found[1])
    if min(height, width) < SMALLEST or max(height, width) > LARGEST:
        raise InputError(
            f"--size {text} is {height} x {width}; both sides must have from {SMALLEST} to {LARGEST} pixels."
        )
    return height, width
