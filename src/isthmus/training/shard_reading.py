"""One shard of images, a batch at a time: what it takes in memory does not grow with its rows.

    .parquet   a row is an image and its class, as data/shards.py finds them
    .npy       an array (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats
    .npz       the same under a name of data/files.py, with labels and classes if it has them; compressed or not

Arrays are read in the order in which they lie, and not mapped into memory: the pages of a mapping count as memory of
the process. Nothing is decoded beside the network, since every other processor has shards of its own. Images become
those that data/batches.py makes of the same file, and are called alike: by the shard and the number of the row.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import CHANNELS, Pixels, channels_first, check_labels, class_numbers
from isthmus.data.batches import Batch, Shape, Stream, as_trained, changes_of, channel_changes, slices_of, unusable
from isthmus.data.decoding import files_in_part, read_part
from isthmus.data.files import IMAGE_NAMES, LABEL_NAMES, PARTED_NAMES
from isthmus.data.parquet import LABELS_AT_ONCE, class_of, column_values, contents, in_parts
from isthmus.data.photographs import without_warnings
from isthmus.data.shards import Table, first_line, is_parquet_name, open_table
from isthmus.errors import DataError

NAMED = 1000  # images of a shard that are named with the reason why they cannot be used
_DAMAGE = (OSError, EOFError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass
class ShardStream(Stream):
    """Images of one shard. labelled: whether the shard says of which classes its images are. bad_count: how many could
    not be used, of which `bad` names so many that it stays small."""

    labelled: bool = False
    bad_count: int = 0

    def leave_out(self, name: str, reason: str) -> None:
        """Note an image that cannot be used."""
        self.bad_count += 1
        if len(self.bad) < NAMED:
            self.bad[name] = reason


def open_shard(path: Path, name: str, shape: Shape) -> ShardStream:
    """The images of a shard, brought to `shape`, (C, H, W); see the head of this file.

    Arguments: name: by which its images are called.
    Raises: DataError if it is missing or damaged, or holds no images; the batches raise it for what shows only later.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist any more; if other machines work here too, all must see it there")
    if is_parquet_name(path):
        table = open_table(path, [os.fspath(path)])
        stream = ShardStream(str(path), shape, table.count, labelled=table.label is not None)
        stream.batches = _rows(stream, table, name)
        return stream
    images, labels, classes = _arrays_of(path)
    stream = ShardStream(str(path), shape, sum(array.shape[0] for array in images), labelled=bool(labels))
    stream.batches = _cut(stream, images, labels, classes, name)
    return stream


def count_images(path: Path) -> int:
    """How many images a shard says it has; 0 if it cannot be read, of which `open_shard` says why."""
    try:
        if is_parquet_name(path):
            return open_table(path, [os.fspath(path)]).count
        return sum(array.shape[0] for array in _arrays_of(path)[0])
    except DataError:
        return 0


def _rows(stream: ShardStream, table: Table, name: str) -> Iterator[Batch]:
    """A row without a class has no label here, and is no worse for it."""
    labels, row, digits = _labels(table), 0, _digits(table.count)
    with without_warnings():
        for part in in_parts(contents(table), files_in_part((3, *stream.shape[1:]))):
            read = read_part(part, (3, *stream.shape[1:]))
            names, known = [], []
            for header, label in zip(read.headers, labels, strict=False):
                called = f"{name}-{row:0{digits}d}"
                row += 1
                if isinstance(header, str):
                    stream.leave_out(called, header)
                else:
                    names.append(called)
                    known.append(label)
                    stream.changes.update(changes_of(header, stream.shape))
            if names and read.pixels is not None:
                yield Batch(as_trained(read.pixels, stream.shape), tuple(names), tuple(known))


def _labels(table: Table) -> Iterator[str | None]:
    """The class of every row, None where it has none."""
    if table.label is None:
        yield from repeat(None, table.count)
        return
    for values in column_values(table, table.label, LABELS_AT_ONCE):
        for value in values:
            yield class_of(value, table.names)[0]


@dataclass(frozen=True)
class _Array:
    """An array in a file, to be read from its beginning. path: of the file. member: its name in an archive, or None."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def where(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}, {Path(self.member).stem}"

    def pieces(self, slices: Iterator[slice]) -> Iterator[NDArray[Any]]:
        """The rows of consecutive slices. Raises: DataError if there are fewer than the file says, or it is damaged."""
        try:
            with _opened(self.path, self.member) as file:
                _header(file)
                for part in slices:
                    rows = len(range(self.shape[0])[part])
                    data = bytearray(rows * math.prod(self.shape[1:]) * self.dtype.itemsize)
                    _fill(file, memoryview(data))
                    yield np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
                file.read(1)  # at its end an archive compares the sum of all it gave
        except _DAMAGE as error:
            raise _damaged(self.where, error) from error


def _arrays_of(path: Path) -> tuple[list[_Array], list[_Array], list[str] | None]:
    """The arrays of images, those of their labels if there are any, and what the classes are called, if that is said.

    Raises: DataError.
    """
    try:
        if path.suffix.lower() == ".npy":
            return [_checked(_array(path, None, path.stat().st_size))], [], None
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        members = {Path(name).stem.lower(): name for name in reversed(sizes)}
        parted = next((names for names in PARTED_NAMES if all(name in members for name in names)), None)
        names = parted[::2] if parted else [name for name in IMAGE_NAMES if name in members][:1]
        of_labels = parted[1::2] if parted else [name for name in LABEL_NAMES if name in members][:1]
        if not names:
            raise DataError(f"{path} holds {', '.join(members) or 'no arrays'}; needed is one called images")
        images = [_checked(_array(path, members[name], sizes[members[name]])) for name in names]
        labels = [_array(path, members[name], sizes[members[name]]) for name in of_labels]
        classes = _array(path, members["classes"], sizes[members["classes"]]) if "classes" in members else None
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(str(path), error) from error
    for image, label in zip(images, labels, strict=False):
        if label.shape not in ((image.shape[0],), (image.shape[0], 1)) or label.dtype.kind not in "iuU":
            raise DataError(
                f"{label.where}: {label.dtype} of shape {label.shape}; needed is a class, a whole number or a name, "
                f"for each of the {image.shape[0]:,} images"
            )
    return images, labels, None if classes is None or not labels else _names(classes)


def _array(path: Path, member: str | None, size: int) -> _Array:
    """What an array in a file is, by its header. size: bytes of it in all. Raises: DataError; what damage raises."""
    with _opened(path, member) as file:
        shape, fortran, dtype = _header(file)
        array, left = _Array(path, member, shape, dtype), size - file.tell()
    if dtype.hasobject:
        raise DataError(f"{array.where} holds pickled objects, which are never loaded because they can run code")
    if fortran and len(shape) > 1:
        raise DataError(f"{array.where} lies in Fortran order, not image after image: write np.ascontiguousarray of it")
    if left < math.prod(shape) * dtype.itemsize:
        raise EOFError(f"{left:,} bytes are there for {dtype} of shape {shape}")
    return array


def _checked(array: _Array) -> _Array:
    shape, dtype = array.shape, array.dtype
    channels = len(shape) == 3 or (len(shape) == 4 and (shape[1] in CHANNELS or shape[3] in CHANNELS))
    if not channels or 0 in shape or (dtype != np.uint8 and dtype.kind != "f"):
        raise DataError(
            f"{array.where}: {dtype} of shape {shape}; needed are images, uint8 or floats in [0, 1], (N, H, W), "
            f"(N, H, W, C) or (N, C, H, W), with C of 1 (grey) or 3 (RGB)"
        )
    return array


def _names(classes: _Array) -> list[str]:
    (values,) = classes.pieces(iter([slice(None)]))
    return [str(name) for name in values.ravel()]


def _cut(
    stream: ShardStream, images: Sequence[_Array], labels: Sequence[_Array], classes: list[str] | None, name: str
) -> Iterator[Batch]:
    row, digits = 0, _digits(stream.count)
    for i, array in enumerate(images):
        count, values = array.shape[0], 3 * max(math.prod(array.shape[1:]), math.prod(stream.shape[1:]))
        numbers = labels[i].pieces(slices_of(count, values)) if labels else repeat(None)
        for pixels, given in zip(array.pieces(slices_of(count, values)), numbers, strict=False):
            names = [f"{name}-{place:0{digits}d}" for place in range(row, row + len(pixels))]
            known = [None] * len(pixels) if given is None else _class_names(labels[i], given, classes)
            batch = _usable(stream, channels_first(pixels), names, known)
            row += len(pixels)
            if batch is not None:
                yield batch


def _usable(stream: ShardStream, pixels: Pixels, names: list[str], labels: Sequence[str | None]) -> Batch | None:
    """Those of some images (B, C, H, W) that can be used, as in training; None if there are none."""
    good = []
    for i, image in enumerate(pixels):
        reason = unusable(image)
        if reason:
            stream.leave_out(names[i], reason)
        else:
            good.append(i)
    if not good:
        return None
    _, channels, height, width = pixels.shape
    kinds = {
        f"scaled from {height} x {width} to {stream.shape[1]} x {stream.shape[2]}, as in training": (height, width)
        != stream.shape[1:],
        **channel_changes(grey=channels == 1, channels=stream.shape[0]),
    }
    stream.changes.update({what: len(good) for what, done in kinds.items() if done})
    chosen = pixels if len(good) == len(pixels) else pixels[good]
    return Batch(as_trained(chosen, stream.shape), tuple(names[i] for i in good), tuple(labels[i] for i in good))


def _class_names(array: _Array, labels: NDArray[Any], classes: list[str] | None) -> list[str]:
    try:
        numbers, names = class_numbers(labels.ravel(), classes)
        check_labels(numbers, names, len(numbers))
    except DataError as error:
        raise DataError(f"{array.where}: {error}") from error
    return [names[number] for number in numbers]


def _opened(path: Path, member: str | None) -> contextlib.AbstractContextManager[IO[bytes]]:
    return path.open("rb") if member is None else _member(path, member)


@contextlib.contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        yield file


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what precedes the numbers: shape, whether in Fortran order, type. Raises: what damage raises."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _fill(file: IO[bytes], view: memoryview) -> None:
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]  # every binary file has it
        if not got:
            raise EOFError("it ends too early")
        done += got


def _digits(count: int) -> int:
    return len(str(max(count - 1, 0)))


def _damaged(where: str, error: Exception) -> DataError:
    return DataError(f"{where} cannot be read ({first_line(error)}): it is damaged or cut short; fetch it again")
