"""Model folders that estimators write and read: what is refused by name, and what a file says of the form of X."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from isthmus.errors import InputError, RunExistsError
from isthmus.estimators.autoencoders import ConvAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.inputs import form_of
from isthmus.latent.density import GaussianMixture, save_densities
from isthmus.model_config import DataFacts, EstimatorFacts, ModelConfig
from isthmus.model_files import read_config
from isthmus.settings import VAESettings

ROWS = load_iris(return_X_y=True)[0]
MODELS = Path(__file__).parent / "data" / "version-1"


def test_a_model_of_another_kind_names_its_estimator() -> None:
    with pytest.raises(
        InputError, match=r"network `vae`, which no ConvAutoencoder has: load it with isthmus.Variational"
    ):
        ConvAutoencoder.from_pretrained(MODELS / "vae")
    with pytest.raises(InputError, match=r"network `lab`, which no ImageClassifier has: load it with isthmus.ConvAuto"):
        ImageClassifier.from_pretrained(MODELS / "lab")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return ConvAutoencoder(latent_dim=2, epochs=1).fit(ROWS).save_pretrained(tmp_path / "model")


def test_damaged_model_files_are_named(model: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(InputError, match=r"cannot be read .*cut short or damaged"):
        ConvAutoencoder.from_pretrained(model)
    (model / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(InputError, match="altered after it was written: its sha256"):
        ConvAutoencoder.from_pretrained(model)
    torch.save({"a": torch.zeros(1)}, model / "model.safetensors")
    with pytest.raises(InputError, match="is a pickle under the name of a safe file"):
        ConvAutoencoder.from_pretrained(model)
    (model / "model.safetensors").write_bytes(weights)
    densities = (model / "densities.safetensors").read_bytes()
    (model / "densities.safetensors").write_bytes(densities[:-1] + bytes([densities[-1] ^ 1]))
    with pytest.raises(InputError, match=r"densities.safetensors was altered"):
        ConvAutoencoder.from_pretrained(model)
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match="has format version 2, this Isthmus reads 1: update Isthmus"):
        ConvAutoencoder.from_pretrained(model)


def test_densities_that_are_missing_or_of_another_network_are_named(model: Path, tmp_path: Path) -> None:
    (model / "densities.safetensors").rename(tmp_path / "taken-away")
    with pytest.raises(InputError, match=r"densities\.safetensors is missing"):
        ConvAutoencoder.from_pretrained(model)
    run = tmp_path / "run"
    shutil.copytree(MODELS / "lab", run / "model")  # its codes have another size
    (run / "run.json").write_text("{}")
    density = GaussianMixture.fit(torch.randn(100, 5).double())
    save_densities(run / "densities.safetensors", {"mixture": density})
    with pytest.raises(InputError, match=r"holds a mixture of codes of 5 numbers, .* have 2: it belongs to another"):
        ConvAutoencoder.from_pretrained(run)


def test_a_folder_that_is_taken_is_left_alone(model: Path, tmp_path: Path) -> None:
    fitted = ConvAutoencoder.from_pretrained(model)
    with pytest.raises(RunExistsError, match="holds a model already; give overwrite=True"):
        fitted.save_pretrained(model)
    fitted.save_pretrained(model, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunExistsError, match="holds other files, and no model of Isthmus"):
        fitted.save_pretrained(tmp_path / "other", overwrite=True)


def test_a_source_that_is_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="neither a folder of this machine nor OWNER/NAME on a hub"):
        ConvAutoencoder.from_pretrained(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no model \(there is no config.json in it\)"):
        ConvAutoencoder.from_pretrained(tmp_path)
    monkeypatch.setenv("ISTHMUS_OFFLINE", "1")
    with pytest.raises(InputError, match="forbids to fetch it: unset it"):
        ConvAutoencoder.from_pretrained("somebody/something")


def test_a_folder_of_the_home_can_be_written_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert ConvAutoencoder(epochs=1).fit(ROWS).save_pretrained("~/flowers") == tmp_path / "flowers"
    assert (tmp_path / "flowers" / "model.safetensors").exists()


def test_how_images_lie_in_rows_is_saved_as_it_was_fitted(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((12, 16 * 20 * 3))
    model = ConvAutoencoder(image_shape=(16, 20, 3), epochs=1, random_state=0).fit(rows)
    codes, back = model.transform(rows), model.inverse_transform(model.transform(rows))
    model.set_params(image_shape=None).save_pretrained(tmp_path / "model")
    loaded = ConvAutoencoder.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.transform(rows), codes)
    assert np.array_equal(loaded.inverse_transform(codes), back)


def test_a_file_that_does_not_say_how_images_lie_in_rows_goes_by_the_parameter(tmp_path: Path) -> None:
    model = ConvAutoencoder(image_shape=(16, 20, 3), epochs=1).fit(np.random.default_rng(0).random((12, 960)))
    config = read_config(model.save_pretrained(tmp_path / "model"))
    assert config.estimator is not None

    def saying(**facts: str) -> object:
        estimator = EstimatorFacts(name="ConvAutoencoder", layout="ND", facts=facts)
        return config.model_copy(update={"estimator": estimator})

    assert form_of(saying(), (16, 20, 3)).inner == "NHWC"
    assert form_of(saying(), None).inner == "NCHW"
    assert form_of(saying(inner="NHWC"), None).inner == "NHWC"
    with pytest.raises(InputError, match="says that images lie in rows as 'HWC': get it again"):
        form_of(saying(inner="HWC"), None)


def test_a_run_whose_sigma_says_nothing_can_be_fitted_anew() -> None:
    config = ModelConfig(
        model=VAESettings(likelihood="bernoulli", sigma=0.3),
        image_shape=(1, 16, 16),
        data=DataFacts(name="arrays", fingerprint=""),
    )
    model = VariationalAutoencoder(**VariationalAutoencoder._parameters(config)).set_params(epochs=1)
    assert model.sigma == "optimal"
    assert model.fit(np.random.default_rng(0).integers(0, 2, (12, 16, 16), np.uint8) * 255).network_.latent_dim == 16
