"""Images one by one, each with its name, for commands that restore them: nothing is refused for its neighbour.

A file, a folder (searched below, subfolders keep their names), an `.npz` of arrays, or any set the other readers take.
Unlike an ImageSet, floats may leave [0, 1], as noisy images do, and no image is resized unless that is asked for.
What cannot be used is named with its reason, and the rest is kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.arrays import CHANNELS, channels_first
from isthmus.data.catalog import CATALOG, load
from isthmus.data.files import IMAGE_NAMES, PARTED_NAMES, read_npz
from isthmus.data.folders import find_files
from isthmus.data.idx import find_mnist_files
from isthmus.data.parquet import contents
from isthmus.data.photographs import (
    SUFFIXES,
    UnreadableImageError,
    decode,
    read_content,
    read_header,
    without_warnings,
)
from isthmus.data.shards import Table, is_parquet_name, open_table
from isthmus.data.tables import find_tables
from isthmus.errors import DataError

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and ImageSet.grey
FURTHEST = 4.0  # floats beyond this from zero are on another scale than [0, 1]


@dataclass(frozen=True)
class Pictures:
    """images: (N, C, H, W) float32, on the [0, 1] scale but not clipped to it. names: N, unique, to write results
    under. bad: name -> why that image was left out."""

    images: Tensor
    names: tuple[str, ...]
    bad: dict[str, str] = field(default_factory=dict)


def load_pictures(source: str | Path, shape: tuple[int, int, int], *, resize: bool = False) -> Pictures:
    """Read images of one shape (C, H, W); colour becomes grey where C is 1.

    Arguments: resize: bring images of other sizes to this one, instead of leaving them out.
    Raises: DataError if there is no image that can be used, with the reasons.
    """
    path = Path(os.path.expanduser(source))
    if any(entry.name == source for entry in CATALOG):
        images = load(source)
        found = _from_arrays(images.images, images.name, shape, resize)
    elif path.is_file() and path.suffix.lower() in SUFFIXES:
        found = _from_files([path], path.parent, shape, resize)
    elif path.is_dir() and not find_mnist_files(path) and find_tables(path) is None:
        files, shards = find_files(path)
        if shards:
            found = _from_rows(open_table(path, shards), path.resolve().name, shape, resize)
        else:
            found = _from_files(files, path, shape, resize)
    elif path.is_file() and is_parquet_name(path):
        found = _from_rows(open_table(path, [os.fspath(path)]), path.resolve().stem, shape, resize)
    elif path.suffix.lower() == ".npz" and path.is_file():
        found = _from_arrays(_raw_images(path), path.stem, shape, resize)
    else:
        images = load(source)
        found = _from_arrays(images.images, images.name, shape, resize)
    if not found.names and not found.bad:
        raise DataError(f"{source} holds no images; give at least one.")
    if not found.names:
        reasons = ", ".join(f"{name} {reason}" for name, reason in list(found.bad.items())[:3])
        more = f" and {len(found.bad) - 3} more" if len(found.bad) > 3 else ""
        raise DataError(f"None of the {len(found.bad)} image(s) of {source} can be used: {reasons}{more}.")
    return found


def _from_files(paths: list[Path], root: Path, shape: tuple[int, int, int], resize: bool) -> Pictures:
    images, names, bad = [], [], {}
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            header = read_header(path)
            _check_size((header.height, header.width), shape, resize)
            pixels = decode(path, *shape[1:])
            images.append(_to_shape(torch.from_numpy(np.array(pixels, np.float32)) / 255, shape))
            names.append(name)
        except UnreadableImageError as error:
            bad[name] = str(error)
    return Pictures(_stack(images, shape), tuple(names), bad)


def _from_rows(table: Table, stem: str, shape: tuple[int, int, int], resize: bool) -> Pictures:
    digits = len(str(table.count - 1))
    images, names, bad = [], [], {}
    with without_warnings():
        for row, content in enumerate(contents(table)):
            name = f"{stem}-{row:0{digits}d}"
            try:
                if content.reason:
                    raise UnreadableImageError(content.reason)
                header, _ = read_content(content.data, None)
                _check_size((header.height, header.width), shape, resize)
                _, pixels = read_content(content.data, shape[1:])
                images.append(_to_shape(torch.from_numpy(np.array(pixels, np.float32)) / 255, shape))
                names.append(name)
            except UnreadableImageError as error:
                bad[name] = str(error)
    return Pictures(_stack(images, shape), tuple(names), bad)


def _from_arrays(arrays: NDArray[Any], stem: str, shape: tuple[int, int, int], resize: bool) -> Pictures:
    scale = 255.0 if arrays.dtype == np.uint8 else 1.0
    digits = len(str(max(len(arrays) - 1, 0)))
    images, names, bad = [], [], {}
    for i, array in enumerate(arrays):
        name = f"{stem}-{i:0{digits}d}"
        pixels = torch.from_numpy(np.array(array, np.float32)) / scale
        try:
            if not bool(torch.isfinite(pixels).all()):
                raise UnreadableImageError("holds NaN or infinite pixels")
            if float(pixels.abs().max()) > FURTHEST:
                raise UnreadableImageError(
                    f"has pixels up to {float(pixels.abs().max()):g}, far outside [0, 1]: divide by the largest value"
                )
            _check_size((pixels.shape[1], pixels.shape[2]), shape, resize)
            if tuple(pixels.shape[1:]) != shape[1:]:
                size = list(shape[1:])
                pixels = F.interpolate(pixels[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
            images.append(_to_shape(pixels.movedim(0, -1).squeeze(-1), shape))
            names.append(name)
        except UnreadableImageError as error:
            bad[name] = str(error)
    return Pictures(_stack(images, shape), tuple(names), bad)


def _raw_images(path: Path) -> NDArray[Any]:
    """The array of images of an archive, of whatever values."""
    arrays = {name.lower(): array for name, array in read_npz(path).items()}
    parted = next((names[::2] for names in PARTED_NAMES if all(name in arrays for name in names[::2])), ())
    names = parted or tuple(name for name in IMAGE_NAMES if name in arrays)[:1]
    if not names:
        raise DataError(f"{path} holds {', '.join(arrays) or 'no arrays'}; needed is an array of images called images.")
    parts = []
    for name in names:
        shape, kind = arrays[name].shape, arrays[name].dtype
        if len(shape) not in (3, 4) or (kind != np.uint8 and kind.kind != "f"):
            raise DataError(
                f"{path}, {name}: {kind} of shape {shape}; needed is uint8 or floats, (N, H, W), (N, C, H, W) or "
                "(N, H, W, C)."
            )
        parts.append(channels_first(arrays[name]))
        if parts[-1].shape[1] not in CHANNELS:
            raise DataError(f"{path}, {name}: shape {shape}; needed are 1 channel (grey) or 3 (RGB).")
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError(f"{path}: {' and '.join(names)} hold images of different sizes; give one of them.")
    return np.concatenate(parts)


def _check_size(size: tuple[int, int], shape: tuple[int, int, int], resize: bool) -> None:
    if size != shape[1:] and not resize:
        raise UnreadableImageError(
            f"is {size[0]} x {size[1]}, needed is {shape[1]} x {shape[2]} (--resize brings it to that size)"
        )


def _to_shape(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(H, W) or (H, W, 3) to (C, H, W)."""
    if pixels.ndim == 2:
        if shape[0] == 3:
            raise UnreadableImageError("is grey, and the run was trained on colour images")
        return pixels[None]
    if shape[0] == 1:
        return (pixels @ torch.tensor(GREY))[None]
    return pixels.movedim(-1, 0)


def _stack(images: list[Tensor], shape: tuple[int, int, int]) -> Tensor:
    return torch.stack(images) if images else torch.empty(0, *shape)
