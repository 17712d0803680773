"""A folder of image files -> ImageSet.

Subfolders are classes, and everything below one belongs to it; images lying directly in the folder are an
unlabelled set. Hidden files and folders do not count. Nothing outside the folder is ever read: a link that
leads out is refused. Every file that cannot be used is named, and what was converted goes into the notes.
A set in which every file could be used is kept decoded (cache.py), which changes only how long reading it again takes.
A set that is too large for memory stays there on disk (stored.py). A folder that holds Parquet files and no image files
is read as parquet.py says.
"""

import os
from bisect import bisect
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from isthmus.data.arrays import class_order
from isthmus.data.cache import looking_ahead, place_for, prefix
from isthmus.data.decoding import Part, Shape, processes_for, read_parts
from isthmus.data.imageset import ImageSet
from isthmus.data.parquet import load_parquet
from isthmus.data.photographs import SUFFIXES, Header, UnreadableImageError, read_header
from isthmus.data.shards import SUFFIX
from isthmus.data.uniform import (
    NAMED,
    Read,
    Source,
    conversions,
    count_of,
    left_out,
    read_uniform,
    sentences,
    some,
)
from isthmus.errors import DataError

SAMPLE = 64  # files by which is guessed what all are like
_ENDINGS = tuple(SUFFIXES)
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


@dataclass
class _Found:
    """What a folder holds: paths of image files, the class of each (None: directly in the folder), and what else.

    tables: Parquet files, which count among the others too."""

    paths: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    subfolders: list[str] = field(default_factory=list)
    others: int = 0
    linked_folders: int = 0
    leaving: list[str] = field(default_factory=list)


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
    with looking_ahead(folder, size, name) as ahead:
        found = _find(folder)
        if found.tables and not found.paths:
            return _tables(folder, found, name=name, size=size, skip_bad=skip_bad)
        _check_found(folder, found)
        others = (found.others, found.linked_folders, found.subfolders)
        place = place_for(folder, found.paths, size, *others, ahead=ahead)
        kept = place.find(name) if place else None
    if kept is not None:
        return kept
    source = _source(folder, found.paths)
    read = read_uniform(source, size, skip_bad=skip_bad)
    images = _as_set(folder, found, source, read, name)
    if place and not read.bad:
        place.keep(images, read.sums, read.states)
    return images


def _tables(folder: Path, found: _Found, *, name: str, size: tuple[int, int] | None, skip_bad: bool) -> ImageSet:
    """The Parquet files of a folder without image files."""
    _check_tables(folder, found)
    images = load_parquet(folder, found.tables, name=name, size=size, skip_bad=skip_bad)
    others = sentences([(found.others - len(found.tables), "file", f"ignored for not ending in {SUFFIX}")])
    return replace(images, notes=(*images.notes, *others))


def find_images(folder: Path) -> list[Path]:
    """Every image file at or below a folder, in order, whether subfolders are classes or not.

    Raises: DataError for links that leave the folder, or if there are no images.
    """
    found = _find(folder)
    _check_any(folder, found)
    return [Path(path) for path in found.paths]


def find_files(folder: Path) -> tuple[list[Path], list[str]]:
    """What is to be read of a folder: its image files as `find_images` gives them, or else its Parquet files.

    Raises: DataError for links that leave the folder, or if there are neither.
    """
    found = _find(folder)
    if found.tables and not found.paths:
        _check_tables(folder, found)
        return [], found.tables
    _check_any(folder, found)
    return [Path(path) for path in found.paths], []


def _source(folder: Path, paths: list[str]) -> Source:
    def sample() -> list[Header] | None:
        places = np.unique(np.linspace(0, len(paths) - 1, SAMPLE).round().astype(int))
        try:
            return [read_header(Path(paths[i])) for i in places]
        except UnreadableImageError:  # it is met again, and named
            return None

    return Source(
        where=str(folder),
        count=len(paths),
        noun="image file",
        parts=lambda shape: _parts(paths, shape),
        sample=sample,
        name=lambda i: _relative(folder, paths[i]),
    )


def _as_set(folder: Path, found: _Found, source: Source, read: Read, name: str) -> ImageSet:
    labels = [label for i in read.headers if (label := found.labels[i]) is not None]
    classes = _class_names(folder, labels)
    _, *shape = read.pixels.shape
    notes = [*conversions(read.headers.values(), (shape[0], shape[1], shape[2])), *_notes(found)]
    notes += left_out(source, read.bad)
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
            entries = list(listed)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    files = sorted([entry.name for entry in entries if entry.is_file(follow_symlinks=False)])
    others = [] if len(files) == len(entries) else [e for e in entries if not e.is_file(follow_symlinks=False)]
    done = 0
    for entry in sorted(others, key=lambda entry: entry.name):  # few; the files between two of them go together
        upto = bisect(files, entry.name)
        _add_files(start, files[done:upto], label, found)
        _add_other(start, entry, label, root, found)
        done = upto
    _add_files(start, files[done:], label, found)


def _add_files(start: str, names: list[str], label: str | None, found: _Found) -> None:
    visible = [name for name in names if name[0] != "."]
    images = [name for name in visible if name.lower().endswith(_ENDINGS)]
    found.paths += [start + name for name in images]
    found.labels += [label] * len(images)
    found.others += len(visible) - len(images)
    if len(images) < len(visible):
        found.tables += [start + name for name in visible if name.lower().endswith(SUFFIX)]


def _add_other(start: str, entry: os.DirEntry[str], label: str | None, root: str, found: _Found) -> None:
    """Sort what is no file of its own into `found`: a folder and all below it, a link, or what has no content."""
    name = entry.name
    if name.startswith("."):
        return
    path, linked = start + name, entry.is_symlink()
    is_folder = os.path.isdir(entry.path) if linked else entry.is_dir()  # a link to itself is none
    is_image = name.lower().endswith(_ENDINGS)
    if (is_folder or (is_image and linked)) and _leaves(path, root):
        found.leaving.append(path)
    elif is_folder and linked:  # it may lead back to where we are
        found.linked_folders += 1
    elif is_folder:
        if label is None:
            found.subfolders.append(name)
        _search(os.path.join(path, ""), path, label or name, root, found)
    else:
        _add_files(start, [name], label, found)


def _leaves(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return real != root and not real.startswith(os.path.join(root, ""))


def _check_tables(folder: Path, found: _Found) -> None:
    """Raise DataError if links leave the folder, those to Parquet files among them."""
    root = os.path.realpath(folder)
    _check_links(folder, [*found.leaving, *(path for path in found.tables if _leaves(path, root))])


def _check_links(folder: Path, leaving: Sequence[str]) -> None:
    if leaving:
        raise DataError(
            f"{count_of(len(leaving), 'link')} leading out of {folder}: {_named(folder, leaving)}; "
            "copy what is meant into the folder, or remove the link"
        )


def _check_any(folder: Path, found: _Found) -> None:
    """Raise DataError if links leave the folder, or there are no images."""
    _check_links(folder, found.leaving)
    if not found.paths:
        below = f" and none in its {count_of(len(found.subfolders), 'subfolder')}" if found.subfolders else ""
        raise DataError(
            f"{folder} holds no images{below} ({count_of(found.others, 'other file')}); put images "
            f"({' '.join(sorted(SUFFIXES))}) in one subfolder per class, or directly in the folder"
        )


def _check_found(folder: Path, found: _Found) -> None:
    """Raise DataError unless the folder is one clear set of images."""
    _check_any(folder, found)
    direct = [path for path, label in zip(found.paths, found.labels, strict=True) if label is None]
    if direct and len(direct) < len(found.paths):
        raise DataError(
            f"{folder} holds {count_of(len(direct), 'image')} directly ({_named(folder, direct)}) and also "
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


def _parts(paths: Sequence[str], shape: Shape | None) -> Generator[Part, None, None]:
    sizes = [os.path.getsize(path) for path in paths[:: max(1, len(paths) // SAMPLE)] if os.path.exists(path)]
    size = sum(sizes) * len(paths) // max(1, len(sizes))
    return read_parts(paths, shape, processes=processes_for(len(paths), size))


def _notes(found: _Found) -> list[str]:
    """A sentence on each kind of thing that was passed over."""
    empty = class_order(set(found.subfolders) - {label for label in found.labels if label is not None})
    return sentences(
        [
            (found.others, "file", "ignored for not ending in an image suffix"),
            (found.linked_folders, "link", "to a folder not followed"),
            (len(empty), "subfolder", f"without images ignored: {', '.join(empty[:NAMED])}"),
        ]
    )


def _named(folder: Path, paths: Iterable[str]) -> str:
    """The first few files, relative to the folder, and how many more."""
    ordered = sorted(paths, key=Path)
    return some([_relative(folder, path) for path in ordered[:NAMED]], len(ordered))


def _relative(folder: Path, path: str) -> str:
    return Path(path).relative_to(folder).as_posix()
