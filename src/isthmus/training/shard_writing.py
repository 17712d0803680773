"""The codes of one shard as a Parquet file, written a group of rows at a time, and the note by which it is known again.

    path      what the image is called: the shard and the number of its row
    label     its class by name, "" where it has none; left out where the shard knows no classes
    code_0 ...  float32, std_0 ... of a VAE's posterior if that was asked for
    model     sha256 of the weights, the same in every row, as in all tables of codes

The file takes its name when all is written. The note lies in the file's own metadata, not beside it, so that the two
cannot part: which file it was made from, by which model, what was left out.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.data.shards import reading_errors
from isthmus.writing import TEMPORARY, storage_error

GROUP_VALUES = 2**20  # numbers in a group of rows, about: what is held until it is written
GROUP_ROWS = 2**16
_NOTE = b"isthmus.shard"


class ShardWriter:
    """Writes the rows of one file of codes, in order; to be left by `with`.

    Arguments: file: open for writing. size: numbers in a code. labelled: whether there are classes. posterior: whether
    there are standard deviations. model: sha256 of the weights.
    """

    def __init__(self, file: BinaryIO, size: int, *, labelled: bool, posterior: bool, model: str):
        self._pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        self._model, self.rows = model, 0
        kinds = ("code", "std") if posterior else ("code",)
        self._columns = [f"{kind}_{i}" for kind in kinds for i in range(size)]
        fields = {
            "path": "string",
            **({"label": "string"} if labelled else {}),
            **dict.fromkeys(self._columns, "float32"),
        }
        named = {name: getattr(self._pyarrow, kind)() for name, kind in {**fields, "model": "string"}.items()}
        self._schema = self._pyarrow.schema(named)
        self._writer = parquet.ParquetWriter(
            file, self._schema, use_dictionary=["label", "model"], write_statistics=False, write_page_checksum=True
        )
        # One place for the numbers of a group: many small ones that stay keep freed memory from being used again.
        self._group = max(1, min(GROUP_ROWS, GROUP_VALUES // len(self._columns)))
        self._numbers = np.empty((len(self._columns), self._group), np.float32)
        self._names: list[str] = []
        self._labels: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What is left half-written goes; that it could not be ended, as on a full disk, is what is being said already.
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self._writer.close()

    def add(self, names: Sequence[str], labels: Sequence[str | None], *numbers: NDArray[np.float32]) -> None:
        """Some more rows. numbers: codes (B, D), and standard deviations where there are any. Raises: OSError."""
        columns, done = np.concatenate(numbers, 1).T, 0
        while done < len(names):
            held = len(self._names)
            part = slice(done, done + self._group - held)
            self._names += map(_utf8, names[part])
            self._labels += ("" if label is None else _utf8(label) for label in labels[part])
            self._numbers[:, held : len(self._names)] = columns[:, part]
            done += len(self._names) - held
            if len(self._names) == self._group:
                self._write()
        self.rows += len(names)

    def finish(self, note: dict[str, Any]) -> None:
        """Write what is left, and what is to be known of the file. Raises: OSError."""
        if self._names:
            self._write()
        self._writer.add_key_value_metadata({_NOTE.decode(): json.dumps(note)})
        self._writer.close()  # again by `with`, which does nothing then

    def _write(self) -> None:
        count = len(self._names)
        columns: dict[str, Any] = {"path": self._names, "label": self._labels, "model": [self._model] * count}
        columns |= {name: self._numbers[i, :count] for i, name in enumerate(self._columns)}
        arrays = [self._pyarrow.array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_table(self._pyarrow.table(arrays, schema=self._schema), row_group_size=count)
        self._names, self._labels = [], []


def read_note(path: Path) -> dict[str, Any]:
    """What `ShardWriter.finish` noted in a file; {} if there is none, or it is no whole file of ours."""
    if not path.is_file():
        return {}
    try:
        noted = importlib.import_module("pyarrow.parquet").read_metadata(path).metadata or {}
        found = json.loads(noted.get(_NOTE, b"{}"))
    except reading_errors():  # whatever it is, it is not what we wrote: the shard is encoded again
        return {}
    return found if isinstance(found, dict) else {}


def remove_unfinished(path: Path) -> None:
    """Remove what a killed process left of a file; nobody else may be writing it. Raises: StorageError."""
    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def _utf8(name: str) -> str:
    r"""A name as it is, but for bytes of a file name that are not UTF-8: those as \udc.."""
    return name.encode(errors="backslashreplace").decode()
