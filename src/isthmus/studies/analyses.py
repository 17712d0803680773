"""What a study of one's own can measure of its networks: a function and a result for each analysis.

Every analysis is given the same bench: the images in three parts, the trained networks by the names of their runs, and
the classifier that judges, if there is one. Nothing is chosen on the test images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from torch import Tensor

from isthmus.data.imageset import ImageSet, Split
from isthmus.latent.neighbours import NeighbourAccuracy, neighbour_accuracy
from isthmus.latent.separability import Clipping, clipping
from isthmus.metrics import accuracy_per_class, mse
from isthmus.networks.apply import Coder, classify, encode, ranges, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.pca import PrincipalComponents, principal_components
from isthmus.networks.variational import VAE, active_units
from isthmus.runs import Run
from isthmus.studies.rates import Share
from isthmus.studies.samples import confusion_of, examples_of
from isthmus.training.evaluation import measure
from isthmus.training.job import Trained

CHUNK = 10_000  # images reconstructed at once
SCORED = 5000  # codes over which the silhouette, whose cost grows with their square, is taken at most
WRONG_SHOWN = 20


@dataclass(frozen=True)
class Bench:
    """What every analysis is given. runs, folders: by the name of the run. judge: the run of the classifier that is
    best on the validation images, None without one."""

    parts: Split
    runs: Mapping[str, Trained]
    folders: Mapping[str, Run]
    judge_name: str | None
    seed: int

    @property
    def coders(self) -> dict[str, Coder]:
        """The networks with a code."""
        networks = {name: run.network for name, run in self.runs.items()}
        return {name: network for name, network in networks.items() if isinstance(network, Autoencoder | VAE)}

    @property
    def denoisers(self) -> dict[str, Denoiser]:
        """The networks trained to denoise."""
        networks = {name: run.network for name, run in self.runs.items()}
        return {name: network for name, network in networks.items() if isinstance(network, Denoiser)}

    @property
    def judge(self) -> Classifier | None:
        """The classifier that judges what the others draw."""
        return None if self.judge_name is None else cast(Classifier, self.runs[self.judge_name].network)

    @property
    def labelled(self) -> bool:
        """Whether the images have classes, and more than one."""
        return self.parts.train.labels is not None and len(np.unique(self.parts.train.labels)) > 1

    @property
    def chance(self) -> float:
        """Accuracy of a guess, mean over the classes that occur."""
        labels = self.parts.test.labels
        return float("nan") if labels is None else 1 / len(np.unique(labels))

    @property
    def shown(self) -> NDArray[np.int64]:
        """Positions of the test images that are shown: one a class, or the first ten."""
        return examples_of(self.parts.test)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the images that are shown: their classes, or numbers from 1."""
        labels = self.parts.test.labels
        if labels is None:
            return tuple(str(i + 1) for i in range(len(self.shown)))
        return tuple(self.parts.test.classes[k] for k in labels[self.shown])

    @cached_property
    def clean(self) -> Tensor:
        """The test images, (N, C, H, W) in [0, 1]."""
        return to_float(torch.from_numpy(self.parts.test.images))

    @cached_property
    def components(self) -> PrincipalComponents:
        """PCA of the training images with as many components as the largest code has numbers, or as there can be."""
        largest = max(network.latent_dim for network in self.coders.values())
        most = min(len(self.parts.train) - 1, int(np.prod(self.parts.train.shape)))
        return principal_components(self.parts.train, min(largest, most))

    @cached_property
    def pca(self) -> dict[str, NDArray[np.float64]]:
        """Errors of PCA by number of components from 0 on, of the parts "train", "validation" and "test"."""
        parts = {"train": self.parts.train, "validation": self.parts.validation, "test": self.parts.test}
        return {name: self.components.errors(part).numpy() for name, part in parts.items()}

    @property
    def pca_name(self) -> str:
        """What to call PCA: it is exact unless images and pixels are too many."""
        return "exact PCA" if self.components.exact else "approximate PCA"

    def optimum(self, size: int, part: str = "test") -> float | None:
        """The error of PCA with so many components; None where the training images have fewer directions."""
        return float(self.pca[part][size]) if size < len(self.pca[part]) else None

    def kept(self, images: Tensor) -> Share | None:
        """How many of the test images, as they were restored, the judge gives their true class; None without one."""
        if self.judge is None:
            return None
        counts = confusion_of(self.judge, images, self.parts.test)
        return Share.of(int(counts.trace()), int(counts.sum()))


@dataclass(frozen=True)
class Rebuilt:
    """Reconstructions by one network. pca: test error of PCA of the same size. examples: (K, C, H, W)."""

    size: int
    train: float
    test: float
    psnr: float
    pca: float | None
    kept: Share | None
    examples: Tensor


@dataclass(frozen=True)
class Reconstructions:
    """By run. by_pca: examples rebuilt by PCA, by its number of components, where there are few sizes."""

    originals: Tensor
    rebuilt: dict[str, Rebuilt]
    by_pca: dict[int, Tensor]


def reconstructions(bench: Bench) -> Reconstructions:
    """The error of every network with a code on training and test images, beside PCA of its size."""
    rebuilt = {name: _rebuilt(bench, network) for name, network in bench.coders.items()}
    sizes = sorted({each.size for each in rebuilt.values() if each.pca is not None})
    by_pca = {size: _by_pca(bench, size) for size in sizes} if len(sizes) <= 3 else {}
    return Reconstructions(bench.clean[bench.shown], rebuilt, by_pca)


def error_of(network: Coder, images: ImageSet) -> float:
    """Mean squared error per pixel of reconstructions, not clipped."""
    total = 0.0
    for begin, end in ranges(len(images), CHUNK):
        pixels = torch.from_numpy(images.images[begin:end])
        total += float(mse(reconstruct(network, pixels), to_float(pixels)).double().sum())
    return total / len(images)


def _rebuilt(bench: Bench, network: Coder) -> Rebuilt:
    found = measure(network, bench.parts.test, device=next(network.parameters()).device)
    images = reconstruct(network, bench.parts.test.images).clamp(0, 1)
    size, train = network.latent_dim, error_of(network, bench.parts.train)
    kept = bench.kept(images)
    return Rebuilt(size, train, found["mse"], found["psnr"], bench.optimum(size), kept, images[bench.shown])


def _by_pca(bench: Bench, size: int) -> Tensor:
    network = principal_components(bench.parts.train, size).autoencoder()
    return reconstruct(network, bench.parts.test.images[bench.shown]).clamp(0, 1)


@dataclass(frozen=True)
class Code:
    """The code of one network, of the test images.

    view: (N, 2), the code itself if it has two numbers, else its two directions of largest variance; None of a code of
    one number. active: share of its numbers that a VAE uses. silhouette: mean over images; None without labels.
    """

    codes: NDArray[np.float32]
    view: NDArray[np.float32] | None
    clipping: Clipping
    active: float | None
    silhouette: float | None


def codes(bench: Bench) -> dict[str, Code]:
    """Where the test images lie in each code, and which of its numbers say nothing."""
    return {name: _code(bench, network) for name, network in bench.coders.items()}


def _code(bench: Bench, network: Coder) -> Code:
    found = encode(network, bench.parts.test.images)
    of_training = encode(network, bench.parts.train.images)
    active = None
    if isinstance(network, VAE):
        active = float(active_units(torch.from_numpy(found)).double().mean())
    clipped = clipping(np.concatenate([of_training, found]))
    return Code(found, _view(found), clipped, active, _silhouette(found, bench.parts.test.labels))


def _view(found: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Codes (N, D) turned so that their two directions of largest variance lie along the axes; those of 2 as are."""
    if found.shape[1] < 2:
        return None
    if found.shape[1] == 2:
        return found
    centred = found - found.mean(0)
    directions = np.linalg.eigh(np.cov(centred.T.astype(np.float64)))[1][:, ::-1][:, :2]
    turned: NDArray[np.float32] = (centred @ directions).astype(np.float32)
    return turned


def _silhouette(found: NDArray[np.float32], labels: NDArray[np.int64] | None) -> float | None:
    if labels is None or not 2 <= len(np.unique(labels)) < min(len(labels), SCORED):
        return None
    chosen = np.linspace(0, len(found) - 1, min(len(found), SCORED)).round().astype(int)
    if not 2 <= len(np.unique(labels[chosen])) < len(chosen):
        return None
    return float(silhouette_score(found[chosen], labels[chosen]))


@dataclass(frozen=True)
class Neighbours:
    """1-NN by run, and mean over classes on the pixels themselves: training images as references, test as queries."""

    by_run: dict[str, NeighbourAccuracy]
    pixels: float


def neighbours(bench: Bench) -> Neighbours:
    """How much of the class each code keeps. The images must have labels."""
    train, test = bench.parts.train, bench.parts.test
    flat = [part.images.reshape(len(part), -1).astype(np.float32) for part in (train, test)]
    return Neighbours(
        {name: neighbours_of(network, bench.parts) for name, network in bench.coders.items()},
        _neighbours(flat[0], flat[1], bench.parts).mean,
    )


def neighbours_of(network: Coder, parts: Split) -> NeighbourAccuracy:
    """1-NN in the code of one network."""
    return _neighbours(encode(network, parts.train.images), encode(network, parts.test.images), parts)


def _neighbours(references: NDArray[np.float32], queries: NDArray[np.float32], parts: Split) -> NeighbourAccuracy:
    known, labels = (cast(NDArray[np.int64], part.labels) for part in (parts.train, parts.test))
    return neighbour_accuracy(references, known, queries, labels, classes=len(parts.test.classes))


@dataclass(frozen=True)
class Accuracy:
    """Classifiers: validation by run; the best of them, `chosen`, on the test images.

    counts: (K, K), rows the true class. per_class: (K,). wrong: positions of the test images it got wrong, the surest
    first; read, sure: the class it read there, by number, and the probability it gave to that.
    """

    validation: dict[str, Share]
    chosen: str
    test: Share
    counts: NDArray[np.int64]
    per_class: NDArray[np.float64]
    wrong: NDArray[np.int64]
    read: NDArray[np.int64]
    sure: NDArray[np.float32]


def accuracy(bench: Bench) -> Accuracy:
    """What the classifiers name right. There must be one, and so must labels."""
    assert bench.judge is not None
    assert bench.judge_name is not None
    validation = {
        name: _share(run.network, bench.parts.validation)
        for name, run in bench.runs.items()
        if isinstance(run.network, Classifier)
    }
    counts = confusion_of(bench.judge, bench.parts.test.images, bench.parts.test)
    sure, read = classify(bench.judge, bench.parts.test.images).max(1)
    missed = np.flatnonzero(read.numpy() != bench.parts.test.labels)
    missed = missed[np.argsort(-sure.numpy()[missed], kind="stable")][:WRONG_SHOWN]
    return Accuracy(
        validation,
        bench.judge_name,
        Share.of(int(counts.trace()), int(counts.sum())),
        counts.numpy(),
        accuracy_per_class(counts).numpy(),
        missed,
        read.numpy()[missed],
        sure.numpy()[missed],
    )


def _share(network: Classifier, part: ImageSet) -> Share:
    counts = confusion_of(network, part.images, part)
    return Share.of(int(counts.trace()), int(counts.sum()))


def best_classifier(runs: Mapping[str, Trained]) -> str | None:
    """The run of the classifier with the highest accuracy on the validation images, then the least loss there."""
    ranks = {
        name: (epoch["validation_accuracy"], -epoch["validation_loss"])
        for name, run in runs.items()
        if isinstance(run.network, Classifier)
        for epoch in (run.epochs[run.best_epoch - 1],)
    }
    return max(ranks, key=lambda name: ranks[name]) if ranks else None
