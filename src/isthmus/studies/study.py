"""A study on disk: its settings, its runs, its log and its figures.

    study.toml (resolved)  env.json  status.json  log.txt  summary.json  report.html  figures/  runs/<name>/

`summary.json` holds {"figures": {"<dotted name>": number or null}}; it is written last but for the status.
"""

from __future__ import annotations

import contextlib
import math
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import tomli_w
from pydantic import Field

from isthmus.data.imageset import Split
from isthmus.errors import InputError, RunExistsError, TrainingFailedError
from isthmus.machine import environment
from isthmus.networks.catalog import Network
from isthmus.runs import Run, State, claim
from isthmus.settings import (
    DataSettings,
    ModelSettings,
    RunSettings,
    Seed,
    Settings,
    TrainingSettings,
    differences,
    validate,
)
from isthmus.training.job import Trained, train_run
from isthmus.training.loop import Progress
from isthmus.training.sweep import Outcome, Trial, sweep
from isthmus.writing import read_json, storage_error, write_bytes, write_json

# Of the lab's network: the plain setting that the lab most likely had, not the faster one of `isthmus train lab`.
LAB_TRAINING = TrainingSettings(epochs=6, batch_size=64, learning_rate=1e-3)
MNIST_TRAINING_IMAGES = 50_000
GROWTH = 0.7  # of the number of updates with the number of images


class StudySettings(Settings):
    """What decides a study, whichever it is. WORDS: settings that only stand on its page, and may change later."""

    WORDS: ClassVar[tuple[str, ...]] = ()

    study: str = Field(description="What kind of study this is.")
    data: DataSettings = Field(description="Which images.")
    seed: Seed = Field(default=0, description="Decides which images train and which test, and the first weights.")
    fast: bool = Field(default=False, description="Whether every training has a third of its updates.")


class DigitsSettings(StudySettings):
    """The study of digits."""

    study: Literal["digits"] = Field(default="digits", description="What kind of study this is.")
    noise: float = Field(default=0.25, gt=0, description="Standard deviation of the noise, in [0, 1] units.")


class SignsSettings(StudySettings):
    """The study of hand signs."""

    study: Literal["signs"] = Field(default="signs", description="What kind of study this is.")


S = TypeVar("S", bound=StudySettings)


class Reporter(Protocol):
    """Whoever follows a study: a line at a time, and the progress of each training."""

    def say(self, text: str) -> None:
        """Show one line."""

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """Follow one training; what is yielded is called with (steps done, steps in all, text)."""


class Silent:
    """A reporter that shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Nothing."""
        yield lambda done, total, text: None


@dataclass(frozen=True)
class Plan:
    """What one run of a sweep is to be."""

    model: ModelSettings
    training: TrainingSettings
    seed: int


@dataclass(frozen=True)
class Swept:
    """What became of it: its folder, its network unless it diverged, and its epochs either way."""

    run: Run
    trained: Trained | None
    epochs: list[dict[str, float]]


@dataclass
class Study(Generic[S]):
    """A claimed study folder. `open_study` makes one.

    workers: processes for what is trained in one sweep, None for one a thread; prepare: called first in each. reworded:
    whether it was begun with other words on its page, which is to be written anew.
    """

    folder: Path
    settings: S
    fingerprint: str
    device: str = "cpu"
    reporter: Reporter = field(default_factory=Silent)
    workers: int | None = None
    prepare: Callable[[], None] | None = None
    reworded: bool = False
    seconds_before: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Wall time spent, over all attempts."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def finished(self) -> bool:
        """Whether the study ended before, with its report in place."""
        path = self.folder / "status.json"
        return not self.reworded and path.exists() and read_json(path).get("state") == "finished"

    def say(self, text: str) -> None:
        """Show a line and keep it in log.txt."""
        self.reporter.say(text)
        path = self.folder / "log.txt"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        except OSError as error:
            raise storage_error(path, error) from error

    def train(
        self,
        name: str,
        model: ModelSettings,
        training: TrainingSettings,
        parts: Split,
        *,
        start: tuple[str, Network] | None = None,
        seed: int | None = None,
    ) -> Trained:
        """Train the run `name` of this study, or load it if it is finished.

        Arguments: start: a run of this study by its name, and its network, whose weights to begin with. seed: by
        default that of the study.
        """
        begun = {} if start is None else {"start": start[0]}
        seed = self.settings.seed if seed is None else seed
        settings = RunSettings(data=self.settings.data, model=model, training=training, seed=seed, **begun)
        run = Run(self.folder / "runs" / name)
        if run.finished:
            self.say(f"{name}: finished before, taken as it is")
        with self.reporter.progress(name) as progress:
            done = not run.finished
            network = None if start is None else start[1]
            trained = train_run(run, settings, parts, device=self.device, start=network, progress=progress)
        if done:
            self.say(f"{name}: {len(trained.epochs)} epochs in {trained.seconds:.0f} s")
        return trained

    def sweep(self, plans: Mapping[str, Plan], parts: Split) -> dict[str, Swept]:
        """Train the runs of these names side by side, or load what is finished.

        Raises: TrainingFailedError naming the runs that failed; one that diverged is a result.
        """
        trials = [
            Trial(
                name,
                self.folder / "runs" / name,
                RunSettings(data=self.settings.data, model=plan.model, training=plan.training, seed=plan.seed),
            )
            for name, plan in plans.items()
        ]
        with self.reporter.progress("training") as progress:
            outcomes = sweep(
                trials,
                parts,
                workers=self.workers,
                device=self.device,
                prepare=self.prepare,
                say=self.say,
                progress=progress,
            )
        failed = {name: str(found.error) for name, found in outcomes.items() if found.status == "failed"}
        if failed:
            reasons = "; ".join(f"{name}: {error.splitlines()[-1]}" for name, error in failed.items())
            raise TrainingFailedError(
                f"{len(failed)} of {len(trials)} trainings failed ({reasons}). What is finished is kept: go on with "
                f"--resume."
            )
        return {trial.name: self._swept(trial, outcomes[trial.name], parts) for trial in trials}

    def _swept(self, trial: Trial, outcome: Outcome, parts: Split) -> Swept:
        run = Run(trial.folder)
        if outcome.status == "diverged":
            return Swept(run, None, run.history())
        trained = train_run(run, trial.settings, parts, device=self.device)
        return Swept(run, trained, trained.epochs)

    def write_figures(self, figures: Mapping[str, float | None]) -> None:
        """Write summary.json; a figure that is not finite becomes null."""
        finite = {k: v if v is not None and math.isfinite(v) else None for k, v in figures.items()}
        write_json(self.folder / "summary.json", {"figures": finite})

    def finish(self) -> None:
        """Mark the study finished."""
        self.set_status("finished")

    def set_status(self, state: State, **facts: object) -> None:
        """Replace status.json."""
        content = {"state": state, "seconds": self.seconds, "fingerprint": self.fingerprint, **facts}
        write_json(self.folder / "status.json", content)


@contextlib.contextmanager
def open_study(
    folder: Path,
    settings: S,
    fingerprint: str,
    *,
    device: str = "cpu",
    reporter: Reporter | None = None,
    workers: int | None = None,
    prepare: Callable[[], None] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Study[S]]:
    """Claim a folder for a study of the images with this fingerprint; whatever happens, its status tells afterwards.

    Raises: RunExistsError if the folder is taken or was begun with other settings or images.
    """
    with claim(folder, marker="study.toml", resume=resume, overwrite=overwrite):
        study = Study(folder, settings, fingerprint, device, reporter or Silent(), workers, prepare)
        if (folder / "study.toml").exists():
            study.reworded = _check_same(folder / "study.toml", settings) != settings
        status = folder / "status.json"
        before = read_json(status) if status.exists() else {}
        if before.get("fingerprint", fingerprint) != fingerprint:
            raise RunExistsError(f"{folder} was begun with other images; --overwrite it, or choose another --out.")
        study.seconds_before = float(before.get("seconds", 0))
        if study.finished:
            yield study
            return
        content = settings.model_dump(mode="json", exclude_none=True)
        write_bytes(folder / "study.toml", tomli_w.dumps(content).encode())
        write_json(folder / "env.json", environment())
        study.set_status("running")
        try:
            yield study
        except KeyboardInterrupt:
            study.set_status("interrupted")
            raise
        except BaseException as error:
            study.set_status("failed", error=str(error))
            raise


def budget(
    training: TrainingSettings, *, images: int, fast: bool, meant_for: int = MNIST_TRAINING_IMAGES
) -> TrainingSettings:
    """Fit the epochs, which are meant for so many training images (by default MNIST's), to a set of another size.

    The number of updates goes with the number of images to the power 0.7: a small set needs fewer updates, but more
    epochs. `fast` divides the updates by three.
    """
    updates = training.epochs * meant_for / training.batch_size
    updates *= (min(images, MNIST_TRAINING_IMAGES) / meant_for) ** GROWTH
    if fast:
        updates /= 3
    per_epoch = max(1, images / training.batch_size)
    return training.model_copy(update={"epochs": max(1, round(updates / per_epoch))})


def _check_same(path: Path, settings: StudySettings) -> StudySettings:
    """What a study was begun with, which may differ in words alone. Raises: RunExistsError; InputError if damaged."""
    try:
        before = validate(type(settings), tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, InputError) as error:
        raise InputError(f"{path} cannot be read ({error}); start anew with --overwrite.") from error
    reworded = before.model_copy(update={name: getattr(settings, name) for name in settings.WORDS})
    if reworded != settings:
        raise RunExistsError(
            f"{path.parent} was begun with other settings ({differences(reworded, settings)}); give the same ones, "
            f"--overwrite it, or choose another --out."
        )
    return before
