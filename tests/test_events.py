"""What TensorBoard is given: the figures of every epoch, a picture, and nothing at all unless that was asked for."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import BRIEF, check_refused, toy
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.errors import DivergedError, InputError, StorageError
from isthmus.networks.autoencoder import lab
from isthmus.runs import Run
from isthmus.settings import RunSettings, validate
from isthmus.training import events
from isthmus.training.events import TILE, logging_events, sheet
from isthmus.training.job import train_run

pytest.importorskip("tensorboard")

FIGURES = {"loss/steps", "loss/train", "loss/validation", "learning_rate", "seconds"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return split(load(toy(tmp_path_factory.mktemp("data") / "toy.npz")))


def settings(name: str = "lab", **training: Any) -> RunSettings:
    values = {"data": {"name": "toy"}, "model": {"name": name}, "training": {"epochs": 3, **training}}
    return validate(RunSettings, values)


def read(folder: Path) -> Any:
    """The events of a folder, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = read(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def picture(folder: Path) -> tuple[int, np.ndarray]:
    (image,) = read(folder).Images("reconstructions")
    return image.step, np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))


def as_logged(history: list[dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    named = {"loss": "loss/steps", "train_loss": "loss/train", "validation_loss": "loss/validation"}
    named |= {"train_accuracy": "accuracy/train", "validation_accuracy": "accuracy/validation"}
    kept = [name for name in history[0] if name != "epoch"]
    return {
        named.get(name, name): [(int(epoch["epoch"]), float(np.float32(epoch[name]))) for epoch in history]
        for name in kept
    }


def test_events_hold_the_history_and_a_picture_of_the_best_network(toys: Split, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "first")
    with logging_events(tmp_path / "logs") as written:
        trained = train_run(run, settings(), toys)
    assert written == [tmp_path / "logs" / "first"]
    assert scalars(written[0]) == as_logged(run.history())
    assert set(scalars(written[0])) == FIGURES
    step, pixels = picture(written[0])
    assert step == trained.best_epoch
    expected = sheet(trained.network, toys.validation, None)
    assert np.array_equal(pixels, expected[0])
    assert pixels.shape == (2 * TILE, len(toys.validation) * TILE)


def test_the_sheet_shows_images_above_reconstructions(digits: ImageSet) -> None:
    network = lab(digits.shape).eval()
    pixels = sheet(network, digits, None)
    assert pixels.shape == (1, 2 * 64, 10 * 64)
    chosen = np.linspace(0, len(digits) - 1, 10).round().astype(int)
    assert np.array_equal(pixels[0, :64:2, ::2], np.concatenate(list(digits.images[chosen, 0]), 1))
    with torch.inference_mode():
        made = network(torch.from_numpy(digits.images[chosen]).float() / 255).clamp(0, 1)
    below = np.concatenate(list(made[:, 0].numpy()), 1) * 255
    assert np.abs(pixels[0, 64::2, ::2] - below).max() <= 1
    darker = sheet(network, digits, lambda images, generator: images / 2)
    assert darker.shape == (1, 3 * 64, 10 * 64)
    assert np.abs(darker[0, 64:128] - pixels[0, :64] / 2).max() <= 1


def test_a_denoiser_is_shown_with_its_noise_and_a_classifier_not_at_all(toys: Split, tmp_path: Path) -> None:
    with logging_events(tmp_path / "logs") as written:
        for name, noise in (("denoiser", 0.25), ("classifier", 0.0)):
            train_run(Run(tmp_path / name), settings(name, epochs=1, noise=noise), toys)
    denoiser, classifier = written
    assert picture(denoiser)[1].shape[0] == 3 * TILE
    assert read(classifier).Tags()["images"] == []
    assert set(scalars(classifier)) == FIGURES | {"accuracy/train", "accuracy/validation"}


def test_logging_changes_no_weight_and_without_it_nothing_is_written(toys: Split, tmp_path: Path) -> None:
    weights = []
    for name, folder in (("with", tmp_path / "logs"), ("without", None)):
        with logging_events(folder) as written:
            trained = train_run(Run(tmp_path / name), settings("vae"), toys)
        assert len(written) == (folder is not None)
        weights.append(trained.network.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    trained = train_run(Run(tmp_path / "after"), settings(), toys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "logs", "with", "without"]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["with"]


def test_every_training_has_a_folder_of_its_own(toys: Split, tmp_path: Path) -> None:
    with logging_events(tmp_path) as written:
        for parent in ("a", "b", "c"):
            train_run(Run(tmp_path / parent / "run"), settings(epochs=1), toys)
    assert [folder.name for folder in written] == ["run", "run-2", "run-3"]


def test_a_finished_run_is_logged_from_its_history(toys: Split, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with logging_events(tmp_path / "logs") as written:
        train_run(run, settings(), toys)
        train_run(run, settings(), toys)
    first, second = written
    assert scalars(second) == scalars(first)
    assert picture(second)[0] == picture(first)[0]
    assert np.array_equal(picture(second)[1], picture(first)[1])


def test_an_epoch_that_is_over_can_be_seen_and_what_diverges_is_kept(toys: Split, tmp_path: Path) -> None:
    seen = []

    def look(done: int, total: int, text: str) -> None:
        if (tmp_path / "logs" / "run").is_dir():
            seen.append(len(scalars(tmp_path / "logs" / "run").get("loss/steps", [])))

    with logging_events(tmp_path / "logs"):
        train_run(Run(tmp_path / "run"), settings(batch_size=1000), toys, progress=look)
        assert seen == [0, 1, 2]
        with pytest.raises(DivergedError):
            train_run(Run(tmp_path / "wild"), settings("linear", learning_rate=1e30, batch_size=8), toys)
    assert read(tmp_path / "logs" / "wild").Tags()["images"] == []


def test_events_that_cannot_be_written_are_named_before_or_fail_the_run(
    toys: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "logs"):
        with (
            pytest.raises(InputError, match=r"--tensorboard .* cannot be written: .*file is a file\. Choose another"),
            logging_events(folder),
        ):
            pass

    def full(self: Any, event: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.EventFileWriter.add_event", full)
    with logging_events(tmp_path / "logs"), pytest.raises(StorageError, match=r"Could not write .*logs.run: No space"):
        train_run(Run(tmp_path / "run"), settings(), toys)
    assert Run(tmp_path / "run").status()["state"] == "failed"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="you may not write there"), logging_events(tmp_path / "logs"):
        pass


# The command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return toy(tmp_path / "toy.npz")


def test_train_writes_events_where_it_is_told(isthmus: Any, data: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    code, out, err = isthmus("train", "lab", data, "--out", tmp_path / "run", "--tensorboard", logs, *BRIEF)
    assert code == 0, err
    assert f"events: {logs / 'run'} (tensorboard --logdir {logs})" in out
    assert scalars(logs / "run") == as_logged(Run(tmp_path / "run").history())
    code, out, err = isthmus(
        "train", "lab", data, "--out", tmp_path / "run", "--tensorboard", logs, "--resume", "--json", *BRIEF
    )
    assert code == 0, err
    assert json.loads(out)["events"] == str(logs / "run-2")
    code, out, _ = isthmus("train", "lab", data, "--out", tmp_path / "other", "--json", *BRIEF)
    assert code == 0
    assert "events" not in json.loads(out)
    assert sorted(path.name for path in logs.iterdir()) == ["run", "run-2"]


def test_a_missing_package_is_named_before_any_work(
    isthmus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    for found in (None, importlib.machinery.ModuleSpec("tensorboard", None)):  # not there; or a mere folder of logs
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, f=found: f if name == "tensorboard" else there(name)
        )
        answer = isthmus(
            "train", "lab", tmp_path / "no data", "--out", tmp_path / "run", "--tensorboard", tmp_path / "logs"
        )
        check_refused(answer, "--tensorboard", "needs a package: `pip install tensorboard`, or leave it out")
    assert not (tmp_path / "run").exists()


def test_the_package_is_imported_for_the_first_event_alone() -> None:
    code = (
        "import sys, isthmus.training.events; assert 'tensorboard' not in sys.modules;"
        f"import {events._WRITER}; heavy = {{'tensorflow', 'grpc', 'torch.utils.tensorboard'}} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
