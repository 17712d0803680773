"""IDX, the format in which MNIST was published: a header, then the values, most significant byte first.

    bytes 0-1  zero
    byte  2    type of the values: 8 is uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    byte  3    number of axes; then the length of each as 4 bytes; then the values, last axis fastest

Images are uint8 (N, H, W), labels integers (N,). A file may be compressed with gzip, whatever its name says.
Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_AXES = range(1, 5)
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_IDX_NAME = re.compile(r"(idx\d|-ubyte)(-ubyte)?(\.gz)?$|\.idx(\.gz)?$", re.IGNORECASE)


def is_idx_name(path: Path) -> bool:
    """Whether a file is named as IDX files are: `*-idx3-ubyte`, `*.idx3-ubyte`, `*.idx`, also with `.gz`."""
    return _IDX_NAME.search(path.name) is not None


def unpacked(path: Path) -> bytes:
    """The content of a file, after gzip if it is compressed.

    Raises: DataError if it cannot be read, or its gzip stream is cut short or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is cut short or damaged (gzip: {error}); fetch it again") from error


def parse_idx(content: bytes, path: Path) -> NDArray[Any]:
    """The array an unpacked IDX file holds; `path` is for messages.

    Raises: DataError for another format, or more or fewer bytes than the header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] not in _AXES:
        raise DataError(
            f"{path} is not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}; "
            "needed is 00 00 08 03 (images) or 00 00 08 01 (labels)"
        )
    dtype, axes = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{path} is cut short: its header of {start} bytes ends after {len(content)}; fetch it again")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, offset=4))
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        raise DataError(
            f"{path} has {len(content)} bytes where its header says {needed} (shape {shape}); fetch it again"
        )
    if not math.prod(shape):
        raise DataError(f"{path} holds no values: its header says shape {shape}; name a file with images")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def load_idx_file(path: Path) -> ImageSet:
    """One IDX file of images, with the labels that lie beside it by name (images -> labels, idx3 -> idx1)."""
    images = parse_idx(unpacked(path), path)
    if images.ndim == 1:
        raise DataError(f"{path} holds labels (one axis), not images: name the file of images instead")
    beside = _labels_beside(path)
    if beside is None:
        note = f"No file of labels lies beside {path.name}: the set is unlabelled."
        return replace(_image_set(images, None, path.name, path), notes=(note,))
    return _image_set(images, parse_idx(unpacked(beside), beside), path.name, path)


def find_mnist_files(folder: Path) -> dict[str, Path]:
    """Which of the four `MNIST_FILES` a folder holds, plain, with `.gz` or as `train-images.idx3-ubyte`."""
    found = {}
    for name in MNIST_FILES:
        stem = folder / name, folder / name.replace("-idx", ".idx")
        for path in (*stem, *(candidate.with_name(candidate.name + ".gz") for candidate in stem)):
            if path.is_file():
                found[name] = path
                break
    return found


def load_mnist_folder(folder: Path, *, name: str, classes: Sequence[str] | None = None) -> ImageSet:
    """The four files of a folder as one set: the training images, then the test images.

    Raises: DataError naming the files that are missing or broken.
    """
    files = find_mnist_files(folder)
    missing = [file for file in MNIST_FILES if file not in files]
    if missing:
        raise DataError(
            f"{folder} holds {len(files)} of the 4 files of an MNIST-style set; add {', '.join(missing)} "
            "(plain or .gz), or name one file of images"
        )
    contents = {file: unpacked(path) for file, path in files.items()}
    return join_mnist(contents, files, name=name, classes=classes)


def join_mnist(
    contents: dict[str, bytes], files: dict[str, Path], *, name: str, classes: Sequence[str] | None = None
) -> ImageSet:
    """The unpacked contents of the four files as one set; see `load_mnist_folder`."""
    arrays = {file: parse_idx(contents[file], files[file]) for file in MNIST_FILES}
    parts = []
    for images, labels in (MNIST_FILES[:2], MNIST_FILES[2:]):
        parts.append(_image_set(arrays[images], arrays[labels], name, files[images]))
    train, test = parts
    if train.shape != test.shape:
        raise DataError(
            f"{files[MNIST_FILES[0]]} holds images of {train.shape[1]} x {train.shape[2]} but "
            f"{files[MNIST_FILES[2]]} of {test.shape[1]} x {test.shape[2]}; both need the same size"
        )
    pixels = np.concatenate([train.images, test.images])
    numbers = np.concatenate([arrays[MNIST_FILES[1]], arrays[MNIST_FILES[3]]])
    joined = ImageSet.from_arrays(pixels, numbers, classes=classes, name=name)
    return replace(joined, published_test=len(test))


def _image_set(images: NDArray[Any], labels: NDArray[Any] | None, name: str, path: Path) -> ImageSet:
    if labels is not None and labels.ndim != 1:
        raise DataError(f"the labels of {path} have shape {labels.shape}; needed is one number per image")
    try:
        return ImageSet.from_arrays(images, labels, name=name)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to a file of images by name, compressed or not; None without one."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    if name == path.name:
        return None
    other = name.removesuffix(".gz") if name.endswith(".gz") else name + ".gz"
    return next((found for found in (path.with_name(name), path.with_name(other)) if found.is_file()), None)
