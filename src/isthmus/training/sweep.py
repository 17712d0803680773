"""Many trainings in one call: in this process, or in several on this machine.

    trial -> run_trial(trial, images) -> {"status": ..., "error": ..., "seconds": ..., "figures": ...} -> Outcome

Worker processes take one trial after another, the longest first, so that the last to end is a short one. Each has its
share of the threads: small networks gain more from a second process than from a second thread. What is finished is not
done again; a trial that diverges is an answer; one that fails, or whose process is killed, is reported while the others
go on.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from isthmus.data.imageset import ImageSet, Split
from isthmus.errors import DivergedError, InputError, IsthmusError
from isthmus.networks.catalog import build
from isthmus.runs import Run
from isthmus.settings import RunSettings
from isthmus.training.job import train_run
from isthmus.training.loop import Progress
from isthmus.training.workers import Died, Orders, Prepare, in_processes, own_processors

PARTS_OF_PROGRESS = 1000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep: its name, the run folder it writes, and what decides it."""

    name: str
    folder: Path
    settings: RunSettings


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    error: why it did not finish; of an unexpected failure the whole traceback. seconds: of training steps.
    figures: losses and accuracies after the best epoch, named as `train` records them; None unless it finished.
    """

    status: Literal["finished", "diverged", "failed"]
    error: str | None
    seconds: float
    figures: dict[str, float] | None

    def figure(self, name: str) -> float | None:
        """One of the figures; None for a trial that diverged or failed."""
        return None if self.figures is None else self.figures[name]


def sweep(
    trials: Sequence[Trial],
    parts: Split,
    *,
    workers: int | None = None,
    device: str = "cpu",
    prepare: Prepare | None = None,
    say: Say | None = None,
    progress: Progress | None = None,
) -> dict[str, Outcome]:
    """Train every trial on the same images. The caller has claimed the folders.

    The threads of this process (`torch.get_num_threads()`) are shared out among the workers. The weights do not depend
    on which worker trains a trial, nor in which order; their last bits do depend on the number of threads, which
    decides in which order sums are taken: 2 workers of 1 thread give the bits of one process with 1 thread, not those
    with 2. An interrupt ends the workers within two seconds and goes up; finished runs stay finished.

    Arguments: workers: processes; by default one a thread, on a device other than the CPU one; never more than there
    are trials to do. With 1, all happens in this process. prepare: called first in every worker, a function that
    pickle finds by its name. say: gets a line a trial. progress: called with (thousandths done, 1000, a line).
    Returns: the outcome of each trial by its name, in the order given. A script that calls this needs
    `if __name__ == "__main__":`, because a worker imports the script.
    Raises: InputError for two trials of one name or folder, for fewer than 1 worker, or for a trial that starts with
    the weights of another run.
    """
    _check(trials, workers)
    outcomes: dict[str, Outcome] = {}
    for trial in trials:
        found = _outcome_before(trial, parts)
        if found is not None:
            outcomes[trial.name] = found
            _tell(say, trial, found, before=True)
    left = [trial for trial in trials if trial.name not in outcomes]
    threads = torch.get_num_threads()
    asked = min((threads if device == "cpu" else 1) if workers is None else workers, len(trials))
    share = max(1, threads // max(1, asked))  # the same for what is left of a sweep as for the whole
    count = min(asked, len(left))
    board = _Board(left, parts, progress)
    if count <= 1:
        done = _here([left[i] for i in board.longest_first()], parts, device, board, share)
    else:
        places = own_processors(count, share) if device == "cpu" else []
        orders = Orders(partial(_work, device=device), share, prepare, places)
        done = _beside(left, parts, orders, count, board)
    with contextlib.closing(done):
        for trial, outcome in done:
            outcomes[trial.name] = outcome
            board.follow(trial, 1, 1, outcome.status)
            _tell(say, trial, outcome)
    return {trial.name: outcomes[trial.name] for trial in trials}


def run_trial(trial: Trial, parts: Split, *, device: str = "cpu", progress: Progress | None = None) -> dict[str, Any]:
    """Train one trial into its folder, or read there what became of it before: an `Outcome` as plain values.

    A run that diverged is not trained again; one that failed or was interrupted is. An interrupt goes up.
    """
    run = Run(trial.folder)
    try:
        if not _has_diverged(run, trial, parts):
            train_run(run, trial.settings, parts, device=device, progress=progress)
        return _read(run)
    except DivergedError:
        return _read(run)
    except IsthmusError as error:
        return _failure(str(error), run.history())
    except Exception:  # a mistake of ours, or no memory left: it must not end the other trials
        return _failure(traceback.format_exc().rstrip())


def cost(settings: RunSettings, training: ImageSet) -> float:
    """Multiply-adds of a whole training: epochs x images x those of one image, forward and backward.

    Counted in a dry run without numbers, over convolutions and matrix products alone. What only reads and writes
    memory (batch norm, pooling, the optimizer) is left out: this ranks trainings, it does not time them.
    Raises: InputError if the network cannot be built for these images.

    >>> from isthmus.settings import DataSettings, LinearSettings
    >>> images = ImageSet.from_arrays(torch.zeros(10, 32, 32))
    >>> settings = RunSettings(data=DataSettings(name="x"), model=LinearSettings(latent_dim=3))
    >>> encoder, decoder = 1024 * 3, 3 * 1024
    >>> cost(settings, images) == settings.training.epochs * 10 * (2 * encoder + 3 * decoder)
    True
    """
    with torch.device("meta"):
        network = build(settings.model, training.shape, classes=len(training.classes))
        images = torch.empty(2, *training.shape)
        targets = images if network.target == "images" else torch.zeros(2, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            network.loss(images, targets).backward()  # type: ignore[no-untyped-call]
    of_one_image: float = counter.get_total_flops() / 2 / len(images)  # a multiplication and an addition are two
    return settings.training.epochs * len(training) * of_one_image


def _check(trials: Sequence[Trial], workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; a sweep needs at least 1.")
    named = {"name": [trial.name for trial in trials], "folder": [str(trial.folder.absolute()) for trial in trials]}
    for what, values in named.items():
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InputError(f"Two trials of the sweep have the {what} {twice}; give each its own.")
    for trial in trials:
        if trial.settings.start is not None:
            raise InputError(
                f"The trial {trial.name} starts with the weights of {trial.settings.start}, and those of a sweep start "
                f"with random ones; leave `start` out, or train it by itself."
            )


def _outcome_before(trial: Trial, parts: Split) -> Outcome | None:
    """The outcome of a trial that is done or cannot be begun; None where there is work to do."""
    run = Run(trial.folder)
    try:
        done = run.finished or _has_diverged(run, trial, parts)
    except IsthmusError as error:
        return Outcome(**_failure(str(error)))
    return Outcome(**run_trial(trial, parts)) if done else None


def _cost_or_nothing(trial: Trial, parts: Split) -> float:
    """`cost`; 0 of a trial whose network cannot be built, which its worker finds out in no time."""
    try:
        return cost(trial.settings, parts.train)
    except IsthmusError:
        return 0.0


def _has_diverged(run: Run, trial: Trial, parts: Split) -> bool:
    """Whether it did before, with the same settings and images."""
    if run.status().get("state") != "diverged":
        return False
    return run.settings() == trial.settings and run.fingerprint() == parts.train.fingerprint


def _read(run: Run) -> dict[str, Any]:
    """The outcome of a run that finished or diverged."""
    facts, epochs = run.status(), run.history()
    seconds = sum(epoch["seconds"] for epoch in epochs)
    if facts["state"] == "diverged":
        error = f"the loss was not finite at step {facts['step']}, with learning rate {facts['learning_rate']:.3g}"
        return {"status": "diverged", "error": error, "seconds": seconds, "figures": None}
    best = epochs[int(facts["best_epoch"]) - 1]
    figures = {name: value for name, value in best.items() if name.startswith(("train_", "validation_"))}
    return {"status": "finished", "error": None, "seconds": seconds, "figures": figures}


def _failure(error: str, epochs: Sequence[dict[str, float]] = ()) -> dict[str, Any]:
    seconds = sum(epoch["seconds"] for epoch in epochs)
    return {"status": "failed", "error": error, "seconds": seconds, "figures": None}


def _tell(say: Say | None, trial: Trial, outcome: Outcome, *, before: bool = False) -> None:
    if say is None:
        return
    if outcome.status == "failed":
        text = f"failed: {(outcome.error or '').splitlines()[-1]}"
    elif before:
        text = f"{outcome.status} before, taken as it is"
    else:
        text = f"{len(Run(trial.folder).history())} epochs in {outcome.seconds:.0f} s"
        if outcome.status == "diverged":
            text += f", then diverged: {outcome.error}"
    say(f"{trial.name}: {text}")


@dataclass
class _Board:
    """How far all trials are together, each weighted by its cost; one that diverged or failed is done as well."""

    trials: Sequence[Trial]
    parts: Split
    progress: Progress | None
    shares: dict[str, float] = field(default_factory=dict)

    @cached_property
    def costs(self) -> dict[str, float]:
        """By name; counted when first asked for, while worker processes start."""
        return {trial.name: _cost_or_nothing(trial, self.parts) for trial in self.trials}

    def longest_first(self) -> list[int]:
        """The positions of the trials in the order in which they are to be done."""
        return sorted(range(len(self.trials)), key=lambda i: -self.costs[self.trials[i].name])

    def follow(self, trial: Trial, done: int, total: int, text: str) -> None:
        self.shares[trial.name] = done / total
        if self.progress is None:
            return
        ended = sum(share == 1 for share in self.shares.values())
        whole = sum(self.costs.values()) or 1.0
        reached = sum(self.costs[name] * share for name, share in self.shares.items()) / whole
        line = f"{ended} of {len(self.costs)} done; {trial.name}: {text}"
        self.progress(round(PARTS_OF_PROGRESS * reached), PARTS_OF_PROGRESS, line)


def _here(
    trials: Sequence[Trial], parts: Split, device: str, board: _Board, threads: int
) -> Generator[tuple[Trial, Outcome], None, None]:
    """One trial after another in this process, with so many of its threads."""
    before = torch.get_num_threads()
    try:
        for trial in trials:
            torch.set_num_threads(threads)
            yield trial, Outcome(**run_trial(trial, parts, device=device, progress=partial(board.follow, trial)))
    finally:
        torch.set_num_threads(before)


def _beside(
    trials: Sequence[Trial], parts: Split, orders: Orders, count: int, board: _Board
) -> Generator[tuple[Trial, Outcome], None, None]:
    """Several trials at a time, each in a process of its own."""

    def order() -> list[int]:
        for part in (parts.train, parts.validation, parts.test):
            _ = part.fingerprint  # computed here once, and carried along to the workers
        return board.longest_first()

    def follow(number: int, done: int, total: int, text: str) -> None:
        board.follow(trials[number], done, total, text)

    work = in_processes(orders, trials, parts, workers=count, follow=follow, order=order)
    with contextlib.closing(work) as results:
        for number, result in results:
            trial = trials[number]
            yield trial, _of_the_dead(trial, result) if isinstance(result, Died) else Outcome(**result)


def _of_the_dead(trial: Trial, died: Died) -> Outcome:
    """The outcome of a trial whose process ended: it may have finished just before."""
    run = Run(trial.folder)
    if run.finished:
        return Outcome(**_read(run))
    if run.status():
        run.set_status("failed", error=died.reason)
    return Outcome(**_failure(died.reason, run.history()))


def _work(trial: Trial, parts: Split, progress: Progress, *, device: str) -> dict[str, Any]:
    return run_trial(trial, parts, device=device, progress=progress)
