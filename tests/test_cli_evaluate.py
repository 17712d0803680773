"""Runs that are not there, damaged, or made for other images: `evaluate` names them, nothing empties them.

Without images it measures a run on the test part of its own, if that can be had as it was.
"""

import json
import math
import os
import shutil

import numpy as np
import pytest

from command_line import check_refused, content, toy
from isthmus.data.catalog import load
from isthmus.data.split import split
from isthmus.errors import RunExistsError
from isthmus.runs import Run
from isthmus.settings import DataSettings, LinearSettings, RunSettings
from isthmus.studies.single import train_one
from isthmus.training import evaluation
from isthmus.training.evaluation import parts_of_run
from isthmus.training.job import train_run


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for network in ("linear", "classifier"):
        train_one(network, str(data), folder / network, changes=["training.epochs=1"])
    return folder


@pytest.mark.parametrize("name", ["", "nothing", "../data.npz"])
def test_what_is_no_run_is_not_evaluated(isthmus, data, trained, name):
    check_refused(isthmus("evaluate", trained / name, data), "is not a finished run", "`isthmus train`")


@pytest.mark.parametrize("name", ["model/model.safetensors", "model/trained_on.npy", "model/config.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_run_is_named(isthmus, data, trained, name, damage):
    path = trained / "linear" / name
    whole = path.read_bytes()
    try:
        path.unlink()
        if damage != "missing":
            path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
        check_refused(isthmus("evaluate", trained / "linear", data), path.name)
    finally:
        path.write_bytes(whole)


def test_the_model_folder_alone_is_enough(isthmus, data, trained, tmp_path):
    shutil.copytree(trained / "linear/model", tmp_path / "copy/model")
    whole, alone = (isthmus("evaluate", folder, data) for folder in (trained / "linear", tmp_path / "copy"))
    assert whole[:2] == alone[:2]
    assert alone[0] == 0


def test_images_that_do_not_fit_a_run_are_refused(isthmus, trained, tmp_path):
    plain = toy(tmp_path / "plain.npz", labels=False)
    check_refused(isthmus("evaluate", trained / "classifier", plain), "plain has no labels to compare")
    other = toy(tmp_path / "other.npz", names=["x", "y", "z"])
    check_refused(isthmus("evaluate", trained / "classifier", other), "other has the classes x, y, z", "knows 0, 1, 2")


def test_a_study_is_not_a_run_to_empty(isthmus, data, trained, tmp_path):
    before = content(trained)
    check_refused(isthmus("train", "linear", data, "--out", trained, "--overwrite"), "holds other files")
    assert content(trained) == before


def held_out_figures(isthmus, run):
    code, out, err = isthmus("evaluate", run, "--json")
    assert code == 0, err
    assert "trained on" not in err
    return json.loads(out)


@pytest.mark.parametrize("network", ["linear", "classifier", "denoiser", "vae"])
def test_without_images_the_test_part_of_the_training_is_measured(isthmus, data, tmp_path, network):
    small = {"vae": ["model.units=16"], "denoiser": ["model.width=4"]}.get(network, [])
    figures = train_one(network, str(data), tmp_path / "run", changes=["training.epochs=1", *small], seed=4)
    answer = held_out_figures(isthmus, tmp_path / "run")
    assert (answer["data"], answer["part"], answer["images"]) == ("toy", "test", 9)
    trained = {name: value for name, value in figures.items() if name.startswith("test_")}
    assert {f"test_{name}": value for name, value in answer["figures"].items()} == pytest.approx(trained)
    assert "9, the test part of toy" in isthmus("evaluate", tmp_path / "run")[1]


def test_a_run_of_a_study_may_have_another_seed_than_its_split(isthmus, data, tmp_path):
    parts = split(load(data), seed=7)
    settings = RunSettings(data=DataSettings(name=str(data)), model=LinearSettings(), seed=8)
    train_run(Run(tmp_path / "study/runs/a"), settings, parts)
    check_refused(isthmus("evaluate", tmp_path / "study/runs/a"), "another fingerprint")
    (tmp_path / "study/study.toml").write_text('study = "signs"\nseed = 7\n')
    assert held_out_figures(isthmus, tmp_path / "study/runs/a")["images"] == len(parts.test)
    again = parts_of_run(Run(tmp_path / "study/runs/a"))
    for name in ("train", "validation", "test"):
        assert getattr(again, name).fingerprint == getattr(parts, name).fingerprint
    for text in ("seed = ", 'seed = "x"', "seed = []"):
        (tmp_path / "study/study.toml").write_text(text)
        check_refused(isthmus("evaluate", tmp_path / "study/runs/a"), "study.toml cannot be read", "as DATA")


@pytest.mark.parametrize("name", ["validation", "test"])
def test_every_part_has_to_be_as_it_was(isthmus, tmp_path, name):
    path = toy(tmp_path / "own.npz")
    parts = split(load(path))
    train_one("linear", str(path), tmp_path / "run", changes=["training.epochs=1"])
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    (place,) = np.flatnonzero((images == getattr(parts, name).images[0]).all((1, 2, 3)))
    images[place, 0, 0, 0] ^= 1
    np.savez(path, images=images, labels=labels)
    words = f"own.npz is not what {tmp_path}/run was trained on any more: the {name} part has another fingerprint"
    check_refused(isthmus("evaluate", tmp_path / "run"), words, "as DATA")
    with pytest.raises(RunExistsError, match="was trained on other images"):
        train_run(Run(tmp_path / "run"), Run(tmp_path / "run").settings(), split(load(path)))
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts.pop("held_out") == {n: getattr(parts, n).fingerprint for n in ("validation", "test")}
    (tmp_path / "run/run.json").write_text(json.dumps(facts))  # as it was written before there were these
    assert held_out_figures(isthmus, tmp_path / "run")["images"] == 9


def test_a_path_that_began_elsewhere_says_where(isthmus, tmp_path, monkeypatch):
    toy(tmp_path / "one/own.npz")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    began = os.getcwd()
    train_one("linear", "own.npz", tmp_path / "run", changes=["training.epochs=1"])
    assert held_out_figures(isthmus, tmp_path / "run")["images"] == 9
    monkeypatch.chdir(tmp_path / "two")
    words = f"The path was named from {began}: go there, or name the images to use, as DATA"
    check_refused(isthmus("evaluate", tmp_path / "run"), "own.npz, which cannot be loaded again", words)
    toy(tmp_path / "two/own.npz", seed=1)
    check_refused(isthmus("evaluate", tmp_path / "run"), "the training part has another fingerprint", words)


def test_a_study_of_one_run_is_that_run(isthmus, data, trained, tmp_path):
    shutil.copytree(trained / "linear", tmp_path / "study/runs/linear")
    answers = [isthmus("evaluate", folder, data, "--json") for folder in (trained / "linear", tmp_path / "study")]
    (whole, of_study) = (json.loads(out) for _, out, _ in answers)
    assert of_study == {**whole, "run": str(tmp_path / "study/runs/linear")}
    assert held_out_figures(isthmus, tmp_path / "study")["images"] == 9
    shutil.copytree(trained / "classifier", tmp_path / "study/runs/classifier")
    check_refused(isthmus("evaluate", tmp_path / "study", data), "is a study of which 2 runs fit; name one of them")


def test_what_is_not_finite_is_null(isthmus, data, trained, monkeypatch):
    monkeypatch.setattr(evaluation, "measure", lambda *_, **__: {"mse": 0.0, "psnr": math.inf})
    code, out, err = isthmus("evaluate", trained / "linear", data, "--json")
    assert code == 0, err
    assert json.loads(out, parse_constant=pytest.fail)["figures"] == {"mse": 0.0, "psnr": None}
    assert "inf" in isthmus("evaluate", trained / "linear", data)[1]


def test_images_that_moved_or_changed_are_named(isthmus, tmp_path):
    path = toy(tmp_path / "own.npz")
    train_one("linear", str(path), tmp_path / "run", changes=["training.epochs=1"])
    toy(path, seed=1)
    check_refused(isthmus("evaluate", tmp_path / "run"), "own.npz is not what", "another fingerprint", "as DATA")
    toy(path, count=6)
    check_refused(isthmus("evaluate", tmp_path / "run"), "cannot be loaded again as it was", "6 images", "as DATA")
    path.unlink()
    check_refused(isthmus("evaluate", tmp_path / "run"), "was trained on", "cannot be loaded again", "as DATA")


def test_what_is_no_run_has_no_test_part(isthmus, trained):
    check_refused(isthmus("evaluate", trained), "is not a finished run")


def test_a_model_alone_does_not_say_what_it_was_trained_on(isthmus, data, trained, tmp_path):
    shutil.copytree(trained / "linear/model", tmp_path / "copy/model")
    check_refused(isthmus("evaluate", tmp_path / "copy"), "has no run.json", "as DATA")
    shutil.copytree(trained / "linear/model", tmp_path / "flat")
    check_refused(isthmus("evaluate", tmp_path / "flat"), "has no run.json", "as DATA")
    code, out, err = isthmus("evaluate", tmp_path / "flat", data, "--json")
    assert code == 0, err
    assert (json.loads(out)["part"], json.loads(out)["images"]) == ("all", 60)
    check_refused(isthmus("evaluate", trained / "linear", "--skip-bad"), "--skip-bad belongs to DATA")
