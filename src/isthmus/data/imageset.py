"""An ImageSet: N images of one size in memory, with labels or without.

    images  (N, C, H, W)  uint8, 0 to 255, or floats in [0, 1]; C is 1 (grey) or 3 (RGB)
    labels  (N,)          int64, 0 to K - 1, or None
    classes K names       () when there are no labels

Whatever was read, from an IDX file or a folder of photographs, looks like this afterwards; what was read is uint8 or
float32, and float64 is for rows of numbers, (N, 1, 1, D). Images of a set that is too large for memory are a `Stored`
(stored.py) in place of an array, those of a part that shares the array of the whole a `Selection` (selection.py): both
have the same shape and type, and give arrays for slices and indices. A set is never changed in place: each method
returns a new one, and the fingerprint is computed once.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from isthmus.data.arrays import (
    Labels,
    Pixels,
    channels_first,
    check_images,
    check_labels,
    check_size,
    class_numbers,
)
from isthmus.data.selection import Selection, selection_in
from isthmus.data.stored import luma_of, stored_in
from isthmus.display import html
from isthmus.errors import DataError

CHUNK_VALUES = 2**24  # values worked on at once: 64 MiB as float32


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N images of one size, and what is known about them.

    Arguments:
        images: (N, C, H, W), uint8, or float32 or float64 in [0, 1], C of 1 or 3. labels: (N,) int64, or None.
        classes: the K class names, () without labels. name: what the report calls the set.
        published_test: the last so many images are a published test set.
        notes: sentences on what a reader converted or left out; the report shows them.
    Raises: DataError if any of this does not hold.
    """

    images: Pixels
    labels: Labels | None
    classes: tuple[str, ...] = ()
    name: str = "images"
    published_test: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_images(self.images)
        check_labels(self.labels, self.classes, len(self.images))
        if not 0 <= self.published_test < len(self.images):
            raise DataError(
                f"published_test is {self.published_test}; of {len(self.images)} images it may name "
                f"0 to {len(self.images) - 1} as the test set"
            )

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> Self:
        """Take images and labels as they lie in memory.

        Arguments:
            images: (N, H, W), (N, C, H, W) or (N, H, W, C), C of 1 or 3, uint8 or floats in [0, 1].
                Where both readings fit, (N, C, H, W) is taken.
            labels: (N,) class numbers from 0, or class names as strings; None for an unlabelled set.
            classes: the names in the order of their numbers; by default the numbers themselves, or the
                names that occur, sorted.
        Raises: DataError naming what does not fit.

        >>> ImageSet.from_arrays(np.zeros((2, 28, 28)), ["seven", "one"]).classes
        ('one', 'seven')
        """
        pixels = channels_first(np.asarray(images))
        if labels is None:
            if classes:
                raise DataError(f"{len(classes)} classes are named but labels is None: give labels, or no classes")
            return cls(pixels, None, (), name)
        numbers, names = class_numbers(np.asarray(labels), classes)
        return cls(pixels, numbers, names, name)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, indices: ArrayLike) -> Self:
        """The images at these positions (or under this mask of N booleans), in this order.

        No image of the result counts as a published test image any more.
        """
        index = _index(indices)
        if stored_in(self.images) is not None:
            return self.view(index)
        return replace(self, images=self.images[index], labels=self._labels(index), published_test=0)

    def view(self, indices: ArrayLike) -> Self:
        """The same as `take`, but the images stay where they are: no copy is made, and none may be altered."""
        index, stored, selection = _index(indices), stored_in(self.images), selection_in(self.images)
        if stored is not None:
            chosen = stored.select(index)
            images = cast(
                Pixels, chosen[:] if chosen.size <= CHUNK_VALUES else chosen
            )  # a few are an array as any other
        elif selection is not None:
            images = cast(Pixels, selection.select(index))
        else:
            images = cast(Pixels, Selection(self.images, np.arange(len(self))[index]))
        return replace(self, images=images, labels=self._labels(index), published_test=0)

    def resize(self, height: int, width: int) -> Self:
        """Every image scaled to (C, height, width): bilinear, antialiased, pixel centres at halves.

        uint8 is rounded to the nearest value. A set that has this size already is returned unchanged.
        Raises: DataError unless both sides are at least 1.
        """
        check_size((height, width))
        if self.shape[1:] == (height, width):
            return self
        resized = np.empty((len(self), self.shape[0], height, width), self.images.dtype)
        for part in self._chunks(larger=height * width):
            values = torch.from_numpy(np.array(self.images[part], np.float32))
            values = F.interpolate(values, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
            whole = resized.dtype == np.uint8
            resized[part] = (values.round_().clamp_(0, 255) if whole else values.clamp_(0, 1)).numpy()
        return replace(self, images=resized)

    def grey(self) -> Self:
        """One channel of luma.   Y = 0.299 R + 0.587 G + 0.114 B   (ITU-R BT.601)

        A grey set is returned unchanged. On uint8 this is Pillow's integer formula, so that a photograph
        turned grey here or by Pillow is the same to the last bit.
        """
        if self.shape[0] == 1:
            return self
        stored = stored_in(self.images)
        if stored is not None:
            return replace(self, images=cast(Pixels, stored.grey()))
        grey = np.empty((len(self), 1, *self.shape[1:]), self.images.dtype)
        for part in self._chunks():
            pixels = self.images[part]
            if pixels.dtype == np.uint8:
                grey[part] = luma_of(cast(NDArray[np.uint8], pixels))
            else:
                red, green, blue = np.moveaxis(pixels, 1, 0)
                grey[part, 0] = np.clip(0.299 * red + 0.587 * green + 0.114 * blue, 0, 1)
        return replace(self, images=grey)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over shape, type, pixels, labels and class names; only equal sets share it."""
        return fingerprint_of(self.images, self.labels, self.classes)

    def image_hashes(self) -> NDArray[np.uint64]:
        """(N,) one 8-byte BLAKE2b per image, over its pixels: equal images have equal hashes."""
        return hashes_of(self.images)

    def count_shared(self, hashes: NDArray[np.uint64]) -> int:
        """How many of these images are among those of `hashes` (another set's `image_hashes()`)."""
        return int(np.isin(self.image_hashes(), hashes).sum())

    def _repr_html_(self) -> str:
        """For notebooks: some images, the classes, the notes."""
        return html(self, "show_images")

    def summary(self) -> dict[str, Any]:
        """What is in the set, as plain values: its size, how many images of each class, and what the reader noted."""
        none = np.empty(0, np.int64)
        counts = np.bincount(none if self.labels is None else self.labels, minlength=len(self.classes))
        return {
            "name": self.name,
            "images": len(self),
            "shape": list(self.shape),
            "classes": {name: int(counts[k]) for k, name in enumerate(self.classes)},
            "published_test": self.published_test,
            "fingerprint": self.fingerprint,
            "notes": list(self.notes),
        }

    def _labels(self, index: NDArray[Any]) -> Labels | None:
        return None if self.labels is None else self.labels[index]

    def _chunks(self, larger: int = 0) -> Iterator[slice]:
        """Slices over N, each of at most CHUNK_VALUES values before and after the work."""
        channels, height, width = self.shape
        step = max(1, CHUNK_VALUES // (channels * max(height * width, larger)))
        return (slice(start, start + step) for start in range(0, len(self), step))


@dataclass(frozen=True)
class Split:
    """Three sets with no image in common that together hold every image."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def fingerprint_of(images: Pixels, labels: Labels | None, classes: Sequence[str]) -> str:
    """sha256 (hex) over shape, type, pixels, labels and class names."""
    head = [images.shape, images.dtype.name, labels is not None, classes]
    digest = hashlib.sha256(json.dumps(head).encode())
    for part in parts_of(images):
        digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, "<i8").data)
    return digest.hexdigest()


def hashes_of(images: Pixels) -> NDArray[np.uint64]:
    """(N,) one 8-byte BLAKE2b per image, over its pixels."""
    digests = bytearray()  # a Python object for each would take seven times as much
    for part in parts_of(images):
        raw = np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data.cast("B")
        step = len(raw) // len(part)
        for at in range(0, len(raw), step):
            digests += hashlib.blake2b(raw[at : at + step], digest_size=8).digest()
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def parts_of(images: Pixels) -> Iterator[Pixels]:
    """All of it if it is an array of its own, else a few images at a time."""
    if stored_in(images) is None and selection_in(images) is None:
        yield images
        return
    step = max(1, CHUNK_VALUES // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _index(indices: ArrayLike) -> NDArray[Any]:
    index = np.asarray(indices)
    return index if index.size else np.empty(0, np.int64)
