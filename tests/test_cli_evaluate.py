"""Runs that are not there, damaged, or made for other images: `evaluate` names them, nothing empties them."""

import shutil

import pytest

from command_line import check_refused, content, toy
from isthmus.studies.single import train_one


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
