"""What files hold: the sha256 of each, and which of them need not be read again to know it.

A file's state is its device, inode, length and times. Its date alone proves nothing, since programs set it back; the
time of its last change of any kind (ctime) is set by the system alone. So a sum is remembered with the state the file
had, and holds as long as that is the same to the nanosecond. A file that changed so shortly before it was read that
another change could bear the same time is never remembered (git calls such a file racily clean). Windows has no such
time, so that files are read each time there.

    ISTHMUS_HOME/states/<sha256 of the folder's path>.npz    names, states, sums, notes: may be deleted at any time
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.looking import Looker, file_states, looking
from isthmus.data.looking import States as States
from isthmus.data.states import TIMES_TELL
from isthmus.data.states import State as State
from isthmus.data.states import state_of as state_of

Sums = NDArray[np.uint8]  # (N, 32), sha256 of the content of each file; zeros where it is not known

UNKNOWN: State = (0, 0, 0, 0, -1)  # of a file that has to be read again
NO_SUM = bytes(32)
SETTLED = 2 * 10**9  # nanoseconds: the coarsest file systems count times in two seconds
SMALL = 2**24  # bytes: larger files are not held in memory whole
KEPT_BYTES = 2**28
_CHUNK = 64  # files hashed by a thread in one go
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def settled(status: os.stat_result, now: int) -> State:
    """The state of a file that is read at this time; UNKNOWN if it may change again without its state changing."""
    return state_of(status) if TIMES_TELL and status.st_ctime_ns < now - SETTLED else UNKNOWN


def file_sums(paths: Sequence[str]) -> tuple[Sums, States]:
    """sha256 of the content of each file, and its settled state, read in threads. Raises: OSError."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(chain.from_iterable(pool.map(_sums, chunks)))
    return as_sums(digest for digest, _ in found), as_states(state for _, state in found)


def as_sums(digests: Iterable[bytes]) -> Sums:
    """sha256 sums as an array."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def as_states(states: Iterable[State]) -> States:
    """States as an array."""
    return np.fromiter(chain.from_iterable(states), np.int64).reshape(-1, 5)


def _sums(paths: Sequence[str]) -> list[tuple[bytes, State]]:
    found = []
    for path in paths:
        now = time.time_ns()
        descriptor = open_file(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(f"{path} is not a regular file")
            if status.st_size <= SMALL:
                digest = hashlib.sha256(read_whole(descriptor, status.st_size))
            else:
                with open(descriptor, "rb", buffering=0, closefd=False) as file:
                    digest = hashlib.file_digest(file, "sha256")
        finally:
            os.close(descriptor)
        found.append((digest.digest(), settled(status, now)))
    return found


def open_file(path: str) -> int:
    """Open a file for reading, without waiting for the other end of a named pipe: its descriptor. Raises: OSError."""
    return os.open(path, _READ)


def read_whole(descriptor: int, size: int) -> bytes:
    """All that a file of about this size holds. Raises: OSError."""
    content = os.read(descriptor, size + 1)
    while more := os.read(descriptor, size + 1) if content and len(content) != size else b"":
        content += more
    return content


def content_key(names: Sequence[bytes], sums: Sums) -> str:
    """One sha256 (hex) for names and contents: that of the sorted lines "<name> <sha256 of the content>", each ending
    in a line feed."""
    hexadecimal = sums.tobytes().hex().encode()
    lines = [b"%b %b\n" % (name, hexadecimal[64 * i : 64 * i + 64]) for i, name in enumerate(names)]
    lines.sort()
    return hashlib.sha256(b"".join(lines)).hexdigest()


class Ledger:
    """The sums of a folder's files as they were last seen.

    Arguments: home: of all that is kept. folder: its path, that of a link counts as what it leads to.
    """

    def __init__(self, home: Path, folder: str | Path):
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
        self.path = home / "states" / f"{name[:32]}.npz"
        self._looker: Looker | None = None

    @contextlib.contextmanager
    def looking(self, root: str) -> Iterator[None]:
        """Have a second process look, from now on, at the files that there were the last time, if they were many."""
        names = [] if self._before is None else self._before["names"].tobytes().split(b"\0")
        with looking(root, names) as self._looker:
            yield
        self._looker = None

    def last_key(self) -> str | None:
        """The `content_key` of the files as they were last seen, None if nothing is remembered."""
        return None if self._before is None else self._before["key"].tobytes().decode()

    def notes(self) -> dict[str, str]:
        """What was noted of the files as they were last seen."""
        return {} if self._before is None else json.loads(self._before["notes"].tobytes())

    def sums(self, root: str, names: list[bytes]) -> tuple[Sums, str]:
        """sha256 of each file, and the `content_key` of all; only files that are not known by their state are read.

        Arguments: root: what goes before each name to make a path. Raises: OSError if a file cannot be found or read.
        """
        before, states = self._before, file_states(root, names, self._looker)
        if before is None:
            before = {"names": np.empty(0, np.uint8), "states": states[:0], "sums": np.empty((0, 32), np.uint8)}
        rows = _rows(before["names"].tobytes(), names)
        known = rows >= 0
        known[known] = (before["states"][rows[known]] == states[known]).all(1)
        known &= states[:, 4] >= 0
        if known.all() and len(names) == len(before["states"]):
            return before["sums"][rows], before["key"].tobytes().decode()
        sums = np.zeros((len(names), 32), np.uint8)
        sums[known] = before["sums"][rows[known]]
        unread = np.flatnonzero(~known).tolist()
        sums[unread], states[unread] = file_sums([root + os.fsdecode(names[i]) for i in unread])
        key = content_key(names, sums)
        self.write(names, sums, states, key)
        return sums, key

    def write(
        self, names: Sequence[bytes], sums: Sums, states: States, key: str, notes: Mapping[str, str] | None = None
    ) -> None:
        """Remember sums and the `content_key` of all, and notes, with those of before if the key is still the same.

        Where the disk does not let us, files are read again instead.
        """
        if not TIMES_TELL:
            return
        noted = {**(self.notes() if key == self.last_key() else {}), **(notes or {})}
        arrays: dict[str, NDArray[Any]] = {
            "names": np.frombuffer(b"\0".join(names), np.uint8),
            "states": states,
            "sums": sums,
            "key": np.frombuffer(key.encode(), np.uint8),
            "notes": np.frombuffer(json.dumps(noted).encode(), np.uint8),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, arrays)
            remove_oldest(self.path.parent, KEPT_BYTES)
        except OSError:  # a full or read-only disk: nothing is lost but time
            return

    @cached_property
    def _before(self) -> dict[str, NDArray[Any]] | None:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in ("names", "states", "sums", "key", "notes")}
        except Exception:  # a damaged archive may raise anything; the files are read instead
            return None
        return found if len(found["states"]) == len(found["sums"]) else None


def _rows(known: bytes, names: Sequence[bytes]) -> NDArray[np.int64]:
    """Where among the names that are known, joined by zeros, each name stands, -1 where it does not."""
    if known == b"\0".join(names):
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(known.split(b"\0"))} if known else {}
    return np.array([place.get(name, -1) for name in names], np.int64)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    handle, partial = tempfile.mkstemp(".part", f".{path.stem[:16]}.", path.parent)
    try:
        with open(handle, "wb") as file:
            named: dict[str, Any] = dict(arrays)
            np.savez(file, **named)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def remove_oldest(folder: Path, most: int) -> None:
    """Bring a folder of our cache below `most` bytes; what was used last stays.

    Files whose names differ in the suffix alone stay or go together. One that is larger than `most` by itself does not
    count, and the last such stays. Parts left by a killed process age like the rest.
    """
    groups: dict[str, list[tuple[os.stat_result, Path]]] = {}
    for path in folder.iterdir():
        groups.setdefault(path.stem, []).append((path.stat(), path))
    ages = sorted(groups.values(), key=lambda files: -max(status.st_mtime_ns for status, _ in files))
    total, large = 0, 0
    for files in ages:
        size = sum(status.st_size for status, _ in files)
        large += size > most
        total += size if size <= most else 0
        if large > 1 if size > most else total > most:
            for _, path in sorted(files, key=lambda file: file[1].suffix):  # .json, without which .npy is nothing
                path.unlink(missing_ok=True)
