"""Some images of an array, in some order, without a copy of them: the parts of a set that is divided.

    array   (N, C, H, W)   of the whole set, in memory, shared by all its parts
    rows    (M,)           which of them, in which order

It reads like an array: a slice or indices give an array of those images alone. The parts of a `Stored` (stored.py) are
the same for images on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import Pixels

AT_ONCE = 2**24  # bytes looked at together


class Selection:
    """Images (M, C, H, W): `array[rows]`, gathered when they are asked for.

    Arguments: array: (N, C, H, W). rows: (M,) from 0 to N - 1.
    """

    ndim = 4

    def __init__(self, array: Pixels, rows: NDArray[np.int64]):
        self.array, self.rows = array, rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(M, C, H, W)."""
        _, channels, height, width = self.array.shape
        return len(self.rows), channels, height, width

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes an array of its own would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Pixels:
        """Images as an array of their own: one (C, H, W) by its number, else (B, C, H, W)."""
        found: Pixels = self.array[self.rows[index]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them together, for whoever cannot do with less."""
        if copy is False:
            raise ValueError("a selection of images becomes an array only by being copied")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def select(self, index: Any) -> Selection:
        """The images at these positions, or under a mask of M booleans; nothing is copied."""
        return Selection(self.array, self.rows[index])

    def min(self) -> Any:
        """The least number."""
        return min(self._each(np.min))

    def max(self) -> Any:
        """The greatest number."""
        return max(self._each(np.max))

    def _each(self, function: Callable[[Pixels], Any]) -> Iterator[Any]:
        step = max(1, AT_ONCE // (self.nbytes // len(self)))
        return (function(self[begin : begin + step]) for begin in range(0, len(self), step))


def selection_in(images: object) -> Selection | None:
    """The images if they are some of another array, None for an array of their own."""
    return images if isinstance(images, Selection) else None
