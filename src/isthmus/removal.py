"""Removing a run or a study: nothing that Isthmus did not write, never through a link, never while it is in use.

What may lie in a run and in a study is listed here. A folder that holds anything else is left as it is. Its files are
removed one by one, that by which the folder is known last, so that what an interruption leaves can be removed again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

import filelock

from isthmus.errors import InputError, StorageError
from isthmus.model_files import FILES
from isthmus.run_table import in_use, is_run, study_of
from isthmus.writing import TEMPORARY

LOCK = ".lock"
RUN = (
    *("run.json", "status.json", "metrics.jsonl", "codes.npz", "densities.safetensors", "checkpoints/*.safetensors"),
    *(f"model/{name}" for name in FILES),
    *("onnx/*.onnx", LOCK),
)
STUDY = (
    *("study.toml", "env.json", "status.json", "log.txt", "summary.json", "report.html"),
    *("figures/*.png", "figures/*.svg", LOCK),
    *(f"runs/*/{name}" for name in RUN),
)
MARKERS = ("run.json", "study.toml")  # removed last
NAMED = 5  # foreign files in a message


@dataclass(frozen=True)
class Contents:
    """What would be removed: files and folders, by their paths below `folder`. study: the one a run is part of."""

    folder: Path
    kind: Literal["run", "study"]
    files: tuple[str, ...]
    folders: tuple[str, ...]
    bytes: int
    study: Path | None


def examine(folder: Path, *, study: bool = False) -> Contents:
    """What removing a run, or with `study` a study, would remove.

    Raises: InputError if it is neither, in use, a link, or holds links or files that are not ours.
    """
    found = _look(folder, study)
    if in_use(folder):
        raise InputError(_busy(folder))
    return found


def remove(folder: Path, *, study: bool = False) -> Contents:
    """Remove a run, or with `study` a study.

    Raises: what `examine` raises; StorageError if a file cannot be removed.
    """
    examine(folder, study=study)  # before a lock is put into a folder that is none of ours
    path = folder
    try:
        with _hold(folder):
            found = _look(folder, study)  # again, now that nobody else writes
            last = [name for name in MARKERS if name in found.files]
            for name in (*(name for name in found.files if name not in last), *found.folders, *last):
                path = folder / name
                path.rmdir() if name in found.folders else path.unlink()
        path = folder
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    except filelock.Timeout as error:
        raise InputError(_busy(folder)) from error
    except OSError as error:
        raise StorageError(
            f"Could not remove {path}: {error.strerror or error}. The same command removes what is left."
        ) from error
    return found


def _look(folder: Path, study: bool) -> Contents:
    if os.path.islink(folder):
        raise InputError(f"{folder} is a link, and links are not followed: name the folder itself.")
    kind = _kind(folder, study)
    allowed = RUN if kind == "run" else STUDY
    files: list[str] = []
    folders: list[str] = []
    foreign: list[str] = []
    for place, inner, names in os.walk(folder, topdown=False, onerror=_refuse):
        for name in (*inner, *names):
            path = Path(place) / name
            within = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (_is_folder_of(within, allowed) if name in inner else _is_of(within, allowed)):
                foreign.append(f"{within}{', a link' if path.is_symlink() else ''}")
            elif name in inner:
                folders.append(within)
            elif within != LOCK:
                files.append(within)
    if foreign:
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise InputError(
            f"{folder} holds what Isthmus did not write ({'; '.join(foreign[:NAMED])}{more}): move that elsewhere; "
            f"nothing was removed."
        )
    files.sort()
    count = sum((folder / name).lstat().st_size for name in files)
    return Contents(folder, kind, tuple(files), tuple(folders), count, study_of(folder) if kind == "run" else None)


def _kind(folder: Path, study: bool) -> Literal["run", "study"]:
    """Raises: InputError unless the folder is what is to be removed."""
    if (folder / "study.toml").is_file():
        if not study:
            raise InputError(f"{folder} is a whole study; add --study to remove it with all its runs, or name a run.")
        return "study"
    if not is_run(folder):
        raise InputError(f"{folder} is not a run (it has neither run.json nor model/config.json); nothing was removed.")
    if study:
        raise InputError(f"{folder} is a run, not a study: leave out --study.")
    return "run"


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Lock a folder, and the study it belongs to. Raises: filelock.Timeout if another process has either."""
    with contextlib.ExitStack() as locks:
        for place in (study_of(folder), folder):
            if place is not None:
                locks.enter_context(filelock.FileLock(place / LOCK, timeout=0))
        yield


def _is_of(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether a file of this name, or one that was being written to it, is among those allowed."""
    path = PurePosixPath(name)
    if path.name.startswith(".") and path.name.endswith(TEMPORARY):  # .NAME.RANDOM.writing
        path = path.with_name(path.name.removesuffix(TEMPORARY)[1:].rpartition(".")[0])
    return any(_fits(path, PurePosixPath(pattern)) for pattern in allowed)


def _is_folder_of(name: str, allowed: tuple[str, ...]) -> bool:
    path = PurePosixPath(name)
    return any(_fits(path, parent) for pattern in allowed for parent in PurePosixPath(pattern).parents)


def _fits(path: PurePosixPath, pattern: PurePosixPath) -> bool:
    """Part by part, so that a star stands for no separator."""
    return len(path.parts) == len(pattern.parts) and all(map(fnmatchcase, path.parts, pattern.parts))


def _busy(folder: Path) -> str:
    return f"{folder} is in use by another process; wait until that has ended."


def _refuse(error: OSError) -> None:
    raise StorageError(f"Could not look into {error.filename}: {error.strerror}; nothing was removed.") from error
