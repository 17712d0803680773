"""A Ray cluster as workers: the same function for many jobs, on as many machines as the cluster has.

    jobs -> tasks of Ray, each of orders.threads CPUs -> (number of the job, result or Died), once for each job

It has the face of `workers.in_processes`. The cluster is the one that RAY_ADDRESS names; without that, one is started
on this machine and ended again. What is shared is put into the object store once, and read there by all workers of a
machine. Nothing else is assumed of the machines: they need not see the files of this one, nor have this package.
"""

from __future__ import annotations

import importlib
import math
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any

import torch

from isthmus.errors import InputError, IsthmusError
from isthmus.training.ray_session import connected, first_line
from isthmus.training.workers import NEWS, PATIENCE, Died, Orders, Prepare

AGAIN = 3  # times that a job is begun once more whose worker died
AHEAD = (
    1000  # jobs given to Ray at a time: it starts them as there is room, and a cluster that grows sees what is wanted
)
MESSAGES = 100  # of progress a second, from all workers together


def on_cluster(
    orders: Orders,
    jobs: Sequence[Any],
    shared: Any,
    *,
    workers: int | None = None,
    follow: Callable[[int, int, int, str], None],
    order: Callable[[], Sequence[int]] | None = None,
    gpu: bool = False,
) -> Generator[tuple[int, Any], None, None]:
    """Do `jobs` on a Ray cluster; each result comes when it is there.

    A job whose worker is killed, or whose machine is lost, is begun again by another, up to `AGAIN` times. Several
    programs may use a cluster at once: Ray shares it out. Workers run elsewhere: files are named by absolute paths that
    they can see, and arrays of what is shared are not to be written to.

    Arguments: orders: threads is also how many CPUs a job takes; places are of this machine, and have no meaning here.
    workers: jobs at a time; by default as many as there is room for. follow, order: as of `in_processes`. gpu: every
    job gets a GPU, or its share of one if there are more workers than GPUs.
    Yields: (number of the job, result or Died). When the generator is closed, or left by an exception, the jobs that
    run are interrupted, and killed if they have not ended within `PATIENCE` seconds.
    Raises: InputError if Ray is not installed, the cluster does not answer, refuses us, has no room for such a job, or
    lacks a package; IsthmusError if it goes away.
    """
    asked = workers or max(1, torch.get_num_threads() // orders.threads)
    with connected(orders.threads * min(asked, max(1, len(jobs)))) as ray:
        tasks = _Tasks(ray, orders, jobs, workers, gpu)
        try:
            tasks.plan(shared, range(len(jobs)) if order is None else order())
            while tasks.submit():
                done, _ = ray.wait(list(tasks.running), timeout=NEWS)
                for number, reached, total, text in tasks.news():
                    follow(number, reached, total, text)
                for task in done:
                    number, result = tasks.take(task)
                    if result is not None:
                        yield number, result[0]
                    else:
                        follow(number, 0, 1, "begun again, since its worker died")
        finally:
            tasks.dismiss()


class _Tasks:
    """The tasks that run, by what Ray calls them, and the numbers of the jobs that wait."""

    def __init__(self, ray: Any, orders: Orders, jobs: Sequence[Any], workers: int | None, gpu: bool):
        self.ray, self.orders, self.jobs = ray, orders, jobs
        room = _room(ray, orders.threads)
        self.at_once = min(workers or AHEAD, len(jobs))
        share = _gpu_share(ray, workers) if gpu else 0.0
        # What Ray would do again by itself it does without a limit where memory runs out: we count.
        self.task = ray.remote(_do).options(num_cpus=orders.threads, num_gpus=share, max_retries=0)
        self.every = max(NEWS, min(self.at_once, room) / MESSAGES)
        self.running: dict[Any, int] = {}
        self.waiting: deque[int] = deque()
        self.deaths: Counter[int] = Counter()
        self.reached: dict[int, int] = {}

    def plan(self, shared: Any, order: Sequence[int]) -> None:
        """Give the cluster what every worker needs, and note which jobs wait in which order."""
        exceptions = self.ray.exceptions
        try:
            self.shared = self.ray.put(shared)
        except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
            raise InputError(
                "What the workers share does not fit into Ray's object store, nor on the disk beside it: make the "
                "images smaller or fewer, or start the cluster with a larger --object-store-memory."
            ) from error
        self.queue = importlib.import_module("ray.util.queue").Queue(actor_options={"num_cpus": 0, "max_restarts": -1})
        self.waiting.extend(order)

    def submit(self) -> bool:
        """Give Ray the next jobs; returns whether any is left."""
        while self.waiting and len(self.running) < self.at_once:
            number = self.waiting.popleft()
            reports = _Reports(self.queue, number, self.every)
            self.running[self.task.remote(self.orders, self.jobs[number], self.shared, reports)] = number
        return bool(self.running)

    def news(self) -> list[tuple[int, int, int, str]]:
        """What the workers have reported of jobs that still run."""
        try:
            count = self.ray.get(self.queue.actor.qsize.remote())
            told = self.ray.get(self.queue.actor.get_nowait_batch.remote(count)) if count else []
        except self.ray.exceptions.RayActorError:  # its machine was lost: reports are missed until it runs elsewhere
            return []
        found = []
        for number, done, total, text in told:  # those of one job may overtake each other
            if number in self.running.values() and done >= self.reached.get(number, 0):
                self.reached[number] = done
                found.append((number, done, total, text))
        return found

    def take(self, task: Any) -> tuple[int, tuple[Any] | None]:
        """The number of a job and its result in brackets; None if it waits again because its worker died."""
        number, exceptions = self.running.pop(task), self.ray.exceptions
        try:
            return number, (self.ray.get(task),)
        except exceptions.LocalRayletDiedError as error:
            raise IsthmusError("The Ray cluster went away; start it again, then do the same once more.") from error
        except exceptions.RuntimeEnvSetupError as error:
            raise InputError(f"The Ray cluster could not take over this package: {first_line(error)}.") from error
        except exceptions.RayTaskError as error:
            _check_packages(error)
            cause = error.cause or error
            return number, (Died(f"it was left by {type(cause).__name__}: {first_line(cause)}"),)
        except exceptions.TaskCancelledError:
            return number, (Died("it was cancelled by somebody else"),)
        except exceptions.RayError as error:  # the worker, its machine, or the result that lay there
            self.deaths[number] += 1
            if self.deaths[number] > AGAIN:
                return number, (Died(_cause_of_death(error, exceptions, self.deaths[number])),)
            self.waiting.appendleft(number)
            self.reached.pop(number, None)
            return number, None

    def dismiss(self) -> None:
        """End every task there is, first with an interrupt."""
        for force in (False, True):
            left = list(self.running)
            for task in left:
                self.ray.cancel(task, force=force)
            if left:
                ended, _ = self.ray.wait(left, num_returns=len(left), timeout=PATIENCE)
                for task in ended:
                    del self.running[task]


class _Reports:
    """Progress of a job, sent to a queue of the cluster now and then."""

    def __init__(self, queue: Any, number: int, every: float):
        self.queue, self.number, self.every, self.last = queue, number, every, 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            self.queue.actor.put_nowait.remote((self.number, done, total, text))


def _do(orders: Orders, job: Any, shared: Any, reports: _Reports) -> Any:
    """A job, in a worker.

    Ray interrupts a task as Ctrl-C would. A shell tells programs in the background to ignore that, and the workers of a
    cluster that such a program starts inherit it: then no task would ever put away what it has.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(orders.threads)
    if orders.prepare is not None:
        _prepare(orders.prepare)
    return orders.work(job, shared, reports)


@cache
def _prepare(prepare: Prepare) -> None:
    """Once in each process, which does many jobs."""
    prepare()


def _room(ray: Any, threads: int) -> int:
    """How many jobs of so many threads the cluster has room for. Raises: InputError if for none."""
    sizes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if max(sizes, default=0) < threads:
        raise InputError(
            f"A job takes {threads} CPU{'' if threads == 1 else 's'}, and the largest machine of the Ray cluster has "
            f"{max(sizes, default=0)}: it would wait for ever. Give more --workers, which share the threads of this "
            f"machine, or set OMP_NUM_THREADS=1."
        )
    return sum(size // threads for size in sizes)


def _gpu_share(ray: Any, workers: int | None) -> float:
    """What each job gets of a GPU: Ray gives none a share of two. Raises: InputError if the cluster has no GPU."""
    there = int(ray.cluster_resources().get("GPU", 0))
    if not there:
        raise InputError("The Ray cluster has no GPU for --device cuda; choose --device cpu, or another cluster.")
    return 1 / math.ceil((workers or there) / there)


def _check_packages(error: Any) -> None:
    """Raises: InputError if a worker could not begin because a package is missing there."""
    missing = re.search(r"No module named '([^'.]+)", str(error))
    if missing:
        raise InputError(
            f"The workers of the Ray cluster lack the package {missing[1]}. Isthmus is sent to them, what it needs "
            f"is not: install torch, numpy, pydantic, safetensors, filelock, pillow and typer on every machine."
        ) from error


def _cause_of_death(error: BaseException, exceptions: Any, times: int) -> str:
    if isinstance(error, exceptions.OutOfMemoryError):
        return f"memory ran out {times} times: use fewer workers"
    return f"its worker ended {times} times before the work was done ({first_line(error)})"
