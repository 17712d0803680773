"""Images in .npy files, one or a folder of several -> ImageSet; those too large for memory are read as they are needed.

    digits.npy                      uint8 or floats, (N, H, W), (N, C, H, W) or (N, H, W, C)
    digits_labels.npy               beside it, if it is labelled: N class numbers or names; digits-labels.npy as well
    shards/0.npy, shards/1.npy      one set, in the order of the names; each with labels of its own, or none

What is kept on disk (stored.py) is read from these very files: they must stay as they are. Nothing in them is executed:
pickled objects are refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import CHANNELS, Labels, Pixels, channels_first, class_numbers
from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import SUFFIXES
from isthmus.data.stored import Stored, StoredShards, too_large
from isthmus.errors import DataError

SUFFIX = ".npy"
LABELS = ("_labels", "-labels")


@dataclass(frozen=True)
class _Array:
    """What the head of a file says. offset: where its numbers begin."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_npy_name(path: Path) -> bool:
    """Whether a file is named as an .npy file."""
    return path.name.lower().endswith(SUFFIX)


def find_npy(folder: Path) -> list[Path]:
    """The .npy files of a folder in the order of their names; none if it also holds folders, photographs or Parquet."""
    found = sorted(folder.iterdir())
    if any(path.is_dir() or path.suffix.lower() in (*SUFFIXES, ".parquet") for path in found):
        return []
    return [path for path in found if is_npy_name(path) and not path.stem.endswith(LABELS)]


def load_npy(paths: Sequence[Path], *, name: str) -> ImageSet:
    """Read .npy files as one set, in order; see the head of this file.

    Raises: DataError naming the file that is damaged, holds no images, or does not fit the others.
    """
    arrays = [_look(path) for path in paths]
    for array in arrays:
        _check(array, arrays[0])
    pixels = _stored(arrays) if too_large(sum(array.size for array in arrays)) else _in_memory(arrays)
    labels, classes = _labels(arrays)
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    try:
        return ImageSet(pixels, labels, classes, name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _look(path: Path) -> _Array:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            array = _Array(path, shape, dtype, file.tell())
            if dtype.hasobject:
                raise DataError(
                    f"{path} holds pickled objects, which are never loaded because they can run code; save plain "
                    "arrays of numbers or strings"
                )
            if os.fstat(file.fileno()).st_size < array.offset + array.size:
                raise ValueError("it ends before its numbers do")
            if fortran and len(shape) > 1:
                raise ValueError("its numbers lie column by column: write numpy.ascontiguousarray(images)")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as .npy ({error}); fetch it again, or write it with numpy.save"
        ) from error
    return array


def _check(array: _Array, first: _Array) -> None:
    if len(array.shape) not in (3, 4):
        raise DataError(
            f"{array.path} holds an array of shape {array.shape}; needed are images (N, H, W), (N, C, H, W) or "
            "(N, H, W, C) with C of 1 or 3, one after the other"
        )
    if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
        raise DataError(
            f"{first.path} holds {first.dtype} {first.shape}, {array.path} {array.dtype} {array.shape}; files of one "
            "folder make one set: they need one type and size"
        )


def _in_memory(arrays: Sequence[_Array]) -> Pixels:
    """All images in one array, each file read to its place."""
    first = arrays[0]
    try:
        whole = np.empty((sum(array.shape[0] for array in arrays), *first.shape[1:]), first.dtype)
    except MemoryError as error:
        raise _refused(first) from error
    begin = 0
    for array in arrays:
        part = whole[begin : begin + array.shape[0]]
        with array.path.open("rb") as file:
            file.seek(array.offset)
            if file.readinto(part.reshape(-1).view(np.uint8).data) != array.size:
                raise DataError(f"{array.path} was changed while it was read; run the command again")
        begin += len(part)
    return channels_first(whole)


def _stored(arrays: Sequence[_Array]) -> Pixels:
    first = arrays[0]
    if first.dtype != np.uint8:
        raise _refused(first)
    last = len(first.shape) == 4 and first.shape[1] not in CHANNELS and first.shape[3] in CHANNELS
    shape = (1, *first.shape[1:]) if len(first.shape) == 3 else first.shape[1:]
    sides = (shape[2], shape[0], shape[1]) if last else (shape[0], shape[1], shape[2])
    shards = [Stored(array.path, array.offset, array.shape[0], sides, channels_last=last) for array in arrays]
    return cast(Pixels, shards[0] if len(shards) == 1 else StoredShards(shards))


def _refused(array: _Array) -> DataError:
    return DataError(
        f"{array.path} is too large for memory, and holds {array.dtype}; only uint8, 0 to 255, is read from disk as it "
        "is needed: convert it, which also makes it smaller"
    )


def _labels(arrays: Sequence[_Array]) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels beside all files, or none."""
    beside = [_labels_of(array.path) for array in arrays]
    found = [path for path in beside if path is not None]
    if not found:
        return None, ()
    if len(found) < len(arrays):
        without = next(array.path for array, path in zip(arrays, beside, strict=True) if path is None)
        raise DataError(
            f"{found[0]} gives labels, but there are none beside {without}: add "
            f"{without.stem}{LABELS[0]}{SUFFIX}, or remove the labels of the others"
        )
    labels = [_read_labels(path, array) for path, array in zip(found, arrays, strict=True)]
    try:
        return class_numbers(np.concatenate(labels), None)
    except DataError as error:
        raise DataError(f"{found[0]}: {error}") from error


def _labels_of(path: Path) -> Path | None:
    names = (path.with_name(f"{path.stem}{word}{SUFFIX}") for word in LABELS)
    return next((place for place in names if place.exists()), None)


def _read_labels(path: Path, images: _Array) -> NDArray[Any]:
    _look(path)
    labels: NDArray[Any] = np.load(path, allow_pickle=False)
    if labels.shape[:1] != images.shape[:1]:
        raise DataError(
            f"{images.path} holds {images.shape[0]} images, but {path} labels of shape {labels.shape}; give one per "
            "image"
        )
    return labels
