"""What an array must be to count as images or labels, and how the usual layouts are brought to that form.

Notation: images (N, C, H, W), labels (N,) from 0 to K - 1; see imageset.py. Each check raises a DataError
that says what was found and what is needed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8 | np.float32 | np.float64]
Labels: TypeAlias = NDArray[np.int64]

CHANNELS = (1, 3)
MOST_CLASSES = 2**16  # larger integer labels are identifiers, not class numbers


def check_images(images: Pixels, *, low: float = 0.0, high: float = 1.0) -> None:
    """Raise DataError unless `images` is (N, C, H, W), uint8 or floats in [low, high], with C of 1 or 3."""
    if images.ndim != 4 or (images.shape[1] not in CHANNELS and images.size):
        raise DataError(
            f"images have shape {images.shape}; needed is (N, C, H, W) with C of 1 (grey) or 3 (RGB): "
            "ImageSet.from_arrays also takes (N, H, W) and (N, H, W, C)"
        )
    if len(images) == 0:
        raise DataError(f"images have shape {images.shape}: there are no images; give at least one")
    if images.size == 0:
        raise DataError(f"images have shape {images.shape}: they hold no pixels; a side must be at least 1")
    if images.dtype == np.uint8:
        return
    if images.dtype not in (np.float32, np.float64):
        raise DataError(f"images are {images.dtype}; needed is uint8 (0 to 255) or float32 in [0, 1]")
    least, most = float(images.min()), float(images.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise DataError(f"images hold NaN or infinite values; needed are numbers in [{low:g}, {high:g}]: replace them")
    if least < low or most > high:
        raise DataError(
            f"images are floats from {least:g} to {most:g}; needed is [{low:g}, {high:g}]: "
            "divide by the largest possible value (255 for 8 bits), or give uint8"
        )


def check_labels(labels: Labels | None, classes: tuple[str, ...], count: int) -> None:
    """Raise DataError unless there is one int64 label per image, each the number of a class."""
    if labels is None:
        if classes:
            raise DataError(f"{len(classes)} classes are named but there are no labels: give labels, or no classes")
        return
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(
            f"labels are {labels.dtype} of shape {labels.shape}; needed is int64 of shape ({count},), "
            "one class number per image: ImageSet.from_arrays converts other integers and names"
        )
    if len(labels) != count:
        raise DataError(f"there are {count} images but {len(labels)} labels; needed is one label per image")
    if len(set(classes)) != len(classes):
        raise DataError(f"class names occur twice: {', '.join(classes)}; each class needs a name of its own")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise DataError(
            f"labels run from {low} to {high} but {len(classes)} classes are named; "
            f"needed are labels from 0 to {len(classes) - 1}"
        )


def check_size(size: tuple[int, int]) -> None:
    """Raise DataError unless `size` is (height, width), both at least 1."""
    if min(size) < 1:
        raise DataError(f"size is {size[0]} x {size[1]}; height and width must be at least 1")


def channels_first(images: NDArray[Any]) -> Pixels:
    """(N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or any float -> (N, C, H, W), uint8 or float32."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        images = np.moveaxis(images, 3, 1)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images, np.uint8)
    if images.dtype.kind != "f":
        raise DataError(
            f"images are {images.dtype}; needed is uint8 (0 to 255) or floats in [0, 1]: "
            "convert with images.astype('uint8') if the values are from 0 to 255"
        )
    return np.ascontiguousarray(images, np.float32)


def class_order(names: Iterable[str]) -> list[str]:
    """Distinct names in order: by value if all are whole numbers, else by letter.

    >>> class_order(["10", "9"]), class_order(["10", "9", "none"])
    (['9', '10'], ['10', '9', 'none'])
    """
    distinct = sorted(set(names))
    if all(name.isdecimal() for name in distinct):
        return sorted(distinct, key=int)
    return distinct


def class_numbers(labels: NDArray[Any], classes: Sequence[str] | None) -> tuple[Labels, tuple[str, ...]]:
    """Labels as int64 numbers from 0, and the class names.

    Integers are numbers already, and without `classes` their names are "0" to "K - 1". Strings are looked
    up in `classes`, or in the names that occur, in order.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind in "iu":
        return _from_integers(labels, classes)
    if labels.ndim == 1 and (labels.dtype.kind == "U" or all(isinstance(label, str) for label in labels)):
        return _from_names([str(label) for label in labels], classes)
    raise DataError(
        f"labels are {labels.dtype} of shape {labels.shape}; needed is one class number (an integer from 0) "
        "or class name (a string) per image"
    )


def _from_integers(labels: NDArray[Any], classes: Sequence[str] | None) -> tuple[Labels, tuple[str, ...]]:
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
    if low < 0 or high >= MOST_CLASSES:
        raise DataError(
            f"labels run from {low} to {high}; class numbers start at 0 and end below {MOST_CLASSES}: "
            "give other labels as strings, which become class names"
        )
    names = map(str, range(high + 1)) if classes is None else map(str, classes)
    return labels.astype(np.int64), tuple(names)


def _from_names(labels: list[str], classes: Sequence[str] | None) -> tuple[Labels, tuple[str, ...]]:
    names = class_order(labels) if classes is None else list(map(str, classes))
    number = {name: position for position, name in enumerate(names)}
    unknown = class_order(label for label in labels if label not in number)
    if unknown:
        raise DataError(
            f"labels name {', '.join(map(repr, unknown[:5]))}, not among the classes {', '.join(names)}: "
            "add the class, or correct the labels"
        )
    return np.array([number[label] for label in labels], np.int64), tuple(names)
