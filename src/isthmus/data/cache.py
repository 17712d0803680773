"""Image folders once decoded, kept on disk, so that the same images are decoded once.

    ISTHMUS_HOME/cache/<key>.npz    (without ISTHMUS_HOME: the user's cache folder)

The key is the sha256 of all that decides the result: every file's name and content, what was asked for, and the
versions of the decoders. Files are never trusted by their dates. The folder may be deleted at any time; what is damaged
in it is decoded and written again; where it cannot be written, images are decoded each time. A file gets its name only
when it is complete, so several processes may read and write at once. Beyond KEPT_BYTES, what was used longest ago goes.
"""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import platformdirs
from PIL import features

from isthmus.data.imageset import ImageSet

VERSION = 1  # of our decoding: raised when the same files would be read as other pixels, classes or notes
KEPT_BYTES = 2**31
WORTH_FILES, WORTH_BYTES = 100, 2**20  # folders below both are decoded faster than anyone notices
_CHUNK = 64  # files hashed by a thread in one go
_SMALL = 2**20  # bytes
_LIBRARIES = ("jpg", "libjpeg_turbo", "webp")  # those whose versions may decode the same file a little differently


def home_folder() -> Path:
    """Where downloads and decoded images are kept: ISTHMUS_HOME, or the user's cache folder."""
    home = os.environ.get("ISTHMUS_HOME") or platformdirs.user_cache_dir("isthmus")
    return Path(os.path.expanduser(home))


def content_sum(folder: Path, files: Iterable[Path]) -> str:
    """One sha256 (hex) for the names and contents of files in a folder, whatever their order.

    That of the sorted lines "<name> <sha256 of the content>", each ending in a line feed; names are relative, with /.
    Raises: OSError if a file cannot be read.
    """
    paths = list(files)
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sums = list(chain.from_iterable(pool.map(_file_sums, chunks)))
    start = 0 if folder == Path() else len(os.path.join(folder, ""))  # what lies in "." is not called "./name"
    names = [os.fsencode(os.fspath(path)[start:].replace(os.sep, "/")) for path in paths]
    lines = sorted(name + f" {digest}\n".encode() for name, digest in zip(names, sums, strict=True))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _file_sums(paths: Sequence[Path]) -> list[str]:
    sums = []
    for path in paths:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise FileNotFoundError(f"{path} is not a regular file")
        with open(path, "rb", buffering=0) as file:
            small = status.st_size <= _SMALL  # file_digest costs more than a small file's hash
            digest = hashlib.sha256(file.read()) if small else hashlib.file_digest(file, "sha256")
            sums.append(digest.hexdigest())
    return sums


@dataclass(frozen=True)
class Entry:
    """The place of one decoded folder. `states`: of its files when they were hashed, to see whether they change."""

    path: Path
    states: tuple[tuple[Path, tuple[int, ...]], ...]

    def read(self, name: str) -> ImageSet | None:
        """The images kept here, called `name`; None if there are none, or the file is damaged."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                about = json.loads(archive["about"].tobytes())
                labels = archive["labels"] if "labels" in archive.files else None
                classes, notes = tuple(about["classes"]), tuple(about["notes"])
                images = ImageSet(archive["images"], labels, classes, name, notes=notes)
            if (about["key"], about["fingerprint"]) != (self.path.stem, images.fingerprint):
                return None
        except Exception:  # a damaged archive may raise anything; nothing is lost, the images are decoded again
            return None
        with contextlib.suppress(OSError):  # of a read-only disk: the date only says what to remove last
            os.utime(self.path)
        return images

    def write(self, images: ImageSet) -> None:
        """Keep these images, unless one of the files changed since it was hashed, or the disk does not let us."""
        if images.images.nbytes > KEPT_BYTES:
            return
        about = {
            "key": self.path.stem,
            "fingerprint": images.fingerprint,
            "classes": images.classes,
            "notes": images.notes,
        }
        arrays: dict[str, Any] = {
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            "images": images.images,
        }
        if images.labels is not None:
            arrays["labels"] = images.labels
        try:
            if any(_state(path) != state for path, state in self.states):
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, arrays)
            _remove_oldest(self.path.parent)
        except OSError:  # a file that went away, a full or read-only disk: the images are in memory, as was asked for
            return


def entry_for(folder: Path, files: Sequence[Path], asked: object) -> Entry | None:
    """The place of these files of a folder, read as `asked` (anything JSON can hold).

    None if keeping them is not worth while, or one cannot be read.
    """
    try:
        states = tuple((path, _state(path)) for path in files)
        if len(files) < WORTH_FILES and sum(size for _, (size, *_) in states) < WORTH_BYTES:
            return None
        content = content_sum(folder, files)
    except OSError:  # a file that is gone or forbidden: the reader finds it too, and names it
        return None
    decoders = [PIL.__version__, *(features.version(name) for name in _LIBRARIES)]
    key = hashlib.sha256(json.dumps([VERSION, decoders, asked, content]).encode()).hexdigest()
    return Entry(home_folder() / "cache" / f"{key}.npz", states)


def _state(path: Path) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _write(path: Path, arrays: dict[str, Any]) -> None:
    handle, partial = tempfile.mkstemp(".part", f".{path.stem[:16]}.", path.parent)
    try:
        with open(handle, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _remove_oldest(folder: Path) -> None:
    """Bring the cache below KEPT_BYTES; what was used last stays. Parts left by a killed process age like the rest."""
    found = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda pair: -pair[0].st_mtime_ns)
    total = 0
    for status, path in found:
        total += status.st_size
        if total > KEPT_BYTES:
            path.unlink(missing_ok=True)
