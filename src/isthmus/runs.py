"""A run on disk, and how anything is written: to a temporary name, flushed, renamed.

A run is a folder: `run.json` (settings, versions, data fingerprint, seed), `status.json`, `metrics.jsonl` (a line an
epoch), `model/` (`config.json`, `model.safetensors`, `trained_on.npy`), `codes.npz`, `checkpoints/`. The weights
appear under their final name only when the model is finished; until then the folder is locked by its writer.
"""

from __future__ import annotations

import contextlib
import io
import json
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
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, RunExistsError, StorageError
from isthmus.networks.catalog import Network, build
from isthmus.settings import RunSettings, validate, validate_model

FORMAT_VERSION = 1
TEMPORARY = ".writing"
State = Literal["running", "finished", "interrupted", "diverged", "failed"]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there.

    Raises: StorageError, naming the file and the cause, if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say in one sentence what could not be written and what to do."""
    return StorageError(
        f"Could not write {path}: {error.strerror or error}. Free some space or choose another --out, "
        f"then run the same command again, a study or a training with --resume: what is finished is kept."
    )


def write_json(path: Path, content: object) -> None:
    """Write indented JSON. Raises: ValueError for NaN or infinity, which JSON does not have; StorageError."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed `.npz` without pickle."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(buffer, **named)
    write_bytes(path, buffer.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: InputError if the file is missing or is not one."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {path.parent} is not a finished run or study.") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({error}); the folder may be damaged, train it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; the folder may be damaged, train it again.")
    return content


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
    """A run's folder. Writing is done by the one process that has claimed it."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Where the best weights of a training that was cut short are kept."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the training ended and its weights are in place."""
        return self.status().get("state") == "finished" and (self.folder / "model/model.safetensors").exists()

    def status(self) -> dict[str, Any]:
        """The content of status.json, or {} before a run has begun."""
        path = self.folder / "status.json"
        return read_json(path) if path.exists() else {}

    def settings(self) -> RunSettings:
        """The settings the run was begun with."""
        return validate(RunSettings, read_json(self.folder / "run.json")["settings"])

    def fingerprint(self) -> str:
        """Of the images the run was begun with."""
        return str(read_json(self.folder / "run.json")["data"]["fingerprint"])

    def history(self) -> list[dict[str, float]]:
        """One dictionary an epoch: losses, rate, seconds. A last line not written to its end does not count."""
        path = self.folder / "metrics.jsonl"
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def begin(self, settings: RunSettings, training: ImageSet) -> None:
        """Write what decides the run, and forget an unfinished earlier attempt."""
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
        write_bytes(self.checkpoint, _to_bytes(weights))
        return self.checkpoint

    def finish(self, network: Network, training: ImageSet, settings: RunSettings, **facts: object) -> None:
        """Write the model and mark the run finished: last of all the weights, then the status."""
        config = {
            "format_version": FORMAT_VERSION,
            "model": settings.model.model_dump(mode="json"),
            "image_shape": list(training.shape),
            "classes": list(training.classes),
            "noise": settings.training.noise,
            "data": {"name": training.name, "fingerprint": training.fingerprint, "grey": settings.data.grey},
        }
        buffer = io.BytesIO()
        np.save(buffer, np.sort(training.image_hashes()), allow_pickle=False)
        write_bytes(self.folder / "model/trained_on.npy", buffer.getvalue())
        write_json(self.folder / "model/config.json", config)
        write_bytes(self.folder / "model/model.safetensors", _to_bytes(network.state_dict()))
        self.set_status("finished", **facts)

    def trained_on(self) -> NDArray[np.uint64]:
        """Sorted hashes of the images trained on, as `ImageSet.image_hashes` makes them. Raises: InputError."""
        path = self.folder / "model/trained_on.npy"
        try:
            hashes: NDArray[np.uint64] = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); the file is missing or damaged, train the run again."
            ) from error
        return hashes

    def config(self) -> dict[str, Any]:
        """The model's config.json. Raises: InputError if this is no run, or one of a newer format."""
        path = self.folder / "model/config.json"
        if not path.exists():
            raise InputError(
                f"{self.folder} is not a finished run (it has no model/config.json); train one with `isthmus train`."
            )
        config = read_json(path)
        if config.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{path} has format version {config.get('format_version')!r}, this Isthmus reads {FORMAT_VERSION}: "
                f"update Isthmus."
            )
        return config

    def network(self) -> Network:
        """Build the network and load its weights, ready to evaluate.

        Raises: InputError if the folder is no finished run or a file in it is damaged.
        """
        config = self.config()
        model = validate_model(config["model"])
        network = build(model, tuple(config["image_shape"]), classes=len(config["classes"]))
        path = self.folder / "model/model.safetensors"
        try:
            network.load_state_dict(load_tensors(path.read_bytes()))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); the file is missing or damaged, train the run again."
            ) from error
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training
        return network.eval()


def _to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
