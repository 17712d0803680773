"""Plain PyTorch: a DataLoader and the loop of every tutorial, with `loss.item()` in each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from peers.task import Fitted, Task, contestant


def fit(task: Task, shuffle: bool) -> Fitted:
    network = task.network()
    optimizer = task.optimizer(network)
    loader = task.loader(shuffle)
    started = time.perf_counter()
    network.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = network.loss(images, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return Fitted(time.perf_counter() - started, total / len(loader), network)


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    return contestant(folder, fit)
