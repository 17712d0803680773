"""A folder of image files -> ImageSet.

Subfolders are classes, and everything below one belongs to it; images lying directly in the folder are an
unlabelled set. Hidden files and folders do not count. Nothing outside the folder is ever read: a link that
leads out is refused. Every file that cannot be used is named, and what was converted goes into the notes.
A set in which every file could be used is kept decoded (cache.py), which changes only how long reading it again takes.
A set that is too large for memory stays there on disk (stored.py).
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from isthmus.data.arrays import Pixels, class_order
from isthmus.data.cache import place_for, prefix, storing
from isthmus.data.contents import States, Sums
from isthmus.data.decoding import Part, Shape, processes_for, read_parts
from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import SUFFIXES, Header, UnreadableImageError, read_header
from isthmus.data.stored import Storing, stored_in, too_large
from isthmus.errors import DataError

LONGEST_SIDE = 256  # without a size asked for, images are not larger than this
NAMED = 5  # so many files are named in a message; the rest are counted
SAMPLE = 64  # files by which is guessed what all are like
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


@dataclass
class _Found:
    """What a folder holds: paths of image files, the class of each (None: directly in the folder), and what else."""

    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    subfolders: list[str] = field(default_factory=list)
    others: int = 0
    linked_folders: int = 0
    leaving: list[str] = field(default_factory=list)


@dataclass
class _Read:
    """What became of the files. headers: of those that can be used, at their numbers; bad: number -> why not.
    pixels: (M, C, H, W) of the former. sums, states: of every file, see contents.py."""

    headers: dict[int, Header]
    bad: dict[int, str]
    pixels: Pixels
    sums: Sums
    states: States


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
    found = _find(folder)
    _check_found(folder, found)
    place = place_for(folder, found.paths, [size, found.others, found.linked_folders, found.subfolders])
    kept = place.find(name) if place else None
    if kept is not None:
        return kept
    read = _read(folder, found, size, skip_bad)
    images = _as_set(folder, found, read, name)
    if place and not read.bad:
        place.keep(images, read.sums, read.states)
    return images


def find_images(folder: Path) -> list[Path]:
    """Every image file at or below a folder, in order, whether subfolders are classes or not.

    Raises: DataError for links that leave the folder, or if there are no images.
    """
    found = _find(folder)
    _check_any(folder, found)
    return [Path(path) for path in found.paths]


def _as_set(folder: Path, found: _Found, read: _Read, name: str) -> ImageSet:
    labels = [label for i in read.headers if (label := found.labels[i]) is not None]
    classes = _class_names(folder, labels)
    notes = _notes(found, list(read.headers.values()), read.pixels.shape[1:])
    if read.bad:
        reasons = {found.paths[i]: reason for i, reason in read.bad.items()}
        notes.append(f"{_count(len(reasons), 'unreadable file')} left out: {_named(folder, reasons)}.")
    number = {label: position for position, label in enumerate(classes)}
    numbers = np.array([number[label] for label in labels], np.int64) if labels else None
    return ImageSet(read.pixels, numbers, tuple(classes), name, notes=tuple(notes))


def _find(folder: Path) -> _Found:
    found = _Found()
    _search(prefix(folder), os.fspath(folder), None, os.path.realpath(folder), found)
    return found


def _search(start: str, folder: str, label: str | None, root: str, found: _Found) -> None:
    """Sort all that is visible below `folder` into `found`; `label`: the class we are in; `start`: of its paths."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        path, linked = start + name, entry.is_symlink()
        is_folder = os.path.isdir(entry.path) if linked else entry.is_dir()  # a link to itself is none
        is_image = name[name.rfind(".") :].lower() in SUFFIXES
        if (is_folder or (is_image and linked)) and _leaves(path, root):
            found.leaving.append(path)
        elif is_folder and linked:  # it may lead back to where we are
            found.linked_folders += 1
        elif is_folder:
            if label is None:
                found.subfolders.append(name)
            _search(os.path.join(path, ""), path, label or name, root, found)
        elif is_image:
            found.paths.append(path)
            found.labels.append(label)
        else:
            found.others += 1


def _leaves(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return real != root and not real.startswith(os.path.join(root, ""))


def _check_any(folder: Path, found: _Found) -> None:
    """Raise DataError if links leave the folder, or there are no images."""
    if found.leaving:
        raise DataError(
            f"{_count(len(found.leaving), 'link')} leading out of {folder}: {_named(folder, found.leaving)}; "
            "copy what is meant into the folder, or remove the link"
        )
    if not found.paths:
        below = f" and none in its {_count(len(found.subfolders), 'subfolder')}" if found.subfolders else ""
        raise DataError(
            f"{folder} holds no images{below} ({_count(found.others, 'other file')}); put images "
            f"({' '.join(sorted(SUFFIXES))}) in one subfolder per class, or directly in the folder"
        )


def _check_found(folder: Path, found: _Found) -> None:
    """Raise DataError unless the folder is one clear set of images."""
    _check_any(folder, found)
    direct = [path for path, label in zip(found.paths, found.labels, strict=True) if label is None]
    if direct and len(direct) < len(found.paths):
        raise DataError(
            f"{folder} holds {_count(len(direct), 'image')} directly ({_named(folder, direct)}) and also "
            "subfolders with images; move each image into the subfolder of its class, or the subfolders away"
        )
    _class_names(folder, [label for label in found.labels if label is not None])


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


def _read(folder: Path, found: _Found, size: tuple[int, int] | None, skip_bad: bool) -> _Read:
    """Decode every file, once if all are alike, else after a look at all headers."""
    shape = _guess(found.paths, size)
    read = None if shape is None else _decode(found.paths, shape, size, guessed=True)
    if read is None:
        bad: dict[int, str] = {}
        headers = dict(_headers(_parts(found.paths, None), bad))
        if not headers:
            _refuse(folder, found.paths, bad, skip_bad)
        shape = _shape_of(list(headers.values()), size)
        read = _decode([found.paths[i] for i in headers], shape, size, guessed=False)
        assert read is not None
        at = list(headers)  # numbers among all files
        read.headers = {at[i]: header for i, header in read.headers.items()}
        read.bad = {**bad, **{at[i]: reason for i, reason in read.bad.items()}}
    if read.bad:
        try:
            _refuse(folder, found.paths, read.bad, skip_bad)
        except DataError:
            stored = stored_in(read.pixels)
            if stored is not None:
                stored.remove()
            raise
    return read


def _guess(paths: Sequence[str], size: tuple[int, int] | None) -> Shape | None:
    """The shape all images will have, going by a few of them; None if those are of several sizes, or damaged."""
    headers = []
    for i in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).round().astype(int)):
        try:
            headers.append(read_header(Path(paths[i])))
        except UnreadableImageError:  # it is met again, and named
            return None
    alike = len({(header.height, header.width) for header in headers}) == 1
    return _shape_of(headers, size) if alike or size else None


def _shape_of(headers: Sequence[Header], size: tuple[int, int] | None) -> Shape:
    """(C, H, W): of the size asked for, else of the most common one; grey if every image is."""
    height, width = size or _choose_size(headers)
    return 1 if all(header.grey for header in headers) else 3, height, width


def _choose_size(headers: Iterable[Header]) -> tuple[int, int]:
    """The most common (height, width), the larger of equally common ones, shrunk to fit LONGEST_SIDE."""
    counts = Counter((header.height, header.width) for header in headers)
    height, width = max(counts, key=lambda size: (counts[size], size[0] * size[1], size))
    scale = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _parts(paths: Sequence[str], shape: Shape | None) -> Generator[Part, None, None]:
    some = [os.path.getsize(path) for path in paths[:: max(1, len(paths) // SAMPLE)] if os.path.exists(path)]
    size = sum(some) * len(paths) // max(1, len(some))
    return read_parts(paths, shape, processes=processes_for(len(paths), size))


def _headers(parts: Iterable[Part], bad: dict[int, str], first: int = 0) -> Iterator[tuple[int, Header]]:
    """The number and header of each file that can be used, counted from `first`; the others go into `bad`."""
    number = first
    for part in parts:
        for header in part.headers:
            if isinstance(header, str):
                bad[number] = header
            else:
                yield number, header
            number += 1


class _Memory:
    """Images in memory, filled in order; the other place for them is `stored.Storing`."""

    def __init__(self, count: int, shape: Shape):
        try:
            self.pixels, self.count = np.empty((count, *shape), np.uint8), 0
        except MemoryError as error:
            raise DataError(
                f"{count} images of {shape[1]} x {shape[2]} need {count * math.prod(shape):,} bytes of memory, more "
                "than there is; ask for a smaller size"
            ) from error

    def append(self, images: Pixels) -> None:
        self.pixels[self.count : self.count + len(images)] = images
        self.count += len(images)

    def finish(self) -> Pixels:
        return self.pixels[: self.count]

    def abandon(self) -> None:
        del self.pixels


def _decode(paths: Sequence[str], shape: Shape, size: tuple[int, int] | None, *, guessed: bool) -> _Read | None:
    """Decode files to a shape (C, H, W). None if that was `guessed`, and is not what they turn out to have."""
    total = len(paths) * math.prod(shape)
    target = storing(shape, total) if too_large(total) else _Memory(len(paths), shape)
    headers: dict[int, Header] = {}
    bad: dict[int, str] = {}
    sums: list[Sums] = []
    states: list[States] = []
    number = 0
    try:
        with closing(_parts(paths, shape)) as parts:
            for part in parts:
                fresh = dict(_headers([part], bad, first=number))
                if guessed and shape[0] == 1 and not all(header.grey for header in fresh.values()):
                    target.abandon()
                    return None
                headers |= fresh
                sums.append(part.sums)
                states.append(part.states)
                number += len(part.headers)
                assert part.pixels is not None
                target.append(part.pixels)
        if guessed and headers and _shape_of(list(headers.values()), size) != shape:
            target.abandon()
            return None
        pixels = target.finish(temporary=True) if isinstance(target, Storing) else target.finish()
    except BaseException:
        target.abandon()
        raise
    return _Read(headers, bad, cast(Pixels, pixels), np.concatenate(sums), np.concatenate(states))


def _refuse(folder: Path, paths: Sequence[str], bad: dict[int, str], skip_bad: bool) -> None:
    """Raise DataError naming the bad files, unless they are to be skipped and others remain."""
    if skip_bad and len(bad) < len(paths):
        return
    step = "give other files" if skip_bad else "repair or remove them, or leave them out with --skip-bad"
    reasons = {paths[i]: reason for i, reason in bad.items()}
    count = _count(len(paths), "image file")
    raise DataError(f"{len(bad)} of {count} in {folder} cannot be used: {_named(folder, reasons)}; {step}")


def _notes(found: _Found, headers: Sequence[Header], shape: Sequence[int]) -> list[str]:
    """A sentence on each kind of change that was made to images, or thing that was passed over."""
    channels, height, width = shape
    kinds = Counter(headers)  # few, of however many files

    def count(kind: Callable[[Header], bool]) -> int:
        return sum(number for header, number in kinds.items() if kind(header))

    modes: Counter[str] = Counter()
    for header, number in kinds.items():
        modes.update({header.mode: number} if header.mode is not None else {})
    empty = class_order(set(found.subfolders) - {label for label in found.labels if label is not None})
    notes = [
        (count(lambda h: (h.height, h.width) != (height, width)), "image", f"resized to {height} x {width}"),
        (count(lambda h: h.height * width != h.width * height), "image", "cropped at the centre to these proportions"),
        *((number, "image", f"converted from {mode}") for mode, number in sorted(modes.items())),
        (count(lambda h: h.grey and channels == 3), "grey image", "repeated over 3 channels"),
        (count(lambda h: h.rotated), "image", "turned upright by EXIF orientation"),
        (count(lambda h: h.several), "file", "of several pictures or frames: the first was taken"),
        (found.others, "file", "ignored for not ending in an image suffix"),
        (found.linked_folders, "link", "to a folder not followed"),
        (len(empty), "subfolder", f"without images ignored: {', '.join(empty[:NAMED])}"),
    ]
    return [f"{_count(number, noun)} {what}." for number, noun, what in notes if number]


def _named(folder: Path, files: Iterable[str] | dict[str, str]) -> str:
    """The first few files, relative to the folder, with the reason if there is one, and how many more."""
    reasons = files if isinstance(files, dict) else dict.fromkeys(files, "")
    ordered = sorted(reasons, key=Path)
    words = [f"{Path(path).relative_to(folder).as_posix()} {reasons[path]}".strip() for path in ordered[:NAMED]]
    more = len(ordered) - NAMED
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
