"""A run on disk: what decided a training, how it went, and the model it gave.

A run is a folder: `run.json` (settings, versions, data fingerprint, seed), `status.json`, `metrics.jsonl` (a line an
epoch), `model/` (see model_files.py), `codes.npz`, `densities.safetensors`, `checkpoints/`. The weights appear under
their final name only when the model is finished; until then the folder is locked by its writer.

A model folder alone, without what is around it in a run, can be used like a run: it has no settings and no history.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from isthmus import hub
from isthmus.data.imageset import ImageSet, Split
from isthmus.display import html
from isthmus.errors import InputError, RunExistsError
from isthmus.model_card import ESTIMATORS
from isthmus.model_files import (
    CONFIG,
    DENSITIES,
    FORMAT_VERSION,
    WEIGHTS,
    DataFacts,
    ModelConfig,
    copy_model,
    read_config,
    read_network,
    read_trained_on,
    record,
    to_bytes,
    verify,
    write_config,
    write_model,
)
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.catalog import Network
from isthmus.settings import RunSettings, validate
from isthmus.writing import TEMPORARY, held, read_json, storage_error, write_bytes, write_json

State = Literal["running", "finished", "interrupted", "diverged", "failed"]


def versions() -> dict[str, str]:
    """Of Python, this package and what its numbers depend on."""
    packages = ("isthmus", "torch", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


@contextlib.contextmanager
def claim(folder: Path, *, marker: str, resume: bool | None, overwrite: bool) -> Iterator[None]:
    """Take a folder for writing: refuse one that is taken, in use, or not ours.

    `marker` is the file by which a folder of this kind is known; only such a folder is ever emptied or resumed.
    `resume` is None for work that cannot be taken up.
    Raises: RunExistsError with the way out; InputError if the folder cannot be written.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other: keep what is finished, or start anew.")
    if os.path.exists(folder) and not folder.is_dir():
        raise RunExistsError(f"{folder} is a file; choose another --out.")
    ours = not os.path.exists(folder / ".lock")  # a folder that is refused is left as it was found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise RunExistsError(f"{folder} is in use by another process; wait for it, or choose another --out.") from error
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror or error}. Choose another --out.") from error
    try:
        # A process killed at its very first write leaves the marker under a temporary name.
        content = [e for e in folder.iterdir() if e.name != ".lock" and not e.name.startswith(f".{marker}.")]
        if content and not (folder / marker).exists():
            raise RunExistsError(f"{folder} holds other files (there is no {marker} in it); choose another --out.")
        if content and not (resume or overwrite):
            raise RunExistsError(
                f"{folder} exists already; add {'' if resume is None else '--resume to go on, '}--overwrite to start "
                f"anew, "
                f"or another --out."
            )
        if overwrite:
            _empty(content)
        # A process that is killed leaves what it was writing; under our lock nobody else is writing it.
        for left in folder.rglob(f".*{TEMPORARY}"):
            left.unlink()
        ours = False
        yield
    finally:
        lock.release()
        if ours:
            (folder / ".lock").unlink(missing_ok=True)


def _empty(content: Iterable[Path]) -> None:
    for entry in content:
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except OSError as error:
            raise InputError(f"Cannot remove {entry}: {error.strerror or error}. Choose another --out.") from error


@dataclass(frozen=True)
class Run:
    """A run's folder, or a model's alone. Writing is done by the one process that has claimed it."""

    folder: Path

    @property
    def model(self) -> Path:
        """Where the model's files lie: `model/`, or the folder itself if it is a model alone."""
        inner = self.folder / "model"
        return self.folder if (self.folder / CONFIG).exists() and not (inner / CONFIG).exists() else inner

    @property
    def densities(self) -> Path:
        """Where the densities lie that are fitted to its codes; `check_densities` says whether they may be read."""
        return self.folder / DENSITIES

    def _repr_html_(self) -> str:
        """For notebooks: state, curves, and what the network makes of some images."""
        return html(self, "show_run")

    @property
    def checkpoint(self) -> Path:
        """Where the best weights of a training that was cut short are kept."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the training ended and its weights are in place."""
        ended = self.model == self.folder or self.status().get("state") == "finished"
        return ended and (self.model / WEIGHTS).exists()

    def status(self) -> dict[str, Any]:
        """The content of status.json, or {} before a run has begun."""
        path = self.folder / "status.json"
        return read_json(path) if path.exists() else {}

    def settings(self) -> RunSettings:
        """The settings the run was begun with."""
        return validate(RunSettings, read_json(self.folder / "run.json")["settings"])

    def fingerprint(self) -> str:
        """Of the images the run was begun with."""
        return self.fingerprints()["train"]

    def fingerprints(self) -> dict[str, str]:
        """Of the parts its images were divided into, by name; where only the training part is known, of that."""
        content = read_json(self.folder / "run.json")
        return {"train": str(content["data"]["fingerprint"]), **content.get("held_out", {})}

    def history(self) -> list[dict[str, float]]:
        """One dictionary an epoch: losses, rate, seconds. A last line not written to its end does not count."""
        path = self.folder / "metrics.jsonl"
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def begin(self, settings: RunSettings, images: ImageSet | Split) -> None:
        """Write what decides the run, and forget an unfinished earlier attempt.

        Arguments: images: those to train on, or all parts of a division.
        """
        training = images.train if isinstance(images, Split) else images
        (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)
        data = {
            "name": training.name,
            "fingerprint": training.fingerprint,
            "images": len(training),
            "shape": list(training.shape),
            "classes": list(training.classes),
        }
        content = {"settings": settings.model_dump(mode="json"), "seed": settings.seed, "data": data}
        if isinstance(images, Split):
            content["held_out"] = {name: getattr(images, name).fingerprint for name in ("validation", "test")}
        if os.path.exists(settings.data.name) and not os.path.isabs(settings.data.name):
            content["named_from"] = os.getcwd()  # where the path of the images begins
        write_json(self.folder / "run.json", {"format_version": FORMAT_VERSION, **content, "versions": versions()})
        self.set_status("running")

    def set_status(self, state: State, **facts: object) -> None:
        """Replace status.json."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_json(self.folder / "status.json", {"state": state, "time": now, **facts})

    def add_epoch(self, record: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl. Raises: StorageError."""
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("a") as file:
                file.write(json.dumps(dict(record)) + "\n")
        except OSError as error:
            raise storage_error(path, error) from error

    def keep_checkpoint(self, weights: Mapping[str, Tensor]) -> Path:
        """Write the best weights of a training that was cut short; returns the file."""
        write_bytes(self.checkpoint, to_bytes(weights))
        return self.checkpoint

    def finish(self, network: Network, training: ImageSet, settings: RunSettings, **facts: object) -> None:
        """Write the model, with the validation figures of its epoch, and mark the run finished.

        Arguments: facts: of the status; `best_epoch` is the one whose weights the network has.
        """
        best = [epoch for epoch in self.history() if epoch["epoch"] == facts.get("best_epoch")]
        measured = {name: value for epoch in best for name, value in epoch.items() if name.startswith("validation_")}
        config = ModelConfig(
            model=settings.model,
            image_shape=training.shape,
            classes=training.classes,
            noise=settings.training.noise,
            data=DataFacts(
                name=training.name,
                fingerprint=training.fingerprint,
                grey=settings.data.grey,
                images=len(training),
            ),
            figures=_finite(measured),
        )
        write_model(self.folder / "model", network, config, trained_on=training.image_hashes())
        self.set_status("finished", **facts)

    def add_figures(self, figures: Mapping[str, float]) -> None:
        """Add what was measured later, as on the test part, to the model's config and card. Raises: StorageError."""
        with held(self.folder) if self.model == self.folder else contextlib.nullcontext():  # a run is claimed by us
            config = read_config(self.model)
            more = {**config.figures, **_finite(figures)}
            if more != config.figures:
                write_config(self.model, config.model_copy(update={"figures": more}))

    def trained_on(self) -> NDArray[np.uint64]:
        """Sorted hashes of the images trained on, as `ImageSet.image_hashes` makes them. Raises: InputError."""
        return read_trained_on(self.model)

    def config(self) -> dict[str, Any]:
        """The model's config.json, as plain values. Raises: InputError if this is no run, or one of a newer format."""
        return self._config().model_dump(mode="json")

    def image_shape(self) -> ImageShape:
        """(C, H, W) of the images its network takes. Raises: InputError if it takes rows of numbers."""
        return self._config_of_images().image_shape

    def network(self) -> Network:
        """Build the network and load its weights, ready to evaluate.

        Raises: InputError if the folder is no finished run, a file in it is damaged, or it takes rows of numbers.
        """
        return read_network(self.model, self._config_of_images())

    def check_densities(self) -> None:
        """Raises: InputError if the densities of a model alone were altered, or are missing though it names them."""
        if self.model == self.folder:
            verify(self.densities)

    def record_densities(self) -> None:
        """Tell a model alone of its new densities; call it while its folder is `held`. Raises: StorageError."""
        if self.model == self.folder:
            record(self.densities)

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Copy the model, with the densities fitted to its codes, into a folder of its own, to keep or to give away.

        Raises: RunExistsError if the folder is taken and not to be overwritten; InputError if the model is damaged.
        """
        copy_model(self.model, Path(os.path.expanduser(folder)), densities=self.densities, overwrite=overwrite)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        endpoint: str | None = None,
        revision: str | None = None,
        message: str = "Add a model of Isthmus",
    ) -> str:
        """Send the model to a hub, as OWNER/NAME; returns its address. See `isthmus.hub.push_to_hub`."""
        with tempfile.TemporaryDirectory() as place:
            self.save_pretrained(Path(place) / "model")
            return hub.push_to_hub(
                Path(place) / "model",
                repo_id,
                private=private,
                token=token,
                endpoint=endpoint,
                revision=revision,
                message=message,
            )

    def _config(self) -> ModelConfig:
        if not (self.model / CONFIG).exists():
            raise InputError(
                f"{self.folder} is not a finished run (it has no model/config.json); train one with `isthmus train`."
            )
        return read_config(self.model)

    def _config_of_images(self) -> ModelConfig:
        config = self._config()
        if not config.of_images:
            name = config.estimator.name if config.estimator else ESTIMATORS[config.model.name]
            raise InputError(
                f"{self.folder} takes rows of {math.prod(config.image_shape):,} numbers, not images; load it with "
                f"isthmus.{name}.from_pretrained."
            )
        return config


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """What JSON can hold: a restoration without any error has a PSNR of infinity."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}
