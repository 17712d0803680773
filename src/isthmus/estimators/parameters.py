"""What the parameters of estimators stand for: plain values, seeds, devices, and how long to train.

Parameters that are None take the value of the table of networks, but a small set is learnt in more epochs and smaller
batches than the table says, so that the weights are updated about UPDATES times, and at a rate for so few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from sklearn.utils import check_random_state

from isthmus.errors import DivergedError, InputError
from isthmus.networks.apply import ranges
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.catalog import NETWORKS
from isthmus.networks.convolution import LARGEST, SMALLEST
from isthmus.settings import Settings, TrainingSettings, validate

UPDATES = 200  # of the weights, at least, unless the number of epochs is given
SMALL_BATCH, BATCHES = 8, 8  # small sets are cut into about so many batches, none smaller than that
CALM = 0.25  # partial_fit, whose rate is constant, takes so much of the greatest rate of a one-cycle schedule


class Common(Settings):
    """Parameters that belong neither to a network nor to a training."""

    validation_fraction: float = Field(ge=0, lt=1)
    verbose: int = Field(ge=0)


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays, and devices, as what Python and JSON have.

    >>> plain((np.int64(3), np.array([1.5])))
    (3, (1.5,))
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | list | tuple):
        return tuple(plain(each) for each in value)
    return str(value) if isinstance(value, torch.device) else value


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn calls a random_state. Raises: ValueError if it is none."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def place(device: Any, *, double: bool) -> torch.device:
    """The device of this name. Raises: InputError if it is not here, or lacks the float64 that rows need."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device is {device!r}; give cpu, cuda, cuda:0 or mps.") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = {"cpu": 1, "cuda": count, "mps": int(torch.backends.mps.is_available())}
    if (found.index or 0) >= here.get(found.type, 0):
        known = ["cpu", *(f"cuda:{i}" for i in range(count)), *["mps"] * here["mps"]]
        raise InputError(f"device is {str(found)!r}, which this machine does not have; give {' or '.join(known)}.")
    if found.type == "mps" and double:
        raise InputError("device is 'mps', which lacks the float64 that rows of numbers need; give cpu.")
    return found


def checked_training(given: dict[str, Any]) -> dict[str, Any]:
    """Training settings by name, each of the type it should have; those that are None are left out.

    Raises: InputError, naming every one that is out of range.

    >>> checked_training({"epochs": 3.0, "batch_size": None})
    {'epochs': 3}
    """
    values = validate(TrainingSettings, {name: plain(value) for name, value in given.items() if value is not None})
    return {name: getattr(values, name) for name, value in given.items() if value is not None}


def check_sides(image_shape: ImageShape, name: str, *, flat: bool) -> None:
    """Raises: InputError unless the convolutions of the estimator `name` can take (C, H, W).

    Arguments: flat: whether it is the shape of a row of numbers.
    """
    _, height, width = image_shape
    if flat:
        raise InputError(
            f"architecture is 'convolutional', but X holds rows of {width} numbers: give image_shape=(H, W) if each is "
            f"an image, or leave architecture out."
        )
    if min(height, width) < SMALLEST or max(height, width) > LARGEST:
        hint = " If X is one colour image, give X[None]." if width in (1, 3) else ""
        raise InputError(
            f"X holds images of {height} x {width} pixels; the convolutions of {name} take sides from {SMALLEST} to "
            f"{LARGEST}: resize them, for example with load_images(..., size=(64, 64)) or ImageSet.resize, or give "
            f"architecture='mlp'.{hint}"
        )


def schedule(network: str, count: int, given: dict[str, Any]) -> TrainingSettings:
    """How `fit` trains a network of this name on `count` samples: as the table says, or as `given`.

    Arguments: given: training settings by name, None for the table's. Raises: InputError if they are out of range.
    """
    table = NETWORKS[network].training
    chosen = checked_training(given)
    batch = chosen.get("batch_size") or min(table.batch_size, max(SMALL_BATCH, count // BATCHES))
    steps = len(ranges(count, batch))
    epochs = chosen.get("epochs") or max(table.epochs, -(-UPDATES // steps))
    return validate(TrainingSettings, {**table.model_dump(), **chosen, "epochs": epochs, "batch_size": batch})


def calm_schedule(network: str, given: dict[str, Any]) -> TrainingSettings:
    """How `partial_fit` trains: at a constant rate. Arguments and errors as of `schedule`."""
    table = NETWORKS[network].training
    chosen = checked_training(given)
    rate = table.learning_rate * (CALM if table.schedule == "one-cycle" else 1)
    calm = {"learning_rate": rate, "schedule": "constant"}
    return validate(TrainingSettings, {**table.model_dump(), **calm, **chosen})


@contextlib.contextmanager
def diverging(name: str) -> Iterator[None]:
    """Say of a loss that is not finite what to do about it in the estimator `name`."""
    try:
        yield
    except DivergedError as error:
        rate = error.learning_rate
        raise DivergedError(
            f"{name}: the loss stopped being finite at step {error.step}, with learning rate {rate:.3g}; give a lower "
            f"one, for example learning_rate={rate / 10:.1g}.",
            step=error.step,
            learning_rate=rate,
        ) from error


def reporter(name: str) -> Callable[[int, int, str], None]:
    """What `train` calls after each step: prints a line an epoch."""
    said = ""

    def report(done: int, steps: int, line: str) -> None:
        nonlocal said
        if line != said:
            said = line
            print(f"[{name}] {line}")

    return report
