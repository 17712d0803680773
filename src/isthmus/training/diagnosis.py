"""Reading a classifier's curves: does it have too little capacity, too much, or about enough?

Training and validation accuracy are compared after the last epoch, both in evaluation mode. Their difference counts
as real beyond three standard errors of two independent shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

REAL = 3.0  # standard errors
WELL_LEARNT = 0.99  # training accuracy from which there is little left to fit


@dataclass(frozen=True)
class Diagnosis:
    """verdict, and the numbers it rests on: accuracies after the last epoch, their gap and its standard error."""

    verdict: Literal["underfits", "overfits", "fits", "both"]
    train: float
    validation: float
    standard_error: float

    @property
    def gap(self) -> float:
        """Training minus validation accuracy."""
        return self.train - self.validation


def diagnose(epochs: Sequence[dict[str, float]], *, train_images: int, validation_images: int) -> Diagnosis:
    """Judge capacity from a history of accuracies.

    overfits: the gap is real and the validation error at least twice the training error. underfits: the gap is not
    real, so that new images do as well as old, and the old ones are learnt below 99 %. both: the gap is real and the
    old ones are learnt below 99 %. Else it fits.
    Arguments: epochs: with train_accuracy and validation_accuracy; the two counts say how many images those are over.
    """
    train, validation = epochs[-1]["train_accuracy"], epochs[-1]["validation_accuracy"]
    error = math.sqrt(_variance(train, train_images) + _variance(validation, validation_images))
    real = train - validation > REAL * error
    if real and 1 - validation >= 2 * (1 - train):
        return Diagnosis("overfits", train, validation, error)
    if not real and train < WELL_LEARNT:
        return Diagnosis("underfits", train, validation, error)
    return Diagnosis("both" if train < WELL_LEARNT else "fits", train, validation, error)


def _variance(share: float, count: int) -> float:
    """Of a share of `count` images; Laplace's rule keeps it above zero where the share is 0 or 1."""
    smoothed = (share * count + 1) / (count + 2)
    return smoothed * (1 - smoothed) / count
