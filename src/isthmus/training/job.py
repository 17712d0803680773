"""A network trained into a run folder, or taken from there if that was done before.

Whoever wants to follow it in TensorBoard calls `train_run` inside `events.logging_events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from isthmus.data.degrade import add_noise
from isthmus.data.imageset import Split
from isthmus.errors import DivergedError, InputError, RunExistsError
from isthmus.networks.apply import Coder, encode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network, build
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.settings import RunSettings, differences
from isthmus.training.distributed import from_leader, leads
from isthmus.training.events import log_finished, log_picture, logged
from isthmus.training.loop import Progress, train
from isthmus.training.scoring import Corrupt
from isthmus.writing import write_arrays


@dataclass(frozen=True)
class Trained:
    """A finished run: its network, a dictionary an epoch, the best epoch and the seconds of training steps."""

    network: Network
    epochs: list[dict[str, float]]
    best_epoch: int
    seconds: float

    @property
    def parameters(self) -> int:
        """Numbers in the network, a frozen decoder included."""
        return sum(p.numel() for p in self.network.parameters())


def train_run(
    run: Run,
    settings: RunSettings,
    parts: Split,
    *,
    device: str | torch.device = "cpu",
    start: Network | None = None,
    corrupt: Corrupt | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on `parts.train`, choose by `parts.validation`, write the run; a finished run is loaded instead.

    Of several processes that train together (distributed.py) the leader writes, and all return the same.
    Arguments: start: a network of the same kind whose weights to begin with; `settings.start` names it.
    Raises: InputError if the start is of another kind; RunExistsError if the run was begun with other settings or
    images; what `train` raises, with the state of the run set accordingly.
    """
    if leads() and (run.folder / "run.json").exists():
        _check_same(run, settings, parts)
    finished = from_leader(_finished(run) if leads() else None)
    if finished is not None:
        finished.network.to(device)
        if leads():
            shown = _as_trained(settings, corrupt)
            log_finished(run, finished.network, parts.validation, shown, step=finished.best_epoch)
        return finished
    network = build(settings.model, parts.train.shape, classes=len(parts.train.classes), seed=settings.seed)
    if start is not None:
        _begin_with(network, start)
    if not leads():
        return _follow(network, settings, parts, device, corrupt)
    run.begin(settings, parts)
    try:
        with logged(run) as followed:
            history = train(
                network,
                parts.train,
                parts.validation,
                settings.training,
                seed=settings.seed,
                device=device,
                corrupt=corrupt,
                run=followed,
                progress=progress,
            )
            log_picture(followed, network, parts.validation, _as_trained(settings, corrupt), step=history.best_epoch)
    except DivergedError as error:
        run.set_status("diverged", step=error.step, learning_rate=error.learning_rate)
        raise
    except KeyboardInterrupt:
        run.set_status("interrupted", epochs=len(run.history()))
        raise
    except BaseException as error:
        run.set_status("failed", error=str(error))
        raise
    if isinstance(network, Autoencoder | VAE):
        _write_codes(run, network, parts)
    run.finish(network, parts.train, settings, best_epoch=history.best_epoch, seconds=history.seconds)
    return Trained(network, history.epochs, history.best_epoch, history.seconds)


def _finished(run: Run) -> Trained | None:
    if not run.finished:
        return None
    facts = run.status()
    return Trained(run.network(), run.history(), int(facts["best_epoch"]), float(facts["seconds"]))


def _follow(
    network: Network, settings: RunSettings, parts: Split, device: str | torch.device, corrupt: Corrupt | None
) -> Trained:
    """Train together with the leader, which alone writes."""
    history = train(
        network, parts.train, parts.validation, settings.training, seed=settings.seed, device=device, corrupt=corrupt
    )
    return Trained(network, history.epochs, history.best_epoch, history.seconds)


def _as_trained(settings: RunSettings, corrupt: Corrupt | None) -> Corrupt | None:
    """What is done to clean images before a network is given them, as in `train`."""
    if corrupt is not None or not settings.training.noise:
        return corrupt
    return lambda images, generator: add_noise(images, settings.training.noise, generator=generator)


def _begin_with(network: Network, start: Network) -> None:
    try:
        network.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise InputError(
            "The run to start from has another network than the one to be trained: give the same model.* settings and "
            "images of the same size."
        ) from error


def _write_codes(run: Run, network: Coder, parts: Split) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in {"train": parts.train, "validation": parts.validation, "test": parts.test}.items():
        arrays[name] = encode(network, part.images)
        if part.labels is not None:
            arrays[f"{name}_labels"] = part.labels
    write_arrays(run.folder / "codes.npz", arrays)


def _check_same(run: Run, settings: RunSettings, parts: Split) -> None:
    """A run is only taken up for the same settings and the same images."""
    before = run.settings()
    if before != settings:
        raise RunExistsError(
            f"{run.folder} was begun with other settings ({differences(before, settings)}); give the same ones, "
            f"--overwrite it, or choose another --out."
        )
    if any(getattr(parts, name).fingerprint != value for name, value in run.fingerprints().items()):
        raise RunExistsError(f"{run.folder} was trained on other images; --overwrite it, or choose another --out.")
