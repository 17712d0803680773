"""Trainings as TensorBoard shows them: losses and the learning rate after each epoch, a picture at the end.

    with logging_events(Path("logs")) as written:      # nothing is written outside such a block
        train_run(Run(Path("runs/lab")), ...)          # logs/lab/events.out.tfevents...

    loss/train  loss/validation  accuracy/...    scored after the epoch, as in the run's metrics.jsonl
    loss/steps                                   mean over the steps of the epoch, as trained
    learning_rate  seconds                       of the last step; of the training steps of the epoch
    reconstructions                              validation images, above what the network makes of them

Every training gets a folder of its own, named as its run: <name>, or <name>-2 and so on where there are events already,
because TensorBoard draws all files of a folder as one curve. Needs the package tensorboard, and of that its writer
alone, which is imported when the first event is written; torch's own writer would import all of it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import to_png
from isthmus.errors import InputError
from isthmus.networks.apply import Coder, reconstruct, to_float
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.runs import Run
from isthmus.training.scoring import Corrupt
from isthmus.writing import storage_error

SHOWN = 10  # images in the picture
TILE = 64  # pixels: smaller images are shown enlarged, a pixel as a square
PREFIX = "events.out.tfevents."  # by which TensorBoard knows its files
_WRITER = "tensorboard.summary.writer.event_file_writer"


@dataclass
class Events:
    """Where trainings are logged. written: the folders so far, one a training."""

    folder: Path
    written: list[Path] = field(default_factory=list)


_events: ContextVar[Events | None] = ContextVar("events", default=None)


@contextlib.contextmanager
def logging_events(folder: Path | None) -> Iterator[list[Path]]:
    """Every training in this block and process writes events below a folder; with None, nothing is.

    Yields: the folders that were written, which fill up. Raises: InputError, before any work, if the package is missing
    or the folder cannot be written.
    """
    if folder is not None:
        _check(folder)
    events = None if folder is None else Events(folder)
    before = _events.set(events)
    try:
        yield [] if events is None else events.written
    finally:
        _events.reset(before)


@contextlib.contextmanager
def logged(run: Run) -> Iterator[Run]:
    """A run whose epochs are also events while this lasts, if they are asked for; else the run itself."""
    events = _events.get()
    if events is None:
        yield run
        return
    with _opened(events, run) as log:
        yield LoggedRun(run.folder, log)


def log_picture(run: Run, network: Network, images: ImageSet, corrupt: Corrupt | None, *, step: int) -> None:
    """Add to the events of a run, if they are asked for, what its network makes of images; its weights are of
    epoch `step`.

    Arguments: corrupt: what is done to images before the network is given them.
    """
    if isinstance(run, LoggedRun):
        run.log.add_picture(network, images, corrupt, step=step)


def log_finished(run: Run, network: Network, images: ImageSet, corrupt: Corrupt | None, *, step: int) -> None:
    """Write the events of a run that was finished before, if they are asked for: the same as if it were trained now."""
    with logged(run) as followed:
        if isinstance(followed, LoggedRun):
            for record in run.history():
                followed.log.add_epoch(record)
            log_picture(followed, network, images, corrupt, step=step)


class Log:
    """An event file that is being written. Raises: StorageError, whatever is called."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._proto: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        with self._storing():
            self._writer: Any = importlib.import_module(_WRITER).EventFileWriter(os.fspath(folder))

    def add_epoch(self, record: Mapping[str, float]) -> None:
        """The figures of an epoch, by the names `train` gives them."""
        values = [
            self._summary.Summary.Value(tag=_tag(name), simple_value=value)
            for name, value in record.items()
            if name != "epoch"
        ]
        self._add(values, int(record["epoch"]))

    def add_picture(self, network: Network, images: ImageSet, corrupt: Corrupt | None, *, step: int) -> None:
        """What a network makes of some images; of a classifier, which makes none, nothing."""
        if isinstance(network, Classifier):
            return
        pixels = sheet(network, images, corrupt)
        picture = self._summary.Summary.Image(
            height=pixels.shape[1], width=pixels.shape[2], colorspace=len(pixels), encoded_image_string=to_png(pixels)
        )
        self._add([self._summary.Summary.Value(tag="reconstructions", image=picture)], step)

    def close(self) -> None:
        """Write what is left."""
        with self._storing():
            self._writer.close()

    def _add(self, values: list[Any], step: int) -> None:
        event = self._proto.Event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=values))
        with self._storing():
            self._writer.add_event(event)
            self._writer.flush()  # an epoch that is over can be seen

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.folder, error) from error


@dataclass(frozen=True)
class LoggedRun(Run):
    """A run of which every epoch is logged, too."""

    log: Log

    def add_epoch(self, record: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl, and an event. Raises: StorageError."""
        super().add_epoch(record)
        self.log.add_epoch(record)


def sheet(network: Coder | Denoiser, images: ImageSet, corrupt: Corrupt | None) -> NDArray[np.uint8]:
    """Images in one row, below them what the network is given if that is corrupted, and what it makes of them.

    Returns: (C, rows x H, columns x W) uint8, enlarged where images are smaller than 64 pixels.
    """
    places = np.unique(np.linspace(0, len(images) - 1, SHOWN).round().astype(int))
    clean = to_float(torch.from_numpy(np.array(images.images[places])))
    given = clean if corrupt is None else corrupt(clean, torch.Generator().manual_seed(0))
    rows = [clean, *([] if corrupt is None else [given]), reconstruct(network, given)]
    times = max(1, TILE // max(images.shape[1:]))
    lines = [torch.cat(list(row.clamp(0, 1)), 2) for row in rows]
    whole = torch.cat(lines, 1).repeat_interleave(times, 1).repeat_interleave(times, 2)
    return (whole * 255).round().byte().numpy()


def _check(folder: Path) -> None:
    found = importlib.util.find_spec("tensorboard")
    if found is None or found.origin is None:  # a mere folder of that name, as of logs
        raise InputError(f"--tensorboard {folder} needs a package: `pip install tensorboard`, or leave it out.")
    above = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "you may not write there" if above.is_dir() else f"{above} is a file"
        raise InputError(f"--tensorboard {folder} cannot be written: {reason}. Choose another folder.")


@contextlib.contextmanager
def _opened(events: Events, run: Run) -> Iterator[Log]:
    name = run.folder.resolve().name
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    place = next(events.folder / name for name in names if not any((events.folder / name).glob(f"{PREFIX}*")))
    log = Log(place)
    events.written.append(place)
    try:
        yield log
    finally:
        log.close()


def _tag(name: str) -> str:
    """train_loss -> loss/train, so that TensorBoard puts what belongs together side by side.

    >>> _tag("validation_accuracy"), _tag("loss"), _tag("learning_rate")
    ('accuracy/validation', 'loss/steps', 'learning_rate')
    """
    part, _, figure = name.partition("_")
    if part in ("train", "validation"):
        return f"{figure}/{part}"
    return "loss/steps" if name == "loss" else name
