"""Thumbnails in sheets: many images of one size in a few PNG files, which a browser decodes at once.

Image i is in sheet i // per_sheet, at cell i % per_sheet, row by row; C channels, H W size. Nothing is scaled: a
cell holds the image as the network takes it, in 8 bits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.data.imageset import ImageSet

CELLS = 64  # in a row, and rows, at most
SIDE = 4096  # pixels of a sheet, at most: every graphics card takes such a texture


@dataclass(frozen=True)
class Grid:
    """How sheets are laid out: cells in a row, and cells in a full sheet."""

    columns: int
    per_sheet: int

    def sheets(self, count: int) -> int:
        """How many sheets hold so many images."""
        return -(-count // self.per_sheet)


def grid_for(height: int, width: int) -> Grid:
    """The layout for images of this size.

    >>> grid_for(32, 32), grid_for(256, 100)
    (Grid(columns=64, per_sheet=4096), Grid(columns=40, per_sheet=640))
    """
    columns, rows = (max(1, min(CELLS, SIDE // side)) for side in (width, height))
    return Grid(columns, columns * rows)


def sheets(images: ImageSet) -> Iterator[bytes]:
    """The sheets of a set as PNG, grey or RGB; the last is as high as it needs to be."""
    _, height, width = images.shape
    grid = grid_for(height, width)
    for begin in range(0, len(images), grid.per_sheet):
        yield _png(_sheet(eight_bits(images.images[begin : begin + grid.per_sheet]), grid.columns))


def eight_bits(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 images as they are, floats in [0, 1] rounded: (N, C, H, W)."""
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    return np.asarray((images.astype(np.float64) * 255).round().clip(0, 255), np.uint8)


def _sheet(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """(N, C, H, W) -> (rows H, columns W, C), black where there is no image."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, channels, height, width), np.uint8)
    cells[:count] = images
    laid = cells.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(laid.reshape(rows * height, columns * width, channels))


def _png(sheet: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()
