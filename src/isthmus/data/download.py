"""Published files: found on this machine or fetched once, and checked either way.

They are looked for in three places, and the first that has one of them is taken:

    ISTHMUS_DATA/<set>/, or ISTHMUS_DATA itself
    the cache, ISTHMUS_HOME/data/<set>/ (without ISTHMUS_HOME: the user's cache folder)
    the web (ISTHMUS_MIRROR: another address), unless ISTHMUS_OFFLINE is set; kept in the cache

A file counts only if the sha256 of its unpacked content is the published one, so that an archive that was
compressed again is still the same data. The environment is read when a set is asked for, never at import.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs
import pooch  # type: ignore[import-untyped, unused-ignore]

from isthmus.data.idx import find_mnist_files, unpacked
from isthmus.errors import DataError

SECONDS = 30  # without an answer for so long, a mirror is given up


@dataclass(frozen=True)
class Published:
    """Four files in MNIST's format. `sums`: name without `.gz` -> sha256 (hex) of the unpacked content."""

    name: str
    url: str
    sums: Mapping[str, str]


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


def data_folder(published: Published) -> Path | None:
    """The folder of ISTHMUS_DATA that holds files of the set; None without one."""
    value = os.environ.get("ISTHMUS_DATA")
    if not value:
        return None
    root = Path(os.path.expanduser(value))
    if not root.is_dir():
        raise DataError(f"ISTHMUS_DATA is {value!r}, which is not a folder; correct or unset it")
    return next((folder for folder in (root / published.name, root) if find_mnist_files(folder)), None)


def cache_folder(published: Published) -> Path:
    """Where fetched files of the set are kept."""
    home = os.environ.get("ISTHMUS_HOME") or platformdirs.user_cache_dir("isthmus")
    return Path(os.path.expanduser(home)) / "data" / published.name


def is_cached(published: Published) -> bool:
    """Whether the cache holds every file of the set (unchecked)."""
    return len(find_mnist_files(cache_folder(published))) == len(published.sums)


def _fill(folder: Path, published: Published) -> None:
    """Fetch the files the cache lacks; one process at a time, so that others find them complete."""
    if os.environ.get("ISTHMUS_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off"):
        raise DataError(
            f"{published.name} is not on this machine, and ISTHMUS_OFFLINE forbids to fetch it: {_by_hand(published)}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            present = find_mnist_files(folder)
            for name in published.sums:
                if name not in present:
                    _fetch(name, folder, published)
    except OSError as error:  # of the folder or the lock: `_fetch` turns its own into DataError
        raise DataError(
            f"the cache {folder} cannot be written ({error}); set ISTHMUS_HOME to a folder of yours"
        ) from error


def _fetch(name: str, folder: Path, published: Published) -> None:
    """Fetch `name`.gz; it gets this name only once its content is known to be right."""
    mirror = os.environ.get("ISTHMUS_MIRROR") or published.url
    url = f"{mirror.rstrip('/')}/{name}.gz"
    partial = folder / f".{name}.{os.getpid()}.part"
    try:
        pooch.HTTPDownloader(timeout=SECONDS, chunk_size=2**16)(url, partial, None)
        _check_fetched(partial, name, url, published)
        os.replace(partial, folder / f"{name}.gz")
    except OSError as error:  # requests' errors are OSErrors too
        raise DataError(f"{published.name} cannot be fetched from {url} ({error}): {_by_hand(published)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _check_fetched(partial: Path, name: str, url: str, published: Published) -> None:
    wrong = f"; nothing of it was kept. Try another ISTHMUS_MIRROR, or {_by_hand(published)}"
    try:
        content = unpacked(partial)
    except DataError as error:
        raise DataError(f"{url} gives a damaged archive{wrong}") from error
    if not _is_published(content, published.sums[name]):
        raise DataError(f"{url} is not the published {name}: the sha256 of its content differs{wrong}")


def _is_published(content: bytes, expected: str) -> bool:
    return hashlib.sha256(content).hexdigest() == expected


def _by_hand(published: Published) -> str:
    names = ", ".join(f"{name}.gz" for name in published.sums)
    return (
        f"put {names} into {cache_folder(published)} or into a folder {published.name} inside ISTHMUS_DATA, "
        "or use mnist-5k, which needs no download"
    )
