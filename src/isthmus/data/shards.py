"""Which Parquet files make one set of images, and which of their columns hold the images and the classes.

    image   {bytes, path}, or the bytes alone: what an image file of any kind that folders may hold contains
    label   whole numbers, whose names the schema may hold (ClassLabel), or the names themselves; may be missing

That is how Hugging Face `datasets` writes them. A set is one file, or a folder of them. Of a folder, the images of
files whose path has the word test in it come last, as the published test set. Here only the ends of files are read,
which say what is in them; parquet.py reads the rows. Needs the package pyarrow.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from isthmus.data.uniform import some
from isthmus.errors import DataError

SUFFIX = ".parquet"
IMAGE, LABEL = "image", "label"  # where several columns could be meant, those of these names are
BUFFER = 2**20  # bytes of a column read at once
MOST_ROWS_A_BYTE = 1000  # a file that claims more is damaged
_WORDS = re.compile(r"[a-z]+")
_TEST = frozenset({"test", "testing"})
_HELD_OUT = frozenset({"val", "valid", "validation", "dev"})


@dataclass(frozen=True)
class Table:
    """Parquet files that make one set.

    root: the file or folder as it was named. paths: of the files, those of the test part last. rows: of each. image,
    label: the columns, of the latter None if there is none. bare: whether images are bytes without a struct around
    them. names: of the classes, where labels are numbers that have names. test: rows of the test part. size: bytes of
    the files. notes: sentences on what was chosen.
    """

    root: Path
    paths: tuple[str, ...]
    rows: tuple[int, ...]
    image: str
    bare: bool
    label: str | None
    names: tuple[str, ...]
    size: int
    test: int = 0
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(self.rows)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.rows)]

    def name(self, row: int) -> str:
        """What messages call a row of the whole."""
        i = bisect_right(self._starts, row) - 1
        inside = "" if self.root == Path(self.paths[i]) else f"{_below(self.root, self.paths[i])} "
        return f"{inside}row {row - self._starts[i]}"


def is_parquet_name(path: Path) -> bool:
    """Whether a file is named as a Parquet file."""
    return path.name.lower().endswith(SUFFIX)


def open_table(root: Path, paths: Sequence[str]) -> Table:
    """Look at Parquet files without reading their rows.

    Raises: DataError for a missing package, a file that cannot be read, or has no images or no rows, and for files that
    do not fit together.
    """
    ordered = sorted(paths, key=lambda path: _has_word(root, path, _TEST))  # which keeps their order otherwise
    found = [_look(root, path) for path in ordered]
    for other in found[1:]:
        _check_alike(found[0], other)
    rows = tuple(table.rows[0] for table in found)
    if not sum(rows):
        raise DataError(f"{root} holds no rows; give at least one image")
    test = sum(count for path, count in zip(ordered, rows, strict=True) if _has_word(root, path, _TEST))
    return replace(
        found[0],
        paths=tuple(ordered),
        rows=rows,
        size=sum(table.size for table in found),
        test=test if test < sum(rows) else 0,
        notes=(*found[0].notes, *_joined(root, ordered)),
    )


def _look(root: Path, path: str) -> Table:
    """What one file holds."""
    with open_file(path) as file:
        schema, rows = file.schema_arrow, group_rows(file)
        if min(rows, default=0) < 0 or sum(rows) > MOST_ROWS_A_BYTE * os.path.getsize(path):
            raise _unreadable(path, f"it claims {sum(rows):,} rows")
        features = features_of(path, schema)
        image = _image_column(path, schema, features)
        label, notes = _label_column(path, schema, features)
        names = features.get(label, {}).get("names") if label is not None else None
        numbered = label is not None and _pyarrow("pyarrow", path).types.is_integer(schema.field(label).type)
        return Table(
            root=root,
            paths=(path,),
            rows=(sum(rows),),
            image=image,
            bare=_is_bytes(schema.field(image).type),
            label=label,
            names=tuple(map(str, names)) if numbered and isinstance(names, list) else (),
            size=os.path.getsize(path),
            notes=notes,
        )


def _image_column(path: str, schema: Any, features: Mapping[str, Any]) -> str:
    """The column of images: that called so, the one said to be of images, or the only one that may be."""
    holding = [column.name for column in schema if _holds_files(column)]
    said = [name for name in holding if features.get(name, {}).get("_type") == "Image"] or holding
    if IMAGE in said or len(said) == 1:
        return IMAGE if IMAGE in said else said[0]
    if said:
        raise DataError(f"{path} has several columns of images ({some(said, len(said))}); call one of them {IMAGE}")
    raise DataError(
        f"{path} has the columns {some(schema.names, len(schema.names)) or 'none'}, and images in none of them; needed "
        f"is a column {IMAGE} of {{bytes, path}}, as Hugging Face datasets writes it"
    )


def _label_column(path: str, schema: Any, features: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The column of classes: that called so, or the only one said to be of classes; and a note if there are several."""
    classes = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if LABEL not in schema.names and len(classes) != 1:
        several = f"Each of the columns {some(classes, len(classes))} holds classes; to use one, call it {LABEL}."
        return None, (several,) if classes else ()
    chosen = LABEL if LABEL in schema.names else classes[0]
    kind, types = schema.field(chosen).type, _pyarrow("pyarrow", path).types
    plain = kind.value_type if types.is_dictionary(kind) else kind
    if not any(fits(plain) for fits in (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)):
        raise DataError(f"{path}, column {chosen}: {kind}; needed are whole numbers or the names of classes")
    return chosen, ()


def features_of(path: str, schema: Any) -> dict[str, Any]:
    """What `datasets` noted of the columns, as name -> {"_type": "Image"}; {} if it did not write the file."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = json.loads(text).get("info", {}).get("features") or {}
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except (ValueError, AttributeError) as error:
        raise _unreadable(path, f"its note for Hugging Face datasets: {first_line(error)}") from error


def _holds_files(column: Any) -> bool:
    kind = column.type
    if _is_bytes(kind):
        return bool(column.name == IMAGE)  # elsewhere bytes may be anything
    place = kind.get_field_index("bytes") if hasattr(kind, "get_field_index") else -1
    return place >= 0 and _is_bytes(kind.field(place).type)


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _check_alike(first: Table, other: Table) -> None:
    for what in ("image", "label", "names", "bare"):
        if getattr(first, what) != getattr(other, what):
            raise DataError(
                f"{first.paths[0]} and {other.paths[0]} do not make one set: {_kind(first)}, but {_kind(other)}; name "
                "one of them, or move the files of each set into a folder of its own"
            )


def _kind(table: Table) -> str:
    names = f" of {some(table.names, len(table.names))}" if table.names else ""
    label = f"labels in {table.label}{names}" if table.label else "no labels"
    return f"images in {table.image} with {label}"


def _joined(root: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """A note on files of held-out images that are not the test part."""
    held_out = [_below(root, path) for path in paths if _has_word(root, path, _HELD_OUT)]
    if not held_out or len(held_out) == len(paths):
        return ()
    return (f"The images of {some(held_out, len(held_out))} count among those that are divided anew.",)


def _has_word(root: Path, path: str, words: frozenset[str]) -> bool:
    """Whether the path of a file below the folder it was found in has one of these words."""
    return Path(path) != root and not words.isdisjoint(_WORDS.findall(_below(root, path).lower()))


def _below(root: Path, path: str) -> str:
    return Path(path).relative_to(root).as_posix()


def group_rows(file: Any) -> list[int]:
    """How many rows each group of a file has."""
    return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]


def open_file(path: str) -> Any:
    """A Parquet file, to be left by `with`. Raises: DataError."""
    parquet = _pyarrow("pyarrow.parquet", path)
    try:
        file = parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        names = file.schema_arrow.names
    except reading_errors() as error:
        raise _unreadable(path, first_line(error)) from error
    if len(set(names)) < len(names):
        raise DataError(f"{path} has several columns of one name ({some(names, len(names))}); rename them")
    return file


def _pyarrow(module: str, path: str) -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{path} needs a package: `pip install pyarrow`, or give the images as files in a folder.")
    return importlib.import_module(module)


def reading_errors() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    return OSError, ValueError, importlib.import_module("pyarrow").ArrowException


def _unreadable(path: str, reason: str) -> DataError:
    return DataError(f"{path} cannot be read as Parquet ({reason}): it is damaged or cut short; fetch it again")


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
