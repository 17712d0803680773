"""Which trainings take longest, told before they begin."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import toy
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.networks.catalog import build
from isthmus.settings import (
    ClassifierSettings,
    DataSettings,
    LabSettings,
    LinearSettings,
    ModelSettings,
    RunSettings,
    TrainingSettings,
)
from isthmus.training import duration
from isthmus.training.duration import cost, durations
from isthmus.training.loop import train
from isthmus.training.sweep import Trial, sweep
from isthmus.training.workers import Orders

TEN = TrainingSettings(epochs=10, batch_size=64)
SMALL, LARGE = LabSettings(width=8, latent_dim=2), LinearSettings(latent_dim=256)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """140 images of 16 x 16."""
    return split(load(toy(tmp_path_factory.mktemp("data") / "toy.npz", count=200))).train


def run(model: ModelSettings, training: TrainingSettings = TEN) -> RunSettings:
    return RunSettings(data=DataSettings(name="x"), model=model, training=training)


def test_time_goes_with_the_epochs_and_a_kind_is_timed_once(
    training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[RunSettings] = []
    monkeypatch.setattr(duration, "update_seconds", lambda settings, images: timed.append(settings) or 0.25)
    longer, faster = TEN.model_copy(update={"epochs": 40}), TEN.model_copy(update={"learning_rate": 0.5})
    smaller = TEN.model_copy(update={"batch_size": 10})
    runs = {"a": run(SMALL), "b": run(SMALL, longer), "c": run(SMALL, faster), "d": run(SMALL, smaller)}
    found = durations(runs, training)
    assert len(timed) == 2
    assert found["b"] == 4 * found["a"]
    assert found["c"] == found["a"]
    assert found["d"] == pytest.approx(0.25 * 10 * 14)
    assert list(found) == list(runs)


def test_what_is_not_timed_in_time_is_reckoned_at_the_pace_of_the_rest(
    training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 0.0, 99.0])
    monkeypatch.setattr(duration.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(duration, "update_seconds", lambda settings, images: 0.5)
    runs = {"small": run(SMALL), "large": run(LARGE)}
    found = durations(runs, training)
    assert found["small"] == 0.5 * 10 * 3  # it has less work, and is timed first
    assert found["small"] / found["large"] == pytest.approx(
        cost(runs["small"], training) / cost(runs["large"], training)
    )


def test_a_network_that_cannot_be_built_takes_no_time(training: ImageSet) -> None:
    assert durations({"deep": run(ClassifierSettings(blocks=5))}, training) == {"deep": 0.0}


def test_timing_leaves_threads_and_random_numbers_alone(training: ImageSet) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    durations({"judge": run(ClassifierSettings(dropout=0.5))}, training, threads=threads + 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_order_is_that_of_the_clock_where_multiplications_mislead(training: ImageSet) -> None:
    runs = {"many steps": run(SMALL), "many products": run(LARGE)}
    assert cost(runs["many steps"], training) < cost(runs["many products"], training)
    spent = {}
    for name, settings in runs.items():
        network = build(settings.model, training.shape, seed=0)
        started = time.thread_time()
        train(network, training, training.take(np.arange(10)), settings.training, seed=0)
        spent[name] = time.thread_time() - started
    found = durations(runs, training)
    assert spent["many steps"] > 1.5 * spent["many products"]
    assert found["many steps"] > 1.5 * found["many products"]


def test_a_sweep_begins_with_what_takes_longest_by_the_clock(
    training: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[list[int]] = []

    def done(given: Orders, jobs: list[Trial], shared: Split, *, order: Callable[[], list[int]], **more: Any) -> Any:
        orders.append(order())
        yield from enumerate([{"status": "diverged", "error": None, "seconds": 0.0, "figures": None}] * len(jobs))

    monkeypatch.setattr("isthmus.training.sweep.in_processes", done)
    monkeypatch.setattr("isthmus.training.trial.Run.history", lambda run: [])
    brief, long = (TEN.model_copy(update={"epochs": epochs}) for epochs in (1, 40))
    kinds = {"short": run(LARGE, brief), "products": run(LARGE), "steps": run(SMALL, long), "more": run(LARGE, long)}
    parts = split(training)
    sweep([Trial(name, tmp_path / name, settings) for name, settings in kinds.items()], parts, workers=2)
    assert orders == [[2, 3, 1, 0]]
    assert cost(kinds["steps"], parts.train) < cost(kinds["more"], parts.train)
