"""Many image files at once: each is opened, summed and decoded once, by processes where they are many, else by threads.

    paths or contents -> parts of a few files, in order: headers, pixels (M, C, H, W), sums

Most of the time that a small file takes is Python's, which does one thing at a time, so threads gain nothing there. A
process costs a quarter of a second to start: fewer files than FEW are left to threads. The processes are plain children
at the end of two pipes. They run nothing of the caller's program, as `multiprocessing` would, so that a script needs no
`if __name__ == "__main__":` to read a folder; they import NumPy and Pillow alone. Only a few parts are in flight, and
memory does not grow with the number of files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import queue
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.data.contents import NO_SUM, UNKNOWN, States, Sums, as_states, as_sums
from isthmus.data.photographs import (
    Header,
    Photograph,
    UnreadableImageError,
    read_content,
    read_photograph,
    without_warnings,
)
from isthmus.errors import IsthmusError

Shape = tuple[int, int, int]
Progress = Callable[[int, int, str], None]

FEW = 2000  # files that threads have read before processes are ready
FEW_BYTES = 2**27  # or so many bytes of files, whose decoding does run in threads side by side
PART = 512  # files in a part, at most
PART_BYTES = 2**22  # pixels in a part, at most
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from isthmus.data.decoding import _serve; "
    "_serve(sys.stdin.buffer, sys.stdout.buffer)"
)


class Content(NamedTuple):
    """What an image file holds, read already; or, if `reason` says so, why it cannot be used. name: for messages."""

    name: str
    data: bytes
    reason: str = ""


File = str | Content  # a path, or what lies there

_follower: ContextVar[Progress | None] = ContextVar("follower", default=None)


class Part(NamedTuple):
    """A few files, read.

    headers: what each says of itself, or why it cannot be used. pixels: (M, C, H, W) of the M that can be, None if only
    the headers were asked for. sums, states: of every file, see contents.py; of a `Content` they say nothing.
    """

    headers: list[Header | str]
    pixels: NDArray[np.uint8] | None
    sums: Sums
    states: States


@contextlib.contextmanager
def following(progress: Progress) -> Iterator[None]:
    """Whoever reads a folder in this block tells `progress` of it: (files done, files in all, a line)."""
    before = _follower.set(progress)
    try:
        yield
    finally:
        _follower.reset(before)


def read_parts(paths: Sequence[str], shape: Shape | None, *, processes: int = 0) -> Generator[Part, None, None]:
    """Read image files, in order, as uint8 of `shape` (C, H, W), or their headers alone.

    A grey image is repeated over three channels; one in colour must not be asked for as grey: it gets one of its
    channels. Arguments: processes: so many, or with 0 threads of this one; see `processes_for`.
    Raises: IsthmusError if a process ends before its work is done.
    """
    step = files_in_part(shape)
    parts = (paths[start : start + step] for start in range(0, len(paths), step))
    yield from _read(parts, shape, len(paths), processes, "files")


def read_contents(
    parts: Iterable[Sequence[Content]], shape: Shape | None, *, count: int, processes: int = 0
) -> Generator[Part, None, None]:
    """The same for files whose content is at hand; the parts are asked for as they are needed, by this thread.

    Arguments: parts: of `files_in_part` files at most. count: files in all of them, for whoever follows.
    """
    yield from _read(parts, shape, count, processes, "images")


def files_in_part(shape: Shape | None) -> int:
    """How many files make a part, if they are read as this shape."""
    return PART if shape is None else max(1, min(PART, PART_BYTES // math.prod(shape)))


def _read(
    parts: Iterable[Sequence[File]], shape: Shape | None, count: int, processes: int, noun: str
) -> Generator[Part, None, None]:
    progress, done = _follower.get(), 0
    with contextlib.ExitStack() as stack:
        if processes:
            found = _in_order(_by_processes(stack, processes), parts, shape, processes)
        else:
            stack.enter_context(without_warnings())
            found = _in_order(read_part, parts, shape, min(8, os.cpu_count() or 1))
        stack.callback(found.close)  # before the processes end: it waits for what they are at
        for part in found:
            done += len(part.headers)
            if progress is not None:
                progress(done, count, f"{done:,} of {count:,} {noun}")
            yield part


def processes_for(count: int, size: int) -> int:
    """How many processes are worth their start for so many files of so many bytes together: 0 for none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    few = count < FEW and size < FEW_BYTES
    return 0 if few or cores < 2 or not sys.executable or getattr(sys, "frozen", False) else cores


def read_part(files: Sequence[File], shape: Shape | None) -> Part:
    """Read a few files. To be called inside `without_warnings`."""
    pixels = None if shape is None else np.empty((len(files), *shape), np.uint8)
    headers: list[Header | str] = []
    sums, states, good = [], [], 0
    for file in files:
        try:
            header, found, digest, state = _photograph(file, None if shape is None else shape[1:])
        except UnreadableImageError as error:
            headers.append(str(error))
            sums.append(NO_SUM)
            states.append(UNKNOWN)
            continue
        headers.append(header)
        sums.append(digest or NO_SUM)
        states.append(state)
        if pixels is not None and found is not None:
            pixels[good] = found if found.ndim == 2 else np.moveaxis(found, 2, 0)[: pixels.shape[1]]
            good += 1
    return Part(headers, None if pixels is None else pixels[:good], as_sums(sums), as_states(states))


def _photograph(file: File, size: tuple[int, int] | None) -> Photograph:
    if isinstance(file, str):
        return read_photograph(file, size)
    if file.reason:
        raise UnreadableImageError(file.reason)
    return Photograph(*read_content(file.data, size), b"", UNKNOWN)


def _in_order(
    read: Callable[[Sequence[File], Shape | None], Part],
    parts: Iterable[Sequence[File]],
    shape: Shape | None,
    workers: int,
) -> Generator[Part, None, None]:
    """What `read` makes of each part, a few of them at a time."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Part]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(read, part, shape))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def _by_processes(stack: contextlib.ExitStack, count: int) -> Callable[[Sequence[File], Shape | None], Part]:
    """A function that has a part read by whichever process is idle; they end with the stack."""
    idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
    for _ in range(count):
        child = _Child()
        stack.callback(child.end)
        idle.put(child)

    def read(files: Sequence[File], shape: Shape | None) -> Part:
        child = idle.get()
        try:
            return child.read(files, shape)
        finally:
            idle.put(child)

    return read


class _Child:
    """A process that reads parts."""

    def __init__(self) -> None:
        arguments = [sys.executable, "-c", _CHILD, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        if sys.platform == "win32":  # a group of its own: Ctrl-C is for us, who end it
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
            self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, creationflags=flags)
        else:
            self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, process_group=0)

    def read(self, files: Sequence[File], shape: Shape | None) -> Part:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump((list(files), shape), self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
            part: Part = pickle.load(self.process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            code = self.process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            first, last = (file if isinstance(file, str) else file.name for file in (files[0], files[-1]))
            raise IsthmusError(
                f"A process that reads images ended with {how} at one of {first} to {last}; the system does so "
                f"when memory runs out, a damaged file may do it too. Free some memory, or take these files away."
            ) from error
        return part

    def end(self) -> None:
        """Close its pipe, upon which an idle process ends; one that is still reading is not waited for."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # what was not sent yet is not needed any more
            self.process.stdin.close()
        self.process.stdout.close()


def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """The life of a process: it reads what it is told to until its pipe is closed."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    seen: dict[Header, Header] = {}
    while True:
        try:
            files, shape = pickle.load(orders)
        except EOFError:
            return
        part = read_part(files, shape)
        headers = [header if isinstance(header, str) else seen.setdefault(header, header) for header in part.headers]
        try:
            pickle.dump(part._replace(headers=headers), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # nobody waits for it any more
            os._exit(0)
