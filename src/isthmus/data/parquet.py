"""Rows of Parquet -> ImageSet: a row is an image and its class, as shards.py finds them.

Rows are read a few at a time: memory does not grow with their number as long as the pages of a file are small. A row is
treated as a file of a folder is: what it contains is looked at before it is decoded, and what cannot be used is named.
A path in a row is a name: nothing is read but the Parquet files. Rows count from 0.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from isthmus.data.arrays import class_order
from isthmus.data.cache import looking_ahead, place_for
from isthmus.data.contents import file_sums, state_of
from isthmus.data.decoding import Content, Part, Shape, files_in_part, processes_for, read_contents, read_part
from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import Header, without_warnings
from isthmus.data.shards import Table, first_line, group_rows, open_file, open_table, reading_errors
from isthmus.data.uniform import Read, Source, conversions, left_out, read_uniform
from isthmus.errors import DataError

NO_CLASS = -1  # as which `datasets` writes that a row has none
SAMPLED_FILES, SAMPLED_ROWS = 8, 8  # by which is guessed what all images are like
PART_BYTES = 2**22  # of contents in a part, about
ROWS_AT_ONCE, LABELS_AT_ONCE = 64, 2**16


@dataclass
class Labels:
    """The class of each row by name, None where it has none, and row -> reason where that makes it of no use."""

    labels: list[str | None] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


def load_parquet(
    root: Path, paths: Sequence[str], *, name: str, size: tuple[int, int] | None = None, skip_bad: bool = False
) -> ImageSet:
    """Read Parquet files of images as one set; see the head of this file.

    Arguments: root: the file, or the folder they lie in. paths: of the files. size, skip_bad: as for a folder of image
    files, of which a row takes the place of a file.
    Raises: DataError for a missing package, a file that is no Parquet of images, or rows that cannot be used.
    """
    table = open_table(root, paths)
    folder = root if root.is_dir() else root.parent
    with looking_ahead(folder, ["parquet", size], name) as ahead:
        place = place_for(folder, table.paths, ["parquet", size], ahead=ahead)
        kept = place.find(name) if place else None
    if kept is not None:
        return replace(kept, published_test=table.test)
    before = [state_of(os.stat(path)) for path in table.paths]
    labels = read_labels(table)
    source = Source(
        where=str(root),
        count=table.count,
        noun="row",
        parts=lambda shape: read_rows(table, shape, labels.bad),
        sample=lambda: _sample(table),
        name=table.name,
    )
    read = read_uniform(source, size, skip_bad=skip_bad)
    images = _as_set(table, labels, source, read, name)
    if place and not read.bad:
        sums, states = file_sums(table.paths)
        if before == [state_of(os.stat(path)) for path in table.paths]:  # else what was summed was not what was read
            place.keep(images, sums, states)
    return images


def read_labels(table: Table) -> Labels:
    """The class of every row. Where some rows have one, those without are of no use."""
    found = Labels()
    if table.label is None:
        return Labels([None] * table.count)
    for values in column_values(table, table.label, LABELS_AT_ONCE):
        for value in values:
            label, problem = class_of(value, table.names)
            if problem:
                found.bad[len(found.labels)] = problem
            found.labels.append(label)
    if found.bad or any(label is not None for label in found.labels):
        without = [row for row, label in enumerate(found.labels) if label is None and row not in found.bad]
        found.bad |= dict.fromkeys(without, "has no label")
    return found


def read_rows(table: Table, shape: Shape | None, bad: Mapping[int, str] | None = None) -> Generator[Part, None, None]:
    """The images of all rows, in order, as `decoding.read_parts` gives those of files.

    Arguments: bad: row -> reason of those that are not to be used whatever their image is.
    """
    parts = in_parts(contents(table, bad), files_in_part(shape))
    processes = processes_for(table.count, table.size)
    with closing(read_contents(parts, shape, count=table.count, processes=processes)) as read:
        yield from read


def contents(table: Table, bad: Mapping[int, str] | None = None) -> Iterator[Content]:
    """What the images of all rows contain, in order; see `read_rows`."""
    bad, row = bad or {}, 0
    for values in column_values(table, table.image if table.bare else f"{table.image}.bytes", ROWS_AT_ONCE):
        for value in values:
            data, reason = _bytes_of(value)
            yield Content(table.name(row), data, bad.get(row, reason))
            row += 1


def _as_set(table: Table, labels: Labels, source: Source, read: Read, name: str) -> ImageSet:
    used = np.fromiter(read.headers, np.int64, len(read.headers))
    known = [label for row in read.headers if (label := labels.labels[row]) is not None]
    classes = table.names if table.names and known else tuple(class_order(known))
    number = {label: position for position, label in enumerate(classes)}
    numbers = np.array([number[label] for label in known], np.int64) if known else None
    _, *shape = read.pixels.shape
    notes = [*table.notes, *conversions(read.headers.values(), (shape[0], shape[1], shape[2]))]
    if table.label is not None and not known:
        notes.append(f"The column {table.label} names no class: the set is unlabelled.")
    notes += left_out(source, read.bad)
    test = int((used >= table.count - table.test).sum())
    published = test if test < len(used) else 0
    return ImageSet(read.pixels, numbers, classes, name, published_test=published, notes=tuple(notes))


def _sample(table: Table) -> list[Header] | None:
    """The headers of the first rows of some files, None if one of them is damaged."""
    places = np.unique(np.linspace(0, len(table.paths) - 1, SAMPLED_FILES).round().astype(int))
    first: list[Content] = []
    for i in places:
        part = replace(table, paths=(table.paths[i],), rows=(table.rows[i],))
        first += next(in_parts(contents(part), SAMPLED_ROWS), [])
    with without_warnings():
        headers = read_part(first, None).headers
    return None if any(isinstance(header, str) for header in headers) else cast(list[Header], headers)


def in_parts(rows: Iterator[Content], most: int) -> Iterator[list[Content]]:
    """So many of them at once, or fewer if they are large."""
    held: list[Content] = []
    size = 0
    for content in rows:
        held.append(content)
        size += len(content.data)
        if len(held) == most or size >= PART_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def column_values(table: Table, column: str, at_once: int) -> Iterator[list[Any]]:
    """The values of a column, some rows after the others; one that cannot be read is a `_Damage`."""
    for path, rows in zip(table.paths, table.rows, strict=True):
        with open_file(path) as file:
            if sum(group_rows(file)) != rows:
                raise DataError(f"{path} was changed while it was read; run the command again")
            for group, count in enumerate(group_rows(file)):
                yield from _group(file, group, column, at_once, count)


def _group(file: Any, group: int, column: str, at_once: int, left: int) -> Iterator[list[Any]]:
    batches = file.iter_batches(batch_size=at_once, row_groups=[group], columns=[column], use_threads=False)
    reason, values = "", list[Any]()
    while left > 0:
        try:
            values = values if reason else next(batches).column(0).to_pylist()[:left]
        except StopIteration:
            reason = "is missing from the file"
        except reading_errors() as error:
            reason = f"cannot be read ({first_line(error)})"
        values = [_Damage(reason)] * min(left, at_once) if reason else values
        left -= len(values)
        yield values


class _Damage(NamedTuple):
    """In place of a value: why it cannot be had."""

    reason: str


def _bytes_of(value: Any) -> tuple[bytes, str]:
    """What an image contains, and why it cannot be used if that is so."""
    if isinstance(value, _Damage):
        return b"", value.reason
    if value is None:
        return b"", "has no image"
    data = value["bytes"] if isinstance(value, dict) else value
    if data is None:
        return b"", "names a file and holds none; write the set with the files in it"
    return data, ""


def class_of(value: Any, names: Sequence[str]) -> tuple[str | None, str]:
    """The class that a label stands for, and why it stands for none if that makes the row bad."""
    if isinstance(value, _Damage):
        return None, f"has a label that {value.reason}"
    if value is None or value in (NO_CLASS, ""):
        return None, ""
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value), ""
    if value < 0 or (names and value >= len(names)):
        named = f"{len(names)} classes have names" if names else "they count from 0"
        return None, f"has the label {value}, and {named}"
    return names[value] if names else str(value), ""
