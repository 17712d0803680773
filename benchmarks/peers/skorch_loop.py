"""skorch: `NeuralNet.fit` on arrays, without its validation split and its printed log."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from peers.task import Fitted, Task, contestant


class Losses(nn.Module):
    """What skorch calls a module: it gives the loss itself, which no criterion has to make of it again."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.network.loss(images, labels)


class Net(NeuralNet):
    def get_loss(self, y_pred: Tensor, y_true: Any, *_: Any, **__: Any) -> Tensor:
        return y_pred


def fit(task: Task, shuffle: bool) -> Fitted:
    network = task.network()
    adamw = {} if task.weight_decay is None else {"optimizer__weight_decay": task.weight_decay}
    net = Net(
        Losses(network),
        criterion=nn.MSELoss,
        optimizer=torch.optim.AdamW if adamw else torch.optim.Adam,
        lr=task.rate,
        max_epochs=1,
        batch_size=task.batch,
        iterator_train__shuffle=shuffle,
        train_split=None,
        callbacks__print_log=None,
        verbose=0,
        **adamw,
    )
    given = {"images": task.images.numpy(), "labels": task.labels.numpy()}
    started = time.perf_counter()
    net.fit(given, None)
    seconds = time.perf_counter() - started
    history = net.history[0]["batches"]
    return Fitted(seconds, sum(batch["train_loss"] for batch in history) / len(history), net.module_.network)


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    return contestant(folder, fit)
