"""From a run to a folder that a browser opens: the built page, and beside it in data/ all that is shown.

    manifest.json     what is there, with the size and sha256 of every other file
    codes.bin         float32 (N, D), little-endian; of a VAE the means
    labels.bin        int16 (N), -1 where there is no class
    layout.bin        float32 (N', 2), where one was asked for: the first N' points
    sprites-000.png   thumbnails in sheets (sprites.py)
    encoder.onnx ...  the networks (parts.py)
    density.json      densities of the codes (densities.py)
    principal.json    where the codes vary most (points.py)

Nothing in it depends on when or where it was made. Notation: N images, D numbers in a code.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus import __version__
from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError, InputError
from isthmus.explorer.densities import densities
from isthmus.explorer.layout import NAME, check_package, tsne
from isthmus.explorer.page import DATA, page_files
from isthmus.explorer.parts import PARTS, export_parts, find_classifier
from isthmus.explorer.points import encode_points, principal, ranges, read_images
from isthmus.explorer.sprites import grid_for, sheets
from isthmus.export import check_packages
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.loop import Progress
from isthmus.training.predict import find_run
from isthmus.writing import write_bytes, write_json

FORMAT = 1
MANIFEST = f"{DATA}/manifest.json"
MOST_CLASSES = 2**15 - 1  # that labels of 16 bits tell apart
KINDS: dict[type[Network], str] = {
    Autoencoder: "autoencoder",
    VAE: "vae",
    Classifier: "classifier",
    Denoiser: "denoiser",
}

Layout = Literal["none", "tsne"]


@dataclass(frozen=True)
class Source:
    """What an explorer is made of.

    run: a run, its folder, or a study with a single one that has codes. data: the images of the map, by default the
    test part of what the run was trained on. classifier: a run that says the classes of images, by default the best of
    the same study. layout: "tsne" for a layout that keeps neighbours.
    """

    run: Run | str | Path
    data: str | Path | None = None
    classifier: Path | None = None
    layout: Layout = "none"


@dataclass(frozen=True)
class Explorer:
    """What was made. title: the name of the run. count: of the points. bytes: of all files together. error: the largest
    difference of an exported network to PyTorch. missing: sentences the page shows. notes: for the user alone."""

    run: Path
    title: str
    count: int
    bytes: int
    error: float
    missing: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Data:
    """The folder data/ while it is filled: every file is stamped when it is written. missing, notes: as in Explorer."""

    folder: Path
    stamps: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, content: bytes) -> None:
        write_bytes(self.folder / name, content)
        self.stamp(name, content)

    def add_json(self, name: str, content: dict[str, Any]) -> None:
        self.add(name, json.dumps(content, allow_nan=False).encode())

    def add_array(self, name: str, array: NDArray[Any], kind: str) -> None:
        self.add(name, np.ascontiguousarray(array, kind).tobytes())

    def stamp(self, name: str, content: bytes) -> dict[str, Any]:
        found = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        self.stamps[f"{DATA}/{name}"] = found
        return found


def build(
    source: Source, folder: Path, *, say: Callable[[str], None] | None = None, progress: Progress | None = None
) -> Explorer:
    """Fill an empty folder with the explorer of a run.

    Arguments: say: called with a line for each step. progress: called with (images encoded, images in all, a line).
    Raises: InputError if the page is not built, a package is missing, or the run, the images or the classifier cannot
    be used; ExportError; StorageError.
    """
    tell = say or (lambda line: None)
    page = page_files()
    run = _find(source)
    network = run.network()
    classifier = find_classifier(run, network, source.classifier)
    tell("reading the images")
    images, name, notes = read_images(run, source.data)
    data = _Data(folder / DATA, notes=[*notes])
    tell("describing them" if source.layout == "none" else "describing them, and laying out their codes by t-SNE")
    images, facts = _add_codes(data, run, network, images, source.layout, progress)
    _add_images(data, images)
    tell("exporting the networks")
    parts, error = _add_parts(data, run, classifier, images)
    manifest = _manifest(run, network, images, name) | facts
    write_json(folder / MANIFEST, manifest | {"parts": parts, "files": data.stamps, "missing": data.missing})
    size = _copy_page(page, folder) + sum(path.stat().st_size for path in data.folder.iterdir())
    return Explorer(run.folder, manifest["title"], len(images), size, error, tuple(data.missing), tuple(data.notes))


def _find(source: Source) -> Run:
    """The run to show, before anything is computed. Raises: InputError."""
    check_packages()
    if source.layout == "tsne":
        check_package()
    run = source.run if isinstance(source.run, Run) else find_run(Path(source.run), (Autoencoder, VAE))
    run.image_shape()  # refuses rows of numbers
    return run


def _add_codes(
    data: _Data, run: Run, network: Network, images: ImageSet, layout: Layout, progress: Progress | None
) -> tuple[ImageSet, dict[str, Any]]:
    """Write what is known of the codes; returns the images that have one, and what the manifest says of the codes."""
    facts: dict[str, Any] = {"latent_dim": None, "ranges": [], "layout": None}
    if not isinstance(network, Autoencoder | VAE):
        if layout == "tsne":
            raise InputError(f"{run.folder} has no codes to lay out: leave out --layout.")
        kind = KINDS[type(network)]
        data.missing.append(
            f"This run is a {kind}: it has no codes, so there is no map, no walk, nothing to draw from."
        )
        return images, facts
    images, codes, notes = encode_points(network, images, progress)
    data.add_array("codes.bin", codes, "<f4")
    found = principal(codes)
    data.add_json("principal.json", {each.name: getattr(found, each.name).tolist() for each in fields(found)})
    facts |= {"latent_dim": codes.shape[1], "ranges": ranges(codes)}
    if layout == "tsne":
        places = tsne(codes)
        data.add_array("layout.bin", places, "<f4")
        facts["layout"] = {"name": NAME, "count": len(places)}
    fitted = densities(run, network)
    if fitted.content is not None:
        data.add_json("density.json", fitted.content)
    data.missing += fitted.missing
    data.notes += [*notes, *fitted.notes]
    return images, facts


def _add_images(data: _Data, images: ImageSet) -> None:
    """Write thumbnails and labels."""
    if len(images.classes) > MOST_CLASSES:
        raise DataError(f"{images.name} has {len(images.classes):,} classes; the map tells {MOST_CLASSES:,} apart.")
    none = np.full(len(images), -1)
    data.add_array("labels.bin", none if images.labels is None else images.labels, "<i2")
    for number, sheet in enumerate(sheets(images)):
        data.add(f"sprites-{number:03d}.png", sheet)
    if images.labels is None:
        data.missing.append("The images have no classes, so all points have one colour.")


def _add_parts(data: _Data, run: Run, classifier: Run | None, images: ImageSet) -> tuple[dict[str, Any], float]:
    """Write the networks; returns what the manifest says of each, None for those there are not, and the worst error."""
    parts: dict[str, Any] = dict.fromkeys(PARTS)
    files = export_parts(run, classifier, images, data.folder)
    for file in files:
        name = file.path.name
        stamp = data.stamp(name, file.path.read_bytes())
        parts[file.part] = {"file": f"{DATA}/{name}", "outputs": list(file.outputs), **stamp}
    if parts["classifier"] is None:
        data.missing.append("No classifier belongs to this run, so no class probabilities are shown.")
    else:
        parts["classifier"]["classes"] = (classifier or run).config()["classes"]
    return parts, max(file.error for file in files)


def _manifest(run: Run, network: Network, images: ImageSet, name: str) -> dict[str, Any]:
    """What the manifest says of the run and its images."""
    config = run.config()
    grid = grid_for(*images.shape[1:])
    kind, size = config["model"]["name"], config["model"].get("latent_dim")
    sigma = network.sigma if isinstance(network, VAE) and network.likelihood == "gaussian" else None
    return {
        "format": FORMAT,
        "isthmus": __version__,
        "title": run.folder.resolve().name,
        "network": kind if size is None else f"{kind}, a code of {size} number{'' if size == 1 else 's'}",
        "kind": KINDS[type(network)],
        "image_shape": list(images.shape),
        "sigma": sigma,
        "classes": list(images.classes),
        "count": len(images),
        "labelled": images.labels is not None,
        "sprites": {
            "columns": grid.columns,
            "per_sheet": grid.per_sheet,
            "sheets": grid.sheets(len(images)),
        },
        "data": name,
        "figures": {name: value for name, value in config["figures"].items() if math.isfinite(value)},
    }


def _copy_page(page: dict[str, Path], folder: Path) -> int:
    """Copy the built page; returns its bytes."""
    for name, path in page.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    return sum(path.stat().st_size for path in page.values())
