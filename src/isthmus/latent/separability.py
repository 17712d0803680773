"""Which classes lie on top of each other in the code, how well two of them can be parted by a plane, and which codes
were clipped."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus.latent.neighbours import nearest


def pairwise_overlap(
    references: NDArray[np.floating],
    reference_labels: NDArray[np.int64],
    queries: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    classes: int,
) -> NDArray[np.float64]:
    """Overlap of every two classes: twice the balanced error of 1-NN that knows these two classes alone.

    0 where they are apart, 1 where neighbours say nothing about the class. For balanced classes the
    asymptotic 1-NN error is the integral of p q / (p + q) (Cover and Hart 1967); twice that is the harmonic overlap of
    the two densities.
    The larger class is thinned, evenly, to the size of the smaller, else its density would win the ties.
    Arguments: as in `neighbour_accuracy`. Returns: (K, K), symmetric, ones on the diagonal, at most 1.
    """
    rows = [np.flatnonzero(reference_labels == k) for k in range(classes)]
    overlap = np.eye(classes)
    for a, b in combinations(range(classes), 2):
        size = min(len(rows[a]), len(rows[b]))
        if size == 0 or not ((labels == a).any() and (labels == b).any()):
            overlap[a, b] = overlap[b, a] = np.nan
            continue
        chosen = np.concatenate([r[np.linspace(0, len(r) - 1, size).astype(int)] for r in (rows[a], rows[b])])
        asked = (labels == a) | (labels == b)
        predicted = reference_labels[chosen][nearest(references[chosen], queries[asked])]
        wrong = predicted != labels[asked]
        error = (wrong[labels[asked] == a].mean() + wrong[labels[asked] == b].mean()) / 2
        overlap[a, b] = overlap[b, a] = min(1.0, 2 * error)
    return overlap


def linear_separability(
    codes: NDArray[np.floating], labels: NDArray[np.int64], *, classes: int, folds: int = 5
) -> NDArray[np.float64]:
    """How well a plane parts every two classes: balanced accuracy of logistic regression on codes it did not see.

    Each code is judged by the one of `folds` fits that left it out; 1 where a plane parts the classes, about 0.5 where
    it cannot. The folds are the same at every call.
    Arguments: codes: (N, D). labels: (N,) below `classes`.
    Returns: (K, K), symmetric, NaN on the diagonal and for classes of fewer than two codes.
    """
    table = np.full((classes, classes), np.nan)
    for a, b in combinations(range(classes), 2):
        chosen = (labels == a) | (labels == b)
        second = labels[chosen] == b
        fewest = int(min(second.sum(), (~second).sum()))
        if fewest < 2:
            continue
        division = StratifiedKFold(min(folds, fewest), shuffle=True, random_state=0)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        right = cross_val_predict(model, codes[chosen], second, cv=division) == second
        table[a, b] = table[b, a] = (right[second].mean() + right[~second].mean()) / 2
    return table


def silhouettes(codes: NDArray[np.floating], labels: NDArray[np.int64], *, classes: int) -> NDArray[np.float64]:
    """Mean silhouette of each class (Rousseeuw 1987): how much nearer its codes lie to each other than to those of
    the nearest other class, from -1 to 1. NaN for a class without codes; all NaN where there is one class only.

    Arguments: codes: (N, D). labels: (N,) below `classes`. Returns: (K,).
    """
    if not 2 <= len(np.unique(labels)) < len(labels):
        return np.full(classes, np.nan)
    values = silhouette_samples(codes, labels)
    present = np.bincount(labels, minlength=classes)
    return np.where(present, np.bincount(labels, values, classes) / np.maximum(present, 1), np.nan)


@dataclass(frozen=True)
class Clipping:
    """Codes that pile up at the least value of an axis, as those behind a ReLU do at zero.

    bottom: (D,) the least values. share: (D,) of codes exactly there. dead: (D,) True where all of them are, so that
    the axis says nothing.
    """

    bottom: NDArray[np.floating]
    share: NDArray[np.float64]
    dead: NDArray[np.bool_]

    @property
    def clipped(self) -> list[int]:
        """Axes, from 0, with more than one code in a hundred at the boundary, dead ones included."""
        return [int(axis) for axis in np.flatnonzero(self.share > 0.01)]


def clipping(codes: NDArray[np.floating]) -> Clipping:
    """Find clipped axes from the codes alone: (N, D).

    >>> clipping(np.array([[0.0, 1.0], [0.0, 2.0], [3.0, 3.0]])).clipped[0]
    0
    """
    at_bottom = codes == codes.min(0)
    share = np.where(at_bottom.sum(0) > 1, at_bottom.mean(0), 0.0)
    return Clipping(codes.min(0), share, at_bottom.all(0))
