"""S3.4: do the classes form clusters in a code of three numbers, and do the pairs that do not agree with the labels?

Confusions are set against two explanations: neighbouring digits (a label is a number, so 3 is near 4), and similar
pictures (the mean images of two classes lie close). Each is a rank correlation over all pairs of classes, judged by
permuting the classes, since pairs that share a class are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from isthmus.data.imageset import Split
from isthmus.latent.neighbours import NeighbourAccuracy, neighbour_accuracy
from isthmus.latent.separability import linear_separability, silhouettes
from isthmus.networks.apply import encode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.training.job import Trained

PAIRS_SHOWN = 3
EXAMPLES = 5  # images of each class of a confused pair
PERMUTATIONS = 2000
FEWEST = 5  # classes, whose 120 orders can be rare


@dataclass(frozen=True)
class Explanation:
    """Spearman's correlation of separability with a distance between classes, and the share of permutations of the
    classes that give one as strong."""

    correlation: float
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two classes by number, how well a plane parts them, and images of each (M, C, H, W)."""

    classes: tuple[int, int]
    separability: float
    examples: tuple[NDArray[np.generic], NDArray[np.generic]]


@dataclass(frozen=True)
class Clusters:
    """S3.4. codes (N, 3) of the validation and test images, none of them trained on, with labels (N,).

    neighbours: 1-NN of the test codes among the training codes. silhouette: (K,) over `codes`. separability: (K, K)
    over `codes`. confused: the pairs least separable, worst first. numbers: None unless the classes are numbers. Both
    explanations are None where they cannot be tested.
    pixel_neighbours: 1-NN on the pixels, mean over the classes.
    """

    codes: NDArray[np.float32]
    labels: NDArray[np.int64]
    neighbours: NeighbourAccuracy
    pixel_neighbours: float
    silhouette: NDArray[np.float64]
    separability: NDArray[np.float64]
    confused: tuple[Pair, ...]
    numbers: Explanation | None
    pictures: Explanation | None

    @property
    def silhouette_mean(self) -> float:
        """Mean over the classes."""
        return float(np.nanmean(self.silhouette))


def measure_clusters(run: Trained, parts: Split, *, seed: int) -> Clusters:
    """Measure the code of `run`, an autoencoder, on labelled images."""
    network = cast(Autoencoder, run.network)
    references, queries = encode(network, parts.train.images), encode(network, parts.test.images)
    unseen = np.concatenate([encode(network, parts.validation.images), queries])
    train_labels, test_labels = (cast(NDArray[np.int64], part.labels) for part in (parts.train, parts.test))
    labels = np.concatenate([cast(NDArray[np.int64], parts.validation.labels), test_labels])
    classes = len(parts.test.classes)
    table = linear_separability(unseen, labels, classes=classes)
    flat = [part.images.reshape(len(part), -1).astype(np.float32) for part in (parts.train, parts.test)]
    on_pixels = neighbour_accuracy(flat[0], train_labels, flat[1], test_labels, classes=classes)
    means = np.stack([flat[0][train_labels == k].mean(0) for k in np.unique(train_labels)])
    present = np.unique(train_labels)
    between = np.linalg.norm(means[:, None] - means[None], axis=2)
    generator = np.random.default_rng([seed, 7])
    part = table[np.ix_(present, present)]
    values = _as_numbers([parts.test.classes[k] for k in present])
    apart = None if values is None else np.abs(values[:, None] - values[None])
    return Clusters(
        unseen,
        labels,
        neighbour_accuracy(references, train_labels, queries, test_labels, classes=classes),
        on_pixels.mean,
        silhouettes(unseen, labels, classes=classes),
        table,
        _confused(table, labels, parts),
        None if apart is None else _explain(part, apart, generator),
        _explain(part, between, generator),
    )


def figures(found: Clusters) -> dict[str, float | None]:
    """The numbers of S3.4 by their dotted names."""
    named: dict[str, float | None] = {
        "S3.code3.1nn_mean": found.neighbours.mean,
        "S3.code3.silhouette": found.silhouette_mean,
        "S3.code3.separability": float(np.nanmean(found.separability)),
        "S3.pixels.1nn_mean": found.pixel_neighbours,
        "S3.code3.pictures_correlation": None if found.pictures is None else found.pictures.correlation,
    }
    if found.numbers is not None:
        named["S3.code3.numbers_correlation"] = found.numbers.correlation
    return named


def _confused(table: NDArray[np.float64], labels: NDArray[np.int64], parts: Split) -> tuple[Pair, ...]:
    pairs = [(float(table[a, b]), a, b) for a, b in combinations(range(len(table)), 2) if np.isfinite(table[a, b])]
    images = np.concatenate([parts.validation.images, parts.test.images])
    return tuple(
        Pair((a, b), share, (images[labels == a][:EXAMPLES], images[labels == b][:EXAMPLES]))
        for share, a, b in sorted(pairs)[:PAIRS_SHOWN]
    )


def _as_numbers(classes: list[str]) -> NDArray[np.float64] | None:
    """The class names as numbers, or None if one of them is none."""
    return np.array([float(name) for name in classes]) if all(name.isdecimal() for name in classes) else None


def _explain(
    separability: NDArray[np.float64], distance: NDArray[np.float64], generator: np.random.Generator
) -> Explanation | None:
    """Mantel's test (1967) with ranks: rows and columns of one table permuted together; None if there is nothing to
    compare, or so few classes that no order of them would be rare."""
    rows, columns = np.triu_indices(len(distance), 1)
    finite = np.isfinite(separability[rows, columns])
    rows, columns = rows[finite], columns[finite]
    if len(distance) < FEWEST or np.ptp(distance[rows, columns]) == 0 or np.ptp(separability[rows, columns]) == 0:
        return None
    values = separability[rows, columns]
    observed = float(spearmanr(values, distance[rows, columns]).statistic)
    beyond = 0
    for _ in range(PERMUTATIONS):
        order = generator.permutation(len(distance))
        drawn = float(spearmanr(values, distance[order[rows], order[columns]]).statistic)
        beyond += abs(drawn) >= abs(observed) - 1e-12
    return Explanation(observed, (beyond + 1) / (PERMUTATIONS + 1))
