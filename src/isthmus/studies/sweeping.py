"""The trainings of a study file by themselves: every run it asks for, on one engine or another, and a row on each.

    runs/<name>/ as of a study   sweep.csv   sweep.json   study.toml   status.json   env.json   log.txt

Of the file only the images, the networks and their sweeps count; nothing is measured beyond what training itself says.
A run that begins with the weights of another is trained after it. One that diverges is an answer; one that fails stays
behind while the others go on, and is tried again when the sweep is resumed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from isthmus.data.imageset import Split
from isthmus.data.split import split
from isthmus.errors import InputError
from isthmus.networks.convolution import check_size
from isthmus.runs import Run
from isthmus.settings import RunSettings, merge, parse_assignments
from isthmus.studies.custom import check_custom, trainable
from isthmus.studies.study import Reporter, Study, open_study
from isthmus.studies.study_file import CustomSettings, Planned
from isthmus.studies.study_reading import read_study_file, study_settings
from isthmus.training.evaluation import chosen_images
from isthmus.training.ray_session import connected
from isthmus.training.sweep import Engine, Outcome, Trial, sweep
from isthmus.writing import read_json, write_bytes, write_json

TABLE, RESULTS = "sweep.csv", "sweep.json"
BUILT_IN = ("digits", "signs")


@dataclass(frozen=True)
class Row:
    """What became of a run. swept: what the file tried several values of, by dotted path; figures: as of `Outcome`."""

    name: str
    network: str
    status: str
    swept: dict[str, Any]
    figures: dict[str, float | None]
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Means:
    """How the runs of a sweep are trained; see `isthmus.training.sweep.sweep`."""

    engine: Engine = "process"
    workers: int | None = None
    device: str = "cpu"
    prepare: Callable[[], None] | None = field(default=None, repr=False)


def sweep_settings(path: Path, changes: Sequence[str] = ()) -> CustomSettings:
    """What a study file asks for, with KEY=VALUE changes. Raises: InputError; SettingsError with every mistake."""
    tree = merge(read_study_file(path), parse_assignments(changes))
    if tree.get("study") in BUILT_IN:
        raise InputError(
            f"{path} names the study of {tree['study']}, whose exercises `isthmus study` does; for a sweep of its "
            f"networks, `isthmus study {tree['study']} --print-toml > my.toml` writes them as a file."
        )
    return study_settings(tree)


def run_sweep(
    path: Path,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    means: Means | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> list[Row]:
    """Train every run of a study file into `folder`, and write a table of what became of them.

    Returns: a row a run, in the order of the file. Raises: InputError for what is wrong with the file or its images, or
    with the cluster; RunExistsError; StorageError.
    """
    settings = sweep_settings(path, changes)
    images = chosen_images(settings.data)
    check_size(*images.shape[1:])
    alone = settings.model_copy(update={"analyses": ()})  # what else is in the file need not suit the images
    check_custom(alone, images)
    parts = split(images, seed=settings.seed)
    plans, left_out = trainable(alone, images, training_images=len(parts.train))
    means = means or Means()
    with contextlib.ExitStack() as stack:
        if means.engine == "ray" and _rows_before(folder) is None:  # before a folder is made, for it may be refused
            stack.enter_context(connected(max(torch.get_num_threads(), means.workers or 1)))
        study = stack.enter_context(
            open_study(folder, settings, images.fingerprint, reporter=reporter, resume=resume, overwrite=overwrite)
        )
        before = _rows_before(folder)
        if before is not None:
            study.reporter.say(f"{folder}: finished before, nothing to do")
            if not study.finished:
                study.finish()
            return before
        for sentence in (*images.notes, *left_out):
            study.say(sentence)
        rows = _rows(plans, _train(study, plans, parts, means))
        _write(study, rows)
    return rows


def failed(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs that failed."""
    return [row for row in rows if row.status == "failed"]


def _train(study: Study[CustomSettings], plans: Sequence[Planned], parts: Split, means: Means) -> dict[str, Outcome]:
    """What became of every run, by its name: those that begin with another's weights after it."""
    outcomes: dict[str, Outcome] = {}
    waiting = list(plans)
    while waiting:
        ready = [plan for plan in waiting if plan.start is None or plan.start in outcomes]
        waiting = [plan for plan in waiting if plan not in ready]
        trials = []
        for plan in ready:
            first = None if plan.start is None else outcomes[plan.start]
            if first is None or first.status == "finished":
                trials.append(_trial(study, plan))
            else:
                why = f"it begins with the weights of {plan.start}, which {first.status}"
                outcomes[plan.name] = replace(first, error=why, seconds=0.0)
                study.say(f"{plan.name}: not trained, since {why}")
        with study.reporter.progress("training") as progress:
            outcomes |= sweep(trials, parts, say=study.say, progress=progress, **_arguments(means))
    return outcomes


def _arguments(means: Means) -> dict[str, Any]:
    return {"engine": means.engine, "workers": means.workers, "device": means.device, "prepare": means.prepare}


def _trial(study: Study[CustomSettings], plan: Planned) -> Trial:
    begun = {} if plan.start is None else {"start": plan.start}
    settings = RunSettings(
        data=study.settings.data, model=plan.plan.model, training=plan.plan.training, seed=plan.plan.seed, **begun
    )
    runs = study.folder / "runs"
    start = None if plan.start is None else Run(runs / plan.start).network()
    return Trial(plan.name, runs / plan.name, settings, start)


def _rows(plans: Sequence[Planned], outcomes: dict[str, Outcome]) -> list[Row]:
    rows = []
    for plan in plans:
        found = outcomes[plan.name]
        figures = {k: v if math.isfinite(v) else None for k, v in (found.figures or {}).items()}
        rows.append(Row(plan.name, plan.network, found.status, plan.swept, figures, found.seconds, found.error))
    return rows


def _rows_before(folder: Path) -> list[Row] | None:
    """The rows of a sweep that was done to its end; None where there is work to do."""
    path = folder / RESULTS
    if not path.exists():
        return None
    rows = [Row(**row) for row in read_json(path)["trials"]]
    return None if failed(rows) else rows


def _write(study: Study[CustomSettings], rows: Sequence[Row]) -> None:
    write_bytes(study.folder / TABLE, table(rows).encode())
    write_json(study.folder / RESULTS, {"seconds": study.seconds, "trials": [asdict(row) for row in rows]})
    bad = failed(rows)
    if bad:
        study.set_status("failed", error=f"{len(bad)} of {len(rows)} failed: {', '.join(row.name for row in bad)}")
    else:
        study.finish()


def table(rows: Sequence[Row]) -> str:
    """A line a run as CSV, with a column for each setting that is swept and each figure; of an error its last line.

    >>> print(table([Row("a-2", "a", "finished", {"seed": 2}, {"train_loss": 0.5}, 1.0)]), end="")
    name,network,status,seed,train_loss,seconds,error
    a-2,a,finished,2,0.5,1.0,
    """
    swept = list(dict.fromkeys(path for row in rows for path in row.swept))
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "network", "status", *swept, *figures, "seconds", "error"])
    for row in rows:
        values = [*(row.swept.get(path) for path in swept), *(row.figures.get(name) for name in figures)]
        error = row.error.splitlines()[-1] if row.error else None
        writer.writerow([row.name, row.network, row.status, *values, row.seconds, error])
    return text.getvalue()
