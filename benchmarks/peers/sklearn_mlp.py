"""scikit-learn: `MLPClassifier.fit` for one epoch, from given weights, without its penalty."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from peers.task import CHECKED_IMAGES, SCORED, WARM_UP_IMAGES, Task, read


def fit(task: Task, shuffle: bool) -> tuple[float, MLPClassifier]:
    """Seconds, and what came out."""
    images, labels = task.images.flatten(1).numpy(), task.labels.numpy()
    hidden = len(task.weights[0])
    model = MLPClassifier(
        (hidden,), batch_size=task.batch, learning_rate_init=task.rate, alpha=0.0, max_iter=1, warm_start=True
    )
    model.shuffle = shuffle
    model.fit(images[: task.batch], np.arange(task.batch) % 10)  # makes the arrays that are overwritten now
    for layer in range(2):
        model.coefs_[layer] = np.array(task.weights[2 * layer].T, dtype=images.dtype, order="C")
        model.intercepts_[layer] = np.array(task.weights[2 * layer + 1], dtype=images.dtype)
    model.loss_curve_ = []
    started = time.perf_counter()
    model.fit(images, labels)
    return time.perf_counter() - started, model


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    task = read(folder)
    fit(task.first(WARM_UP_IMAGES), True)

    def sample(check: bool = False) -> dict[str, float]:
        given = task.first(CHECKED_IMAGES).exact() if check else task
        seconds, model = fit(given, not check)
        facts = {"seconds": seconds, "loss": float(model.loss_curve_[-1])}
        if check:
            scored = model.predict_proba(given.images[:SCORED].flatten(1).numpy())
            facts["after"] = float(log_loss(given.labels[:SCORED].numpy(), scored, labels=np.arange(10)))
        return facts

    return sample
