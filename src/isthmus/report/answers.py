"""What a network makes of some images, how it learnt and what classes there are: the parts a card is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.figures.curves import accuracy_curves, bound_curves, loss_curves
from isthmus.figures.style import Panel
from isthmus.networks.apply import classify, reconstruct
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.report.card import BUDGET, Gallery, gallery
from isthmus.report.page import Table

MOST_CLASSES = 100  # rows of a table of classes
CURVES = "isthmus-curves"


def answers(
    network: Network, images: Tensor, labels: Sequence[str], classes: Sequence[str], *, noise: float, which: str
) -> Gallery:
    """Images and what a network makes of them: classes with their probability, denoised images, or reconstructions.

    Arguments: images: (M, C, H, W) in [0, 1], of the network's type. labels: of each image its class, or "". classes:
    a classifier's. noise: standard deviation of what a denoiser gets. which: what images they are, for the caption.
    """
    if isinstance(network, Classifier):
        found = classify(network, images)
        likely = zip((classes[k] for k in found.argmax(1)), found.amax(1).tolist(), labels, strict=True)
        said = [f"{read}\n{p:.0%}" + ("" if label in ("", read) else f"\nis {label}") for read, p, label in likely]
        return gallery(f"{which}, the class read and its probability", {"image": images}, said)
    if isinstance(network, Denoiser):
        noisy = add_noise(images, noise, generator=torch.Generator().manual_seed(0))
        rows = {"clean": images, "noisy": noisy, "denoised": reconstruct(network, noisy)}
        return gallery(f"{which}: clean, with noise of standard deviation {noise:g}, denoised", rows, labels)
    rows = {"image": images, "reconstruction": reconstruct(network, images)}
    return gallery(f"{which}, and below each its reconstruction", rows, labels, budget=BUDGET // 2)


def learning_curves(epochs: Sequence[dict[str, float]], best: int) -> list[Panel]:
    """Of a classifier accuracy and loss, of a VAE both halves of its loss, else the loss; nothing without epochs.

    Arguments: best: the epoch whose weights were kept, 0 if none is known.
    """
    if not epochs:
        return []
    kept = best if 0 < best <= len(epochs) else 0
    title = "Learning curves"
    if "validation_accuracy" in epochs[0]:
        return [accuracy_curves(CURVES, title, epochs, best=kept)]
    if "validation_kl" in epochs[0]:
        return [bound_curves(CURVES, title, epochs, best=kept)]
    least = epochs[kept - 1]["validation_loss"] if kept else min(e["validation_loss"] for e in epochs)
    return [loss_curves(CURVES, title, epochs, best=kept, level=(f"{least:.3g}", least))]


def class_counts(counts: Mapping[str, int]) -> Table:
    """The images of each class. Arguments: counts: class name -> images."""
    total = sum(counts.values())
    rows = [[name, f"{n:,}", f"{n / total:.1%}"] for name, n in list(counts.items())[:MOST_CLASSES]]
    return Table(_title(len(counts)), ("class", "images", "share"), rows, _more(len(counts)))


def class_numbers(classes: Sequence[str]) -> Table:
    """The output of a classifier that stands for each class."""
    rows = [[name, str(k)] for k, name in enumerate(classes[:MOST_CLASSES])]
    return Table(_title(len(classes)), ("class", "output"), rows, _more(len(classes)))


def classes_right(network: Classifier, test: ImageSet) -> Table:
    """How many labelled test images of each class are read right."""
    assert test.labels is not None
    right = classify(network, test.images).argmax(1).numpy() == test.labels
    rows = []
    for k, name in enumerate(test.classes[:MOST_CLASSES]):
        mine = right[test.labels == k]
        rows.append([name, f"{len(mine):,}", f"{mine.mean():.1%}" if len(mine) else "none"])
    caption = f"{right.mean():.1%} of {len(test):,} test images read right"
    return Table(caption, ("class", "test images", "right"), rows, _more(len(test.classes)))


def spread(labels: NDArray[np.int64] | None, count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` places spread evenly over `count` images, over their classes where those are known.

    >>> spread(np.array([0, 1, 0, 1, 0, 1]), 6, 2)
    array([2, 3])
    """
    order = np.arange(count) if labels is None else np.argsort(labels, kind="stable")
    few = min(count, most)
    places: NDArray[np.int64] = order[((np.arange(few) + 0.5) * count / max(few, 1)).astype(np.int64)]
    return places


def size_text(shape: Sequence[int]) -> str:
    """(C, H, W) in words."""
    channels, height, width = shape
    return f"{height} × {width} pixels, {'colour' if channels == 3 else 'grey'}"


def _title(count: int) -> str:
    return f"{count:,} class{'' if count == 1 else 'es'}"


def _more(count: int) -> tuple[str, ...]:
    return (f"and {count - MOST_CLASSES:,} more",) if count > MOST_CLASSES else ()
