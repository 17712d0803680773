"""Plain PyTorch on the lab's autoencoder until the test images are rebuilt with a given error.

The loop of pytorch_loop.py at its batch and rate. The test error is looked at four times an epoch, untimed: more often
than anybody would, so that rounding up to whole epochs does not count against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from peers.pytorch_loop import fit
from peers.task import WARM_UP_IMAGES, read

LOOKS = 4  # an epoch


def prepare(folder: Path) -> Callable[..., dict[str, Any]]:
    task = read(folder)
    test = torch.from_numpy(np.load(folder / "test.npy")).float() / 255
    fit(task.first(WARM_UP_IMAGES), True)

    def sample(target: float, limit: float) -> dict[str, Any]:
        """Arguments: target: mean squared error per pixel. limit: seconds of training after which to stop."""
        torch.manual_seed(0)
        network = task.network()
        optimizer = task.optimizer(network)
        loader = task.loader(True)
        every = -(-len(loader) // LOOKS)
        spent, found = 0.0, []
        while True:
            started = time.perf_counter()
            network.train()
            for step, (images, labels) in enumerate(loader):
                loss = network.loss(images, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()
                now = spent + time.perf_counter() - started
                if now < limit and (step + 1) % every and step + 1 < len(loader):
                    continue
                found.append(error(network, test))
                if found[-1] <= target or now >= limit:
                    return {"seconds": min(now, limit), "reached": found[-1] <= target, "errors": found}
                network.train()
                spent, started = now, time.perf_counter()

    return sample


@torch.no_grad()
def error(network: Any, test: Tensor) -> float:
    network.eval()
    total = sum(float(F.mse_loss(network(part), part)) * len(part) for part in test.split(500))
    return total / len(test)
