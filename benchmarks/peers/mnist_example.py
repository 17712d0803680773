"""PyTorch's MNIST example, written anew: two convolutions, dropout, two linear layers; Adadelta at 1.0, falling to 0.7
of itself after each epoch; batches of 64 in random order, seed 1. The images are scaled and standardised beforehand,
which the example does for every image anew. Accuracy is looked at after each epoch, untimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

MEAN, STD = 0.1307, 0.3081


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def prepare(folder: Path) -> Callable[..., dict[str, Any]]:
    parts = {}
    for part in ("train", "test"):
        images = torch.from_numpy(np.load(folder / f"{part}_images.npy")).float() / 255
        labels = torch.from_numpy(np.load(folder / f"{part}_labels.npy"))
        parts[part] = TensorDataset((images - MEAN) / STD, labels)
    few = TensorDataset(*(tensor[:640] for tensor in parts["train"].tensors))
    run(few, few, [2.0], 2.0)

    def sample(targets: Sequence[float], limit: float) -> dict[str, Any]:
        return run(parts["train"], parts["test"], targets, limit)

    return sample


def run(train: TensorDataset, test: TensorDataset, targets: Sequence[float], limit: float) -> dict[str, Any]:
    """Train until the highest target is reached, or for `limit` seconds.

    Returns: seconds in all, reached: the seconds to each target (None if it was not reached), accuracies by epoch.
    """
    torch.manual_seed(1)
    network = Net()
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    loader = DataLoader(train, batch_size=64, shuffle=True)
    reached: dict[str, float | None] = {str(target): None for target in targets}
    spent, accuracies = 0.0, []
    while spent < limit and None in reached.values():
        spent += epoch(network, loader, optimizer, limit - spent)
        schedule.step()
        if spent >= limit:
            break
        accuracies.append(accuracy(network, test))
        for target in targets:
            if accuracies[-1] >= target and reached[str(target)] is None:
                reached[str(target)] = spent
    return {"seconds": spent, "reached": reached, "accuracies": accuracies}


def epoch(network: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, limit: float) -> float:
    """Seconds of an epoch, or of as much of it as the limit allows."""
    started = time.perf_counter()
    network.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(network(images), labels)
        loss.backward()
        optimizer.step()
        if time.perf_counter() - started >= limit:
            break
    return time.perf_counter() - started


@torch.no_grad()
def accuracy(network: nn.Module, test: TensorDataset) -> float:
    network.eval()
    right = sum(
        int((network(images).argmax(1) == labels).sum()) for images, labels in DataLoader(test, batch_size=1000)
    )
    return right / len(test)
