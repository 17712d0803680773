"""Codes with a thumbnail of each image, as a Parquet file that other programs show.

    id            what the image is called: its path, or a set and a number
    image         {bytes, path}: the image as the network was given it, a PNG file
    label         number of its class, the names are in the schema; left out unless every image has a class
    projection_x  float32, the code along the axis of its largest variance; of codes of two numbers the first
    projection_y  float32, along the next; of codes of two numbers the second
    code          D float32
    std           D float32, of a VAE's posterior, if that was asked for

Hugging Face `datasets` reads it as images and classes, embedding-atlas as points in a plane. The schema also says which
model the codes are of. Images are read twice, for their codes and for their thumbnails: the projection needs all codes,
and so only they are held.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.arrays import Pixels
from isthmus.data.batches import Stream
from isthmus.data.photographs import to_png
from isthmus.data.shards import features_of
from isthmus.errors import DataError, InputError
from isthmus.training.loop import Progress
from isthmus.training.predict import Encoded
from isthmus.writing import written

COLUMNS = frozenset({"id", "code", "projection_x", "projection_y"})  # by which such a file is known
NOTE = b"isthmus"  # key in the schema: {"model": sha256 of the weights}


def principal_plane(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes (N, D) in the plane of their largest variance, (N, 2); those of one or two numbers as they are.

        (z - m) V    m the mean, V the two leading eigenvectors of the covariance

    The largest entry of each eigenvector is positive. Codes that are not finite count for nothing and get NaN.
    """
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
    plane = np.full((len(codes), 2), np.nan, np.float32)
    finite = np.isfinite(codes).all(1)
    values = codes[finite].astype(np.float64)
    if len(values):
        centred = values - values.mean(0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
        axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0))
        plane[finite] = centred @ axes
    return plane


def write_thumbnails(
    path: Path, encoded: Encoded, stream: Stream, *, model: str, progress: Progress | None = None
) -> None:
    """Write codes and the images they are of, whole or not at all.

    Arguments: stream: the same images once more. model: sha256 of the weights. progress: called with (images done,
    images in all, a line). Raises: DataError if the images are not those that were encoded; StorageError.
    """
    pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    schema = _schema(pyarrow, encoded, model)
    plane, done, count = principal_plane(encoded.codes), 0, len(encoded.names)
    with (
        written(path) as file,
        parquet.ParquetWriter(file, schema, use_dictionary=False, write_page_checksum=True) as writer,
    ):
        for batch in stream.batches:
            rows = slice(done, done + len(batch.names))
            if encoded.names[rows] != batch.names:
                raise _changed(stream)
            columns = _columns(pyarrow, encoded, plane, rows, batch.images)
            writer.write_table(pyarrow.table([columns[name] for name in schema.names], schema=schema))
            done = rows.stop
            if progress is not None:
                progress(done, count, f"{done:,} of {count:,} thumbnails")
        if done < count:
            raise _changed(stream)


def has_thumbnails(columns: Sequence[str]) -> bool:
    """Whether a Parquet file of these columns is one that `write_thumbnails` wrote."""
    return COLUMNS.issubset(columns)


def read_thumbnails(path: Path) -> pd.DataFrame:
    """What such a file says of its images, as the tables of training/codes.py do: path, label, code_0 and so on, model.

    The images are not read. Raises: InputError if the columns do not fit; what pyarrow raises for a damaged file.
    """
    parquet = importlib.import_module("pyarrow.parquet")
    schema = parquet.read_schema(path)
    present = [name for name in ("id", "label", "code", "std") if name in schema.names]
    table = parquet.read_table(path, columns=present)
    found: dict[str, Any] = {"path": table["id"].to_pylist()}
    if "label" in present:
        names = features_of(str(path), schema).get("label", {}).get("names") or []
        found["label"] = [_named(label, names) for label in table["label"].to_pylist()]
    for kind in ("code", "std"):
        if kind in present:
            numbers = _numbers(path, kind, table[kind])
            found |= {f"{kind}_{i}": numbers[:, i] for i in range(numbers.shape[1])}
    note = json.loads((schema.metadata or {}).get(NOTE, b"{}"))
    found["model"] = str(note.get("model", "") if isinstance(note, dict) else "")
    return pd.DataFrame(found)


def _schema(pyarrow: Any, encoded: Encoded, model: str) -> Any:
    size = encoded.codes.shape[1]
    fields = {
        "id": pyarrow.string(),
        "image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
        "label": pyarrow.int64(),
        "projection_x": pyarrow.float32(),
        "projection_y": pyarrow.float32(),
        "code": pyarrow.list_(pyarrow.float32(), size),
        "std": pyarrow.list_(pyarrow.float32(), size),
    }
    # What is not named here `datasets` takes from the types, whatever its version calls lists.
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if encoded.labels is None:
        del fields["label"]
    else:
        features["label"] = {"names": list(map(_utf8, encoded.classes)), "_type": "ClassLabel"}
    if encoded.std is None:
        del fields["std"]
    notes = {b"huggingface": {"info": {"features": features}}, NOTE: {"model": model}}
    return pyarrow.schema(fields, metadata={key: json.dumps(note) for key, note in notes.items()})


def _columns(pyarrow: Any, encoded: Encoded, plane: NDArray[np.float32], rows: slice, images: Pixels) -> dict[str, Any]:
    """The columns of some rows; images: (B, C, H, W) of them."""
    names = [_utf8(name) for name in encoded.names[rows]]
    thumbnails = [to_png(image) for image in _eight_bits(images)]

    def listed(values: NDArray[np.float32]) -> Any:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values[rows].ravel()), values.shape[1])

    columns = {
        "id": pyarrow.array(names),
        "image": pyarrow.StructArray.from_arrays(
            [pyarrow.array(thumbnails, pyarrow.binary()), pyarrow.array(names)], ["bytes", "path"]
        ),
        "projection_x": pyarrow.array(plane[rows, 0]),
        "projection_y": pyarrow.array(plane[rows, 1]),
        "code": listed(encoded.codes),
    }
    if encoded.labels is not None:
        columns["label"] = pyarrow.array(encoded.labels[rows])
    if encoded.std is not None:
        columns["std"] = listed(encoded.std)
    return columns


def _eight_bits(images: Pixels) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _numbers(path: Path, kind: str, column: Any) -> NDArray[np.float32]:
    """A column of lists as (N, D)."""
    if not len(column):
        raise InputError(f"{path} holds no codes, only a header; write it again with `isthmus encode`.")
    values = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    if values.dtype.kind != "f" or not len(values) or len(values) % len(column) or column.null_count:
        raise InputError(
            f"{path}, column {kind}: {column.type} with {len(values):,} numbers in {len(column):,} rows; needed are "
            "equally many floats in each: write it again with `isthmus encode`."
        )
    return np.asarray(values.reshape(len(column), -1), np.float32)


def _named(label: Any, names: Sequence[str]) -> str:
    """A class by name; nothing where there is none, as -1 says to `datasets`."""
    if label is None or label == -1:
        return ""
    return str(names[label]) if isinstance(label, int) and label < len(names) else str(label)


def _changed(stream: Stream) -> DataError:
    return DataError(f"{stream.source} was changed while it was encoded; run the command again")


def _utf8(name: str) -> str:
    r"""A name as it is, but for bytes of a file name that are not UTF-8: those as \udc.."""
    return name.encode(errors="backslashreplace").decode()
