"""Many trainings in two processes of one thread, against the same one after the other with two threads.

"sweep" is the nine runs of the study of signs: the sheet's classifier at four learning rates, the convolutional
autoencoder at five code sizes. "sweep.digits" is what the study of digits trains, each with its defaults. All for a
share of their epochs, on made-up images: what they show does not change the time. Starting the processes is included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import NotMeasured, compared, in_turns
from contestants import orders, running
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet, Split
from isthmus.networks.catalog import NETWORKS
from isthmus.settings import (
    ClassifierSettings,
    DataSettings,
    DenoiserSettings,
    LabSettings,
    ModelSettings,
    RunSettings,
    StrongSettings,
    TrainingSettings,
    VAESettings,
)
from isthmus.studies.rates import PLAIN, PLAIN_MODEL, RATES
from isthmus.studies.sizes import CODES, CONV, CONV_TRAINING
from isthmus.training.sweep import Trial, sweep
from workloads.plan import Facts, Plan, Workload

AIM = 1.4
ALIKE, NOTHING = 0.2, 1e-3  # relative; a loss or accuracy so small is as good as 0
DIGITS: dict[str, ModelSettings] = {
    "lab": LabSettings(),
    "strong": StrongSettings(),
    "classifier": ClassifierSettings(),
    "vae2": VAESettings(latent_dim=2, architecture="mlp"),
    "vae16": VAESettings(latent_dim=16),
    "vae32": VAESettings(latent_dim=32),
    "vae64": VAESettings(latent_dim=64),
    "denoiser": DenoiserSettings(),
}


def made_up(count: int, side: int) -> Split:
    """As many grey images in ten classes as a set of `count` training images has, 70 / 15 / 15."""
    generator = np.random.default_rng(0)

    def part(images: int) -> ImageSet:
        labels = np.arange(images, dtype=np.int64) % 10
        pixels = generator.integers(0, 128, (images, 1, side, side), np.uint8)
        for row, label in enumerate(labels):  # a bright bar where its class has it, so that there is something to learn
            pixels[row, :, :, side * label // 10 : side * (label + 1) // 10] += 127
        return ImageSet(pixels, labels, tuple("0123456789"))

    return Split(part(count), part(max(20, count * 15 // 70)), part(max(20, count * 15 // 70)))


def trial(folder: Path, name: str, model: ModelSettings, training: TrainingSettings, share: float) -> Trial:
    training = training.model_copy(update={"epochs": max(1, round(share * training.epochs))})
    settings = RunSettings(data=DataSettings(name="made-up"), model=model, training=training, seed=int(name[-1] == "b"))
    return Trial(name, folder / name, settings)


def signs(folder: Path, share: float) -> list[Trial]:
    trials = [
        trial(folder, f"rate-{rate}", PLAIN_MODEL, PLAIN.model_copy(update={"learning_rate": float(rate)}), share)
        for rate in RATES
    ]
    for name, size in CODES.items():
        trials.append(trial(folder, f"conv{name}", CONV.model_copy(update={"latent_dim": size}), CONV_TRAINING, share))
    return trials


def digits(folder: Path, share: float) -> list[Trial]:
    return [trial(folder, name, model, NETWORKS[model.name].training, share) for name, model in DIGITS.items()]


SWEEPS = {"sweep": (signs, 64), "sweep.digits": (digits, 32)}


def way(folder: Path, *, name: str, workers: int, images: int, share: float) -> Callable[[], dict[str, Any]]:
    """A contestant: the whole sweep with so many processes."""
    prepare_process()
    trials, side = SWEEPS[name]
    parts = made_up(images, side)

    def sample() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            started = time.perf_counter()
            outcomes = sweep(trials(Path(place), share), parts, workers=workers, prepare=prepare_process)
            seconds = time.perf_counter() - started
        failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.status == "failed"}
        if failed:
            raise RuntimeError(f"failed: {failed}")
        figures = {name: list((outcome.figures or {}).values()) for name, outcome in outcomes.items()}
        return {"seconds": seconds, "trials": len(outcomes), "figures": figures}

    return sample


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    (name,) = names
    size = {"sweep": plan.pick(1300, 1300, 60), "sweep.digits": plan.pick(12_000, 6_000, 600)}[name]
    share = {"full": 0.2, "fast": 0.05, "tiny": 0.0}[plan.size]
    folder = plan.folder / name
    folder.mkdir()
    options = {
        contestant: {"name": name, "workers": workers, "images": size, "share": share}
        for contestant, workers in (("ours", 2), ("one_after_the_other", 1))
    }
    rounds = plan.pick(plan.rounds, 1, plan.rounds)
    with running(dict.fromkeys(options, "workloads.sweeps:way"), folder, options) as contestants:
        turns = in_turns(orders(contestants), rounds, any_machine=plan.any_machine)
    check(*(turns.answers(contestant)[0]["figures"] for contestant in turns.samples))
    return {name: {**compared(turns), "images": size, "share_of_epochs": share}}


def check(first: dict[str, list[float]], second: dict[str, list[float]]) -> None:
    """That both ways trained the same networks to the same losses and accuracies, but for the order of sums.

    Raises: NotMeasured.
    """
    apart = {
        name: (first[name], second.get(name))
        for name in first
        if not np.allclose(first[name], second.get(name, np.nan), rtol=ALIKE, atol=NOTHING)
    }
    if apart or set(first) != set(second):
        raise NotMeasured(f"the two ways trained to other losses and accuracies: {apart}")


WORKLOADS = [
    Workload(("sweep",), measure, {"sweep": {"*": AIM}}, fast=("sweep",)),
    Workload(("sweep.digits",), measure, {}),
]
