"""Image folders once decoded, kept on disk, so that the same images are decoded once.

    ISTHMUS_HOME/cache/<names>-<key>.npy     the images (N, C, H, W)
    ISTHMUS_HOME/cache/<names>-<key>.json    labels, classes, notes, fingerprint; without it the other is nothing
    (without ISTHMUS_HOME: the user's cache folder)

The key is the sha256 of all that decides the result: every file's name and content, what was asked for, and the
versions of the decoders. What a file holds is never judged by its date (contents.py says by what). <names> is made of
the names alone: where nothing of the sort is kept, files need not be read to see that. The folder may be
deleted at any time; what is damaged in it is decoded and written again; where it cannot be written, images are decoded
each time. A file gets its name only when it is complete, so several processes may read and write at once; what a
crash of the system leaves of it counts as damaged. Beyond
KEPT_BYTES, what was used longest ago goes; a set that is larger by itself stays until another such is kept.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import PIL
import platformdirs
from numpy.typing import NDArray
from PIL import features

from isthmus.data.arrays import Pixels
from isthmus.data.contents import Ledger, States, Sums, content_key, file_sums, remove_oldest
from isthmus.data.imageset import ImageSet
from isthmus.data.stored import Stored, Storing, open_stored, stored_in, too_large
from isthmus.errors import DataError

VERSION = 2  # of our decoding: raised when the same files would be read as other pixels, classes or notes
KEPT_BYTES = 2**31
WORTH_FILES, WORTH_BYTES = 100, 2**20  # folders below both are decoded faster than anyone notices
ROOM = 4  # a set is kept if the disk has so many times the room for it
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
    paths = [os.fspath(path) for path in files]
    return content_key(relative_names(folder, paths), file_sums(paths)[0])


def relative_names(folder: Path, paths: Sequence[str]) -> list[bytes]:
    """Names of files below a folder, relative to it, with /."""
    start = len(os.fsencode(prefix(folder)))
    names = [path[start:] for path in os.fsencode("\0".join(paths)).split(b"\0")] if paths else []
    return names if os.sep == "/" else [name.replace(os.fsencode(os.sep), b"/") for name in names]


def prefix(folder: Path) -> str:
    """What goes before a relative name to make a path; what lies in "." is not called "./name"."""
    return "" if folder == Path() else os.path.join(folder, "")


@dataclass(frozen=True)
class Ahead:
    """What has been begun before it is known which files a folder holds.

    ledger: of the folder. likely: the entry that is being read, None if nothing is.
    """

    ledger: Ledger
    likely: Path | None
    reading: Future[ImageSet | None] | None

    def read(self, path: Path, name: str) -> ImageSet | None:
        """The images of an entry, called `name`; None if it is not there, or damaged."""
        return self.reading.result() if self.reading and path == self.likely else _read(path, name)


@contextlib.contextmanager
def looking_ahead(folder: Path, asked: object, name: str) -> Iterator[Ahead]:
    """Begin with what was true of a folder the last time: its files are looked at, and the images kept of them read.

    Nothing of it counts unless it turns out to be true still. asked: what is known already of what `place_for` is told.
    """
    ledger = Ledger(home_folder(), folder)
    likely = ledger.notes().get(json.dumps(asked))
    with ThreadPoolExecutor(1) as pool, ledger.looking(prefix(folder)):
        path = _folder() / likely if likely else None
        yield Ahead(ledger, path, pool.submit(_read, path, name) if path else None)


@dataclass(frozen=True)
class Place:
    """Where a decoded folder is kept, or is to be kept.

    root: what goes before each of the names to make a path. asked: how they are read. start: of the name of every entry
    of files of these names, read so. note: under which the entry is noted.
    """

    root: str
    names: list[bytes]
    ahead: Ahead
    asked: str
    start: str
    note: str

    def find(self, name: str) -> ImageSet | None:
        """The images kept here, called `name`; None if there are none, or they are damaged."""
        with contextlib.suppress(OSError):  # a file that is gone: the reader names it
            if any(_folder().glob(f"{self.start}-*.json")):
                path = self._path(self.ahead.ledger.sums(self.root, self.names)[1])
                images = self.ahead.read(path, name)
                if images is not None:
                    _mark(path)
                return images
        return None

    def keep(self, images: ImageSet, sums: Sums, states: States) -> None:
        """Keep these images, unless a file changed while it was read, or the disk does not let us.

        Arguments: sums, states: of the contents that were decoded. Images that stay on disk are moved there.
        """
        if sums.any(1).all():
            key = content_key(self.names, sums)
            self.ahead.ledger.write(self.names, sums, states, key, {self.note: self._path(key).name})
            with contextlib.suppress(OSError):  # a full or read-only disk: the images are here, as was asked for
                _write(self._path(key), images)

    def _path(self, content: str) -> Path:
        key = hashlib.sha256(f"{self.asked} {content}".encode()).hexdigest()
        return _folder() / f"{self.start}-{key[:32]}.npy"


def place_for(folder: Path, files: Sequence[str], asked: object, *found: object, ahead: Ahead) -> Place | None:
    """The place of these files of a folder, read as `asked` (anything JSON can hold) with what else was `found`.

    None if keeping them is not worth while, or one cannot be found.
    """
    try:
        if len(files) < WORTH_FILES and sum(os.path.getsize(path) for path in files) < WORTH_BYTES:
            return None
    except OSError:  # a file that is gone: the reader finds it too, and names it
        return None
    names = relative_names(folder, files)
    decoders = [PIL.__version__, *(features.version(name) for name in _LIBRARIES)]
    how = hashlib.sha256(json.dumps([VERSION, decoders, asked, found]).encode()).hexdigest()
    digest = hashlib.sha256(b"\0".join([how.encode(), *names]))
    return Place(prefix(folder), names, ahead, how, digest.hexdigest()[:32], json.dumps(asked))


def storing(image_shape: tuple[int, int, int], size: int) -> Storing:
    """A file of the cache for images that are too large for memory, `size` bytes of them.

    Raises: DataError if it cannot be written, or there is no room for it.
    """
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(_folder()).free
        handle, path = tempfile.mkstemp(".npy", ".", _folder())
        os.close(handle)
    except OSError as error:
        raise _no_place(size, str(error.strerror or error)) from error
    if size > free:
        os.unlink(path)
        raise _no_place(size, f"only {free:,} bytes are free there")
    return Storing(Path(path), image_shape)


def _no_place(size: int, reason: str) -> DataError:
    return DataError(
        f"The images take {size:,} bytes, too much for the memory there is, and are to lie in {_folder()} instead: "
        f"{reason}. Set ISTHMUS_HOME to a folder on a larger disk, or ask for a smaller size (data.height, data.width)."
    )


def _folder() -> Path:
    return home_folder() / "cache"


def _read(path: Path, name: str) -> ImageSet | None:
    try:
        told, text = path.with_suffix(".json").read_bytes().split(b"\n", 1)
        about = json.loads(text)
        if hashlib.sha256(text).hexdigest().encode() != told or about["key"] != path.stem:
            return None
        stored = open_stored(path)
        pixels = cast(Pixels, stored if too_large(stored.nbytes) else stored[:])
        labels = None if about["labels"] is None else np.frombuffer(base64.b64decode(about["labels"]), "<i8")
        classes, notes = tuple(about["classes"]), tuple(about["notes"])
        images = ImageSet(pixels, None if labels is None else labels.astype(np.int64), classes, name, notes=notes)
        if about["fingerprint"] != images.fingerprint:
            return None
    except Exception:  # a damaged entry may raise anything; nothing is lost, the images are decoded again
        return None
    return images


def _mark(path: Path) -> None:
    """Note that an entry was used."""
    with contextlib.suppress(OSError):  # of a read-only disk: the date only says what to remove last
        os.utime(path)


def _write(path: Path, images: ImageSet) -> None:
    """Write an entry: what is known of the images first, so that nothing can fail once they are in place."""
    folder, stored = path.parent, stored_in(images.images)
    folder.mkdir(parents=True, exist_ok=True)
    if stored is None and images.images.nbytes > shutil.disk_usage(folder).free // ROOM:
        return
    labels = None if images.labels is None else base64.b64encode(images.labels.astype("<i8").tobytes()).decode()
    about = {
        "key": path.stem,
        "fingerprint": images.fingerprint,
        "classes": images.classes,
        "notes": images.notes,
        "labels": labels,
    }
    text = json.dumps(about).encode()
    _write_whole(path.with_suffix(".json"), hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    if stored is None:
        _store(images, folder).move(path)
    else:
        stored.move(path)
    with contextlib.suppress(OSError):  # another process may be removing the same
        remove_oldest(folder, KEPT_BYTES)


def _store(images: ImageSet, folder: Path) -> Stored:
    handle, partial = tempfile.mkstemp(".npy", ".", folder)
    os.close(handle)
    writing = Storing(Path(partial), images.shape)
    try:
        writing.append(cast(NDArray[np.uint8], images.images))
        return writing.finish(temporary=True)
    except BaseException:
        writing.abandon()
        raise


def _write_whole(path: Path, content: bytes) -> None:
    handle, partial = tempfile.mkstemp(".part", ".", path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
