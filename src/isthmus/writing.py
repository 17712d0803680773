"""How anything is written: to a temporary name, flushed, renamed; and how JSON is read back.

A file under its final name is whole, whenever the machine stops. Who changes what others may be changing too, as the
files of a model, holds its folder meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np
from numpy.typing import NDArray

from isthmus.errors import InputError, StorageError

TEMPORARY = ".writing"  # how the names of files end that are being written
LOCK = ".lock"  # an empty file that stays: to remove it would let two processes hold it
PATIENCE = 60.0  # seconds to wait for another process that writes


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when all is written, and is removed if that fails. Raises: StorageError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there; who may read it follows the umask.

    Raises: StorageError, naming the file and the cause, if it cannot be written.
    """
    with written(path) as file:
        file.write(content)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes that ask from writing into a folder, which is made if there is none; wait for one that does.

    Raises: StorageError if another one holds it for a minute, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK, timeout=PATIENCE)
        lock.acquire()
    except filelock.Timeout as error:
        raise StorageError(f"{folder} is in use by another process; wait for it, or choose another folder.") from error
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def staged(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary folder to write files into: when all are there, they take the place of those in `folder`.

    Arguments: folder: held by us. names: of the files, moved in this order; one that was not written is removed. The
    last is removed first, so that where it lies all others are those written with it.
    Raises: StorageError.
    """
    try:
        for left in folder.glob(f".*{TEMPORARY}"):  # of a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=TEMPORARY) as place:
            yield Path(place)
            (folder / names[-1]).unlink(missing_ok=True)
            for name in names:
                if os.path.exists(Path(place) / name):
                    os.replace(Path(place) / name, folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say in one sentence what could not be written and what to do."""
    return StorageError(
        f"Could not write {path}: {error.strerror or error}. Free some space or choose another folder, then do it "
        f"again; what a study or a training has finished is kept, to be resumed."
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
