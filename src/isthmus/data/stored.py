"""Images that stay on disk, for sets larger than memory: they read like an array, a few at a time.

    file.npy   uint8 (N, C, H, W), one image after the other
    rows       which of them, in which order: a part of a set is another list of rows of the same file

A part of such a set is made without reading it (`select`), and so is its grey version. Reading is by position in the
file, not by a mapping of all of it: a mapping counts as memory where a limit is set (`ulimit -v`). Within a batch the
rows are read in the order in which they lie; `batches` reads ahead in a thread while the caller works. The bytes that
were read last stay with the system as far as there is memory, so small sets lose next to nothing. The file stays open,
for all parts of the set together: it may be removed meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.errors import DataError

if sys.platform == "linux":
    import resource

SHARE = 0.4  # of free memory: a set and its three parts lie there together
AHEAD = 4  # batches read before they are asked for
_HEADER = 128  # bytes, enough for any header of four numbers


class Stored:
    """uint8 images (N, C, H, W) in a file.

    Arguments: path: an .npy file. offset: where in it the first image begins. count: images in the file. image_shape:
    (C, H, W) of each. rows: (N,) positions in the file, by default all. luma: give the one grey channel of colour.
    channels_last: an image lies there as (H, W, C).
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        path: Path,
        offset: int,
        count: int,
        image_shape: tuple[int, int, int],
        *,
        rows: NDArray[np.int64] | None = None,
        luma: bool = False,
        channels_last: bool = False,
    ):
        self.path, self.offset, self.count, self.image_shape = path, offset, count, image_shape
        self.rows, self.luma, self.channels_last = rows, luma, channels_last
        self._lock = threading.Lock()
        self._opened: io.FileIO | None = None
        self._whole: Stored | None = None  # whose open file a part reads; a temporary one goes with the last part

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        channels, height, width = self.image_shape
        return len(self), 1 if self.luma else channels, height, width

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it would take in memory."""
        return self.size

    def __len__(self) -> int:
        return self.count if self.rows is None else len(self.rows)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Images as an array in memory: one (C, H, W) by its number, else (B, C, H, W)."""
        chosen = self._positions(index)
        if chosen.ndim == 0:
            first: NDArray[np.uint8] = self._read(chosen[None])[0]
            return first
        return self._read(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them in memory, for whoever cannot do with less."""
        if copy is False:
            raise ValueError("images on disk become an array only by being copied into memory")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = (self.path, self.offset, self.count, self.image_shape)
        return _rebuild, (*facts, self.rows, self.luma, self.channels_last)

    def select(self, index: Any) -> Stored:
        """The images at these positions, or under a mask of N booleans; nothing is read."""
        return self._like(self._positions(index), luma=self.luma)

    def move(self, path: Path) -> None:
        """Give the file another name, in the same folder. Raises: OSError."""
        if os.name == "nt":
            self._close()
        os.replace(self.path, path)
        self.path = path

    def remove(self) -> None:
        """Remove the file: the set is not wanted."""
        self._close()
        self.path.unlink(missing_ok=True)

    def grey(self) -> Stored:
        """One channel of luma, computed when an image is read."""
        return self._like(self.rows, luma=self.image_shape[0] == 3)

    def batches(self, indices: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """The images of each index, (B, C, H, W), in turn; the next ones are read by a thread meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Future[NDArray[np.uint8]]] = deque()
            for index in indices:
                waiting.append(pool.submit(self.__getitem__, index))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _like(self, rows: NDArray[np.int64] | None, *, luma: bool) -> Stored:
        facts = (self.path, self.offset, self.count, self.image_shape)
        made = Stored(*facts, rows=rows, luma=luma, channels_last=self.channels_last)
        made._whole = self._whole or self
        return made

    def _positions(self, index: Any) -> NDArray[np.int64]:
        """Where in the file the images of an index lie. Raises: IndexError."""
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            asked = np.arange(begin, end, step)
        else:
            asked = np.asarray(index)
            if asked.dtype == bool and asked.shape != (len(self),):
                raise IndexError(f"a mask of {asked.shape} was given for {len(self)} images")
            asked = np.flatnonzero(asked) if asked.dtype == bool else asked.astype(np.int64)
            if asked.size and (asked.min() < -len(self) or asked.max() >= len(self)):
                raise IndexError(f"image {int(asked.max())} was asked for, of {len(self)}")
            asked = np.where(asked < 0, asked + len(self), asked)
        return asked if self.rows is None else self.rows[asked]

    def _read(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = _room((len(positions), *self.image_shape))
        each = math.prod(self.image_shape)
        order = np.argsort(positions, kind="stable")
        lines = pixels.reshape(len(positions), each)
        whole = self._whole or self
        with whole._lock:
            file = whole._file()
            if len(positions) and np.array_equal(positions, np.arange(positions[0], positions[0] + len(positions))):
                self._fill(file, int(positions[0]), lines.reshape(-1))
            else:
                ordered = positions[order].tolist()
                self._announce(file, ordered)
                for i, position in zip(order.tolist(), ordered, strict=True):
                    self._fill(file, position, lines[i])
        if self.channels_last:
            channels, height, width = self.image_shape
            pixels = np.ascontiguousarray(np.moveaxis(pixels.reshape(-1, height, width, channels), 3, 1))
        return luma_of(pixels) if self.luma else pixels

    def _announce(self, file: io.FileIO, positions: list[int]) -> None:
        """Have the system fetch images from the disk all at once, where they are not one after the other."""
        if sys.platform == "linux":
            size = math.prod(self.image_shape)
            for position in positions:
                os.posix_fadvise(file.fileno(), self.offset + position * size, size, os.POSIX_FADV_WILLNEED)

    def _fill(self, file: io.FileIO, position: int, line: NDArray[np.uint8]) -> None:
        file.seek(self.offset + position * math.prod(self.image_shape))
        view, done = line.data, 0
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                raise DataError(f"{self.path} ends before image {position}: it was changed; load the set again.")
            done += got

    def _file(self) -> io.FileIO:
        if self._opened is None:
            try:
                self._opened = io.FileIO(self.path)
            except OSError as error:
                raise DataError(
                    f"{self.path}, where the images of this set lie, cannot be read ({error.strerror or error}): "
                    "load the set again."
                ) from error
            weakref.finalize(self, self._opened.close)
        return self._opened

    def _hold(self, file: io.FileIO) -> Stored:
        """Read from this open file."""
        self._opened = file
        weakref.finalize(self, file.close)
        return self

    def _close(self) -> None:
        """Close the file, which Windows neither renames nor removes while it is open."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _rebuild(
    path: Path, offset: int, count: int, shape: tuple[int, int, int], rows: Any, luma: bool, channels_last: bool
) -> Stored:
    return Stored(path, offset, count, shape, rows=rows, luma=luma, channels_last=channels_last)


class StoredShards(Stored):
    """The images of several files as those of one, in order.

    Arguments: shards: whole files with images of one shape. rows, luma: as of `Stored`.
    """

    def __init__(self, shards: Sequence[Stored], *, rows: NDArray[np.int64] | None = None, luma: bool = False):
        self.shards, self.starts = tuple(shards), np.cumsum([0, *map(len, shards)])
        super().__init__(shards[0].path, 0, int(self.starts[-1]), shards[0].image_shape, rows=rows, luma=luma)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_shards, (self.shards, self.rows, self.luma)

    def _like(self, rows: NDArray[np.int64] | None, *, luma: bool) -> Stored:
        return StoredShards(self.shards, rows=rows, luma=luma)

    def _read(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = np.empty((len(positions), *self.image_shape), np.uint8)
        places = np.searchsorted(self.starts, positions, side="right") - 1
        for number in np.unique(places):
            here = places == number
            pixels[here] = self.shards[number][positions[here] - self.starts[number]]
        return luma_of(pixels) if self.luma else pixels


def _rebuild_shards(shards: Sequence[Stored], rows: Any, luma: bool) -> StoredShards:
    return StoredShards(shards, rows=rows, luma=luma)


def stored_in(images: object) -> Stored | None:
    """The images if they stay on disk, None for an array in memory."""
    return images if isinstance(images, Stored) else None


def open_stored(path: Path) -> Stored:
    """The images of an .npy file. Raises: OSError; ValueError if it holds no uint8 (N, C, H, W) one after the other."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
        if len(shape) != 4 or fortran or dtype != np.uint8 or size < offset + math.prod(shape):
            raise ValueError(f"{path} holds {dtype} of shape {shape}")
        found = Stored(path, offset, shape[0], (shape[1], shape[2], shape[3]))
        return found._hold(io.FileIO(os.dup(file.fileno())))


class Storing:
    """Writes images to an .npy file, in order; how many there are need not be known before.

    Leave it by `finish`, or `abandon`, which removes the file.
    """

    def __init__(self, path: Path, image_shape: tuple[int, int, int]):
        self.path, self.image_shape, self.count = path, image_shape, 0
        self._file = path.open("w+b")  # whose images are read in the end without opening it again
        self._file.write(_header(0, image_shape))

    def append(self, images: NDArray[np.uint8]) -> None:
        """Write images (B, C, H, W). Raises: OSError."""
        self._file.write(np.ascontiguousarray(images).data)
        self.count += len(images)

    def finish(self, *, temporary: bool = False) -> Stored:
        """Close the file: its images. Arguments: temporary: the file goes with the last of them. Raises: OSError."""
        self._file.seek(0)
        self._file.write(_header(self.count, self.image_shape))
        self._file.flush()
        stored = Stored(self.path, _HEADER, self.count, self.image_shape)
        stored._hold(io.FileIO(os.dup(self._file.fileno())))
        self._file.close()
        if temporary:
            weakref.finalize(stored, _remove, self.path)
        return stored

    def abandon(self) -> None:
        """Close and remove the file."""
        with contextlib.suppress(OSError):  # a full disk may refuse what is still buffered
            self._file.close()
        self.path.unlink(missing_ok=True)


def _room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Memory for pixels. Raises: MemoryError."""
    # NumPy asks for huge pages, which a virtual machine has to fetch from its host: 0.2 s for 80 MB. Others it has.
    try:
        return torch.empty(shape, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise MemoryError(f"no memory for {math.prod(shape):,} bytes of pixels") from error


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the cache may be emptied at any time
        path.unlink()


def _header(count: int, image_shape: tuple[int, int, int]) -> bytes:
    r"""An .npy header of version 1.0 of a fixed length, whatever the count."""
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(count, *image_shape)}, }}"
    return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + words.ljust(_HEADER - 11).encode() + b"\n"


def luma_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, 3, H, W) to (B, 1, H, W): ITU-R BT.601 by Pillow's integer formula."""
    red, green, blue = np.moveaxis(pixels, 1, 0)
    scaled = red * np.uint32(19595) + green * np.uint32(38470) + blue * np.uint32(7471)
    grey: NDArray[np.uint8] = ((scaled + 0x8000) >> 16).astype(np.uint8)[:, None]
    return grey


def too_large(size: int) -> bool:
    """Whether so many bytes of images are to stay on disk."""
    free = free_memory()
    return free is not None and size > SHARE * free


def free_memory() -> int | None:
    """Bytes that this process may still take: what the system has to give, within the limits set for the process and
    its container. None where the system does not say."""
    found = [_available(), _below_limit(), _in_container()]
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def _available() -> int | None:
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if sys.platform == "darwin":  # it does not say how much is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _below_limit() -> int | None:
    """What `ulimit -v` leaves."""
    if sys.platform == "linux":
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            return limit - taken
    return None


def _in_container() -> int | None:
    group = Path("/sys/fs/cgroup")
    if not (group / "memory.max").exists():
        return None
    limit = (group / "memory.max").read_text().strip()
    if limit == "max":
        return None
    facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(limit) - int((group / "memory.current").read_text()) + int(facts.get("inactive_file", 0))
