"""Hugging Face accelerate: the plain loop with everything prepared by an Accelerator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from peers.task import Fitted, Task, contestant


def fit(task: Task, shuffle: bool) -> Fitted:
    network = task.network()
    accelerator = Accelerator(cpu=True)
    prepared, optimizer, loader = accelerator.prepare(network, task.optimizer(network), task.loader(shuffle))
    started = time.perf_counter()
    prepared.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = network.loss(images, labels)
        accelerator.backward(loss)
        optimizer.step()
        total += loss.item()
    seconds = time.perf_counter() - started
    return Fitted(seconds, total / len(loader), accelerator.unwrap_model(prepared))


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    return contestant(folder, fit)
