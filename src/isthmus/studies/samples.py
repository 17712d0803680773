"""What several exercises take from the same place: example images, noisy copies, and the verdict of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.metrics import confusion
from isthmus.networks.apply import classify, to_float
from isthmus.networks.classifier import Classifier


def examples_of(images: ImageSet, *, most: int = 10) -> NDArray[np.int64]:
    """Positions of the first image of each class, or of the first ten images of an unlabelled set."""
    if images.labels is None:
        return np.arange(min(most, len(images)))
    firsts = [np.flatnonzero(images.labels == k)[:1] for k in range(len(images.classes))]
    return np.concatenate(firsts)[:most]


def generator_of(seed: Sequence[int]) -> torch.Generator:
    """A generator that depends on these numbers alone."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def add_noise_to(images: ImageSet, sigma: float, *, seed: Sequence[int]) -> Tensor:
    """All images with Gaussian noise that depends on the seed alone: (N, C, H, W) float32, not clipped."""
    return add_noise(to_float(torch.from_numpy(images.images)), sigma, generator=generator_of(seed))


def confusion_of(judge: Classifier, images: NDArray[np.generic] | Tensor, part: ImageSet) -> Tensor:
    """What the classifier reads where `part` says what is there: (K, K) counts, rows the true class."""
    assert part.labels is not None
    predicted = classify(judge, images).argmax(1)
    return confusion(predicted, torch.from_numpy(part.labels), classes=len(part.classes))
