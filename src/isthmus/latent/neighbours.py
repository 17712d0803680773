"""Nearest neighbours in the code: how much of the class survives the bottleneck.

Each query takes the class of its nearest reference (Cover and Hart 1967). References are training codes, queries
test codes; distances are Euclidean. With the package faiss (extra `faiss`, Linux) codes of 16 and 32 numbers are
compared by its kernels for these sizes, six times faster, and those of 128 and more a fifth faster.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from isthmus.metrics import accuracy_per_class, confusion

TREE_UP_TO = 8  # dimensions; beyond, a tree visits most of its leaves
QUERIES, REFERENCES = 1024, 1024  # compared by one matrix product, whose result stays in the processor's cache
FUSED, MANY = (
    frozenset({16, 32}),
    128,
)  # dimensions that faiss compares without storing the distances; from which it leads
CANDIDATES = 4  # blocks of references whose nearest are compared again without rounding


@dataclass(frozen=True)
class NeighbourAccuracy:
    """Accuracy of 1-NN: per_class (K,) as shares, mean over the classes, confusion (K, K) with rows the true class."""

    per_class: NDArray[np.float64]
    mean: float
    confusion: NDArray[np.int64]


def nearest(references: NDArray[np.floating], queries: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index of the nearest reference of each query: (N, D), (M, D) -> (M,).

    Raises: ValueError if a number is not finite.

    >>> nearest(np.array([[0.0], [10.0]]), np.array([[7.0]]))
    array([1])
    """
    if references.shape[1] <= TREE_UP_TO:
        return np.asarray(cKDTree(references).query(queries, workers=-1)[1], dtype=np.int64)
    if not (np.isfinite(references).all() and np.isfinite(queries).all()):
        raise ValueError("Neighbours need finite numbers; there are NaN or infinite ones among the codes.")
    centre = references.mean(0)  # of small numbers the products below round less
    moved = [np.ascontiguousarray(codes - centre) for codes in (references, queries)]
    if (references.shape[1] in FUSED or references.shape[1] >= MANY) and _has_faiss():
        return _by_faiss(*moved)
    near, asked = map(torch.from_numpy, moved)
    halves = 0.5 * near.square().sum(1)
    return np.concatenate([_by_products(near, halves, part).numpy() for part in torch.split(asked, QUERIES)])


def _has_faiss() -> bool:
    """Elsewhere than on Linux it brings a second OpenMP, which ends the process."""
    return sys.platform == "linux" and importlib.util.find_spec("faiss") is not None


def _by_faiss(references: NDArray[np.floating], queries: NDArray[np.floating]) -> NDArray[np.int64]:
    index = importlib.import_module("faiss").IndexFlatL2(references.shape[1])
    index.add(references.astype(np.float32, copy=False))
    return np.asarray(index.search(queries.astype(np.float32, copy=False), 1)[1][:, 0], dtype=np.int64)


def _by_products(references: Tensor, halves: Tensor, queries: Tensor) -> Tensor:
    """The least of each block of references by a matrix product, (|q - r|^2 - |q|^2) / 2 = |r|^2 / 2 - q r; then the
    nearest of the best of these by the distance itself, which is no difference of large numbers: (M,).

    Arguments: halves: |r|^2 / 2, (N,).
    """
    blocks = zip(torch.split(references, REFERENCES), torch.split(halves, REFERENCES), strict=True)
    least = [torch.addmm(half, queries, block.T, alpha=-1).min(1) for block, half in blocks]
    best = torch.stack([found.values for found in least], 1).topk(min(CANDIDATES, len(least)), largest=False).indices
    places = torch.stack([found.indices + i * REFERENCES for i, found in enumerate(least)], 1).gather(1, best)
    apart = (references[places].double() - queries[:, None]).square().sum(2)
    return places.gather(1, apart.argmin(1, keepdim=True))[:, 0]


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
