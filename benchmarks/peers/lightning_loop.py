"""Lightning: a LightningModule and `Trainer.fit`, without logger, progress bar, checkpoints and summary."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from peers.task import Fitted, Task, contestant


class Module(lightning.LightningModule):
    def __init__(self, task: Task):
        super().__init__()
        self.network, self.task = task.network(), task
        self.losses: list[Tensor] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss = self.network.loss(*batch)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.task.optimizer(self.network)


def fit(task: Task, shuffle: bool) -> Fitted:
    module = Module(task)
    off = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **off)
    loader = task.loader(shuffle)
    started = time.perf_counter()
    trainer.fit(module, loader)
    seconds = time.perf_counter() - started
    return Fitted(seconds, float(torch.stack(module.losses).mean()), module.network)


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    return contestant(folder, fit)
