"""A folder of image files -> ImageSet.

Subfolders are classes, and everything below one belongs to it; images lying directly in the folder are an
unlabelled set. Hidden files and folders do not count. Nothing outside the folder is ever read: a link that
leads out is refused. Every file that cannot be used is named, and what was converted goes into the notes.
A set in which every file could be used is kept decoded (cache.py), which changes only how long reading it again takes.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.data.arrays import class_order
from isthmus.data.cache import entry_for
from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import SUFFIXES, Header, UnreadableImageError, decode, read_header
from isthmus.errors import DataError

LONGEST_SIDE = 256  # without a size asked for, images are not larger than this
NAMED = 5  # so many files are named in a message; the rest are counted
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


@dataclass
class _Found:
    """What a folder holds: image files with their class (None: directly in the folder), and what else."""

    images: list[tuple[Path, str | None]] = field(default_factory=list)
    subfolders: list[str] = field(default_factory=list)
    others: int = 0
    linked_folders: int = 0
    leaving: list[Path] = field(default_factory=list)


def load_image_folder(
    folder: Path, *, name: str, size: tuple[int, int] | None = None, skip_bad: bool = False
) -> ImageSet:
    """Read an image folder; see the head of this file.

    Arguments:
        size: (height, width) of the result. By default the common size of the images, if all have one of at
            most 256 on a side; else the most common size, shrunk to fit 256. An image of another shape is
            cropped at its centre to the proportions and scaled.
        skip_bad: leave out files that cannot be read, and say so in the notes, instead of raising.
    Returns: a grey set if every image is grey, else RGB.
    Raises: DataError for links that leave the folder, files that cannot be read, images both in the folder
        and in subfolders, no images, or only one class.
    """
    found = _Found()
    _search(folder, None, os.path.realpath(folder), found)
    _check_found(folder, found)
    asked = [size, found.others, found.linked_folders, found.subfolders]
    entry = entry_for(folder, [path for path, _ in found.images], asked)
    kept = entry.read(name) if entry else None
    if kept is not None:
        return kept
    bad: dict[Path, str] = {}
    images = replace(_decode_found(folder, found, bad, size, skip_bad), name=name)
    if entry and not bad:
        entry.write(images)
    return images


def _decode_found(
    folder: Path, found: _Found, bad: dict[Path, str], size: tuple[int, int] | None, skip_bad: bool
) -> ImageSet:
    """Decode what was found; files that cannot be used go into `bad`."""
    headers = _read_headers([path for path, _ in found.images], bad)
    if not headers:
        _refuse(folder, bad, len(found.images), skip_bad)
    height, width = size or _choose_size(headers.values())
    shape = (1 if all(header.grey for header in headers.values()) else 3, height, width)
    pixels, decoded = _decode_all(list(headers), bad, shape)
    if bad:
        _refuse(folder, bad, len(found.images), skip_bad)
    class_of = dict(found.images)
    labels = [label for path in decoded if (label := class_of[path]) is not None]
    classes = _class_names(folder, labels)
    notes = _notes(found, [headers[path] for path in decoded], shape)
    if bad:
        notes.append(f"{_count(len(bad), 'unreadable file')} left out: {_named(folder, bad)}.")
    number = {label: position for position, label in enumerate(classes)}
    numbers = np.array([number[label] for label in labels], np.int64) if labels else None
    return ImageSet(pixels, numbers, tuple(classes), notes=tuple(notes))


def find_images(folder: Path) -> list[Path]:
    """Every image file at or below a folder, in order, whether subfolders are classes or not.

    Raises: DataError for links that leave the folder, or if there are no images.
    """
    found = _Found()
    _search(folder, None, os.path.realpath(folder), found)
    _check_any(folder, found)
    return [path for path, _ in found.images]


def _search(folder: Path, label: str | None, root: str, found: _Found) -> None:
    """Sort all that is visible below `folder` into `found`; `label` is the class we are in."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path, is_folder = folder / entry.name, _is_folder(entry)
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        if (is_folder or (is_image and entry.is_symlink())) and _leaves(path, root):
            found.leaving.append(path)
        elif is_folder and entry.is_symlink():  # it may lead back to where we are
            found.linked_folders += 1
        elif is_folder:
            if label is None:
                found.subfolders.append(path.name)
            _search(path, label or path.name, root, found)
        elif is_image:
            found.images.append((path, label))
        else:
            found.others += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link to itself is not."""
    return entry.is_dir() if not entry.is_symlink() else os.path.isdir(entry.path)


def _leaves(path: Path, root: str) -> bool:
    real = os.path.realpath(path)
    return real != root and not real.startswith(os.path.join(root, ""))


def _check_any(folder: Path, found: _Found) -> None:
    """Raise DataError if links leave the folder, or there are no images."""
    if found.leaving:
        raise DataError(
            f"{_count(len(found.leaving), 'link')} leading out of {folder}: {_named(folder, found.leaving)}; "
            "copy what is meant into the folder, or remove the link"
        )
    if not found.images:
        below = f" and none in its {_count(len(found.subfolders), 'subfolder')}" if found.subfolders else ""
        raise DataError(
            f"{folder} holds no images{below} ({_count(found.others, 'other file')}); put images "
            f"({' '.join(sorted(SUFFIXES))}) in one subfolder per class, or directly in the folder"
        )


def _check_found(folder: Path, found: _Found) -> None:
    """Raise DataError unless the folder is one clear set of images."""
    _check_any(folder, found)
    direct = [path for path, label in found.images if label is None]
    if direct and len(direct) < len(found.images):
        raise DataError(
            f"{folder} holds {_count(len(direct), 'image')} directly ({_named(folder, direct)}) and also "
            "subfolders with images; move each image into the subfolder of its class, or the subfolders away"
        )
    _class_names(folder, [label for _, label in found.images if label is not None])


def _class_names(folder: Path, labels: Sequence[str]) -> list[str]:
    """The distinct labels in order; DataError if there is just one, or they are the parts of a data set."""
    names = class_order(labels)
    if len(names) == 1:
        raise DataError(
            f"{folder} has images in one subfolder only, {names[0]!r}, so there is nothing to tell apart; "
            f"name {folder / names[0]} itself for an unlabelled set, or add a second class"
        )
    if names and _PARTS.issuperset(name.lower() for name in names):
        raise DataError(
            f"the subfolders of {folder} are {', '.join(names)}: parts of a data set, not classes; "
            f"name one of them, such as {folder / names[-1]}"
        )
    return names


def _read_headers(paths: Sequence[Path], bad: dict[Path, str]) -> dict[Path, Header]:
    headers = {}
    for path in paths:
        try:
            headers[path] = read_header(path)
        except UnreadableImageError as error:
            bad[path] = str(error)
    return headers


def _choose_size(headers: Iterable[Header]) -> tuple[int, int]:
    """The most common (height, width), the larger of equally common ones, shrunk to fit LONGEST_SIDE."""
    counts = Counter((header.height, header.width) for header in headers)
    height, width = max(counts, key=lambda size: (counts[size], size[0] * size[1], size))
    scale = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _decode_all(
    paths: Sequence[Path], bad: dict[Path, str], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], list[Path]]:
    """Decode files in threads into (N, C, H, W); those that fail go into `bad`, and the rest are returned."""

    def attempt(path: Path) -> NDArray[np.uint8] | str:
        try:
            return decode(path, *shape[1:])
        except UnreadableImageError as error:
            return str(error)

    try:
        pixels = np.empty((len(paths), *shape), np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{len(paths)} images of {shape[1]} x {shape[2]} need {len(paths) * math.prod(shape):,} bytes of "
            "memory, more than there is; ask for a smaller size"
        ) from error
    decoded: list[Path] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for path, result in zip(paths, pool.map(attempt, paths), strict=True):
            if isinstance(result, str):
                bad[path] = result
            else:
                pixels[len(decoded)] = result if result.ndim == 2 else np.moveaxis(result, 2, 0)
                decoded.append(path)
    return pixels[: len(decoded)], decoded


def _refuse(folder: Path, bad: dict[Path, str], total: int, skip_bad: bool) -> None:
    """Raise DataError naming the bad files, unless they are to be skipped and others remain."""
    if skip_bad and len(bad) < total:
        return
    step = "give other files" if skip_bad else "repair or remove them, or leave them out with --skip-bad"
    raise DataError(
        f"{len(bad)} of {_count(total, 'image file')} in {folder} cannot be used: {_named(folder, bad)}; {step}"
    )


def _notes(found: _Found, headers: Sequence[Header], shape: tuple[int, int, int]) -> list[str]:
    """A sentence on each kind of change that was made to images, or thing that was passed over."""
    height, width = shape[1:]
    resized = sum((header.height, header.width) != (height, width) for header in headers)
    cropped = sum(header.height * width != header.width * height for header in headers)
    rotated = sum(header.rotated for header in headers)
    spread = sum(header.grey for header in headers) if shape[0] == 3 else 0
    several = sum(header.several for header in headers)
    modes = Counter(header.mode for header in headers if header.mode is not None)
    empty = class_order(set(found.subfolders) - {label for _, label in found.images if label is not None})
    notes = [
        (resized, "image", f"resized to {height} x {width}"),
        (cropped, "image", "cropped at the centre to these proportions"),
        *((count, "image", f"converted from {mode}") for mode, count in sorted(modes.items())),
        (spread, "grey image", "repeated over 3 channels"),
        (rotated, "image", "turned upright by EXIF orientation"),
        (several, "file", "of several pictures or frames: the first was taken"),
        (found.others, "file", "ignored for not ending in an image suffix"),
        (found.linked_folders, "link", "to a folder not followed"),
        (len(empty), "subfolder", f"without images ignored: {', '.join(empty[:NAMED])}"),
    ]
    return [f"{_count(count, noun)} {what}." for count, noun, what in notes if count]


def _named(folder: Path, files: Iterable[Path] | dict[Path, str]) -> str:
    """The first few files, relative to the folder, with the reason if there is one, and how many more."""
    reasons = files if isinstance(files, dict) else dict.fromkeys(files, "")
    ordered = sorted(reasons)
    words = [f"{path.relative_to(folder).as_posix()} {reasons[path]}".strip() for path in ordered[:NAMED]]
    more = len(ordered) - NAMED
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
