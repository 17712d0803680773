"""Model files: what is written is read back, for ever; what is damaged, altered, foreign or a pickle is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import stat
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save

import isthmus as package
from command_line import check_refused, content, toy
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, RunExistsError, StorageError
from isthmus.hub import locate
from isthmus.latent.density import StandardNormal, load_densities
from isthmus.latent.sampling import keep_density
from isthmus.model_card import ESTIMATORS, card
from isthmus.model_files import (
    CARD,
    CONFIG,
    DENSITIES,
    FILES,
    TRAINED_ON,
    WEIGHTS,
    DataFacts,
    EstimatorFacts,
    ModelConfig,
    Scaling,
    new_model,
    read_config,
    read_network,
    read_trained_on,
    record,
    verify,
    write_config,
    write_model,
)
from isthmus.networks.apply import classify, encode, posteriors, reconstruct
from isthmus.networks.catalog import NETWORKS, build
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.settings import ClassifierSettings, DenoiserSettings, LabSettings, LinearSettings, VAESettings
from isthmus.studies.single import train_one
from isthmus.writing import LOCK, write_bytes

DATA = Path(__file__).parent / "data"
VERSION_1 = DATA / "version-1"
SAVED = DATA / "version-1-estimators"
OLD = DATA / "before-checksums"
KINDS = ("lab", "strong", "linear", "vae", "classifier", "denoiser")
NAMES = sorted(path.parent.name for path in VERSION_1.glob(f"*/{CONFIG}") if path.parent.name != "rows")
IMAGES = ImageSet(np.random.default_rng(0).integers(0, 256, (12, 1, 16, 16), dtype=np.uint8), None, name="noise")


@pytest.fixture(scope="module")
def expected():
    with np.load(VERSION_1 / "expected.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def model(tmp_path):
    """A copy of the stored lab autoencoder with its densities."""
    return Path(shutil.copytree(VERSION_1 / "lab", tmp_path / "model"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished autoencoder, classifier and VAE on tiny images of 16 x 16, and those images."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz", names=["a", "b", "c"]))
    for name in ("lab", "classifier", "vae"):
        train_one(name, data, folder / name, changes=["training.epochs=1", "model.width=2"])
    return folder


def change(folder, **values):
    """Edit config.json as a person might."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **values}))


def some_config(settings=None, **facts):
    values = {"image_shape": IMAGES.shape, "data": DataFacts(name="noise", fingerprint="0" * 64, images=12), **facts}
    return ModelConfig(model=settings or LinearSettings(), **values)


# Files of format version 1


@pytest.mark.parametrize("name", NAMES)
def test_stored_models_load_and_say_what_they_said(name, expected):
    network, images = read_network(VERSION_1 / name), expected["images"]
    found = {}
    if isinstance(network, Classifier):
        found["probabilities"] = classify(network, images).numpy()
    else:
        found["images"] = reconstruct(network, images).numpy()
    if not isinstance(network, Classifier | Denoiser):
        found["codes"] = encode(network, images)
    if isinstance(network, VAE):
        found["std"] = posteriors(network, images).std.numpy()
    assert {f"{name}.{key}" for key in found} <= set(expected)
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[f"{name}.{key}"], rtol=0, atol=1e-6)


def test_every_network_is_stored():
    assert {read_config(VERSION_1 / name).model.name for name in NAMES} == {*NETWORKS} == {*KINDS}


def test_a_stored_model_of_rows_is_in_float64(expected):
    config = read_config(VERSION_1 / "rows")
    assert config.scaling.minimum == (-1.5, 0.1, 0, 0, -1e-3, 0)
    assert config.estimator.name == "VariationalAutoencoder"
    network = read_network(VERSION_1 / "rows")
    codes = encode(network, expected["rows.given"])
    assert codes.dtype == np.float64
    np.testing.assert_allclose(codes, expected["rows.codes"], rtol=0, atol=1e-12)


def test_stored_densities_load_and_say_what_they_said(expected):
    verify(VERSION_1 / "lab" / DENSITIES)
    codes = torch.from_numpy(expected["lab.given"]).double()
    for name, density in load_densities(VERSION_1 / "lab" / DENSITIES).items():
        np.testing.assert_allclose(density.log_prob(codes), expected[f"lab.{name}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("folder", sorted(SAVED.glob(f"*/{CONFIG}")), ids=lambda path: path.parent.name)
def test_what_estimators_saved_says_what_it_said(folder):
    name, config = folder.parent.name, read_config(folder.parent)
    model = getattr(package, config.estimator.name).from_pretrained(folder.parent)
    with np.load(SAVED / "expected.npz", allow_pickle=False) as archive:
        expected = {key.partition(".")[2]: archive[key] for key in archive.files if key.startswith(f"{name}.")}
    given = expected.pop("given")
    assert model.n_features_in_ == given[0].size
    if name == "classifier":
        assert list(model.feature_names_in_) == ["width", "height", "weight", "größe"]
        assert model.classes_.dtype.kind == "i"
        assert model.classes_.tolist() == [3, 10]
        assert config.classes == ("3", "10")
        given = pd.DataFrame(given, columns=model.feature_names_in_)
        found = {"probabilities": model.predict_proba(given), "labels": model.predict(given)}
    elif name == "denoiser":
        assert model.noise == config.noise == 0.25
        found = {"restored": model.transform(given)}
    else:
        codes = model.transform(given)
        found = {"codes": codes, "redrawn": model.inverse_transform(codes), "scores": model.score_samples(given)}
        found["samples"] = model.sample(3, random_state=1)
    assert set(found) == set(expected)
    for key, values in found.items():
        assert values.dtype == expected[key].dtype
        np.testing.assert_allclose(values, expected[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_estimators_of_every_form_are_stored():
    layouts = {name: read_config(SAVED / name).estimator.layout for name in os.listdir(SAVED) if "." not in name}
    forms = {"classifier": "ND", "denoiser": "NHW", "images": "NHWC", "linear": "ND", "rows-of-images": "ND"}
    assert layouts == forms
    assert read_config(SAVED / "rows-of-images").image_shape == (3, 16, 16)


@pytest.mark.parametrize("name", KINDS)
def test_runs_from_before_checksums_load_and_are_copied_with_them(name, tmp_path):
    with np.load(OLD / "expected.npz", allow_pickle=False) as archive:
        images, expected = archive["images"], archive[name]
    run = Run(OLD / name)
    assert not read_config(run.model).checksums
    assert sorted(path.name for path in run.model.iterdir()) == [CONFIG, WEIGHTS, TRAINED_ON]
    run.save_pretrained(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted({*FILES, LOCK} - {DENSITIES})
    new = read_config(tmp_path / "new")
    assert set(new.checksums) == {WEIGHTS, TRAINED_ON, CONFIG}
    assert new.data.images == len(run.trained_on()) == 42
    use = {"classifier": classify, "denoiser": reconstruct}.get(name, encode)
    for network in (run.network(), read_network(tmp_path / "new")):
        np.testing.assert_allclose(use(network, images), expected, rtol=0, atol=1e-6)


# Writing and reading


@pytest.mark.parametrize(
    "settings", [LabSettings(width=2), ClassifierSettings(width=2, batch_norm=False), VAESettings(width=2, units=4)]
)
def test_what_is_written_is_read_back(settings, tmp_path):
    network = build(settings, IMAGES.shape, classes=3, seed=7)
    config = some_config(settings, classes=("x", "y", "z"), figures={"validation_loss": 0.1 + 0.2})
    write_model(tmp_path / "m", network, config, trained_on=IMAGES.image_hashes())
    assert read_config(tmp_path / "m").model_copy(update={"checksums": {}}) == config
    found = read_network(tmp_path / "m")
    assert not found.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert np.array_equal(read_trained_on(tmp_path / "m"), np.sort(IMAGES.image_hashes()))


def test_the_weights_are_written_last(tmp_path, monkeypatch):
    def full(path, content):
        if path.name == WEIGHTS:
            raise StorageError("No space left on device.")
        write(path, content)

    write = sys.modules["isthmus.model_files"].write_bytes
    monkeypatch.setattr("isthmus.model_files.write_bytes", full)
    with pytest.raises(StorageError):
        write_model(tmp_path / "m", build(LinearSettings(), IMAGES.shape), some_config(), trained_on=np.empty(0, "u8"))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["README.md", CONFIG, TRAINED_ON]
    with pytest.raises(InputError, match=r"model\.safetensors is missing .* get the folder again"):
        read_network(tmp_path / "m")


def test_reading_needs_no_pickle_and_no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("not while a model is read")

    for name in ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "socket.socket"):
        monkeypatch.setattr(name, refuse)
    read_network(VERSION_1 / "lab")
    read_trained_on(VERSION_1 / "lab")
    load_densities(VERSION_1 / "lab" / DENSITIES)
    assert "huggingface_hub" not in vars(sys.modules["isthmus.hub"])


def test_keys_of_a_later_isthmus_are_left_aside(model):
    change(model, invented_later={"a": 1})
    change(model, data={**json.loads((model / CONFIG).read_text())["data"], "camera": "x"})
    assert isinstance(read_network(model), torch.nn.Module)


def test_config_and_scaling_must_fit():
    with pytest.raises(ValueError, match="2 minima and 2 maxima, needed are 256 of each"):
        some_config(scaling=Scaling(minimum=(0, 0), maximum=(1, 1)))


def test_densities_that_are_of_another_model_are_refused(model):
    shutil.copytree(VERSION_1 / "classifier", model.parent / "classifier")
    shutil.copy(model / DENSITIES, model.parent / "classifier")
    with pytest.raises(InputError, match=r"is not named in the config\.json beside it: .* another model; delete it"):
        verify(model.parent / "classifier" / DENSITIES)


# What is refused


def pickled(kind):
    """The weights as a program that runs when it is loaded would come."""
    buffer = io.BytesIO()
    if kind == "zip":
        torch.save({"a": torch.ones(2)}, buffer)
    elif kind == "legacy":
        torch.save({"a": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    else:
        pickle.dump({"a": [1, 2]}, buffer, protocol=int(kind))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "legacy", "0", "1", "2", "4", "5"])
def test_a_pickle_under_a_safe_name_is_never_loaded(model, kind):
    (model / WEIGHTS).write_bytes(pickled(kind))
    with pytest.raises(InputError, match=r"model\.safetensors is a pickle under the name of a safe file") as caught:
        read_network(model)
    assert "run whatever code is in it, so Isthmus never does" in str(caught.value)
    assert "Ask whoever gave it to you for the safetensors file" in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
@pytest.mark.parametrize("name", [WEIGHTS, TRAINED_ON])
def test_a_truncated_file_is_refused(model, name, share):
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=f"{name} cannot be read.* it is cut short or damaged.* get the folder again"):
        read_network(model) if name == WEIGHTS else read_trained_on(model)


@pytest.mark.parametrize("name", [WEIGHTS, TRAINED_ON, DENSITIES])
def test_an_altered_file_is_refused(model, name):
    whole = bytearray((model / name).read_bytes())
    whole[-3] ^= 1
    (model / name).write_bytes(whole)
    with pytest.raises(
        InputError, match=rf"{name} was altered after it was written: its sha256 is \w{{12}}\.\.\., "
    ) as e:
        {WEIGHTS: lambda: read_network(model), TRAINED_ON: lambda: read_trained_on(model)}.get(
            name, lambda: verify(model / name)
        )()
    assert "get the folder again from where it came, or train the model again" in str(e.value)


@pytest.mark.parametrize("name", [WEIGHTS, TRAINED_ON, DENSITIES])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing or cannot be read .* get the folder again"):
        {WEIGHTS: lambda: read_network(model), TRAINED_ON: lambda: read_trained_on(model)}.get(
            name, lambda: verify(model / name)
        )()


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no model \(there is no config.json in it\); name the folder of one"):
        read_config(tmp_path)


def test_a_newer_format_is_refused(model):
    change(model, format_version=2, model={"name": "unknown to us"})
    with pytest.raises(InputError, match=r"format version 2, this Isthmus reads 1: update Isthmus, `pip install"):
        read_network(model)


@pytest.mark.parametrize("version", [None, "1", 0, -1, True, 1.5])
def test_a_config_of_another_program_is_refused(model, version):
    change(model, format_version=version)
    with pytest.raises(InputError, match=r"is no config.json of Isthmus \(its format version is .*name the folder"):
        read_config(model)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": {"name": "lab", "width": -1}}, "model.width: input should be greater than 0"),
        ({"model": {"name": "lab", "wdith": 2}}, "model.wdith: no such setting"),
        ({"model": {"name": "transformer"}}, "model"),
        ({"image_shape": [1, 16]}, "image_shape"),
        ({"image_shape": [1, 0, 16]}, "image_shape.1: input should be greater than 0"),
        ({"classes": "abc"}, "classes: "),
        ({"data": None}, "data: "),
        ({"scaling": {"minimum": [0.0], "maximum": [1.0]}}, "1 minima and 1 maxima, needed are 256"),
    ],
)
def test_a_damaged_config_is_refused(model, values, words):
    change(model, **values)
    with pytest.raises(InputError, match=r"config.json is damaged \(.*; update Isthmus if it is newer") as caught:
        read_config(model)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", '{"format_version": 1', "[1, 2]", "\x00\x01", "[" * 100_000])
def test_a_config_that_is_no_json_is_refused(model, text):
    (model / CONFIG).write_text(text)
    with pytest.raises(InputError, match=r"config.json (cannot be read as JSON|holds no JSON object)"):
        read_config(model)


def test_a_config_that_describes_no_network_is_refused(model):
    change(model, image_shape=[1, 4, 4])
    with pytest.raises(InputError, match=r"config.json describes no network: .* The file is damaged; get the folder"):
        read_network(model)


def test_weights_that_do_not_fit_the_config_are_refused(model):
    change(model, model={"name": "lab", "width": 3, "code_relu": False})
    with pytest.raises(InputError, match=r"does not fit the config.json beside it: \d+ tensors differ, such as ") as e:
        read_network(model)
    assert "which is (2, 1, 3, 3) and should be (3, 1, 3, 3)" in str(e.value)
    (model / WEIGHTS).write_bytes(save({"strange": torch.ones(2)}))
    change(model, checksums={})
    with pytest.raises(InputError, match="The two are of different models; get the folder again"):
        read_network(model)


def test_a_config_that_asks_for_too_much_takes_no_memory(model):
    change(model, model={"name": "strong", "hidden": [16384] * 12}, checksums={})
    with pytest.raises(InputError, match=r"does not fit the config\.json"):
        read_network(model)


@pytest.mark.parametrize("hidden", [b"", b"\x93NUMPY\x01\x00\x05", b"PK\x03\x04 zip"])
def test_hashes_that_are_no_plain_array_are_refused(model, hidden):
    (model / TRAINED_ON).write_bytes(hidden)
    with pytest.raises(InputError, match="no plain array of hashes"):
        read_trained_on(model)
    np.save(model / TRAINED_ON, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="no plain array of hashes"):
        read_trained_on(model)


# Room


def test_a_folder_is_only_written_into_if_it_is_new_or_a_model_of_ours(model, tmp_path):
    lab = Run(VERSION_1 / "lab")
    with pytest.raises(RunExistsError, match="holds a model already; give overwrite=True"):
        lab.save_pretrained(model)
    (model / "notes.txt").write_text("mine")
    Run(VERSION_1 / "classifier").save_pretrained(model, overwrite=True)
    assert {path.name for path in model.iterdir()} == {*FILES, LOCK, "notes.txt"} - {DENSITIES}
    assert isinstance(read_network(model), Classifier)
    for names in (["notes.txt"], [CONFIG, WEIGHTS, CARD], [TRAINED_ON, "notes.txt"]):  # the second: of other programs
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            (folder / name).write_text("theirs")
        for overwrite in (False, True):
            with pytest.raises(RunExistsError, match="holds other files, and no model of Isthmus; choose another"):
                lab.save_pretrained(folder, overwrite=overwrite)
        assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(names, "theirs")
    (tmp_path / "file").touch()
    with pytest.raises(RunExistsError, match="is a file; choose another folder"):
        lab.save_pretrained(tmp_path / "file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("old", [False, True], ids=["new folder", "older model"])
def test_a_save_that_fails_leaves_the_older_model_and_can_be_done_again(name, old, tmp_path, monkeypatch):
    def full(path, content):
        if path.name == name:
            raise StorageError("No space left on device.")
        write_bytes(path, content)

    folder, source = tmp_path / "m", Run(VERSION_1 / "lab")
    if old:
        Run(VERSION_1 / "classifier").save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if old else {LOCK: b""}
    with monkeypatch.context() as patch:
        patch.setattr("isthmus.model_files.write_bytes", full)
        patch.setattr("isthmus.writing.write_bytes", full)
        with pytest.raises(StorageError):
            source.save_pretrained(folder, overwrite=old)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    source.save_pretrained(folder, overwrite=old)
    assert {path.name for path in folder.iterdir()} == {*FILES, LOCK}
    assert (folder / WEIGHTS).read_bytes() == (VERSION_1 / "lab" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("old", [False, True], ids=["new folder", "older model"])
def test_a_save_cut_short_while_files_are_moved_can_be_done_again(name, old, tmp_path, monkeypatch):
    def cut(source, target):
        if Path(target) == folder / name:
            raise OSError(5, "Input/output error")
        replace(source, target)

    folder, replace, source = tmp_path / "m", os.replace, Run(VERSION_1 / "lab")
    if old:
        Run(VERSION_1 / "classifier").save_pretrained(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut)
        with pytest.raises(
            StorageError, match=r"m: Input/output error\. Free some space or choose another folder, then"
        ):
            source.save_pretrained(folder, overwrite=old)
    assert not (folder / WEIGHTS).exists()  # so that it does not look complete
    (folder / ".abc.writing").mkdir()  # as a process leaves them that was killed
    (folder / ".config.json.abc.writing").touch()
    source.save_pretrained(folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {*FILES, LOCK}
    assert isinstance(read_network(folder), torch.nn.Module)


def test_a_body_that_fails_moves_nothing(model):
    def fail():
        with new_model(model, overwrite=True) as place:
            (place / CONFIG).write_text("{}")
            raise ZeroDivisionError

    before = content(model)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(model) == before


def test_what_others_add_at_the_same_time_is_not_lost(model, monkeypatch):
    def slowly(function):
        def call(*arguments):
            found = function(*arguments)
            time.sleep(0.05)
            return found

        return call

    run, normal = Run(model), StandardNormal(read_config(model).model.latent_dim)
    for name in ("runs.read_config", "model_files.read_config", "latent.sampling.load_densities"):
        module, _, function = name.rpartition(".")
        monkeypatch.setattr(f"isthmus.{name}", slowly(getattr(sys.modules[f"isthmus.{module}"], function)))
    calls = [lambda i=i: keep_density(run, f"normal-{i}", normal) for i in range(3)]
    calls += [lambda i=i: run.add_figures({f"test_{i}": float(i)}) for i in range(3)]
    threads = [threading.Thread(target=call) for call in calls]
    for step in ("start", "join"):
        for thread in threads:
            getattr(thread, step)()
    verify(model / DENSITIES)
    assert set(load_densities(model / DENSITIES)) == {"gaussian", "kernel", "normal-0", "normal-1", "normal-2"}
    assert {name for name in read_config(model).figures if name.startswith("test_")} == {"test_0", "test_1", "test_2"}


def test_a_folder_in_use_is_named(model, monkeypatch):
    monkeypatch.setattr("isthmus.writing.PATIENCE", 0.1)
    lock, run = filelock.FileLock(model / LOCK, thread_local=False), Run(model)
    holder = threading.Thread(target=lock.acquire)
    holder.start()
    holder.join()
    before = content(model)
    try:
        for call in (
            lambda: run.save_pretrained(model, overwrite=True),
            lambda: run.add_figures({"test_mse": 1.0}),
            lambda: keep_density(run, "normal", StandardNormal(2)),
        ):
            with pytest.raises(StorageError, match="is in use by another process; wait for it, or choose another"):
                call()
    finally:
        lock.release()
    assert content(model) == before


def test_a_folder_of_the_home_is_found(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    Run(VERSION_1 / "lab").save_pretrained("~/m")
    assert (tmp_path / "m" / WEIGHTS).exists()
    assert locate("~/m") == tmp_path / "m"
    model = package.ConvAutoencoder.from_pretrained("~/m")
    assert model.save_pretrained("~/again") == tmp_path / "again"
    assert (tmp_path / "again" / WEIGHTS).exists()


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_who_may_read_a_model_follows_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        Run(VERSION_1 / "lab").save_pretrained(tmp_path / "m")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / "m" / name).stat().st_mode) for name in FILES} == {0o666 & ~mask}


def test_what_cannot_be_written_is_said_without_options_of_commands(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        StorageError, match="Free some space or choose another folder, then do it again; what"
    ) as caught:
        write_bytes(tmp_path / "file/x", b"")
    assert "--" not in str(caught.value)


def test_a_copy_takes_the_densities_along_and_never_a_damaged_model(runs, isthmus, tmp_path):
    run = Run(Path(shutil.copytree(runs / "lab", tmp_path / "run")))
    assert isthmus("generate", run.folder, "--density", "gaussian", "-n", 4, "--out", tmp_path / "o")[0] == 0
    assert not (run.model / DENSITIES).exists()
    run.save_pretrained(tmp_path / "flat")
    assert set(read_config(tmp_path / "flat").checksums) == {WEIGHTS, TRAINED_ON, DENSITIES, CONFIG}
    assert (tmp_path / "flat" / DENSITIES).read_bytes() == run.densities.read_bytes()
    with pytest.raises(RunExistsError, match="give overwrite=True"):
        run.save_pretrained(tmp_path / "flat")
    run.densities.unlink()
    run.save_pretrained(tmp_path / "flat", overwrite=True)
    assert set(read_config(tmp_path / "flat").checksums) == {WEIGHTS, TRAINED_ON, CONFIG}
    (run.model / WEIGHTS).write_bytes(b"nonsense")
    before = content(tmp_path / "flat")
    with pytest.raises(InputError, match="cut short or damaged"):
        run.save_pretrained(tmp_path / "flat", overwrite=True)
    assert content(tmp_path / "flat") == before


def test_a_copy_onto_itself_keeps_everything(model):
    before, old = {name: (model / name).read_bytes() for name in FILES}, read_config(model)
    for _ in range(2):
        Run(model).save_pretrained(model, overwrite=True)
        assert {**before, CONFIG: b""} == {
            name: (model / name).read_bytes() if name != CONFIG else b"" for name in FILES
        }
        new = read_config(model)
        assert new.checksums.pop(CONFIG)
        assert new == old


# What config.json says of itself


@pytest.fixture
def sealed(tmp_path):
    """A classifier of two classes as it is written now, whose config.json holds its own sum."""
    network, facts = build(LinearSettings(latent_dim=2), IMAGES.shape), {"type": "<i8", "values": [3, 10]}
    estimator = EstimatorFacts(name="LinearAutoencoder", layout="NHW", facts={"classes": facts})
    config = some_config(
        LinearSettings(latent_dim=2), classes=("3", "10"), estimator=estimator, figures={"a": 0.1 + 0.2}
    )
    write_model(tmp_path / "sealed", network, config, trained_on=IMAGES.image_hashes())
    return tmp_path / "sealed"


@pytest.mark.parametrize(
    "values",
    [
        {"noise": 0.5},
        {"classes": ["3", "11"]},
        {"classes": ["3"]},
        {"image_shape": [1, 8, 32]},
        {"figures": {}},
        {"scaling": {"minimum": [0.0] * 256, "maximum": [1.0] * 256}},
        {"checksums": {CONFIG: "0" * 64}},
        {"invented_later": 1},
    ],
    ids=str,
)
def test_an_altered_config_is_refused(sealed, values):
    if "checksums" in values:
        values = {"checksums": {**read_config(sealed).checksums, **values["checksums"]}}
    change(sealed, **values)
    with pytest.raises(
        InputError, match=r"config\.json was altered after it was written: its sha256 is \w{12}\.\.\., "
    ):
        read_network(sealed)


def test_spaces_and_order_of_a_config_do_not_count(sealed):
    before = read_config(sealed)
    values = json.loads((sealed / CONFIG).read_text())
    (sealed / CONFIG).write_text(json.dumps(dict(reversed(values.items()))))
    assert read_config(sealed) == before


@pytest.mark.parametrize("name", [WEIGHTS, TRAINED_ON])
def test_a_file_whose_sum_was_taken_out_is_refused(model, sealed, name):
    read = {WEIGHTS: read_network, TRAINED_ON: read_trained_on}[name]
    for folder, words in (
        (model, rf"{name} was altered .*, config.json says nothing of it; get the"),
        (sealed, CONFIG),
    ):
        checksums = {other: found for other, found in read_config(folder).checksums.items() if other != name}
        change(folder, checksums=checksums)
        with pytest.raises(InputError, match=words):
            read(folder)


def test_a_config_without_its_own_sum_loads(sealed):
    assert CONFIG not in read_config(VERSION_1 / "lab").checksums
    change(
        sealed, checksums={name: s for name, s in read_config(sealed).checksums.items() if name != CONFIG}, noise=0.5
    )
    assert read_config(sealed).noise == 0.5
    assert read_network(sealed)


def test_who_writes_renews_the_sum(sealed):
    first = read_config(sealed).checksums[CONFIG]
    Run(sealed).add_figures({"test_mse": 0.5})
    second = read_config(sealed).checksums[CONFIG]
    keep_density(Run(sealed), "normal", StandardNormal(2))
    assert len({first, second, read_config(sealed).checksums[CONFIG]}) == 3
    assert read_network(sealed)
    verify(sealed / DENSITIES)


def test_a_model_from_before_checksums_gets_none_of_its_own(tmp_path):
    run = Run(Path(shutil.copytree(OLD / "linear/model", tmp_path / "m")))
    run.add_figures({"test_mse": 0.5})
    keep_density(run, "normal", StandardNormal(2))
    assert not read_config(run.model).checksums
    assert run.network()
    assert run.config()["figures"]["test_mse"] == 0.5


@pytest.mark.parametrize("labels", [{"type": "<i8", "values": [3]}, {"values": 3}, {}, [3, 10], "ab"], ids=str)
def test_labels_must_be_as_many_as_the_classes(sealed, labels):
    values = json.loads((sealed / CONFIG).read_text())
    values["estimator"]["facts"]["classes"] = labels
    change(sealed, estimator=values["estimator"], checksums={})
    with pytest.raises(
        InputError, match=r"config\.json is damaged \(.*estimator\.facts\.classes is .* needed are 2 values"
    ):
        read_config(sealed)


@pytest.mark.parametrize(
    "kinds",
    ["{", "", "[]", "3", "[" * 100_000, "{}", '{"normal": 1}', '{"other": "normal"}', '{"normal": "normal", "a": "b"}'],
    ids=lambda text: text[:40],
)
def test_densities_with_a_damaged_head_are_refused(kinds, tmp_path):
    path = tmp_path / DENSITIES
    path.write_bytes(save(({"normal.latent_dim": torch.tensor(2)}), metadata={"kinds": kinds}))
    with pytest.raises(InputError, match=r"densities\.safetensors .*delete it, fit them again"):
        load_densities(path)


# The card


def front_matter(text):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra hub")
    start, head, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)


def test_the_card_states_the_facts_of_the_run(runs):
    text = (runs / "classifier/model/README.md").read_text()
    facts = json.loads((runs / "classifier/run.json").read_text())["data"]
    assert front_matter(text) == {
        "library_name": "isthmus",
        "pipeline_tag": "image-classification",
        "tags": ["isthmus", "classifier"],
    }
    parameters = sum(p.numel() for p in Run(runs / "classifier").network().parameters())
    for words in (
        f"has {parameters:,} parameters and takes grey images of 16 x 16 pixels",
        "| data set | `toy` |",
        "| trained on | 42 grey images of 16 x 16 pixels |",
        "| classes | 3: `a`, `b`, `c` |",
        f"`{facts['fingerprint']}`",
        "ImageClassifier.from_pretrained",
        'Run(Path("FOLDER")).network()',
        "isthmus classify FOLDER IMAGES",
        "scale other images to 16 x 16 and turn colour ones grey",
        "has seen the 42 training images of `toy` and nothing else",
        f"{parameters / 42:,.0f} parameters for each of them",
        "one of its 3 classes, for an image of none of them as well",
        "`trained_on.npy` holds a hash of each training image",
    ):
        assert words in text


def test_figures_come_from_the_training_and_from_the_test_part(runs, isthmus, tmp_path):
    data = runs / "toy.npz"
    code, out, _ = isthmus("train", "linear", data, "--out", tmp_path / "r", "--set", "training.epochs=2", "--json")
    assert code == 0
    run, answer = Run(tmp_path / "r"), json.loads(out)["figures"]
    best = run.history()[run.status()["best_epoch"] - 1]
    figures = read_config(run.model).figures
    tested = {name: value for name, value in answer.items() if name != "train_seconds"}
    assert figures == {"validation_loss": best["validation_loss"], **tested}
    text = (run.model / "README.md").read_text()
    assert f"| `test_psnr` | {figures['test_psnr']:.5g} | test images | peak signal-to-noise ratio" in text
    assert f"| `validation_loss` | {figures['validation_loss']:.5g} | validation images | mean squared error" in text
    assert f"| `pca.test_mse` | {figures['pca.test_mse']:.5g} | test images, by PCA" in text
    assert "was not measured on a test part" not in text
    assert verify(run.model / WEIGHTS) is None


def test_a_card_without_figures_says_so():
    text = card(some_config())
    assert "None were recorded. Measure it: `isthmus evaluate FOLDER DATA`." in text
    assert "It was not measured on a test part" in text


def test_a_card_says_that_an_estimator_held_some_images_out():
    words, estimator = "some of them held out to choose the weights by", EstimatorFacts(name="x", layout="NHW")
    figures = {"validation_loss": 0.5}
    assert f"| trained on | 12 grey images of 16 x 16 pixels, {words} |" in card(
        some_config(estimator=estimator, figures=figures)
    )
    assert words not in card(some_config(estimator=estimator))
    assert words not in card(some_config(figures=figures))


def test_a_card_of_rows_leaves_out_the_commands():
    scaling = Scaling(minimum=(0.0,) * 256, maximum=(1.0,) * 256)
    text = card(some_config(scaling=scaling))
    assert "takes rows of 256 numbers" in text
    assert "refuse this model of rows of numbers" in text
    assert "```sh" not in text
    assert "pipeline_tag" not in text
    assert "LinearAutoencoder.from_pretrained" in text


@pytest.mark.parametrize(
    ("settings", "facts", "words"),
    [
        (DenoiserSettings(), {"noise": 0.25}, "Gaussian noise of standard deviation 0.25"),
        (LinearSettings(latent_dim=3), {}, "keeps 3 numbers of 256 and loses the rest: no more than PCA"),
        (VAESettings(), {}, "likelihoods are lower bounds"),
        (LabSettings(), {"image_shape": (3, 16, 16)}, "colour images of 16 x 16 pixels. The commands scale other"),
        (LabSettings(), {"image_shape": (3, 16, 16)}, "refuse grey ones"),
        (LabSettings(), {"data": DataFacts(name="x", fingerprint="0")}, "It has seen the training images of `x`"),
    ],
)
def test_limits_follow_from_the_facts(settings, facts, words):
    assert words in card(some_config(settings, **facts))


def test_names_cannot_forge_a_card():
    name = "`x`\n---\nlicense: mit\n| <script>alert(1)</script>"
    text = card(
        some_config(ClassifierSettings(), classes=(name, "ü", ""), data=DataFacts(name=name, fingerprint="0", images=9))
    )
    assert set(front_matter(text)) == {"library_name", "pipeline_tag", "tags"}
    assert text.count("\n---\n") == 1
    assert "`'x' --- license: mit \\| <script>alert(1)</script>`" in text
    for line in text.splitlines():
        assert line.startswith("```") or line.count("`") % 2 == 0


def test_the_card_of_many_classes_names_some():
    names = tuple(f"class {i}" for i in range(30))
    text = card(some_config(ClassifierSettings(), classes=names))
    assert "30: `class 0`" in text
    assert "`class 19` and 10 more" in text


def test_the_estimators_the_cards_name_exist():
    for name in ESTIMATORS.values():
        assert hasattr(getattr(package, name), "from_pretrained")


# A model folder is a run


def test_a_model_folder_alone_serves_the_commands(runs, isthmus, tmp_path):
    for name in ("lab", "classifier", "vae"):
        Run(runs / name).save_pretrained(tmp_path / name)
    other = toy(tmp_path / "other.npz", seed=5, names=["a", "b", "c"])
    for flat, whole in ((tmp_path / n, runs / n) for n in ("lab", "vae")):
        for folder, out in ((flat, "flat.npz"), (whole, "whole.npz")):
            code, _, err = isthmus("encode", folder, other, "--out", tmp_path / out, "--overwrite")
            assert code == 0, err
        with np.load(tmp_path / "flat.npz") as one, np.load(tmp_path / "whole.npz") as two:
            assert np.array_equal(one["codes"], two["codes"])
    for command in (("classify",), ("evaluate",)):
        answers = [isthmus(*command, folder / "classifier", other, "--json") for folder in (tmp_path, runs)]
        assert answers[0][0] == answers[1][0] == 0, answers[0][2]
        if command == ("classify",):
            assert answers[0][1] == answers[1][1]
    code, out, err = isthmus("shapes", tmp_path / "lab", "--json")
    assert code == 0, err
    assert json.loads(out)["image_shape"] == [1, 16, 16]
    for command in (
        ("generate", tmp_path / "vae", "-n", 4, "--out", tmp_path / "samples"),
        ("denoise", tmp_path / "vae", other, "--degrade", "noise:0.2", "--out", tmp_path / "restored"),
    ):
        code, _, err = isthmus(*command)
        assert code == 0, err


def test_a_model_folder_alone_warns_of_images_it_was_trained_on(runs, isthmus, tmp_path):
    Run(runs / "lab").save_pretrained(tmp_path / "lab")
    code, _, err = isthmus("evaluate", tmp_path / "lab", runs / "toy.npz")
    assert code == 0
    assert "42 of the 60 images of toy were trained on" in err


def test_a_training_starts_from_a_model_folder_alone(runs, isthmus, tmp_path):
    Run(runs / "lab").save_pretrained(tmp_path / "lab")
    command = ("train", "lab", runs / "toy.npz", "--set", "training.epochs=1", "--set", f"start={tmp_path / 'lab'}")
    code, _, err = isthmus(*command, "--set", "model.width=2", "--out", tmp_path / "fine")
    assert code == 0, err
    check_refused(isthmus(*command, "--out", tmp_path / "other"), "another network (width was 2, now 16)")
    check_refused(isthmus("train", "lab", runs / "toy.npz", "--out", tmp_path / "lab", "--overwrite"), "other files")


def test_densities_of_a_model_folder_alone_are_checked_and_kept(runs, isthmus, tmp_path):
    flat = tmp_path / "lab"
    run = Run(Path(shutil.copytree(runs / "lab", tmp_path / "run")))
    draw = ("-n", 4, "--out", tmp_path / "o", "--overwrite")
    assert isthmus("generate", run.folder, "--density", "gaussian", *draw)[0] == 0
    run.save_pretrained(flat)
    assert isthmus("generate", flat, "--density", "gaussian", *draw)[0] == 0
    check_refused(isthmus("generate", flat, "--density", "kernel", *draw), "has no codes to fit", "gaussian")
    shutil.copy(run.folder / "codes.npz", flat)
    code, _, err = isthmus("generate", flat, "--density", "kernel", *draw)
    assert code == 0, err
    assert set(load_densities(flat / DENSITIES)) == {"gaussian", "kernel"}
    assert isthmus("generate", flat, "--density", "gaussian", *draw)[0] == 0  # the new sum was noted
    shutil.copy(run.densities, flat)
    check_refused(isthmus("generate", flat, "--density", "gaussian", *draw), "was altered after it was written")
    (flat / DENSITIES).unlink()
    check_refused(isthmus("generate", flat, "--density", "gaussian", *draw), "is missing or cannot be read")


def test_a_run_is_known_by_its_model_folder(runs, tmp_path):
    assert Run(runs / "lab").model == runs / "lab/model"
    assert Run(runs / "lab/model").model == runs / "lab/model"
    assert Run(runs / "lab/model").finished
    assert not Run(tmp_path).finished
    with pytest.raises(InputError, match="is not a finished run"):
        Run(tmp_path).config()


def test_models_of_rows_are_refused_by_commands(isthmus, runs, tmp_path):
    rows, data, out = VERSION_1 / "rows", runs / "toy.npz", ("--out", tmp_path / "out.npz")
    words = ("takes rows of 6 numbers, not images", "isthmus.VariationalAutoencoder.from_pretrained")
    for command in (
        ("encode", rows, data, *out),
        ("classify", rows, data),
        ("evaluate", rows, data),
        ("generate", rows, "--out", tmp_path / "out"),
        ("denoise", rows, data, "--out", tmp_path / "out"),
        ("shapes", rows),
        ("train", "linear", data, "--set", f"start={rows}", "--out", tmp_path / "out"),
    ):
        check_refused(isthmus(*command), *words)
    assert not (tmp_path / "out").exists()
    Run(rows).save_pretrained(tmp_path / "copy")  # copied like any other
    assert read_config(tmp_path / "copy").scaling == read_config(rows).scaling


def test_recorded_files_pass_and_config_is_rewritten_whole(model):
    write_config(model, read_config(model).model_copy(update={"figures": {"test_mse": 0.5}}))
    (model / DENSITIES).write_bytes(save({"a": torch.ones(1)}))
    with pytest.raises(InputError, match="was altered"):
        verify(model / DENSITIES)
    record(model / DENSITIES)
    verify(model / DENSITIES)
    assert read_config(model).figures == {"test_mse": 0.5}
