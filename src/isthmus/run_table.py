"""Runs on disk at a glance: all below a folder, one in full, several side by side. Nothing is written here.

The state of a run is that of its `status.json` (running, finished, interrupted, diverged, failed), or one of

    stopped   it says running, but no process holds the folder: it was killed
    model     a model without a run around it, as an estimator writes
    damaged   a file is missing or cannot be read; the problem says which

What is measured on the validation images is that of the epoch whose weights were kept.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
from safetensors import SafetensorError, safe_open

from isthmus.errors import InputError
from isthmus.model_files import WEIGHTS
from isthmus.runs import Run
from isthmus.writing import read_json

SKIPPED = ("node_modules", "__pycache__", "site-packages")  # folders of other programs, beside those with a dot
PARTS = ("train_", "validation_")
Epoch = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A run in a line; what its files do not say is None.

    epochs, of: done and asked for. loss, accuracy: on the validation images. seconds: of training steps. when: of the
    last change of state. problem: what is damaged.
    """

    folder: Path
    state: str
    network: str | None = None
    code_size: int | None = None
    data: str | None = None
    epochs: int | None = None
    of: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None
    when: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Details:
    """A run in full.

    settings: by dotted path. data, versions, figures: by name. history: a dictionary an epoch; best: the epoch whose
    weights were kept. files: size in bytes by path.
    """

    row: Row
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    best: int | None = None
    files: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: values by name, one a run in the order of `runs`, None where a run has none of that name.

    settings: what the runs were trained with, data and versions included, where they differ. figures: all of them.
    """

    runs: tuple[Path, ...]
    settings: dict[str, list[Any]]
    figures: dict[str, list[float | None]]


def find_runs(top: Path) -> tuple[list[Path], list[str]]:
    """Folders of runs and of models below `top`, sorted, and the folders that could not be looked into, with reasons.

    Links are not followed; folders whose names begin with a dot are left out. Raises: InputError if `top` is no folder.
    """
    if not os.path.isdir(top):
        raise InputError(f"{top} is not a folder; name one to look for runs in.")
    found: list[Path] = []
    closed: list[str] = []
    for place, inner, _ in os.walk(
        top, onerror=lambda error: closed.append(f"{Path(error.filename)}: {error.strerror}")
    ):
        try:
            if is_run(Path(place)) or is_model(Path(place)):
                found.append(Path(place))
                inner.clear()
        except OSError as error:  # it can be listed, but not entered
            closed.append(f"{Path(place)}: {error.strerror}")
            inner.clear()
        inner[:] = [name for name in inner if not name.startswith(".") and name not in SKIPPED]
    return sorted(found), closed


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, be it a damaged one."""
    return (folder / "run.json").is_file() or (folder / "model/config.json").is_file()


def is_model(folder: Path) -> bool:
    """Whether a folder is a model by itself; `trained_on.npy` tells it from models of other programs."""
    return (folder / "config.json").is_file() and (folder / "trained_on.npy").is_file()


def study_of(folder: Path) -> Path | None:
    """The study that a run belongs to, None if it stands alone."""
    above = Path(os.path.abspath(folder)).parent
    return above.parent if above.name == "runs" and (above.parent / "study.toml").is_file() else None


def in_use(folder: Path) -> bool:
    """Whether a process holds a run, its model, or the study it belongs to; a study, or a run in it."""
    study = study_of(folder)
    inner = [place for pattern in ("model", "runs/*", "runs/*/model") for place in folder.glob(pattern)]
    places = (folder, *([study] if study else []), *inner)
    return any(_is_held(place / ".lock") for place in places)


def read_row(folder: Path) -> Row:
    """A run in a line; of a damaged one what can be read. Raises: InputError if the folder is no run."""
    return _read(folder).row


def describe(folder: Path) -> Details:
    """A run in full; of a damaged one what can be read. Raises: InputError if the folder is no run."""
    return replace(_read(folder), files=file_sizes(folder))


def _read(folder: Path) -> Details:
    """All but the files, whose sizes take long to count."""
    if not os.path.lexists(folder) or not (is_run(folder) or is_model(folder)):
        raise InputError(_no_run(folder))
    alone = not (folder / "run.json").is_file()
    found = Details(Row(folder, "model" if alone else "damaged"))
    problems = []
    # The most telling first; each adds to what the ones before it found, so that damage to one hides nothing else.
    for read in (_read_model,) if alone else (_read_settings, _read_history, _read_status, _read_figures):
        try:
            found = read(Run(folder), found)
        except (InputError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            problems.append(" ".join(str(error).split()) or type(error).__name__)
    if problems:
        return replace(found, row=replace(found.row, state="damaged", problem="; ".join(problems)))
    return found


def compare(folders: Sequence[Path]) -> Comparison:
    """Runs side by side. Raises: InputError for fewer than two, and for one that is no run or damaged."""
    if len(folders) < 2:
        raise InputError(f"Comparing takes at least two runs, got {len(folders)}: name another.")
    found = [_read(folder) for folder in folders]
    for details in found:
        if details.row.state == "damaged":
            raise InputError(f"{details.row.folder} is damaged ({details.row.problem}); leave it out.")
    settings = [
        {
            **{f"data.{name}": value for name, value in details.data.items()},
            **details.settings,
            **{f"versions.{name}": value for name, value in details.versions.items()},
        }
        for details in found
    ]
    differing = {name: values for name, values in _by_name(settings).items() if any(v != values[0] for v in values)}
    return Comparison(tuple(folders), differing, _by_name([details.figures for details in found]))


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its path there, links not followed; without what vanishes meanwhile."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            with contextlib.suppress(FileNotFoundError):  # it was being written, and has its final name by now
                sizes[path.relative_to(folder).as_posix()] = path.lstat().st_size
    return dict(sorted(sizes.items()))


def _read_settings(run: Run, found: Details) -> Details:
    """What run.json says, checked as settings."""
    content = read_json(run.folder / "run.json")
    settings = run.settings()
    model = settings.model.model_dump(mode="json")
    name, epochs = str(content["data"]["name"]), settings.training.epochs
    row = replace(found.row, network=model["name"], code_size=model.get("latent_dim"), data=name, of=epochs)
    dotted, versions = _dotted(settings.model_dump(mode="json")), dict(content.get("versions", {}))
    return replace(found, row=row, settings=dotted, data=dict(content["data"]), versions=versions)


def _read_history(run: Run, found: Details) -> Details:
    """The epochs, and the best of them by what training chooses by: the accuracy, or else the loss."""
    history = run.history()
    row = replace(found.row, epochs=len(history), seconds=sum(record["seconds"] for record in history))
    if not all(isinstance(value, int | float) for record in history for value in record.values()):
        raise InputError(f"{run.folder}/metrics.jsonl holds what is no number; it is damaged, train the run again.")
    if history:
        best = min(history, key=_badness)
        found = replace(found, best=int(best["epoch"]))
        row = replace(row, loss=best["validation_loss"], accuracy=best.get("validation_accuracy"))
    return replace(found, row=row, history=history)


def _badness(epoch: Epoch) -> tuple[float, float]:
    """The smaller, the better an epoch; what is not a number, as a loss may be that diverged, is worst."""
    found = -epoch.get("validation_accuracy", 0.0), epoch["validation_loss"]
    return found if not any(map(math.isnan, found)) else (math.inf, math.inf)


def _read_status(run: Run, found: Details) -> Details:
    """The state, against the lock; and of a finished run the model."""
    status = run.status()
    state = str(status.get("state", "stopped"))
    if state == "running" and not in_use(run.folder):
        state = "stopped"
    row = replace(found.row, state=state, when=str(status["time"]) if "time" in status else None)
    if "seconds" in status:
        row = replace(row, seconds=float(status["seconds"]))
    if state == "finished":
        found = replace(found, best=int(status["best_epoch"]))
        _check_model(run)
    return replace(found, row=row)


def _read_figures(run: Run, found: Details) -> Details:
    """What was measured at the best epoch, and what the model's card tells."""
    kept = next((record for record in found.history if record["epoch"] == found.best), {})
    figures = {name: value for name, value in kept.items() if name.startswith(PARTS)}
    if found.row.state == "finished":
        figures |= run.config().get("figures", {})
    facts = {"best_epoch": found.best, "epochs": found.row.epochs, "seconds": found.row.seconds}
    return replace(found, figures={**figures, **{name: value for name, value in facts.items() if value is not None}})


def _read_model(run: Run, found: Details) -> Details:
    """What a model's config.json says."""
    config = run.config()
    _check_model(run)
    model, data = config["model"], config["data"]
    row = replace(found.row, network=model["name"], code_size=model.get("latent_dim"), data=str(data["name"]))
    facts = {**data, "shape": config["image_shape"], "classes": config["classes"]}
    estimator = config.get("estimator") or {}
    settings = {"model": model, "training": {"noise": config.get("noise", 0.0)}}
    settings |= {"estimator": {"name": estimator["name"], **estimator["parameters"]}} if estimator else {}
    return replace(found, row=row, settings=_dotted(settings), data=facts, figures=config.get("figures", {}))


def _check_model(run: Run) -> None:
    """Raises: InputError or SafetensorError if a file of the model is missing, cut short or of another sort."""
    run.config()
    run.trained_on()
    path = run.model / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path} is missing; train the run again.")
    try:
        with safe_open(path, framework="numpy"):  # reads the header, and compares the file's length with it
            pass
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read ({error}); the file is damaged, train the run again.") from error


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except OSError:  # held (a timeout is one too), or it may not be opened and cannot be told: then status.json stands
        return True


def _no_run(folder: Path) -> str:
    inner = sorted(os.listdir(folder / "runs")) if os.path.isdir(folder / "runs") else []
    if inner:
        return f"{folder} is a study; name one of its runs: {', '.join(f'{folder}/runs/{name}' for name in inner)}."
    return f"{folder} is not a run (it has neither run.json nor model/config.json); `isthmus runs list` finds them."


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _by_name(each: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for values in each for name in values)
    return {name: [values.get(name) for values in each] for name in names}
