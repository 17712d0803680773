"""Many trainings in one call: in this process, in several on this machine, or on a Ray cluster.

    trials -> trained side by side, the longest first -> an Outcome each

Worker processes take one trial after another, the longest first, so that the last to end is a short one. Each has its
share of the threads: small networks gain more from a second process than from a second thread. What is finished is not
done again; a trial that diverges is an answer; one that fails, or whose process is killed, is reported while the others
go on. On a cluster, where the folders of runs are out of reach, a trial is trained in a folder of its worker's own, and
its files come back; one whose worker is killed is trained again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from isthmus.data.imageset import Split
from isthmus.errors import InputError
from isthmus.runs import Run
from isthmus.training.carried import what_was_begun
from isthmus.training.cluster import on_cluster
from isthmus.training.duration import cost_or_nothing, durations
from isthmus.training.loop import Progress
from isthmus.training.trial import (
    Outcome,
    Trial,
    bring_home,
    outcome_before,
    outcome_of_the_dead,
    run_trial,
    train_away,
)
from isthmus.training.workers import Died, Orders, Prepare, in_processes, own_processors

__all__ = ["Engine", "Outcome", "Trial", "sweep"]

PARTS_OF_PROGRESS = 1000

Say = Callable[[str], None]
Engine = Literal["process", "ray"]
Done = Generator[tuple[Trial, Outcome], None, None]


def sweep(
    trials: Sequence[Trial],
    parts: Split,
    *,
    engine: Engine = "process",
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

    Arguments: engine: "process" trains on this machine, "ray" on the cluster that RAY_ADDRESS names, or on one started
    here for the time being. workers: trials at a time; by default one a thread, on a device other than the CPU one, on
    a cluster as many as it has room for; never more than there are trials to do. A single process is this one.
    prepare: called first in every worker, a function that pickle finds by its name. say: gets a line a trial.
    progress: called with (thousandths done, 1000, a line).
    Returns: the outcome of each trial by its name, in the order given. A script that calls this needs
    `if __name__ == "__main__":`, because a worker imports the script.
    Raises: InputError for two trials of one name or folder, for fewer than 1 worker, for a trial that starts with the
    weights of a run that it does not bring along, or for a cluster that cannot be used.
    """
    _check(trials, workers, engine, device)
    outcomes: dict[str, Outcome] = {}
    for trial in trials:
        found = outcome_before(trial, parts)
        if found is not None:
            outcomes[trial.name] = found
            _tell(say, trial, found, before=True)
    left = [trial for trial in trials if trial.name not in outcomes]
    board = _Board(left, len(trials), parts, progress)
    done = _on_cluster if engine == "ray" else _on_this_machine
    asked = None if workers is None else min(workers, len(trials))  # the same for what is left as for the whole
    with contextlib.closing(done(board, asked, device, prepare)) as ended:
        for trial, outcome in ended:
            outcomes[trial.name] = outcome
            board.follow(trial, 1, 1, outcome.status)
            _tell(say, trial, outcome)
    return {trial.name: outcomes[trial.name] for trial in trials}


def _check(trials: Sequence[Trial], workers: int | None, engine: Engine, device: str) -> None:
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; a sweep needs at least 1.")
    if engine == "ray" and device not in ("cpu", "cuda"):
        raise InputError(
            f"device is {device!r}; on a Ray cluster it is cpu or cuda, and Ray says which GPU a trial gets."
        )
    named = {"name": [trial.name for trial in trials], "folder": [str(trial.folder.absolute()) for trial in trials]}
    for what, values in named.items():
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InputError(f"Two trials of the sweep have the {what} {twice}; give each its own.")
    for trial in trials:
        if trial.settings.start is not None and trial.start is None:
            raise InputError(
                f"The trial {trial.name} starts with the weights of {trial.settings.start}, and those of a sweep start "
                f"with random ones; leave `start` out, or train it by itself."
            )


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
    of: int  # trials in all, with those that were done before
    parts: Split
    progress: Progress | None
    costs: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    def plan(self, *, timed: int | None = None) -> list[int]:
        """The positions of the trials, the longest first.

        Arguments: timed: threads of a trial, where it is worth some seconds to time updates; else work is counted.
        """
        runs = {trial.name: trial.settings for trial in self.trials}
        if timed is None:
            self.costs = {name: cost_or_nothing(settings, self.parts.train) for name, settings in runs.items()}
        else:
            self.costs = durations(runs, self.parts.train, threads=timed)
        return sorted(range(len(self.trials)), key=lambda i: -self.costs[self.trials[i].name])

    def follow_number(self, number: int, done: int, total: int, text: str) -> None:
        self.follow(self.trials[number], done, total, text)

    def follow(self, trial: Trial, done: int, total: int, text: str) -> None:
        self.shares[trial.name] = done / total
        if self.progress is None:
            return
        ended = sum(share == 1 for share in self.shares.values())
        whole = sum(self.costs.values()) or 1.0
        reached = sum(self.costs[name] * share for name, share in self.shares.items()) / whole
        line = f"{ended} of {len(self.costs)} done; {trial.name}: {text}"
        self.progress(round(PARTS_OF_PROGRESS * reached), PARTS_OF_PROGRESS, line)


def _on_this_machine(board: _Board, workers: int | None, device: str, prepare: Prepare | None) -> Done:
    """One trial after another in this process, or several at a time, each in a process of its own."""
    threads = torch.get_num_threads()
    asked = workers or min(threads if device == "cpu" else 1, board.of)
    share = max(1, threads // max(1, asked))
    count = min(asked, len(board.trials))
    if count <= 1:
        return _here(board, device, share)
    places = own_processors(count, share) if device == "cpu" else []
    return _beside(board, Orders(partial(_work, device=device), share, prepare, places), count)


def _here(board: _Board, device: str, threads: int) -> Done:
    """One trial after another, with so many threads of this process."""
    before = torch.get_num_threads()
    try:
        for trial in [board.trials[i] for i in board.plan()]:
            torch.set_num_threads(threads)
            follow = partial(board.follow, trial)
            yield trial, Outcome(**run_trial(trial, board.parts, device=device, progress=follow))
    finally:
        torch.set_num_threads(before)


def _beside(board: _Board, orders: Orders, count: int) -> Done:
    """Several trials at a time, each in a process of its own."""
    timed = orders.threads if len(board.trials) > count else None  # else all begin at once
    work = in_processes(
        orders,
        board.trials,
        board.parts,
        workers=count,
        follow=board.follow_number,
        order=partial(_prepared, board, timed),
    )
    with contextlib.closing(work) as results:
        for number, result in results:
            trial = board.trials[number]
            yield trial, outcome_of_the_dead(trial, result) if isinstance(result, Died) else Outcome(**result)


def _on_cluster(board: _Board, workers: int | None, device: str, prepare: Prepare | None) -> Done:
    """As many trials at a time as a Ray cluster has room for; their files come back with what became of them."""
    if not board.trials:
        return
    share = 1 if workers is None else max(1, torch.get_num_threads() // workers)
    work = on_cluster(
        Orders(partial(train_away, device=device), share, prepare),
        [(trial, what_was_begun(Run(trial.folder))) for trial in board.trials],
        board.parts,
        workers=workers,
        follow=board.follow_number,
        order=partial(_prepared, board, share),
        gpu=device == "cuda",
    )
    with contextlib.closing(work) as results:
        for number, result in results:
            trial = board.trials[number]
            yield trial, outcome_of_the_dead(trial, result) if isinstance(result, Died) else bring_home(trial, *result)


def _prepared(board: _Board, timed: int | None) -> list[int]:
    """What is computed once for all workers, before they start: fingerprints, and the order of the trials."""
    for part in (board.parts.train, board.parts.validation, board.parts.test):
        _ = part.fingerprint
    return board.plan(timed=timed)


def _work(trial: Trial, parts: Split, progress: Progress, *, device: str) -> dict[str, Any]:
    return run_trial(trial, parts, device=device, progress=progress)
