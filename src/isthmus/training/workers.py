"""Worker processes on this machine: the same function for many jobs, with what they share handed over once a worker.

A worker sits at the other end of a pipe: it says that it is ready, gets what is shared and its first job, sends
progress and a result, gets the next job, and ends when the pipe is closed. A killed worker costs the job it was at and
is replaced; a `ProcessPoolExecutor` would end all jobs with it.

On Linux workers are forked by a process that has imported what they need and does nothing else: importing it takes
seconds, which the first workers of a program pay once for all. A fork of the program itself would be quicker still, and
would inherit its threads' locks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch

from isthmus.training.loop import Progress

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

NEEDED = ["isthmus.training.trial", "isthmus.training.shard_encoding", "torch._dynamo"]  # the last by torch.optim
SAFE_PATH = "PYTHONSAFEPATH"
PATIENCE = 1.5  # seconds that an interrupted worker has to put away what it has
NEWS = 0.2  # seconds between two reports of progress from a worker

Work = Callable[[Any, Any, Progress], Any]
Prepare = Callable[[], None]
Pipe = connection.Connection  # type: ignore[type-arg, unused-ignore]  # generic in newer stubs


@dataclass(frozen=True)
class Died:
    """Instead of a result: the process ended before the job did. reason: how, as part of a sentence."""

    reason: str


@dataclass(frozen=True)
class Orders:
    """What every worker is told at its start; small, so that starting one never waits for it to read.

    Arguments: work: called with (job, shared, progress), a function that pickle finds by its name; what it raises is
    its own to handle. threads: of torch. prepare: called first. places: the processors of each worker, where it is to
    stay on some (see `own_processors`).
    """

    work: Work
    threads: int = 1
    prepare: Prepare | None = None
    places: Sequence[Sequence[int]] = ()


def own_processors(workers: int, threads: int) -> list[list[int]]:
    """Processors for each of `workers`, so many as it has `threads`; [] where they are better not held to any.

    A worker that the system moves from one processor to another finds its cache cold each time: held to their own, two
    train a tenth faster (docs/decisions.md). Only where together they take every processor of this process, since
    otherwise they might be held where somebody else is at work while another processor stands idle. Linux alone.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    ours = sorted(os.sched_getaffinity(0))
    if workers * threads != len(ours):
        return []
    return [ours[i * threads : (i + 1) * threads] for i in range(workers)]


def in_processes(
    orders: Orders,
    jobs: Sequence[Any],
    shared: Any,
    *,
    workers: int,
    follow: Callable[[int, int, int, str], None],
    order: Callable[[], Sequence[int]] | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Do `jobs`, as many at a time as there are `workers`; each result comes when it is there.

    Arguments: follow: called with (number of the job, steps done, steps in all, text), a few times a second. order:
    gives the numbers of all jobs in the order in which to do them; called while what workers need is imported.
    Yields: (number of the job, result or Died). When the generator is closed, or left by an exception, the workers end:
    each is interrupted as by Ctrl-C, and killed if it has not ended within `PATIENCE` seconds.
    """
    crew = _Crew(orders, jobs)
    try:
        get_ready()
        crew.plan(shared, range(len(jobs)) if order is None else order())
        for _ in range(min(workers, len(jobs))):
            crew.start()
        while crew.workers:
            for pipe in connection.wait(list(crew.workers)):
                worker = crew.workers[cast(Pipe, pipe)]
                kind, content = crew.hear(worker)
                if kind == "progress":
                    follow(worker.job, *content)
                elif kind == "result":
                    job = worker.job
                    crew.go_on(worker)
                    yield job, content
                elif kind == "died":
                    if crew.waiting:
                        crew.start()
                    yield worker.job, Died(content)
    finally:
        crew.dismiss()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Pipe
    job: int
    place: Sequence[int] = ()
    ready: bool = False


class _Crew:
    """The workers that live, and the numbers of the jobs that wait."""

    def __init__(self, orders: Orders, jobs: Sequence[Any]):
        self.orders, self.jobs = orders, jobs
        self.workers: dict[Pipe, _Worker] = {}
        self.leaving: list[BaseProcess] = []
        self.waiting: deque[int] = deque()

    def plan(self, shared: Any, order: Sequence[int]) -> None:
        """Note what every worker gets, and which jobs wait in which order."""
        self.shared = ForkingPickler.dumps(shared)
        self.waiting.extend(order)

    def start(self) -> None:
        """Start a worker for the next job; it will say when it is ready."""
        context = _context()
        ours, theirs = context.Pipe()
        taken = [worker.place for worker in self.workers.values()]
        place = next((place for place in self.orders.places if place not in taken), ())
        process = context.Process(target=_serve, args=(theirs, self.orders, place, dict(os.environ)), daemon=True)
        with _deaf_to_interrupts():
            process.start()
        theirs.close()
        self.workers[ours] = _Worker(process, ours, self.waiting.popleft(), place)

    def hear(self, worker: _Worker) -> tuple[str, Any]:
        """The next message of a worker, ("died", how) if there will be none."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._forget(worker)
            worker.process.join()
            return "died", _cause_of_death(worker)
        if kind == "ready":
            worker.ready = True
            self._send(worker, self.shared)
            self._send(worker, ForkingPickler.dumps(self.jobs[worker.job]))
        return kind, content

    def go_on(self, worker: _Worker) -> None:
        """Give a worker the next job, or let it end."""
        if self.waiting:
            worker.job = self.waiting.popleft()
            self._send(worker, ForkingPickler.dumps(self.jobs[worker.job]))
        else:
            self._forget(worker)

    def dismiss(self) -> None:
        """End every worker there is."""
        for worker in list(self.workers.values()):
            worker.process.terminate()
            self._forget(worker)
        end = time.monotonic() + PATIENCE
        for process in self.leaving:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _forget(self, worker: _Worker) -> None:
        """Close the pipe, upon which an idle worker ends."""
        del self.workers[worker.pipe]
        worker.pipe.close()
        self.leaving.append(worker.process)

    def _send(self, worker: _Worker, content: Any) -> None:
        # A worker that died before it read this is met again as the end of its pipe.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send_bytes(content)


def get_ready() -> None:
    """Start what forks workers, which takes seconds in another process; without this the first worker starts it."""
    _context()


def _context() -> SpawnContext | ForkServerContext:
    """How workers are started: forked on Linux, where that needs no more than a socket in the temporary folder."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(NEEDED)
    try:
        with _deaf_to_interrupts(), _no_module_of_this_folder():
            forkserver.ensure_running()
    except OSError:
        return multiprocessing.get_context("spawn")
    return context


@contextlib.contextmanager
def _no_module_of_this_folder() -> Iterator[None]:
    """A Python started in here does not look for modules where the user stands: a `random.py` there is none of ours."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def _cause_of_death(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        more = "; the system does that when memory runs out: use fewer workers" if name == "SIGKILL" else ""
        return f"its process was ended by signal {-code} ({name}){more}"
    more = "" if worker.ready else '; a script that starts workers needs `if __name__ == "__main__":`'
    return f"its process ended with exit code {code} before the work was done{more}"


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started in here never gets SIGINT: Ctrl-C reaches all processes of a terminal, and workers are ended by
    their parent. In this process the signal waits until the block is left."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows; there a worker ignores it as soon as it runs
        yield
        return
    resource_tracker.ensure_running()  # at its own start it would take SIGINT out of the mask again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Pipe, orders: Orders, place: Sequence[int], environment: dict[str, str]) -> None:
    """The life of a worker. environment: of the program as it is now; what forks has the one of its own start."""
    try:
        os.environ.clear()
        os.environ.update(environment)
        if place:
            os.sched_setaffinity(0, place)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _interrupt)
        torch.set_num_threads(orders.threads)
        if orders.prepare is not None:
            orders.prepare()
        pipe.send(("ready", None))
        shared = pipe.recv()
        while True:
            job = pipe.recv()
            pipe.send(("result", orders.work(job, shared, _Reports(pipe))))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the pipe is closed, the parent is dead or has told us to stop: in each case there is no more to do


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _Reports:
    """Progress of a job, sent through a pipe a few times a second; a dead parent counts as an interrupt."""

    def __init__(self, pipe: Pipe):
        self.pipe, self.last = pipe, 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self.last < NEWS:
            return
        self.last = now
        try:
            self.pipe.send(("progress", (done, total, text)))
        except OSError as error:
            raise KeyboardInterrupt from error
