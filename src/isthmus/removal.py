"""Removing a run, a model or a study: nothing that Isthmus did not write, never through a link, never while it is
trained.

A folder is known by what only Isthmus writes. What may lie in it is listed here; one that holds anything else is left
as it is. Its files are removed one by one, those by which it is known last, so that what an interruption leaves can be
removed again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

import filelock

from isthmus.errors import InputError, StorageError
from isthmus.model_files import CONFIG, FILES, TRAINED_ON
from isthmus.run_table import in_use, study_of
from isthmus.writing import TEMPORARY, read_json

Kind = Literal["run", "model", "study"]
LOCK = ".lock"
MODEL = (*FILES, "onnx/*.onnx", LOCK)
RUN = (
    *("run.json", "status.json", "metrics.jsonl", "codes.npz", "densities.safetensors", "checkpoints/*.safetensors"),
    *(f"model/{name}" for name in (*FILES, LOCK)),
    *("onnx/*.onnx", LOCK),
)
STUDY = (
    *("study.toml", "env.json", "status.json", "log.txt", "summary.json", "report.html"),
    *("figures/*.png", "figures/*.svg", "explorer*.html", LOCK),
    *(f"runs/*/{name}" for name in RUN),
)
ALLOWED: dict[Kind, tuple[str, ...]] = {"run": RUN, "model": MODEL, "study": STUDY}
# Removed last, in this order: of the first group of which there is a file.
MARKERS = (("study.toml",), ("run.json",), (f"model/{CONFIG}", f"model/{TRAINED_ON}"), (CONFIG, TRAINED_ON))
KEYS = ("settings", "seed", "data")  # of run.json
REPARSE_POINT = 0x400  # of Windows: links, junctions, mounted folders
NAMED = 5  # foreign files in a message


@dataclass(frozen=True)
class Contents:
    """What would be removed: files and folders, by their paths below `folder`. study: the one a run is part of."""

    folder: Path
    kind: Kind
    files: tuple[str, ...]
    folders: tuple[str, ...]
    bytes: int
    study: Path | None


def examine(folder: Path, *, study: bool = False) -> Contents:
    """What removing a run, a model, or with `study` a study, would remove.

    Raises: InputError if it is none of these, in use, a link, or holds links or files that are not ours; StorageError
    if it cannot be looked into.
    """
    try:
        kind = _kind(folder, study)
        if in_use(folder.resolve()):
            raise InputError(_busy(folder))
        return _look(folder, kind)
    except OSError as error:
        raise _closed(error) from error


def remove(folder: Path, *, study: bool = False) -> Contents:
    """Remove a run, a model, or with `study` a study.

    Raises: what `examine` raises; StorageError if a file cannot be removed.
    """
    examine(folder, study=study)  # before a lock is put into a folder that is none of ours
    place, path = folder.resolve(), folder  # the first is found even when the folder worked in is among those that go
    try:
        with _hold(place) as held:
            found = _look(folder, _kind(folder, study))  # again, now that nobody trains there
            for name in _in_order(found):
                path = folder / name
                if name in held:
                    held[name].release()  # Windows removes no open file
                (place / name).rmdir() if name in found.folders else (place / name).unlink(missing_ok=name in held)
        path = folder
        (place / LOCK).unlink(missing_ok=True)
        place.rmdir()
    except filelock.Timeout as error:
        raise InputError(_busy(folder)) from error
    except OSError as error:
        known = _known_as(place) is not None
        rest = "The same command removes what is left." if known else "What is left of it is empty: remove it by hand."
        raise StorageError(f"Could not remove {path}: {error.strerror or error}. {rest}") from error
    return found


def _look(folder: Path, kind: Kind) -> Contents:
    files: list[str] = []
    folders: list[str] = []
    foreign: list[str] = []
    for place, inner, names in os.walk(folder, onerror=_refuse):
        for name in (*inner, *names):
            path = Path(place) / name
            within, link = path.relative_to(folder).as_posix(), _is_link(path)
            if link or not (_is_folder_of(within, kind) if name in inner else _is_of(within, kind)):
                foreign.append(f"{within}{', a link' if link else ''}")
            elif name in inner:
                folders.append(within)
            elif within != LOCK:
                files.append(within)
        inner[:] = [name for name in inner if (Path(place) / name).relative_to(folder).as_posix() in folders]
    if foreign:
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise InputError(
            f"{folder} holds what Isthmus did not write ({'; '.join(foreign[:NAMED])}{more}): move that elsewhere; "
            f"nothing was removed."
        )
    count = sum((folder / name).lstat().st_size for name in files)
    above = study_of(folder.resolve()) if kind == "run" else None
    return Contents(folder, kind, tuple(sorted(files)), tuple(sorted(folders)), count, above)


def _kind(folder: Path, study: bool) -> Kind:
    """Raises: InputError unless the folder is what is to be removed."""
    if os.path.lexists(folder) and _is_link(folder):
        raise InputError(f"{folder} is a link, and links are not followed: name the folder itself.")
    kind, above = _known_as(folder), folder.resolve().parent
    if kind is None:
        raise InputError(
            f"{folder} is not a run, a model or a study that Isthmus wrote (there is no run.json or config.json of its "
            f"own in it, nor a study.toml with an env.json beside it); nothing was removed."
        )
    if kind == "study" and not study:
        raise InputError(f"{folder} is a whole study; add --study to remove it with all its runs, or name a run.")
    if kind != "study" and study:
        raise InputError(f"{folder} is a {kind}, not a study: leave out --study.")
    if kind == "model" and folder.resolve().name == "model" and _has(above / "run.json", *KEYS):
        raise InputError(f"{folder} is a part of the run {above}; name that to remove it.")
    return kind


def _known_as(folder: Path) -> Kind | None:
    """What a folder is by files that only Isthmus writes, or by what is left of them after an interruption."""
    if not os.path.isdir(folder):
        return None
    if (folder / "study.toml").is_file():  # people write such a file too: to be read
        return "study" if any((folder / name).is_file() for name in ("env.json", "status.json", LOCK)) else None
    if _has(folder / "run.json", *KEYS) or _is_model(folder / "model"):
        return "run"
    return "model" if _is_model(folder) else None


def _is_model(folder: Path) -> bool:
    """Whether a folder holds a model of ours: other programs write a config.json too."""
    return (folder / TRAINED_ON).is_file() or _has(folder / CONFIG, "format_version")


def _has(path: Path, *keys: str) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        return path.is_file() and read_json(path).keys() >= set(keys)
    except InputError:  # it is no JSON object
        return False


def _in_order(found: Contents) -> list[str]:
    """Files, then folders from within, but those by which the folder is known at the end."""
    last = next((group for group in MARKERS if any(name in found.files for name in group)), ())
    around = {parent.as_posix() for name in last for parent in PurePosixPath(name).parents}
    files = sorted((n for n in found.files if n not in last), key=lambda name: (PurePosixPath(name).name == LOCK, name))
    folders = [name for name in reversed(found.folders) if name not in around]
    return [
        *(*files, *folders),
        *(name for name in last if name in found.files),
        *(name for name in found.folders if name in around),
    ]


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[Mapping[str, filelock.BaseFileLock]]:
    """Lock a folder, the study it belongs to, of a study its runs, and their models; the locks of what lies in the
    folder are given by their names.

    Raises: filelock.Timeout if another process has one of them.
    """
    above = study_of(folder)
    paths = [path for pattern in ("runs/*", "runs/*/model", "model") for path in folder.glob(f"{pattern}/{LOCK}")]
    inner = {path.relative_to(folder).as_posix(): filelock.FileLock(path, timeout=0) for path in paths}
    with contextlib.ExitStack() as locks:
        for place in (above, folder):
            if place is not None:
                locks.enter_context(filelock.FileLock(place / LOCK, timeout=0))
        for lock in inner.values():
            locks.enter_context(lock)
        yield inner


def _is_link(path: Path) -> bool:
    facts = path.lstat()
    return stat.S_ISLNK(facts.st_mode) or bool(getattr(facts, "st_file_attributes", 0) & REPARSE_POINT)


def _is_of(name: str, kind: Kind) -> bool:
    """Whether a file of this name may lie there, or one that was being written to it: .NAME.RANDOM.writing."""
    patterns = [PurePosixPath(pattern) for pattern in ALLOWED[kind]]
    patterns += [pattern.with_name(f".{pattern.name}.*{TEMPORARY}") for pattern in patterns]
    return any(_fits(PurePosixPath(name), pattern) for pattern in patterns)


def _is_folder_of(name: str, kind: Kind) -> bool:
    path = PurePosixPath(name)
    return any(_fits(path, parent) for pattern in ALLOWED[kind] for parent in PurePosixPath(pattern).parents)


def _fits(path: PurePosixPath, pattern: PurePosixPath) -> bool:
    """Part by part, so that a star stands for no separator."""
    return len(path.parts) == len(pattern.parts) and all(map(fnmatchcase, path.parts, pattern.parts))


def _busy(folder: Path) -> str:
    return f"{folder} is in use by another process; wait until that has ended."


def _closed(error: OSError) -> StorageError:
    return StorageError(f"Could not look into {error.filename}: {error.strerror or error}; nothing was removed.")


def _refuse(error: OSError) -> None:
    raise _closed(error) from error
