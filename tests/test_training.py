"""The training loop: its laws, its order, its ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.data.augment import random_shifts
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet, Split
from isthmus.errors import DivergedError, InputError, RunExistsError
from isthmus.networks.autoencoder import lab, linear
from isthmus.networks.catalog import Network, build
from isthmus.networks.classifier import classifier
from isthmus.networks.pca import principal_components
from isthmus.runs import Run
from isthmus.settings import (
    ClassifierSettings,
    DataSettings,
    LabSettings,
    LinearSettings,
    RunSettings,
    StrongSettings,
    TrainingSettings,
)
from isthmus.training.diagnosis import diagnose
from isthmus.training.job import train_run
from isthmus.training.loop import one_pass, train
from isthmus.training.optimizers import make_optimizer
from isthmus.training.scoring import score

QUICK = TrainingSettings(epochs=2, batch_size=64, learning_rate=2e-3)


def test_linear_autoencoder_reaches_the_pca_optimum(digits: ImageSet) -> None:
    images = digits.resize(16, 16)
    network = build(LinearSettings(), images.shape)
    settings = TrainingSettings(epochs=100, batch_size=50, learning_rate=4e-2, schedule="one-cycle")
    train(network, images, images, settings)
    optimum = principal_components(images, 2).autoencoder()
    pixels = torch.from_numpy(images.images)
    reached, least = (score(n, pixels, None)["loss"] for n in (network, optimum))
    assert least * (1 - 1e-6) <= reached < 1.01 * least


@pytest.mark.parametrize("model", [LabSettings(), StrongSettings(hidden=(32,)), ClassifierSettings(dropout=0.3)])
def test_same_seed_gives_the_same_bits(parts: Split, model: LabSettings | StrongSettings | ClassifierSettings) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        network = build(model, parts.train.shape, classes=10, seed=seed)
        train(network, parts.train, parts.validation, QUICK.model_copy(update={"shift": 1, "noise": 0.1}), seed=seed)
        return network.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("model", [LabSettings(width=4), ClassifierSettings(width=4, dropout=0.3)])
def test_a_pass_is_an_epoch_of_training_without_scores(parts: Split, model: LabSettings | ClassifierSettings) -> None:
    settings = TrainingSettings(epochs=1, batch_size=64, noise=0.1)
    trained, passed = (build(model, parts.train.shape, classes=10) for _ in range(2))
    train(trained, parts.train, parts.validation, settings, seed=3)
    labels = torch.from_numpy(parts.train.labels) if passed.target == "labels" else None
    passed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(passed, settings)
    state = torch.random.get_rng_state()
    losses = [one_pass(passed, torch.from_numpy(parts.train.images), labels, optimizer, settings, seed=3, number=1)]
    assert torch.equal(state, torch.random.get_rng_state())
    weights, expected = passed.state_dict(), trained.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    for number in range(2, 6):
        images = torch.from_numpy(parts.train.images)
        losses.append(one_pass(passed, images, labels, optimizer, settings, seed=3, number=number))
    assert losses[-1] < losses[0]


class Recorder(torch.nn.Module):
    """A network that notes the batches it is trained on."""

    target = "images"

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.given: list[torch.Tensor] = []
        self.targets: list[torch.Tensor] = []

    def loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.given.append(images.detach().clone())
        self.targets.append(targets.detach().clone())
        return (self.level - targets.mean()) ** 2

    def score(self, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.level - targets.flatten(1).mean(1)) ** 2}


def numbered(count: int) -> ImageSet:
    """Image i is filled with the value i."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ImageSet(np.broadcast_to(values, (count, 1, 16, 16)).copy(), None)


def order_of(recorder: Recorder, count: int) -> list[list[int]]:
    """The numbers of the images, an epoch a row."""
    seen = torch.cat(recorder.targets)[:, 0, 0, 0] * 255
    return seen.round().int().reshape(-1, count).tolist()


def record(count: int, settings: TrainingSettings, *, seed: int = 0) -> Recorder:
    recorder = Recorder()
    train(recorder, numbered(count), numbered(10), settings, seed=seed)  # type: ignore[arg-type]
    return recorder


def test_every_image_is_seen_once_an_epoch_in_a_new_order() -> None:
    epochs = order_of(record(50, TrainingSettings(epochs=3, batch_size=8)), 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_depends_on_seed_and_epoch_alone() -> None:
    short = order_of(record(50, TrainingSettings(epochs=2, batch_size=8)), 50)
    long = order_of(record(50, TrainingSettings(epochs=4, batch_size=25, noise=0.5, schedule="one-cycle")), 50)
    assert long[:2] == short
    assert order_of(record(50, TrainingSettings(epochs=2, batch_size=8), seed=1), 50) != short


def test_no_batch_has_a_single_image() -> None:
    recorder = record(33, TrainingSettings(epochs=1, batch_size=8))
    assert [len(batch) for batch in recorder.given] == [8, 8, 8, 9]


def test_corrupt_degrades_inputs_and_leaves_targets_clean() -> None:
    recorder = Recorder()
    settings = TrainingSettings(epochs=1, batch_size=10)
    train(recorder, numbered(40), numbered(10), settings, corrupt=lambda x, generator: x + 0.5)  # type: ignore[arg-type]
    given, targets = torch.cat(recorder.given), torch.cat(recorder.targets)
    assert torch.allclose(given, targets + 0.5)
    assert targets.max() <= 1


def test_noise_setting_has_its_standard_deviation() -> None:
    recorder = record(200, TrainingSettings(epochs=1, batch_size=100, noise=0.25))
    difference = torch.cat(recorder.given) - torch.cat(recorder.targets)
    assert float(difference.std()) == pytest.approx(0.25, rel=0.02)
    assert float(difference.mean()) == pytest.approx(0, abs=0.01)


def test_noise_is_not_clipped() -> None:
    noisy = add_noise(torch.ones(10, 1, 16, 16), 0.25, generator=torch.Generator().manual_seed(0))
    assert noisy.max() > 1.5


def test_random_shifts_move_whole_images_and_cover_every_offset() -> None:
    images = torch.zeros(400, 1, 16, 16, dtype=torch.uint8)
    images[:, 0, 8, 8] = 255
    moved = random_shifts(images, 2, generator=torch.Generator().manual_seed(0))
    assert moved.dtype == torch.uint8
    assert (moved.flatten(1).sum(1, dtype=torch.int64) == 255).all()
    places = moved.flatten(1).int().argmax(1)
    offsets = {(int(p) // 16 - 8, int(p) % 16 - 8) for p in places}
    assert offsets == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_best_weights_by_validation_are_kept(parts: Split) -> None:
    network = build(LabSettings(width=4), parts.train.shape)
    settings = TrainingSettings(epochs=6, batch_size=32, learning_rate=5e-2)
    history = train(network, parts.train, parts.validation, settings)
    losses = [epoch["validation_loss"] for epoch in history.epochs]
    assert history.best_epoch == 1 + int(np.argmin(losses))
    now = score(network, torch.from_numpy(parts.validation.images), None)["loss"]
    assert now == pytest.approx(min(losses), rel=1e-6)


def test_patience_stops_early() -> None:
    recorder = Recorder()
    settings = TrainingSettings(epochs=50, batch_size=10, learning_rate=0.3, patience=3)
    history = train(recorder, numbered(40), numbered(10), settings)  # type: ignore[arg-type]
    assert history.stopped_early
    assert len(history.epochs) == history.best_epoch + 3


def test_one_cycle_rises_and_falls() -> None:
    recorder = Recorder()
    settings = TrainingSettings(epochs=8, batch_size=10, learning_rate=0.1, schedule="one-cycle", warmup=0.25)
    rates = [e["learning_rate"] for e in train(recorder, numbered(40), numbered(10), settings).epochs]  # type: ignore[arg-type]
    assert max(rates) == pytest.approx(0.1, rel=0.02)
    assert np.argmax(rates) == 1
    assert rates[-1] < 0.001


def test_infinite_loss_stops_with_step_and_rate(parts: Split) -> None:
    network = linear(parts.train.shape)
    settings = TrainingSettings(epochs=3, batch_size=64, learning_rate=1e30)
    with pytest.raises(
        DivergedError, match=r"at step \d+ with learning rate 1e\+30\. Lower training\.learning_rate"
    ) as caught:
        train(network, parts.train, parts.validation, settings)
    assert 1 < caught.value.step < 20
    assert caught.value.learning_rate == 1e30


def test_first_infinite_step_is_the_one_named() -> None:
    class Failing(Recorder):
        def loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss = super().loss(images, targets)
            return loss * float("nan") if len(self.given) == 7 else loss

    with pytest.raises(DivergedError, match="The loss became nan at step 7 "):
        train(Failing(), numbered(40), numbered(10), TrainingSettings(epochs=3, batch_size=10))  # type: ignore[arg-type]


def test_classifier_needs_labels(parts: Split) -> None:
    unlabelled = ImageSet(parts.train.images, None, name="photos")
    with pytest.raises(InputError, match="photos has no labels for a classifier to learn from"):
        train(classifier((1, 32, 32), classes=10), unlabelled, unlabelled, QUICK)


def run_settings(**changes: object) -> RunSettings:
    return RunSettings(data=DataSettings(name="x"), model=LabSettings(width=4), training=QUICK).model_copy(
        update=changes
    )


def test_interrupt_keeps_the_best_weights_so_far(parts: Split, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done > 0.75 * total:
            raise KeyboardInterrupt

    run = Run(tmp_path)
    settings = run_settings(training=QUICK.model_copy(update={"epochs": 4}))
    with pytest.raises(KeyboardInterrupt):
        train_run(run, settings, parts, progress=interrupt)
    assert run.status()["state"] == "interrupted"
    assert len(run.history()) == 3
    assert (tmp_path / "checkpoints/best.safetensors").exists()
    assert not (tmp_path / "model/model.safetensors").exists()
    assert not run.finished


def test_a_run_on_disk_gives_the_same_network_back(parts: Split, tmp_path: Path) -> None:
    run = Run(tmp_path)
    trained = train_run(run, run_settings(), parts)
    images = torch.rand(3, 1, 32, 32)
    loaded = run.network()
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.state_dict().values(), trained.network.state_dict().values(), strict=True)
    )
    # The memory layout differs, and with it the order of sums.
    assert torch.allclose(loaded(images), trained.network(images), atol=1e-5)
    assert run.settings() == run_settings()
    again = train_run(run, run_settings(), parts)
    assert again.epochs == trained.epochs
    assert again.seconds == trained.seconds
    codes = np.load(tmp_path / "codes.npz")
    assert codes["train"].shape == (len(parts.train), 2)
    assert (codes["test_labels"] == parts.test.labels).all()
    hashes = run.trained_on()
    assert parts.train.count_shared(hashes) == len(parts.train)
    assert parts.test.count_shared(hashes) == 0
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert {"epoch", "loss", "train_loss", "validation_loss", "seconds"} <= set(json.loads(line))


def test_a_finished_run_is_not_taken_for_other_settings_or_images(parts: Split, tmp_path: Path) -> None:
    run = Run(tmp_path)
    train_run(run, run_settings(), parts)
    with pytest.raises(RunExistsError, match=r"begun with other settings \(seed was 0, now 1\)"):
        train_run(run, run_settings(seed=1), parts)
    with pytest.raises(RunExistsError, match="trained on other images"):
        train_run(run, run_settings(), Split(parts.validation, parts.train, parts.test))


def accuracies(train_accuracy: float, validation_accuracy: float) -> list[dict[str, float]]:
    return [{"train_accuracy": train_accuracy, "validation_accuracy": validation_accuracy}]


@pytest.mark.parametrize(
    ("train_accuracy", "validation_accuracy", "verdict"),
    [
        (1.0, 0.98, "overfits"),
        (0.999, 0.99, "overfits"),
        (0.90, 0.895, "underfits"),
        (0.90, 0.91, "underfits"),
        (0.995, 0.994, "fits"),
        (0.96, 0.94, "both"),  # a real gap, but most errors are made on the training images as well
        (0.999, 0.9985, "fits"),
    ],
)
def test_diagnosis_of_known_cases(train_accuracy: float, validation_accuracy: float, verdict: str) -> None:
    epochs = accuracies(train_accuracy, validation_accuracy)
    assert diagnose(epochs, train_images=5000, validation_images=10000).verdict == verdict


def test_diagnosis_needs_enough_images_for_a_gap() -> None:
    assert diagnose(accuracies(1.0, 0.98), train_images=50, validation_images=50).verdict == "fits"


def test_training_leaves_the_callers_random_state_alone(parts: Split) -> None:
    network: Network = lab(parts.train.shape, width=2)
    before = torch.random.get_rng_state()
    train(network, parts.train, parts.validation, TrainingSettings(epochs=1, shift=1, noise=0.1))
    assert torch.equal(before, torch.random.get_rng_state())
