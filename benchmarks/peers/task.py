"""What the peers of a training are given, and how they are made to show that they do the same work as ours.

A task is a folder: images.npy (uint8), labels.npy, weights.npz (one array a parameter, in order), task.json. Images are
scaled to float32 once, untimed: most tutorials leave that to every batch. An order with `check` asks for the first
updates in the order of the files, and for the loss of the network that comes out, all in float64: rounding that Adam
blows up would hide whether the work is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from peers.networks import NETWORKS

CHECKED_IMAGES, WARM_UP_IMAGES = 640, 1280
LEAST_UPDATES, MOST_UPDATES = 3, 10
DRAWS = 7  # seed of what a network draws while it is checked
SCORED = 500


@dataclass(frozen=True)
class Task:
    """images: (N, 1, H, W) in [0, 1]. labels: (N,). weights: of the start. weight_decay: None for Adam, else AdamW."""

    kind: str
    batch: int
    rate: float
    weight_decay: float | None
    images: Tensor
    labels: Tensor
    weights: list[np.ndarray]

    def network(self) -> Any:
        """The network, with the weights of the start and a known state of what it draws."""
        network = NETWORKS[self.kind]().to(self.images.dtype)
        self.restart(network)
        return network

    def restart(self, network: Any) -> None:
        """Bring a network back to the start, the statistics of its batch norms too."""
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), self.weights, strict=True):
                parameter.copy_(torch.from_numpy(value))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
        if hasattr(network, "generator"):
            network.generator.manual_seed(DRAWS)

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.weight_decay is None:
            return torch.optim.Adam(network.parameters(), lr=self.rate)
        return torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=self.weight_decay)

    def loader(self, shuffle: bool) -> DataLoader[Any]:
        """As a tutorial has it: no worker processes, since the images are in memory."""
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=self.batch, shuffle=shuffle)

    def first(self, images: int) -> Task:
        """The first images, those of whole batches, see `updates`."""
        count = updates(images, self.batch) * self.batch
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def exact(self) -> Task:
        """The same in float64, whose images are eight bits scaled by that precision."""
        return replace(self, images=(self.images * 255).round().double() / 255)


def updates(images: int, batch: int) -> int:
    """About as many updates as go over so many images, but neither few nor many."""
    return min(MOST_UPDATES, max(LEAST_UPDATES, images // batch))


@dataclass(frozen=True)
class Fitted:
    """seconds: of the library's call that trains. loss: mean over the steps. network: what came out."""

    seconds: float
    loss: float
    network: Any


def read(folder: Path) -> Task:
    facts = json.loads((folder / "task.json").read_text())
    images = torch.from_numpy(np.load(folder / "images.npy")).float() / 255
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    with np.load(folder / "weights.npz") as stored:
        weights = [stored[f"{i:03d}"] for i in range(len(stored.files))]
    return Task(facts["kind"], facts["batch"], facts["rate"], facts["weight_decay"], images, labels, weights)


def contestant(folder: Path, fit: Callable[[Task, bool], Fitted]) -> Callable[..., dict[str, float]]:
    """What serve.py asks. Arguments: fit: trains for one epoch; called with the task and whether to shuffle."""
    task = read(folder)
    fit(task.first(WARM_UP_IMAGES), True)

    def sample(check: bool = False) -> dict[str, float]:
        if not check:
            fitted = fit(task, True)
            return {"seconds": fitted.seconds, "loss": fitted.loss}
        exact = task.first(CHECKED_IMAGES).exact()
        fitted = fit(exact, False)
        return {"seconds": fitted.seconds, "loss": fitted.loss, "after": _after(exact, fitted.network)}

    return sample


@torch.no_grad()
def _after(task: Task, network: Any) -> float:
    """The loss in evaluation mode."""
    network.eval()
    if hasattr(network, "generator"):
        network.generator.manual_seed(DRAWS)
    return float(network.loss(task.images[:SCORED], task.labels[:SCORED]))
