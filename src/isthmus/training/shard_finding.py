"""Which files are shards of images, and which file of codes each of them becomes.

    train/ test/            ->  DIR/train/0000.parquet  DIR/test/0000.parquet  ...
    'shards/*.parquet'      ->  DIR/0000.parquet  DIR/0001.parquet  ...

A shard keeps its path below the folder that all of them have in common. What lies in DIR is never taken for a shard, so
that DIR may lie among them.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InputError, RunExistsError

SUFFIXES = (".parquet", ".npy", ".npz")
CODES = ".parquet"
MARKER = "encoded.json"  # by which a folder of codes is known
ENDS = 2**16  # bytes at either end of a file by which a change is noticed that its date does not show
_WILD = "*?["


@dataclass(frozen=True)
class Shard:
    """source: as it was named or found. name: its path below all shards, without the ending, by which its images are
    called. target: the file of its codes."""

    source: Path
    name: str
    target: Path


def is_pattern(source: str) -> bool:
    """Whether a source stands for several files: it has a wildcard, and there is no file of that name."""
    return any(sign in source for sign in _WILD) and not os.path.exists(os.path.expanduser(source))


def find_shards(sources: Sequence[str], out: Path) -> list[Shard]:
    """The shards that files, folders (searched below) and patterns name, in order, each once.

    Raises: InputError for a source in which there are none, a folder that cannot be read, files of another kind, shards
    that lie in `out`, or two that would become one file.
    """
    roots, found = [], dict[str, Path]()
    for source in sources:
        root, paths = _search(source, out)
        roots.append(os.path.abspath(root))
        found |= {os.path.abspath(path): path for path in paths}
    inside = next((path for _, path in sorted(found.items()) if _inside(path, out)), None)
    if inside is not None:
        raise InputError(f"{inside} lies in --out {out}, where the codes are written: choose another folder for them.")
    common = os.path.commonpath(roots)
    names = {place: Path(place).relative_to(common).with_suffix("").as_posix() for place in found}
    shards = [Shard(found[place], name, out / f"{name}{CODES}") for place, name in sorted(names.items())]
    _check_targets(shards)
    return shards


def check_folder(out: Path) -> None:
    """Refuse, before any work, what cannot be the folder of the codes. Raises: InputError; RunExistsError."""
    if out.suffix.lower() in (*SUFFIXES, ".csv") and not out.is_dir():
        raise InputError(
            f"--out {out} is named as a file, and the codes of shards are a file each: name a folder; or for one file "
            f"of all codes name one set of images, without --engine."
        )
    if os.path.lexists(out) and not out.is_dir():
        raise RunExistsError(f"--out {out} is a file, and the codes of shards are a file each: name a folder.")


def content_mark(path: Path) -> dict[str, Any]:
    """By what a file is known again: its length, the date of its content, and the sha256 of its two ends.

    Whoever sets dates back rarely leaves both ends as they were: in Parquet the last bytes say where everything lies.
    Raises: OSError.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        ends = hashlib.sha256(file.read(ENDS))
        file.seek(max(0, status.st_size - ENDS))
        ends.update(file.read(ENDS))
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "ends": ends.hexdigest()}


def _search(source: str, out: Path) -> tuple[Path, list[Path]]:
    """Where the names of a source begin, and its shards."""
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        root, paths = path, list(_below(path))
    elif path.exists():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{source} is no shard of images: those end in {', '.join(SUFFIXES)}.")
        return path.parent, [path]
    elif is_pattern(source):
        root = _fixed_part(path)
        if root.is_dir():
            _check_readable(root)
        paths = [Path(name) for name in glob.iglob(os.fspath(path), recursive=True) if os.path.isfile(name)]
        paths = [name for name in paths if name.suffix.lower() in SUFFIXES]
    else:
        raise InputError(f"{source} does not exist: name shards of images, a folder of them, or a pattern in quotes.")
    if os.path.realpath(out) != os.path.realpath(root) and _inside(out, root):
        paths = [name for name in paths if not _inside(name, out)]
    if not paths:
        raise InputError(f"{source} {'matches' if is_pattern(source) else 'holds'} no file of {', '.join(SUFFIXES)}.")
    return root, paths


def _below(folder: Path) -> Iterator[Path]:
    """The shards in a folder and those below it, but for hidden ones. Raises: InputError if it cannot be read."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place) / name


def _check_readable(folder: Path) -> None:
    """A pattern matches nothing in a folder that cannot be read: say so instead."""
    try:
        with os.scandir(folder):
            return
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: str | Path, error: OSError) -> InputError:
    return InputError(f"{folder} cannot be read ({error.strerror or error}): allow it, or name other shards.")


def _fixed_part(pattern: Path) -> Path:
    """The folder before the first wildcard."""
    wild = next(i for i, part in enumerate(pattern.parts) if any(sign in part for sign in _WILD))
    return Path(*pattern.parts[:wild])


def _inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _check_targets(shards: Sequence[Shard]) -> None:
    first: dict[str, Path] = {}
    for shard in shards:
        key = os.path.normcase(shard.target)
        if key in first:
            raise InputError(
                f"{first[key]} and {shard.source} would both become {shard.target}: rename one of them, or encode them "
                f"into two folders."
            )
        first[key] = shard.source
