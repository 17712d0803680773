"""What the system says of many files, asked by two processes: this one from the first file on, another from the last
one back, until they meet. The other may start before it is known which files there are, with those of the last time.

    with looking(root, names) as looker:          the other process begins
        ...
        states = file_states(root, names, looker)

A thread would gain nothing: to ask takes two microseconds, and threads wait for each other after every file.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from isthmus.data.states import AT_ONCE, states_of

States = NDArray[np.int64]  # (N, 5)

MANY = 20_000  # files that one process has looked at by the time another has started
_STATE_BYTES = 40


class Looker:
    """A second process that looks at the files `names` below `root`, from the last one back. End it by `close`.

    If it cannot be started, or fails, or answers what makes no sense, it has seen the fewer files; nothing is raised.
    """

    def __init__(self, root: str, names: list[bytes]):
        self.root, self.names = root, names
        self._parts: list[array[int]] = []
        program = Path(__file__).with_name("states.py")
        command, pipe = [sys.executable, "-I", "-S", os.fspath(program), root], subprocess.PIPE
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def states(self) -> array[int]:
        """The states of the last files that it has seen so far, in the order of the names, five numbers for each."""
        found = array("q")
        for part in reversed(self._parts[:]):
            found += part
        return found

    @property
    def seen(self) -> int:
        """How many files it has seen so far."""
        return sum(len(part) for part in self._parts) // 5

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._thread.join()
            with contextlib.suppress(OSError), self._process:  # what was not sent cannot be any more
                pass

    def _listen(self) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it was ended, or could not begin
            process.stdin.write(b"\0".join(self.names))
            process.stdin.close()
            for end in range(len(self.names), 0, -AT_ONCE):
                size = _STATE_BYTES * min(end, AT_ONCE)
                answer = process.stdout.read(size)
                if len(answer) != size:
                    return
                self._parts.append(array("q", answer))


@contextlib.contextmanager
def looking(root: str, names: list[bytes]) -> Iterator[Looker | None]:
    """A second process that looks at these files, if they are MANY and it may be had."""
    looker = Looker(root, names) if len(names) >= MANY and _may_start_another() else None
    try:
        yield looker
    finally:
        if looker is not None:
            looker.close()


def file_states(root: str, names: list[bytes], looker: Looker | None = None) -> States:
    """The state of each file below `root`. looker: who has begun to look at the same files; others do not count.

    Raises: OSError if a file cannot be found.
    """
    if looker is None or (looker.root, looker.names) != (root, names):
        with looking(root, names) as other:
            return _met(root, names, other)
    return _met(root, names, looker)


def _met(root: str, names: list[bytes], looker: Looker | None) -> States:
    found, done = array("q"), 0
    while done < len(names) - (0 if looker is None else looker.seen):
        found += states_of(root, names[done : done + AT_ONCE])
        done = min(done + AT_ONCE, len(names))
    if done < len(names) and looker is not None:
        found += looker.states()[-5 * (len(names) - done) :]
    return np.frombuffer(found, np.int64).reshape(-1, 5)


def _may_start_another() -> bool:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores > 1 and bool(sys.executable) and not getattr(sys, "frozen", False)
