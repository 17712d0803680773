"""A person's images in batches, each brought to the shape (C, H, W) that a run was trained with.

The functions are those of training, so that a photograph it learnt from gets the same pixels again: cropped at the
centre and scaled by `decode`, arrays scaled by `ImageSet.resize`, colour turned grey by `ImageSet.grey`, grey repeated
over 3 channels. Photographs, those in rows of Parquet too, are decoded a batch at a time and memory does not grow with
their number; a set that comes as arrays (.npz, IDX, CSV, the catalogue) is held whole. What cannot be used is named
with its reason, and the rest is kept. Unlike in an ImageSet, floats may leave [0, 1], as noisy images do.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import Pixels, channels_first
from isthmus.data.catalog import CATALOG, load
from isthmus.data.files import IMAGE_NAMES, LABEL_NAMES, PARTED_NAMES, load_npz, read_npz
from isthmus.data.folders import find_files
from isthmus.data.idx import find_mnist_files
from isthmus.data.imageset import CHUNK_VALUES, ImageSet
from isthmus.data.parquet import read_labels, read_rows
from isthmus.data.photographs import SUFFIXES, Header, UnreadableImageError, decode, read_header
from isthmus.data.pictures import FURTHEST
from isthmus.data.shards import Table, is_parquet_name, open_table
from isthmus.data.tables import find_tables
from isthmus.errors import DataError

Shape = tuple[int, int, int]
MOST = 1000  # images a batch, or fewer if they are large


@dataclass(frozen=True)
class Batch:
    """images: (B, C, H, W), uint8 or float32. names: B. labels: the class of each by name, None where it has none."""

    images: Pixels
    names: tuple[str, ...]
    labels: tuple[str | None, ...]


@dataclass
class Stream:
    """Images to be read once, batch by batch. While that happens, `bad` (name -> reason) and the notes fill up.

    source: as it was asked for. count: images found, those included that will turn out bad. shape: (C, H, W) of the
    batches. other_size: a sentence on the first image that had to be resized.
    """

    source: str
    shape: Shape
    count: int
    batches: Iterable[Batch] = ()
    bad: dict[str, str] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    other_size: str | None = None

    def changed(self, names: Sequence[str], size: tuple[int, int], changes: Iterable[str]) -> None:
        """Count what was done to images of (height, width)."""
        self.changes.update(dict.fromkeys(changes, len(names)))
        if self.other_size is None and size != self.shape[1:]:
            self.other_size = f"{names[0]} has {size[0]} x {size[1]} pixels"

    def notes(self) -> list[str]:
        """A sentence on each kind of change made to images so far."""
        return [f"{count:,} image{'s' if count > 1 else ''} {what}." for what, count in self.changes.items() if count]


def open_images(source: str | Path, shape: Shape) -> Stream:
    """Find the images of a source: a photograph, a folder searched below, or any set the other readers take.

    A photograph's name is its path relative to the source, its label the uppermost folder on that path; an image of an
    array or a row is called by the set and its number.
    Raises: DataError if there is nothing of the sort, or an array is no array of images.
    """
    path = Path(os.path.expanduser(source))
    named = any(entry.name == source for entry in CATALOG)
    if not named and path.is_file() and path.suffix.lower() in SUFFIXES:
        return _from_files(str(source), [path], path.parent, shape)
    if not named and path.is_dir() and not find_mnist_files(path) and find_tables(path) is None:
        images, shards = find_files(path)
        if shards:
            return _from_table(str(source), open_table(path, shards), path.resolve().name, shape)
        return _from_files(str(source), images, path, shape)
    if not named and path.is_file() and is_parquet_name(path):
        return _from_table(str(source), open_table(path, [os.fspath(path)]), path.resolve().stem, shape)
    if not named and path.is_file() and path.suffix.lower() == ".npz":
        return _from_arrays(str(source), *_read_archive(path), path.stem, shape)
    loaded = load(source)
    return _from_arrays(str(source), loaded.images, _class_names(loaded), loaded.name, shape)


def _from_files(source: str, paths: list[Path], root: Path, shape: Shape) -> Stream:
    stream = Stream(source, shape, len(paths))
    stream.batches = _decoded(stream, paths, root)
    return stream


def _decoded(stream: Stream, paths: list[Path], root: Path) -> Iterator[Batch]:
    def attempt(path: Path) -> Pixels | str:
        try:
            pixels = decode(path, *stream.shape[1:])
        except UnreadableImageError as error:
            return str(error)
        fitted: Pixels = as_trained(np.moveaxis(np.atleast_3d(pixels), 2, 0)[None], stream.shape)[0]
        return fitted

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for part in slices_of(len(paths), 3 * math.prod(stream.shape[1:])):
            headers = _headers(stream, paths[part], root)
            images, names = [], []
            for path, found in zip(headers, pool.map(attempt, headers), strict=True):
                name = path.relative_to(root).as_posix()
                if isinstance(found, str):
                    stream.bad[name] = found
                else:
                    images.append(found)
                    names.append(name)
                    header = headers[path]
                    stream.changed([name], (header.height, header.width), changes_of(header, stream.shape))
            if images:
                labels = tuple(name.split("/")[0] if "/" in name else None for name in names)
                yield Batch(np.stack(images), tuple(names), labels)


def _from_table(source: str, table: Table, stem: str, shape: Shape) -> Stream:
    stream = Stream(source, shape, table.count)
    stream.batches = _rows(stream, table, stem)
    return stream


def _rows(stream: Stream, table: Table, stem: str) -> Iterator[Batch]:
    """A row without a class has no label here, and is no worse for it."""
    labels, first, digits = read_labels(table).labels, 0, len(str(table.count - 1))
    with closing(read_rows(table, (3, *stream.shape[1:]))) as parts:
        for part in parts:
            names, known = [], []
            for row, header in enumerate(part.headers, first):
                name = f"{stem}-{row:0{digits}d}"
                if isinstance(header, str):
                    stream.bad[name] = header
                else:
                    names.append(name)
                    known.append(labels[row])
                    stream.changed([name], (header.height, header.width), changes_of(header, stream.shape))
            first += len(part.headers)
            if names and part.pixels is not None:
                yield Batch(as_trained(part.pixels, stream.shape), tuple(names), tuple(known))


def _headers(stream: Stream, paths: list[Path], root: Path) -> dict[Path, Header]:
    headers = {}
    for path in paths:
        try:
            headers[path] = read_header(path)
        except UnreadableImageError as error:
            stream.bad[path.relative_to(root).as_posix()] = str(error)
    return headers


def changes_of(header: Header, shape: Shape) -> list[str]:
    channels, height, width = shape
    kinds = {
        f"resized to {height} x {width}, as in training": (header.height, header.width) != (height, width),
        "cropped at the centre to these proportions": header.height * width != header.width * height,
        "of several pictures or frames: the first was taken": header.several,
        **channel_changes(grey=header.grey, channels=channels),
    }
    return [what for what, done in kinds.items() if done]


def channel_changes(*, grey: bool, channels: int) -> dict[str, bool]:
    return {
        "turned from colour to grey": channels == 1 and not grey,
        "in grey repeated over 3 channels": channels == 3 and grey,
    }


def _from_arrays(source: str, pixels: NDArray[Any], labels: list[str] | None, stem: str, shape: Shape) -> Stream:
    stream = Stream(source, shape, len(pixels))
    stream.batches = _cut(stream, pixels, labels, stem)
    return stream


def _cut(stream: Stream, pixels: Pixels, labels: list[str] | None, stem: str) -> Iterator[Batch]:
    _, channels, height, width = pixels.shape
    digits = len(str(max(len(pixels) - 1, 0)))
    resized = f"scaled from {height} x {width} to {stream.shape[1]} x {stream.shape[2]}, as in training"
    kinds = {
        resized: (height, width) != stream.shape[1:],
        **channel_changes(grey=channels == 1, channels=stream.shape[0]),
    }
    for part in slices_of(len(pixels), 3 * max(height * width, math.prod(stream.shape[1:]))):
        good = []
        for i in range(*part.indices(len(pixels))):
            reason = unusable(pixels[i])
            if reason:
                stream.bad[f"{stem}-{i:0{digits}d}"] = reason
            else:
                good.append(i)
        if good:
            names = tuple(f"{stem}-{i:0{digits}d}" for i in good)
            stream.changed(names, (height, width), [what for what, done in kinds.items() if done])
            yield Batch(
                as_trained(pixels[good], stream.shape), names, tuple(labels[i] if labels else None for i in good)
            )


def unusable(pixels: Pixels) -> str:
    """Why an image of an array cannot be used, or nothing."""
    if pixels.dtype == np.uint8:
        return ""
    furthest = float(np.abs(pixels).max())
    if not math.isfinite(furthest):
        return "holds NaN or infinite pixels"
    if furthest > FURTHEST:
        return f"has pixels up to {furthest:g}, far outside [0, 1]: divide by the largest value"
    return ""


def as_trained(pixels: Pixels, shape: Shape) -> Pixels:
    """Images of another size or other channels as training would have brought them to `shape`, (C, H, W).

    Arguments: pixels: (N, C', H', W'), uint8, or float32 from -4 to 4. Returns: (N, C, H, W) of the same type.
    """
    if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 1):
        # An ImageSet takes [0, 1]. Scaling and luma are weighted means, so another linear scale changes nothing.
        inside = as_trained((pixels + np.float32(FURTHEST)) / np.float32(2 * FURTHEST), shape)
        return inside * np.float32(2 * FURTHEST) - np.float32(FURTHEST)
    images = ImageSet(pixels, None).resize(*shape[1:])
    images = images.grey() if shape[0] == 1 else images
    return images.images if images.shape[0] == shape[0] else np.repeat(images.images, shape[0], axis=1)


def _read_archive(path: Path) -> tuple[Pixels, list[str] | None]:
    """Images and their classes by name. Floats may have any value here, NaN too: those images are named later."""
    arrays = {name.lower(): array for name, array in read_npz(path).items()}
    parted = next((names for names in PARTED_NAMES if all(name in arrays for name in names)), None)
    names = parted[::2] if parted else [name for name in IMAGE_NAMES if name in arrays][:1]
    if not names or any(arrays[name].dtype.kind != "f" for name in names):
        images = load_npz(path)
        return images.images, _class_names(images)
    label_names = parted[1::2] if parted else [name for name in LABEL_NAMES if name in arrays][:1]
    try:
        pixels = _joined([channels_first(arrays[name]) for name in names])
        labels = np.concatenate([arrays[name] for name in label_names]) if label_names else None
        classes = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays and label_names else None
        checked = ImageSet.from_arrays(np.clip(np.nan_to_num(pixels), 0, 1), labels, classes=classes)
    except DataError as error:
        raise DataError(f"{path}, {' and '.join((*names, *label_names))}: {error}") from error
    return pixels, _class_names(checked)


def _joined(parts: list[Pixels]) -> Pixels:
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError("training and test images are of different sizes; give one of them")
    return np.concatenate(parts)


def _class_names(images: ImageSet) -> list[str] | None:
    return None if images.labels is None else [images.classes[label] for label in images.labels]


def slices_of(count: int, values: int) -> Iterator[slice]:
    """Over `count` images of so many values each, at most 1000 of them and 64 MiB as float32 at once."""
    step = max(1, min(MOST, CHUNK_VALUES // values))
    return (slice(start, start + step) for start in range(0, count, step))
