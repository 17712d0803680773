"""S2: one classifier at four learning rates, a reading of each from its curves, and the best on the test images.

Whatever is chosen is chosen on the validation images: the epoch of each run, then the run. A stronger recipe, trained
from three seeds, shows what the same images allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.imageset import ImageSet, Split
from isthmus.metrics import accuracy_per_class, confusion, wilson_interval
from isthmus.networks.apply import classify
from isthmus.networks.classifier import Classifier
from isthmus.settings import ClassifierSettings, TrainingSettings
from isthmus.training.job import Trained

RATES = ("1e-1", "1e-3", "1e-4", "1e-5")
STRONG_SEEDS = (0, 1, 2)
PLAIN_MODEL = ClassifierSettings()
PLAIN = TrainingSettings(epochs=20, batch_size=32)
STRONG_MODEL = ClassifierSettings(blocks=4, hidden=128, dropout=0.3, label_smoothing=0.1, standardise=True)
STRONG = TrainingSettings(
    epochs=20,
    batch_size=32,
    learning_rate=3e-3,
    optimizer="adamw",
    weight_decay=1e-2,
    schedule="one-cycle",
    warmup=0.2,
    rotation=15,
    scale=0.12,
    mirror=True,
    contrast=0.2,
    brightness=0.2,
)
SHIFT = 0.08  # of the shorter side, by which the stronger recipe moves its training images
FALLING = 0.05  # share of the whole fall of a loss that still happens in the last quarter of the epochs
JUMP, JUMPS = 0.25, 2  # a rise of the validation loss from one epoch to the next, and how many make a run unsteady
RISEN = 0.10  # share by which the validation loss ends above its least where a run overfits
WRONG_SHOWN = 20

SHORT = 3  # epochs, below which curves say nothing

Verdict = Literal[
    "diverged", "too short", "learns nothing", "unsteady", "overfits", "gets worse", "still falling", "settled"
]


@dataclass(frozen=True)
class Share:
    """A share of images that are right: its value, how many images, and the 95 % Wilson interval."""

    value: float
    count: int
    low: float
    high: float

    @classmethod
    def of(cls, right: int, count: int) -> Share:
        """Of `right` among `count` images."""
        return cls(right / count, count, *wilson_interval(right, count))


@dataclass(frozen=True)
class Reading:
    """A run and what its curves say. since: the epoch of least validation loss. run: None if it diverged.

    accuracy: on the validation images at the epoch whose weights were kept; None if it diverged.
    """

    rate: float
    run: Trained | None
    epochs: list[dict[str, float]]
    verdict: Verdict
    since: int | None
    accuracy: float | None


@dataclass(frozen=True)
class Wrong:
    """Test images that the best run got wrong, the surest mistakes first: images (M, C, H, W) uint8 or float, classes
    by number (M,), and the probability (M,) given to the wrong class."""

    images: NDArray[np.generic]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class Strong:
    """The stronger recipe, one entry a seed."""

    runs: dict[str, Trained]
    validation: tuple[Share, ...]
    test: tuple[Share, ...]

    @property
    def mean(self) -> float:
        """Test accuracy, mean over the seeds."""
        return float(np.mean([share.value for share in self.test]))

    @property
    def best(self) -> Classifier:
        """The network with the highest validation accuracy."""
        name = list(self.runs)[int(np.argmax([share.value for share in self.validation]))]
        return cast(Classifier, self.runs[name].network)


@dataclass(frozen=True)
class Rates:
    """S2. best: the rate chosen on validation. counts: (K, K), rows the true class. errors: how many were wrong."""

    readings: dict[str, Reading]
    best: str
    validation: Share
    test: Share
    counts: NDArray[np.int64]
    per_class: NDArray[np.float64]
    wrong: Wrong
    strong: Strong

    @property
    def errors(self) -> int:
        """How many test images the best run got wrong."""
        return int(self.counts.sum() - self.counts.trace())

    @property
    def difference(self) -> tuple[float, float]:
        """Test minus validation accuracy, and its standard error if both were draws of one share."""
        a, b = self.test, self.validation
        pooled = (a.value * a.count + b.value * b.count + 1) / (a.count + b.count + 2)
        return a.value - b.value, math.sqrt(pooled * (1 - pooled) * (1 / a.count + 1 / b.count))


def measure_rates(
    runs: dict[str, Trained | None],
    histories: dict[str, list[dict[str, float]]],
    strong: dict[str, Trained],
    parts: Split,
) -> Rates:
    """Read the curves, choose on validation, test what was chosen.

    Arguments: runs: by the rates in RATES, None where one diverged; histories: their epochs, diverged ones included.
    """
    counted = np.bincount(_labels(parts.validation))
    chance = float(counted.max() / counted.sum())  # of always naming the commonest class
    readings = {
        rate: read(float(rate), runs[rate], histories[rate], images=len(parts.validation), chance=chance)
        for rate in RATES
    }
    trained = {rate: reading for rate, reading in readings.items() if reading.accuracy is not None}
    best = max(trained, key=lambda rate: _rank(trained[rate]))
    network = cast(Classifier, cast(Trained, readings[best].run).network)
    counts, wrong = _test(network, parts.test)
    return Rates(
        readings,
        best,
        _share(network, parts.validation),
        Share.of(int(counts.trace()), int(counts.sum())),
        counts,
        accuracy_per_class(torch.from_numpy(counts)).numpy(),
        wrong,
        Strong(
            strong,
            tuple(_share(cast(Classifier, run.network), parts.validation) for run in strong.values()),
            tuple(_share(cast(Classifier, run.network), parts.test) for run in strong.values()),
        ),
    )


def read(
    rate: float, run: Trained | None, epochs: Sequence[dict[str, float]], *, images: int, chance: float
) -> Reading:
    """What the curves of one run say.

    too short: fewer than 3 epochs. learns nothing: its best validation accuracy is not beyond doubt above `chance`.
    unsteady: in the second half of the epochs the validation loss twice rises by a quarter from one epoch to the next,
    and by a twentieth of its whole fall. overfits: the validation loss ends a tenth above its least, while the training
    loss went on falling; gets worse: while that rose too. still falling: a twentieth of the fall of the validation loss
    since the first epoch happened in the last quarter. Else it has settled.
    Arguments: images: how many validation images the accuracy is over.
    """
    kept = list(epochs)
    if run is None:
        return Reading(rate, None, kept, "diverged", None, None)
    accuracy = kept[run.best_epoch - 1]["validation_accuracy"]
    losses = np.array([epoch["validation_loss"] for epoch in kept])
    least = int(losses.argmin())
    quarter, later = max(1, len(losses) // 4), losses[len(losses) // 2 :]
    fall = losses[0] - losses[least]
    jumps = (later[1:] > (1 + JUMP) * later[:-1]) & (np.diff(later) > FALLING * fall)
    verdict: Verdict = "settled"
    if len(losses) < SHORT:
        verdict = "too short"
    elif wilson_interval(round(accuracy * images), images)[0] <= chance:
        verdict = "learns nothing"
    elif jumps.sum() >= JUMPS:
        verdict = "unsteady"
    elif losses[-1] > (1 + RISEN) * losses[least]:
        verdict = "overfits" if kept[-1]["train_loss"] < kept[least]["train_loss"] else "gets worse"
    elif losses[0] > losses[-1] and losses[-1 - quarter] - losses[-1] > FALLING * (losses[0] - losses[-1]):
        verdict = "still falling"
    return Reading(rate, run, kept, verdict, least + 1, accuracy)


def figures(found: Rates) -> dict[str, float | None]:
    """The numbers of S2 by their dotted names; what diverged is null."""
    named: dict[str, float | None] = {
        f"S2.validation_accuracy.{rate}": reading.accuracy for rate, reading in found.readings.items()
    }
    named["S2.best_rate"] = float(found.best)
    named["S2.test_accuracy"] = found.test.value
    named["S2.test_accuracy.low"], named["S2.test_accuracy.high"] = found.test.low, found.test.high
    named["S2.strong.test_accuracy"] = found.strong.mean
    for i, (validation, test) in enumerate(zip(found.strong.validation, found.strong.test, strict=True)):
        named[f"S2.strong.validation_accuracy.{i}"], named[f"S2.strong.test_accuracy.{i}"] = (
            validation.value,
            test.value,
        )
    seconds = [run.seconds for run in found.strong.runs.values()]
    named["S2.strong.train_seconds"] = max(seconds)
    return named


def _rank(reading: Reading) -> tuple[float, float]:
    """Higher validation accuracy first, then lower validation loss at that epoch."""
    run = cast(Trained, reading.run)
    return cast(float, reading.accuracy), -reading.epochs[run.best_epoch - 1]["validation_loss"]


def _share(network: Classifier, part: ImageSet) -> Share:
    predicted = classify(network, part.images).argmax(1).numpy()
    return Share.of(int((predicted == _labels(part)).sum()), len(part))


def _test(network: Classifier, test: ImageSet) -> tuple[NDArray[np.int64], Wrong]:
    probabilities = classify(network, test.images)
    sure, predicted = probabilities.max(1)
    labels = torch.from_numpy(_labels(test))
    counts = confusion(predicted, labels, classes=len(test.classes)).numpy()
    wrong = torch.nonzero(predicted != labels).flatten()
    wrong = wrong[sure[wrong].argsort(descending=True)][:WRONG_SHOWN]
    at = wrong.numpy()
    return counts, Wrong(test.images[at], labels[wrong].numpy(), predicted[wrong].numpy(), sure[wrong].numpy())


def _labels(part: ImageSet) -> NDArray[np.int64]:
    assert part.labels is not None, "the study refuses images without labels before this"
    return part.labels
