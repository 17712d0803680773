"""Codes as a file that other programs read: the ending of its name says which.

    .npz      codes (N, D) float32, paths (N,), with classes labels (N,) and classes (K,), with a posterior std (N, D)
    .csv      a line an image: path, label, code_0 to code_<D - 1>, std_0 ...; nine digits, which float32 survives
    .parquet  the same columns; needs the package pyarrow

Nothing in them is pickled.
"""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.errors import InputError, RunExistsError
from isthmus.training.predict import Encoded
from isthmus.writing import write_arrays, write_bytes

SUFFIXES = (".npz", ".csv", ".parquet")


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a file that could not be written in the end.

    Raises: InputError for another ending, a missing package, or a folder that cannot be written; RunExistsError if the
    file is there already.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"--out {path} ends in {suffix or 'nothing'}; codes are written as {', '.join(SUFFIXES)}.")
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"--out {path} needs a package: `pip install pyarrow`, or write .npz or .csv.")
    if path.is_dir():
        raise RunExistsError(f"--out {path} is a folder; name a file.")
    if os.path.lexists(path) and not overwrite:
        raise RunExistsError(f"{path} exists already; add --overwrite to replace it, or choose another --out.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "you may not write there" if above.is_dir() else "it is a file"
        raise InputError(f"--out {path} cannot be written below {above}: {reason}. Choose another --out.")


def write_codes(path: Path, encoded: Encoded) -> None:
    """Write codes, whole or not at all. Raises: StorageError."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        write_arrays(path, _arrays(encoded))
    elif suffix == ".csv":
        write_bytes(path, _table(encoded).to_csv(index=False, float_format="%.9g", lineterminator="\n").encode())
    else:
        buffer = io.BytesIO()
        _table(encoded).to_parquet(buffer, index=False, engine="pyarrow")
        write_bytes(path, buffer.getvalue())


def _arrays(encoded: Encoded) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"codes": encoded.codes, "paths": np.array(encoded.names)}
    if encoded.labels is not None:
        arrays |= {"labels": encoded.labels, "classes": np.array(encoded.classes)}
    if encoded.std is not None:
        arrays["std"] = encoded.std
    return arrays


def _table(encoded: Encoded) -> pd.DataFrame:
    columns: dict[str, object] = {"path": [_utf8(name) for name in encoded.names]}
    if encoded.labels is not None:
        columns["label"] = [_utf8(encoded.classes[label]) for label in encoded.labels]
    columns |= {f"code_{i}": encoded.codes[:, i] for i in range(encoded.codes.shape[1])}
    if encoded.std is not None:
        columns |= {f"std_{i}": encoded.std[:, i] for i in range(encoded.std.shape[1])}
    return pd.DataFrame(columns)


def _utf8(name: str) -> str:
    r"""A name as it is, but for bytes of a file name that are not UTF-8: those as \udc.."""
    return name.encode(errors="backslashreplace").decode()
