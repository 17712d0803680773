"""What a study would train, and about how long it would take: a few timed updates of every network on this machine.

    seconds = updates x (one update) + epochs x (scoring after an epoch)

Both are measured on real images, with the threads that a run will have, while nothing else trains; side by side, runs
share the memory of the machine and may take longer. The analyses and the report come on top.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from isthmus.data.imageset import Split
from isthmus.networks.apply import ranges
from isthmus.networks.catalog import Network, build
from isthmus.studies.study_file import Planned
from isthmus.training.duration import kind_of, one_update
from isthmus.training.loop import Progress
from isthmus.training.scoring import score, scored_images

WARM_UP, FEWEST, MOST = 2, 3, 30  # updates: not counted, and timed at least and at most
ENOUGH = 0.4  # seconds of timed updates
SCORED = 500  # images by which scoring is timed


@dataclass(frozen=True)
class Estimate:
    """One run: its network's kind, numbers in it, epochs, updates, and seconds of training, estimated."""

    run: str
    network: str
    parameters: int
    epochs: int
    updates: int
    seconds: float


@dataclass(frozen=True)
class Estimates:
    """All runs, and the seconds until the last of them is done, with so many side by side."""

    runs: tuple[Estimate, ...]
    seconds: float
    workers: int


def estimate(
    runs: Sequence[Planned],
    parts: Split,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Estimates:
    """Time a few updates of each kind of network and training, and reckon what all of them would take.

    Arguments: workers: as in `sweep`: processes side by side, by default one a thread. progress: called with (runs
    done, runs, name of the run).
    """
    threads = torch.get_num_threads()
    first = [run for run in runs if run.start is None]
    asked = max(1, min((threads if device == "cpu" else 1) if workers is None else workers, len(first)))
    timed: dict[str, tuple[int, float, float]] = {}
    found = []
    try:
        for i, run in enumerate(runs):
            if progress is not None:
                progress(i, len(runs), run.name)
            torch.set_num_threads(max(1, threads // asked) if run.start is None else threads)
            key = f"{kind_of(run.plan.model, run.plan.training)} {torch.get_num_threads()}"
            if key not in timed:
                timed[key] = _time(run, parts, device)
            parameters, one_update, one_epoch = timed[key]
            epochs = run.plan.training.epochs
            updates = epochs * len(ranges(len(parts.train), run.plan.training.batch_size))
            seconds = updates * one_update + epochs * one_epoch
            found.append(Estimate(run.name, run.plan.model.name, parameters, epochs, updates, seconds))
    finally:
        torch.set_num_threads(threads)
    beside = [each.seconds for each, run in zip(found, runs, strict=True) if run.start is None]
    after = sum(each.seconds for each, run in zip(found, runs, strict=True) if run.start is not None)
    return Estimates(tuple(found), side_by_side(beside, asked) + after, asked)


def side_by_side(seconds: Sequence[float], workers: int) -> float:
    """When the last job ends, if each of so many workers takes the longest job that is left.

    >>> side_by_side([4, 3, 2, 1], 2)
    5.0
    """
    ends = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + job)
    return max(ends)


def _time(run: Planned, parts: Split, device: str) -> tuple[int, float, float]:
    """Parameters, seconds of an update, and seconds of scoring after an epoch."""
    network = build(run.plan.model, parts.train.shape, classes=len(parts.train.classes), seed=run.plan.seed)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    count = sum(p.numel() for p in network.parameters())
    return count, _update_seconds(network, run, parts, device), _scoring_seconds(network, parts, device)


def _update_seconds(network: Network, run: Planned, parts: Split, device: str) -> float:
    training = run.plan.training
    step = one_update(network, training, parts.train, device=device)
    spent: list[float] = []
    with torch.random.fork_rng(devices=[]):
        for number in range(WARM_UP + MOST):
            started = time.perf_counter()
            step(training.batch_size).item()  # waits for the device
            if number >= WARM_UP:
                spent.append(time.perf_counter() - started)
            if len(spent) >= FEWEST and sum(spent) > ENOUGH:
                break
    return median(spent)


def _scoring_seconds(network: Network, parts: Split, device: str) -> float:
    """Scoring goes over as many training images as `scored_images` says, and over all validation images."""
    chosen = slice(0, min(SCORED, len(parts.train)))
    images = torch.from_numpy(parts.train.images[chosen]).to(device)
    labels = None
    if network.target != "images" and parts.train.labels is not None:
        labels = torch.from_numpy(parts.train.labels[chosen]).to(device)
    started = time.perf_counter()
    score(network, images, labels)
    each = (time.perf_counter() - started) / len(images)
    return each * (scored_images(parts.train, parts.validation) + len(parts.validation))
