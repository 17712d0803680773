"""A path -> ImageSet, whatever lies there.

    folder with MNIST's four files       idx.py        train, then the published test set
    folder with two CSVs of pixels       tables.py     ...train.csv, then ...test.csv as the published test set
    any other folder                     folders.py    subfolders are classes
    *-idx3-ubyte, *.idx, also .gz        idx.py        labels are found beside it by name
    *.csv, *.csv.gz                      tables.py     a line is an image, a column a pixel
    *.npz                                here          arrays under the usual names
    *.npy, a folder of them              npy.py        images alone; labels beside them
    *.parquet, a folder of them          parquet.py    a row is an image and its class, as Hugging Face writes them

Paths in messages are written as they were given.
"""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import check_size
from isthmus.data.folders import load_image_folder
from isthmus.data.idx import find_mnist_files, is_idx_name, load_idx_file, load_mnist_folder
from isthmus.data.imageset import ImageSet
from isthmus.data.npy import find_npy, is_npy_name, load_npy
from isthmus.data.parquet import load_parquet
from isthmus.data.photographs import SUFFIXES
from isthmus.data.shards import is_parquet_name
from isthmus.data.tables import find_tables, is_table_name, load_table, load_table_folder
from isthmus.errors import DataError

# Names are compared without case; the first that occurs is taken.
PARTED_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
IMAGE_NAMES = ("images", "x", "x_train", "train_images", "data", "arr_0")
LABEL_NAMES = ("labels", "y", "y_train", "train_labels", "label", "target", "targets", "arr_1")
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def load_path(path: str | Path, *, size: tuple[int, int] | None = None, skip_bad: bool = False) -> ImageSet:
    """Read the images at a path; see the table at the head of this file.

    Arguments:
        size: (height, width) to bring every image to. Photographs of other proportions are cropped at the
            centre; sets that come as arrays are scaled.
        skip_bad: leave out image files, or rows of Parquet, that cannot be read, and note them, instead of raising.
    Raises: DataError naming the file or folder, what is wrong, and what to do.
    """
    path = Path(os.path.expanduser(path))
    if size is not None:
        check_size(size)
    if path.is_dir():
        images = _load_folder(path, size, skip_bad)
    elif path.is_file() and is_parquet_name(path):
        images = load_parquet(path, [os.fspath(path)], name=_name(path), size=size, skip_bad=skip_bad)
    else:
        images = _load_arrays(path)
    return images if size is None else images.resize(*size)


def _load_folder(path: Path, size: tuple[int, int] | None, skip_bad: bool) -> ImageSet:
    if find_mnist_files(path):
        return load_mnist_folder(path, name=_name(path))
    tables = find_tables(path)
    if tables is not None:
        return load_table_folder(path, tables, name=_name(path))
    shards = find_npy(path)
    if shards:
        return load_npy(shards, name=_name(path))
    return load_image_folder(path, name=_name(path), size=size, skip_bad=skip_bad)


def _load_arrays(path: Path) -> ImageSet:
    if not path.exists():
        raise DataError(
            f"{path} does not exist; give a folder of images, an .npz or .npy file, Parquet, a CSV of pixels or an IDX "
            "file"
        )
    if is_table_name(path):
        return load_table(path, name=_name(path).removesuffix(".csv"))
    if is_idx_name(path):
        return load_idx_file(path)
    if path.suffix.lower() == ".npz":
        return load_npz(path)
    if is_npy_name(path):
        return load_npy([path], name=_name(path))
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path} is a single image; give the folder it lies in")
    raise DataError(
        f"{path} is of a type not read here; give a folder of images, an .npz or .npy file, Parquet of images "
        "(.parquet), a CSV of pixels (.csv), or an IDX file (a name such as train-images-idx3-ubyte or digits.idx, "
        "also with .gz)"
    )


def load_npz(path: Path) -> ImageSet:
    """Images and labels of a NumPy archive; nothing in it is executed (pickled objects are refused).

    The arrays are called images and labels, x and y, or one of the names at the head of this file;
    x_train, y_train, x_test, y_test give a set with a published test set. `classes`, strings, is optional.
    """
    arrays = read_npz(path)
    by_name = {name.lower(): name for name in reversed(arrays)}
    parted = next((names for names in PARTED_NAMES if all(name in by_name for name in names)), None)
    image_names = parted[::2] if parted else _first(IMAGE_NAMES, by_name)
    label_names = parted[1::2] if parted else _first(LABEL_NAMES, by_name)
    if not image_names:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'no arrays'}; needed is an array of images called images "
            "or x, with labels called labels or y, or x_train, y_train, x_test, y_test"
        )
    used = [by_name[name] for name in (*image_names, *label_names)]
    parts = [arrays[by_name[name]] for name in image_names]
    labels = [arrays[by_name[name]] for name in label_names]
    classes = [str(name) for name in arrays[by_name["classes"]].ravel()] if "classes" in by_name else None
    try:
        images = _joined(parts, labels, classes if labels else None, _name(path))
    except DataError as error:
        raise DataError(f"{path}, {' and '.join(used)}: {error}") from error
    unread = [name for name in arrays if name not in used and name.lower() != "classes"]
    notes = (f"Arrays of {path.name} left unread: {', '.join(unread)}.",) if unread else ()
    return replace(images, published_test=len(parts[1]) if parted else 0, notes=notes)


def _joined(
    parts: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]], classes: list[str] | None, name: str
) -> ImageSet:
    """One set of all parts, in order; each part has labels of its own, or none has."""
    for part, numbers in zip(parts, labels, strict=False):
        if len(part) != len(numbers):
            raise DataError(f"there are {len(part)} images but {len(numbers)} labels; give one per image")
    if len({(part.shape[1:], part.dtype) for part in parts}) > 1:
        first, second = (f"{part.dtype} {part.shape}" for part in parts)
        raise DataError(f"training images are {first}, test images {second}; both need one type and size")
    joined = np.concatenate(labels) if labels else None
    pixels = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return ImageSet.from_arrays(pixels, joined, classes=classes, name=name)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive by name, never executing anything. Raises: DataError if it is damaged or pickled."""
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("no zip directory")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds pickled objects, which are never loaded because they can run code; "
                "save plain arrays of numbers or strings"
            ) from error
        raise DataError(
            f"{path} is empty, cut short or not an .npz archive ({error}); fetch it again, or write it with numpy.savez"
        ) from error
    return {name: np.atleast_1d(array) for name, array in arrays.items() if isinstance(array, np.ndarray)}


def _first(wanted: Sequence[str], by_name: dict[str, str]) -> tuple[str, ...]:
    return next(((name,) for name in wanted if name in by_name), ())


def _name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.name if path.is_dir() else resolved.stem
