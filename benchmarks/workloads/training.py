"""An epoch of the lab's autoencoder, of the VAE and of the classifier: ours against plain PyTorch and four libraries;
an epoch of a perceptron of one hidden layer against scikit-learn's.

Everybody starts from the same weights, has the same images in memory and the same optimizer. Before anything is timed
each makes the same first updates in the same order in float64, and has to arrive at the same loss; in the timed epochs,
which everybody shuffles in its own way, the mean loss has to be nearly the same. Where a name ends in "compiled", ours
has the operators of `isthmus doctor --compile`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from common import NotMeasured, Turns, compared, in_turns
from contestants import Contestant, orders, running
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet
from isthmus.networks import compiled
from isthmus.networks.catalog import Network, build
from isthmus.networks.variational import LOG_2PI
from isthmus.settings import ClassifierSettings, LabSettings, ModelSettings, TrainingSettings, VAESettings
from isthmus.training.loop import train, update
from isthmus.training.optimizers import make_optimizer
from peers.task import CHECKED_IMAGES, DRAWS, SCORED, WARM_UP_IMAGES, updates
from workloads.plan import Facts, Plan, Workload, mnist

AGREE = 1e-6  # relative, after the same updates in float64
AGREE_OF = {"mlp": 1e-3}  # scikit-learn's Adam adds its epsilon at another place, which weights of rare pixels feel
NEARLY = 0.1  # relative, after an epoch in different orders
VALIDATION = 64  # images: the peers score none
CONSTANT = {"vae": 0.5 * 1024 * LOG_2PI}  # of our likelihood, which the peers leave out

MODELS: dict[str, ModelSettings] = {
    "lab": LabSettings(),
    "vae": VAESettings(sigma=1.0),
    "classifier": ClassifierSettings(),
    "mlp": ClassifierSettings(architecture="mlp", hidden=100),
}
LIBRARIES = {
    "pytorch": "peers.pytorch_loop:prepare",
    "lightning": "peers.lightning_loop:prepare",
    "skorch": "peers.skorch_loop:prepare",
    "accelerate": "peers.accelerate_loop:prepare",
    "pythae": "peers.pythae_loop:prepare",
}
CLASSIFYING = {name: target for name, target in LIBRARIES.items() if name != "pythae"}
PEERS = {
    "lab": LIBRARIES,
    "vae": LIBRARIES,
    "classifier": CLASSIFYING,
    "mlp": {"sklearn": "peers.sklearn_mlp:prepare"},
}


@dataclass(frozen=True)
class Epoch:
    """kind: of network. images: of an epoch in full, fast and tiny measurements. compiled: whether ours has operators
    of its own."""

    kind: str
    training: TrainingSettings
    images: tuple[int, int, int]
    compiled: bool = False


def _epoch(kind: str, batch: int, images: tuple[int, int, int], **options: object) -> Epoch:
    rate = {"epochs": 1, "batch_size": batch, "learning_rate": 1e-3}
    return Epoch(kind, TrainingSettings.model_validate({**rate, **options}), images)


LAB = _epoch("lab", 64, (50_000, 6_400, 1_500))
EPOCHS = {
    "train.lab.b64": LAB,
    "train.lab.b64.compiled": replace(LAB, compiled=True),
    "train.lab.b256": _epoch("lab", 256, (50_000, 25_600, 5_200)),
    "train.lab.b1024": _epoch("lab", 1024, (50_000, 40_960, 20_500)),
    "train.vae": _epoch("vae", 128, (25_600, 12_800, 2_600)),
    "train.classifier": _epoch("classifier", 256, (50_000, 25_600, 5_200), optimizer="adamw", weight_decay=1e-2),
    "train.mlp": _epoch("mlp", 200, (50_000, 20_000, 4_000)),
}
AIMS = {"train.lab.b64": {"*": 1.9}, "train.lab.b64.compiled": {"*": 2.5}}


def ours(folder: Path, *, name: str) -> Callable[..., dict[str, float]]:
    """Our contestant: `isthmus.training.loop.train`, in the process that `isthmus train` would have."""
    prepare_process()
    epoch = EPOCHS[name]
    if epoch.compiled:
        compiled.make()
        os.environ.pop(compiled.SWITCH, None)
    labels = np.load(folder / "labels.npy")
    data = ImageSet(np.load(folder / "images.npy"), labels, tuple("0123456789"))
    few = data.take(np.arange(VALIDATION))
    size = epoch.training.batch_size
    train(start(epoch, folder), data.take(np.arange(updates(WARM_UP_IMAGES, size) * size)), few, epoch.training)

    def sample(check: bool = False) -> dict[str, float]:
        network = start(epoch, folder)
        if check:
            return first_updates(network, data, epoch)
        started = time.perf_counter()
        history = train(network, data, few, epoch.training)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "loss": history.epochs[0]["loss"] - CONSTANT.get(epoch.kind, 0.0)}

    return sample


def start(epoch: Epoch, folder: Path | None = None) -> Network:
    """Our network; with the weights that the peers are given too."""
    network = build(MODELS[epoch.kind], (1, 32, 32), classes=10)
    if folder is not None:
        with np.load(folder / "weights.npz") as stored, torch.no_grad():
            for i, parameter in enumerate(network.parameters()):
                parameter.copy_(torch.from_numpy(stored[f"{i:03d}"]))
    return network


def first_updates(network: Network, data: ImageSet, epoch: Epoch) -> dict[str, float]:
    """The first updates in the order of the files, in float64, by the function that `train` makes them with."""
    network.double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, epoch.training)
    images, size = torch.from_numpy(data.images).double() / 255, epoch.training.batch_size
    labels = torch.from_numpy(data.labels) if network.target == "labels" else None
    network.train()
    torch.manual_seed(DRAWS)
    started, losses = time.perf_counter(), []
    for i in range(0, updates(CHECKED_IMAGES, size) * size, size):
        given = None if labels is None else labels[i : i + size]
        settings, none = epoch.training, torch.Generator()
        losses.append(update(network, images[i : i + size], given, optimizer, settings, corrupt=None, generator=none))
    seconds = time.perf_counter() - started
    network.eval()
    torch.manual_seed(DRAWS)
    scored = images[:SCORED]
    with torch.no_grad():
        after = float(network.loss(scored, scored if labels is None else labels[:SCORED]))
    constant = CONSTANT.get(epoch.kind, 0.0)
    return {"seconds": seconds, "loss": float(torch.stack(losses).mean()) - constant, "after": after - constant}


def write_task(name: str, plan: Plan, *, folder: str | None = None) -> Path:
    """The folder that the contestants read, called by the workload unless told otherwise."""
    epoch, place = EPOCHS[name], plan.folder / (folder or name)
    place.mkdir(parents=True)
    count = plan.pick(*epoch.images)
    data = mnist().train
    np.save(place / "images.npy", data.images[:count])
    np.save(place / "labels.npy", data.labels[:count])
    weights = [parameter.detach().numpy() for parameter in start(epoch).parameters()]
    np.savez(place / "weights.npz", **{f"{i:03d}": value for i, value in enumerate(weights)})
    settings = epoch.training
    facts = {
        "kind": epoch.kind,
        "batch": settings.batch_size,
        "rate": settings.learning_rate,
        "weight_decay": settings.weight_decay if settings.optimizer == "adamw" else None,
    }
    (place / "task.json").write_text(json.dumps(facts))
    return place


def agreement(contestants: dict[str, Contestant], *, within: float) -> dict[str, float]:
    """The largest relative difference from ours of both losses after the same updates, by peer.

    Raises: NotMeasured if one of them is not as good as equal.
    """
    answers = {name: contestant.ask(check=True) for name, contestant in contestants.items()}
    own = answers.pop("ours")
    found = {
        name: max(abs(answer[figure] / own[figure] - 1) for figure in ("loss", "after"))
        for name, answer in answers.items()
    }
    apart = {name: answers[name] for name, difference in found.items() if not difference <= within}
    if apart:
        raise NotMeasured(f"after the same first updates ours has {own}, but {apart}")
    return found


def check_epochs(turns: Turns) -> dict[str, float]:
    """The mean loss of an epoch, by contestant. Raises: NotMeasured if one is far from ours."""
    losses = {name: float(np.mean([a["loss"] for a in turns.answers(name)])) for name in turns.samples}
    apart = {name: loss for name, loss in losses.items() if not abs(loss / losses["ours"] - 1) <= NEARLY}
    if apart:
        raise NotMeasured(f"the mean loss of an epoch is {losses['ours']:.4g} with ours, but {apart}")
    return losses


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    (name,) = names
    folder = write_task(name, plan)
    targets = {"ours": "workloads.training:ours", **PEERS[EPOCHS[name].kind]}
    with running(targets, folder, {"ours": {"name": name}}) as contestants:
        differences = agreement(contestants, within=AGREE_OF.get(EPOCHS[name].kind, AGREE))
        turns = in_turns(orders(contestants), plan.rounds, any_machine=plan.any_machine)
    facts = compared(turns)
    facts["loss"] = {peer: round(loss, 6) for peer, loss in check_epochs(turns).items()}
    facts["differs_after_the_same_updates"] = {peer: float(f"{value:.1e}") for peer, value in differences.items()}
    facts["images"] = plan.pick(*EPOCHS[name].images)
    return {name: facts}


WORKLOADS = [
    Workload((name,), measure, {name: AIMS.get(name, {})}, fast=(name,) if name == "train.lab.b64" else ())
    for name in EPOCHS
]
