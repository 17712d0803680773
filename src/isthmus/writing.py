"""How anything is written: to a temporary name, flushed, renamed; and how JSON is read back.

A file under its final name is whole, whenever the machine stops.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import InputError, StorageError

TEMPORARY = ".writing"  # how the names of files end that are being written


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there.

    Raises: StorageError, naming the file and the cause, if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say in one sentence what could not be written and what to do."""
    return StorageError(
        f"Could not write {path}: {error.strerror or error}. Free some space or choose another --out, "
        f"then run the same command again, a study or a training with --resume: what is finished is kept."
    )


def write_json(path: Path, content: object) -> None:
    """Write indented JSON. Raises: ValueError for NaN or infinity, which JSON does not have; StorageError."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed `.npz` without pickle."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(buffer, **named)
    write_bytes(path, buffer.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: InputError if the file is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {path.parent} is not a finished run or study.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({error}); the folder may be damaged, train it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; the folder may be damaged, train it again.")
    return content
