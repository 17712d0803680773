"""Nearest neighbours in the code: how much of the class survives the bottleneck.

Each query takes the class of its nearest reference (Cover and Hart 1967). References are training codes, queries
test codes; distances are Euclidean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from isthmus.metrics import accuracy_per_class, confusion

TREE_UP_TO = 3  # dimensions; beyond, a tree visits most of its leaves


@dataclass(frozen=True)
class NeighbourAccuracy:
    """Accuracy of 1-NN: per_class (K,) as shares, mean over the classes, confusion (K, K) with rows the true class."""

    per_class: NDArray[np.float64]
    mean: float
    confusion: NDArray[np.int64]


def nearest(references: NDArray[np.floating], queries: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index of the nearest reference of each query: (N, D), (M, D) -> (M,).

    >>> nearest(np.array([[0.0], [10.0]]), np.array([[7.0]]))
    array([1])
    """
    if references.shape[1] <= TREE_UP_TO:
        index = cKDTree(references).query(queries, workers=-1)[1]
    else:
        index = NearestNeighbors(n_neighbors=1).fit(references).kneighbors(queries, return_distance=False)[:, 0]
    return np.asarray(index, dtype=np.int64)


def neighbour_accuracy(
    references: NDArray[np.floating],
    reference_labels: NDArray[np.int64],
    queries: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    classes: int,
) -> NeighbourAccuracy:
    """Accuracy of 1-NN classification. Arguments: codes (N, D) and (M, D), labels (N,) and (M,) below `classes`."""
    predicted = reference_labels[nearest(references, queries)]
    counts = confusion(torch.from_numpy(predicted), torch.from_numpy(labels), classes=classes)
    per_class = accuracy_per_class(counts).numpy()
    return NeighbourAccuracy(per_class, float(np.nanmean(per_class)), counts.numpy())
