"""scikit-learn's PCA with one of its solvers, on float64 pixels that were scaled beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA


def prepare(folder: Path, *, solver: str, components: int) -> Callable[..., dict[str, Any]]:
    images = np.load(folder / "images.npy")
    rows = images.reshape(len(images), -1) / 255.0

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        fitted = PCA(components, svd_solver=solver, random_state=0).fit(rows)
        seconds = time.perf_counter() - started
        over_all = fitted.explained_variance_ * (len(rows) - 1) / len(rows)  # over N, as ours
        return {"seconds": seconds, "variances": over_all.tolist()}

    sample()
    return sample
