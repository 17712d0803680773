"""One training of a sweep, and what became of it: trained where its folder is, or where that is out of reach.

trial -> run_trial(trial, images) -> {"status": ..., "error": ..., "seconds": ..., "figures": ...} -> Outcome
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from isthmus.data.imageset import Split
from isthmus.errors import DivergedError, IsthmusError, StorageError
from isthmus.networks.catalog import Network
from isthmus.runs import Run
from isthmus.settings import RunSettings
from isthmus.training.carried import check_within_reach, packed, unpack
from isthmus.training.job import train_run
from isthmus.training.loop import Progress
from isthmus.training.workers import Died


@dataclass(frozen=True)
class Trial:
    """One training of a sweep: its name, the run folder it writes, and what decides it.

    start: the network whose weights to begin with, where `settings.start` names one.
    """

    name: str
    folder: Path
    settings: RunSettings
    start: Network | None = field(default=None, compare=False, repr=False)


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


def run_trial(trial: Trial, parts: Split, *, device: str = "cpu", progress: Progress | None = None) -> dict[str, Any]:
    """Train one trial into its folder, or read there what became of it before: an `Outcome` as plain values.

    A run that diverged is not trained again; one that failed or was interrupted is. An interrupt goes up.
    """
    run = Run(trial.folder)
    try:
        if not _has_diverged(run, trial, parts):
            train_run(run, trial.settings, parts, device=device, start=trial.start, progress=progress)
        return _read(run)
    except DivergedError:
        return _read(run)
    except IsthmusError as error:
        return _failure(str(error), run.history())
    except Exception:  # a mistake of ours, or no memory left: it must not end the other trials
        return _failure(traceback.format_exc().rstrip())


def outcome_before(trial: Trial, parts: Split) -> Outcome | None:
    """The outcome of a trial that is done or cannot be begun; None where there is work to do."""
    run = Run(trial.folder)
    try:
        done = run.finished or _has_diverged(run, trial, parts)
    except IsthmusError as error:
        return Outcome(**_failure(str(error)))
    return Outcome(**run_trial(trial, parts)) if done else None


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


def outcome_of_the_dead(trial: Trial, died: Died) -> Outcome:
    """The outcome of a trial whose process ended: it may have finished just before."""
    run = Run(trial.folder)
    if run.finished:
        return Outcome(**_read(run))
    if run.status():
        run.set_status("failed", error=died.reason)
    return Outcome(**_failure(died.reason, run.history()))


def train_away(
    job: tuple[Trial, dict[str, bytes]], parts: Split, progress: Progress, *, device: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`run_trial` in a folder of the worker's own.

    Arguments: job: the trial, and what was begun of it before. Returns: what became of it, and the files of its run.
    """
    trial, begun = job
    with tempfile.TemporaryDirectory() as place:
        run = Run(Path(place) / "run")
        try:
            check_within_reach(parts)
            unpack(run, begun)
        except IsthmusError as error:
            return _failure(str(error)), {}
        found = run_trial(replace(trial, folder=run.folder), parts, device=device, progress=progress)
        if found["error"]:
            found["error"] = found["error"].replace(str(run.folder), str(trial.folder))
        return found, packed(run)


def bring_home(trial: Trial, found: dict[str, Any], files: dict[str, bytes]) -> Outcome:
    """What `train_away` gave: its files written into the trial's own folder, which may fail."""
    try:
        unpack(Run(trial.folder), files)
    except StorageError as error:
        found = _failure(str(error))
    return Outcome(**found)
