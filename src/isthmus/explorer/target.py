"""Where an explorer is put: a folder that takes its place when it is whole, or one HTML file.

An existing folder is only replaced if it is an explorer, and only when the new one is there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import InputError, RunExistsError
from isthmus.explorer.bundle import MANIFEST
from isthmus.writing import TEMPORARY, storage_error

SUFFIXES = (".html", ".htm")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that is taken.

    Raises: RunExistsError if it is a file, or holds anything and is not to be overwritten; or holds something else.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunExistsError(f"--export {folder} is a file; name a folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise RunExistsError(f"{folder} holds other files (there is no {MANIFEST} in it); choose another folder.")
    if not overwrite:
        raise RunExistsError(f"{folder} exists already; add --overwrite to replace it, or choose another folder.")


def check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that could not be written.

    Raises: InputError for another ending; RunExistsError if it is there and not to be overwritten, or is a folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--single-file {path} ends in {path.suffix or 'nothing'}; name a file that ends in .html.")
    if path.is_dir():
        raise RunExistsError(f"--single-file {path} is a folder; name a file.")
    if os.path.lexists(path) and not overwrite:
        raise RunExistsError(f"{path} exists already; add --overwrite to replace it, or name another file.")


@contextlib.contextmanager
def replacing(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder to fill, beside `folder`, whose place it takes in the end; after an error nothing has changed.

    Raises: what `check_folder` raises; StorageError.
    """
    check_folder(folder, overwrite=overwrite)
    place = Path(os.path.realpath(folder))  # a link stays, and what it leads to is replaced
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        around = tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", suffix=TEMPORARY)
    except OSError as error:
        raise storage_error(place, error) from error
    with around as name:
        made, old = Path(name) / "new", Path(name) / "old"
        made.mkdir()
        yield made
        try:
            _exchange(made, place, old)
        except OSError as error:
            raise storage_error(place, error) from error


def _exchange(made: Path, place: Path, old: Path) -> None:
    if not place.is_dir():
        os.rename(made, place)
        return
    os.rename(place, old)
    try:
        os.rename(made, place)
    except OSError:
        os.rename(old, place)
        raise
