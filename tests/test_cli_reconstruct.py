"""`isthmus reconstruct`: the images, the errors that Python gives, and what bad input gets."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.data.catalog import load
from isthmus.metrics import mse
from isthmus.networks.apply import reconstruct, to_float
from isthmus.runs import Run
from isthmus.studies.single import train_one

NETWORKS = {"vae": ["model.latent_dim=3", "model.units=16"], "lab": [], "linear": [], "denoiser": [], "classifier": []}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of every sort on tiny images of 16 x 16, in a study's folder."""
    folder = tmp_path_factory.mktemp("study")
    data = str(toy(folder / "toy.npz"))
    for name, more in NETWORKS.items():
        train_one(name, data, folder / "runs" / name, changes=["training.epochs=1", *more])
    return folder / "runs"


@pytest.fixture
def photographs(tmp_path):
    """Six grey photographs, three in each of two folders."""
    generator = np.random.default_rng(1)
    folder = tmp_path / "meine Bilder ü"
    for i in range(6):
        path = folder / ("9" if i < 3 else "10") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return folder


NAMES = ["10/3.png", "10/4.png", "10/5.png", "9/0.png", "9/1.png", "9/2.png"]


def table(folder):
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path):
    with Image.open(path) as image:
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


@pytest.mark.parametrize("name", ["vae", "lab", "linear"])
def test_pictures_and_errors_are_those_that_python_gives(isthmus, runs, photographs, tmp_path, name):
    out = tmp_path / "new/out"
    code, stdout, err = isthmus("reconstruct", runs / name, photographs, "--out", out, "--json")
    assert code == 0, err
    images = torch.from_numpy(load(photographs).images)
    redrawn = reconstruct(Run(runs / name).network(), images)
    rows = table(out)
    assert [row["image"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == ["10"] * 3 + ["9"] * 3
    for row, image, expected in zip(rows, images, redrawn, strict=True):
        assert np.array_equal(read(out / "original" / row["reconstructed"]), image.numpy())
        found = read(out / "reconstructed" / row["reconstructed"])
        np.testing.assert_allclose(found / 255, expected.clamp(0, 1), atol=0.503 / 255)
    errors = mse(redrawn, to_float(images)).tolist()
    assert [float(row["mse"]) for row in rows] == pytest.approx(errors, rel=1e-3)
    facts = json.loads(stdout)
    assert facts["images"] == 6
    assert facts["figures"]["mse"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert np.mean([float(row["psnr"]) for row in rows]) == pytest.approx(facts["figures"]["psnr"], abs=0.01)


def test_the_figures_are_those_of_evaluate(isthmus, runs, tmp_path):
    data = toy(tmp_path / "new.npz", seed=5)
    code, stdout, err = isthmus("reconstruct", runs / "vae", data, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    found = json.loads(stdout)["figures"]
    expected = json.loads(isthmus("evaluate", runs / "vae", data, "--json")[1])["figures"]
    assert found == pytest.approx({name: expected[name] for name in ("mse", "psnr")}, rel=1e-5)


def test_unlabelled_images_of_another_size_are_brought_to_that_of_the_training(isthmus, runs, tmp_path):
    generator = np.random.default_rng(2)
    for i in range(3):
        path = tmp_path / "plain" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    code, out, err = isthmus("reconstruct", runs / "lab", tmp_path / "plain", "--out", tmp_path / "out")
    assert code == 0, err
    assert "3 images resized to 16 x 16, as in training" in err
    assert f"reconstructed: {tmp_path / 'out'}" in out
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["image", "reconstructed", "mse", "psnr"]
    assert [row["reconstructed"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert read(tmp_path / "out/original/0.png").shape == (1, 16, 16)


def test_arrays_are_reconstructed_and_the_sheet_shows_some(isthmus, runs, tmp_path):
    data = toy(tmp_path / "many.npz", count=90, seed=3)
    assert isthmus("reconstruct", runs / "vae", data, "--out", tmp_path / "out")[0] == 0
    assert [row["image"] for row in table(tmp_path / "out")] == [f"many-{i:02d}" for i in range(90)]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width >= 900
        assert np.asarray(sheet.convert("L")).std() > 10


def test_an_image_without_error_has_a_hundred_decibels(isthmus, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.training.redraw.reconstruct", lambda _, images: images.clone())
    data = toy(tmp_path / "new.npz", seed=3)
    code, out, err = isthmus("reconstruct", runs / "lab", data, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["figures"] == {"mse": 0.0, "psnr": 100.0}


def test_images_that_were_trained_on_are_counted(isthmus, runs, tmp_path):
    code, _, err = isthmus("reconstruct", runs / "lab", runs.parent / "toy.npz", "--out", tmp_path / "out")
    assert code == 0
    assert f"{round(0.7 * 60)} of the 60 images" in err
    assert "flatter the model" in err


def test_one_bad_image_is_named_and_the_others_are_written(isthmus, runs, photographs, tmp_path):
    (photographs / "9/broken.png").write_bytes(b"no image")
    code, out, err = isthmus("reconstruct", runs / "lab", photographs, "--out", tmp_path / "out", "--json", "-q")
    assert code == 1
    assert json.loads(out)["left_out"] == {
        "9/broken.png": "is not an image of a known format, or its header is damaged"
    }
    assert "left out: 9/broken.png is not an image" in err
    assert [row["image"] for row in table(tmp_path / "out")] == NAMES
    for name in NAMES:
        (photographs / name).unlink()
    answer = isthmus("reconstruct", runs / "lab", photographs, "--out", tmp_path / "none")
    check_refused(answer, "None of the 1 image(s)", "9/broken.png is not an image")
    assert not (tmp_path / "none").exists()


def test_pictures_that_differ_in_their_suffix_stay_two(isthmus, runs, photographs, tmp_path):
    with Image.open(photographs / "9/0.png") as image:
        image.save(photographs / "9/0.jpg")
    assert isthmus("reconstruct", runs / "lab", photographs / "9", "--out", tmp_path / "out")[0] == 0
    rows = table(tmp_path / "out")
    assert [row["image"] for row in rows] == ["0.jpg", "0.png", "1.png", "2.png"]
    assert [row["reconstructed"] for row in rows] == ["0.png", "0.png.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("classifier", ("`classifier`, which has no decoder", "`isthmus classify`", "`isthmus train vae`")),
        ("denoiser", ("`denoiser`, which has no decoder", "`isthmus denoise`")),
        ("", ("of which 3 runs fit", "runs/lab", "runs/linear", "runs/vae")),
        ("runs/nothing", ("is not a finished run",)),
    ],
)
def test_runs_that_cannot_do_it_are_refused(isthmus, runs, photographs, tmp_path, run, words):
    folder = runs / run if run in NETWORKS else runs.parent / run
    check_refused(isthmus("reconstruct", folder, photographs, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_images_that_are_not_there_are_named(isthmus, runs, tmp_path):
    check_refused(isthmus("reconstruct", runs / "lab", tmp_path / "none", "--out", tmp_path / "out"), "does not exist")
    (tmp_path / "empty").mkdir()
    check_refused(
        isthmus("reconstruct", runs / "lab", tmp_path / "empty", "--out", tmp_path / "out"), "holds no images"
    )


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, photographs, tmp_path):
    arguments = ("reconstruct", runs / "lab", photographs, "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table.csv").write_text("mine")
    check_refused(isthmus(*arguments[:-1], tmp_path / "mine", "--overwrite"), "holds other files")
