"""Published files: found on this machine or fetched once, and checked either way.

They are looked for in three places, and the first that has one of them is taken:

    ISTHMUS_DATA/<set>/, or for MNIST's files ISTHMUS_DATA itself
    the cache, ISTHMUS_HOME/data/<set>/ (without ISTHMUS_HOME: the user's cache folder)
    the web (ISTHMUS_MIRROR: another address for the same file names), unless ISTHMUS_OFFLINE is set; kept in the cache

What is fetched counts only if the sha256 of its unpacked content is the published one, so that an archive that was
compressed again is still the same data. The environment is read when a set is asked for, never at import.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import pooch  # type: ignore[import-untyped, unused-ignore]

from isthmus.data.cache import content_sum, home_folder
from isthmus.data.folders import find_images
from isthmus.data.idx import find_mnist_files, unpacked
from isthmus.errors import DataError

SECONDS = 30  # without an answer for so long, a mirror is given up
MOST_BYTES = 2**28  # an archive that unpacks to more is not ours
_DAMAGED = (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, ValueError)


@dataclass(frozen=True)
class Published:
    """Four files in MNIST's format. `sums`: name without `.gz` -> sha256 (hex) of the unpacked content."""

    name: str
    url: str
    sums: Mapping[str, str]


@dataclass(frozen=True)
class Archive:
    """A folder of class folders in a zip archive, which holds it as `<anything>/<folder>/<class>/<file>`.

    `count` is how many files it has, `checksum` their `content_sum`. `instead` is a set that needs no download.
    """

    name: str
    url: str
    folder: str
    count: int
    checksum: str
    instead: str


def obtain(published: Published) -> tuple[dict[str, Path], dict[str, bytes]]:
    """Where each file lies, and its unpacked content, checked.

    Raises: DataError for a wrong sum, an incomplete folder, no network, or being offline.
    """
    folder = data_folder(published)
    if folder is None:
        folder = cache_folder(published)
        if len(find_mnist_files(folder)) < len(published.sums):
            _fill(folder, published)
    files = find_mnist_files(folder)
    missing = [name for name in published.sums if name not in files]
    if missing:
        raise DataError(
            f"{folder} holds {len(files)} of the {len(published.sums)} files of {published.name}; add "
            f"{', '.join(missing)} (plain or .gz), or unset ISTHMUS_DATA"
        )
    contents = {}
    for name, path in files.items():
        contents[name] = unpacked(path)
        if not _is_published(contents[name], published.sums[name]):
            raise DataError(
                f"{path} is not the published {name}: the sha256 of its unpacked content differs; "
                "remove it, so that it is fetched again, or replace it"
            )
    return files, contents


def obtain_folder(archive: Archive) -> tuple[Path, tuple[str, ...]]:
    """The folder of class folders, and a note if it is not the published set.

    A folder of ISTHMUS_DATA is taken as it is, whole or in part; one in the cache must be the published one.
    Raises: DataError for a changed cache, a wrong or damaged archive, no network, or being offline.
    """
    own = data_folder(archive)
    if own is not None:
        difference = _difference(own, archive)
        return own, (f"{archive.name} in ISTHMUS_DATA is not the published set: {difference}.",) if difference else ()
    folder = cache_folder(archive)
    if not folder.is_dir():
        with _writing(folder.with_name(f".{archive.name}.lock"), archive):
            if not folder.is_dir():  # another process may have been first
                _fetch_archive(folder, archive)
    difference = _difference(folder, archive)
    if difference:
        raise DataError(
            f"{folder} is not the published {archive.name} any more: {difference}; "
            "remove it, so that it is fetched again"
        )
    return folder, ()


def data_folder(published: Published | Archive) -> Path | None:
    """The folder of ISTHMUS_DATA that holds files of the set; None without one."""
    root = data_root()
    if root is None:
        return None
    if isinstance(published, Archive):
        return root / published.name if (root / published.name).is_dir() else None
    return next((folder for folder in (root / published.name, root) if find_mnist_files(folder)), None)


def data_root() -> Path | None:
    """The folder ISTHMUS_DATA names; None if it is not set. Raises: DataError if it names no folder."""
    value = os.environ.get("ISTHMUS_DATA")
    if not value:
        return None
    root = Path(os.path.expanduser(value))
    if not root.is_dir():
        raise DataError(f"ISTHMUS_DATA is {value!r}, which is not a folder; correct or unset it")
    return root


def cache_folder(published: Published | Archive) -> Path:
    """Where fetched files of the set are kept."""
    return home_folder() / "data" / published.name


def is_cached(published: Published | Archive) -> bool:
    """Whether the cache holds every file of the set (unchecked)."""
    folder = cache_folder(published)
    if isinstance(published, Archive):
        return folder.is_dir()
    return len(find_mnist_files(folder)) == len(published.sums)


@contextmanager
def _writing(lock: Path, published: Published | Archive) -> Iterator[None]:
    """Fill the cache: one process at a time, so that others find it complete, and never offline."""
    if os.environ.get("ISTHMUS_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off"):
        raise DataError(
            f"{published.name} is not on this machine, and ISTHMUS_OFFLINE forbids to fetch it: {_by_hand(published)}"
        )
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock):
            yield
    except OSError as error:  # of the folder, the lock or the disk: `_download` turns its own into DataError
        raise DataError(
            f"the cache {lock.parent} cannot be written ({error}); set ISTHMUS_HOME to a folder of yours"
        ) from error


def _fill(folder: Path, published: Published) -> None:
    """Fetch the files the cache lacks; each gets its name only once its content is known to be right."""
    with _writing(folder / ".lock", published):
        present = find_mnist_files(folder)
        for name in published.sums:
            if name in present:
                continue
            url = _address(f"{published.url.rstrip('/')}/{name}.gz")
            partial = folder / f".{name}.{os.getpid()}.part"
            try:
                _download(url, partial, published)
                _check_fetched(partial, name, url, published)
                os.replace(partial, folder / f"{name}.gz")
            finally:
                partial.unlink(missing_ok=True)


def _fetch_archive(folder: Path, archive: Archive) -> None:
    """Fetch and unpack; the folder gets its name only once its content is known to be right."""
    url = _address(archive.url)
    packed, partial = (folder.with_name(f".{archive.name}.{end}") for end in ("zip.part", "part"))
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
    try:
        _download(url, packed, archive)
        partial.mkdir()
        problem = _unpack(packed, partial, archive) or _difference(partial, archive)
        if problem:
            raise DataError(f"{url} is not the published {archive.name}: {problem}{_wrong(archive)}")
        os.replace(partial, folder)
    finally:
        packed.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(packed: Path, into: Path, archive: Archive) -> str | None:
    """Write the class folders of a zip archive. Returns: why the archive was refused; None if it was not."""
    try:
        with zipfile.ZipFile(packed) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            leaving = next((member.filename for member in members if not _is_inside(member.filename)), None)
            if leaving is not None:
                return f"it holds a file that would leave the folder, {leaving!r}"
            places = {member: member.filename.split("/")[1:] for member in members}
            chosen = [member for member, parts in places.items() if len(parts) == 3 and parts[0] == archive.folder]
            if len(chosen) != archive.count:
                return f"its folder {archive.folder} holds {len(chosen):,} files, not {archive.count:,}"
            total = sum(member.file_size for member in chosen)
            if total > MOST_BYTES:
                return f"it would unpack to {total:,} bytes, more than {MOST_BYTES:,}"
            for member in chosen:
                path = into.joinpath(*places[member][1:])
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(file.read(member))
    except _DAMAGED as error:
        return f"the archive is cut short or damaged ({error})"
    return None


def _is_inside(name: str) -> bool:
    """Whether a name in an archive stays below the folder it is unpacked to, on any system."""
    return not any(part in ("", ".", "..") or "\\" in part or ":" in part for part in name.split("/"))


def _difference(folder: Path, archive: Archive) -> str | None:
    """In words, how the images of a folder differ from the published ones; None if they do not."""
    files = find_images(folder)
    if len(files) != archive.count:
        return f"it holds {len(files):,} images instead of {archive.count:,}"
    try:
        same = content_sum(folder, files) == archive.checksum
    except OSError as error:
        return f"a file cannot be read ({error})"
    return None if same else "the sha256 of its names and contents differs"


def _download(url: str, partial: Path, published: Published | Archive) -> None:
    try:
        pooch.HTTPDownloader(timeout=SECONDS, chunk_size=2**16)(url, partial, None)
    except OSError as error:  # requests' errors are OSErrors too
        raise DataError(f"{published.name} cannot be fetched from {url} ({error}): {_by_hand(published)}") from error


def _address(url: str) -> str:
    """Where a file is fetched from: its own address, or its name on the mirror."""
    mirror = os.environ.get("ISTHMUS_MIRROR")
    return f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[1]}" if mirror else url


def _check_fetched(partial: Path, name: str, url: str, published: Published) -> None:
    try:
        content = unpacked(partial)
    except DataError as error:
        raise DataError(f"{url} gives a damaged archive{_wrong(published)}") from error
    if not _is_published(content, published.sums[name]):
        raise DataError(f"{url} is not the published {name}: the sha256 of its content differs{_wrong(published)}")


def _is_published(content: bytes, expected: str) -> bool:
    return hashlib.sha256(content).hexdigest() == expected


def _wrong(published: Published | Archive) -> str:
    return f"; nothing of it was kept. Try another ISTHMUS_MIRROR, or {_by_hand(published)}"


def _by_hand(published: Published | Archive) -> str:
    cache = cache_folder(published)
    if isinstance(published, Archive):
        return (
            f"put the folder {published.folder} of {published.url} at {cache} or, called {published.name}, into "
            f"ISTHMUS_DATA, or use {published.instead}, which needs no download"
        )
    names = ", ".join(f"{name}.gz" for name in published.sums)
    return (
        f"put {names} into {cache} or into a folder {published.name} inside ISTHMUS_DATA, "
        "or use mnist-5k, which needs no download"
    )
