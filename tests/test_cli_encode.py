"""`isthmus encode`: files of every sort with the codes that Python gives, and what bad input gets."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, toy
from isthmus.data.catalog import load
from isthmus.networks.apply import encode, posteriors
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


PATHS = ["10/3.png", "10/4.png", "10/5.png", "9/0.png", "9/1.png", "9/2.png"]


def read(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("name", ["vae", "lab", "linear"])
def test_an_archive_holds_what_python_gives(isthmus, runs, photographs, tmp_path, name):
    code, out, err = isthmus("encode", runs / name, photographs, "--out", tmp_path / "new/codes.npz", "--json")
    assert code == 0, err
    found = read(tmp_path / "new/codes.npz")
    assert sorted(found) == ["classes", "codes", "labels", "model", "paths"]
    assert str(found["model"]) == Run(runs / name).config()["checksums"]["model.safetensors"]
    expected = encode(Run(runs / name).network(), load(photographs).images)
    assert found["codes"].dtype == np.float32
    assert np.allclose(found["codes"], expected, atol=1e-5)
    assert found["paths"].tolist() == PATHS
    assert found["classes"].tolist() == ["9", "10"]
    assert found["labels"].tolist() == [1, 1, 1, 0, 0, 0]
    facts = json.loads(out)
    assert (facts["images"], facts["code_size"], facts["left_out"]) == (6, expected.shape[1], {})


def test_a_table_holds_the_same_to_the_last_bit(isthmus, runs, photographs, tmp_path):
    for suffix in ("npz", "csv"):
        code, _, err = isthmus("encode", runs / "vae", photographs, "-o", tmp_path / f"codes.{suffix}", "--posterior")
        assert code == 0, err
    arrays = read(tmp_path / "codes.npz")
    with (tmp_path / "codes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "code_0", "code_1", "code_2", "std_0", "std_1", "std_2", "model"]
    assert [row["path"] for row in rows] == PATHS
    assert [row["label"] for row in rows] == ["10"] * 3 + ["9"] * 3
    for kind, name in (("code", "codes"), ("std", "std")):
        values = np.array([[row[f"{kind}_{i}"] for i in range(3)] for row in rows], np.float32)
        assert np.array_equal(values, arrays[name])
    found = posteriors(Run(runs / "vae").network(), load(photographs).images)
    assert np.allclose(arrays["codes"], found.mean, atol=1e-5)
    assert np.allclose(arrays["std"], found.std, rtol=1e-5)


def test_parquet_holds_the_same_or_says_what_is_missing(isthmus, runs, photographs, tmp_path):
    answer = isthmus("encode", runs / "vae", photographs, "--out", tmp_path / "codes.parquet")
    if importlib.util.find_spec("pyarrow") is None:
        check_refused(answer, "`pip install pyarrow`", "write .npz or .csv")
        assert not (tmp_path / "codes.parquet").exists()
        return
    pandas = pytest.importorskip("pandas")
    assert answer[0] == 0, answer[2]
    table = pandas.read_parquet(tmp_path / "codes.parquet")
    columns = ["code_0", "code_1", "code_2"]
    assert table.columns.tolist() == ["path", "label", *columns, "model"]
    assert table["path"].tolist() == PATHS
    assert isthmus("encode", runs / "vae", photographs, "--out", tmp_path / "codes.npz")[0] == 0
    assert np.array_equal(table[columns].to_numpy(np.float32), read(tmp_path / "codes.npz")["codes"])


def test_a_missing_package_is_named_before_any_work(isthmus, photographs, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else there(name))
    answer = isthmus("encode", tmp_path / "no run", photographs, "--out", tmp_path / "codes.PARQUET")
    check_refused(answer, "`pip install pyarrow`", "write .npz or .csv")


def test_classes_are_left_out_where_not_every_image_has_one(isthmus, runs, photographs, tmp_path):
    shutil.copy(photographs / "9/0.png", photographs / "0.png")
    for suffix in ("npz", "csv"):
        assert isthmus("encode", runs / "lab", photographs, "--out", tmp_path / f"codes.{suffix}")[0] == 0
    assert sorted(read(tmp_path / "codes.npz")) == ["codes", "model", "paths"]
    assert (tmp_path / "codes.csv").read_text().startswith("path,code_0,code_1,model\n0.png,")


def test_arrays_are_encoded(isthmus, runs, tmp_path):
    data = toy(tmp_path / "toy.npz", seed=3, size=20, names=["a", "b", "c"])
    code, out, err = isthmus("encode", runs / "vae", data, "--out", tmp_path / "codes.npz")
    assert code == 0, err
    assert "60 images scaled from 20 x 20 to 16 x 16" in err
    assert out == f"codes: {tmp_path / 'codes.npz'} (60 images, 3 numbers each)\n"
    found = read(tmp_path / "codes.npz")
    assert found["paths"][[0, 59]].tolist() == ["toy-00", "toy-59"]
    assert found["classes"][found["labels"]].tolist() == ["a", "b", "c"] * 20
    assert np.allclose(found["codes"], encode(Run(runs / "vae").network(), load(data, size=(16, 16)).images), atol=1e-5)


def test_idx_files_and_named_sets_are_encoded(isthmus, runs, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16), dtype=np.uint8)
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes() + pixels.tobytes())
    network = Run(runs / "linear").network()
    for source, images in ((path, pixels[:, None]), ("mnist-5k", load("mnist-5k", size=(16, 16)).images)):
        code, _, err = isthmus("encode", runs / "linear", source, "--out", tmp_path / f"{len(images)}.npz")
        assert code == 0, err
        found = read(tmp_path / f"{len(images)}.npz")
        assert np.allclose(found["codes"], encode(network, images), atol=1e-4)
        assert ("labels" in found) == (source == "mnist-5k")
    assert found["paths"][[0, -1]].tolist() == ["mnist-5k-0000", "mnist-5k-4999"]


def test_noisy_floats_are_encoded_unclipped(isthmus, runs, tmp_path):
    noisy = np.random.default_rng(0).normal(0.5, 0.5, (5, 1, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "noisy.npz", x=noisy)
    assert isthmus("encode", runs / "linear", tmp_path / "noisy.npz", "--out", tmp_path / "codes.npz")[0] == 0
    expected = encode(Run(runs / "linear").network(), noisy)
    assert np.allclose(read(tmp_path / "codes.npz")["codes"], expected, atol=1e-4)


def test_bad_images_are_named_and_the_others_written(isthmus, runs, photographs, tmp_path):
    (photographs / "9/broken.png").write_bytes(b"no image")
    code, out, err = isthmus("encode", runs / "lab", photographs, "--out", tmp_path / "codes.npz", "--json", "-q")
    assert code == 1
    assert json.loads(out)["left_out"] == {
        "9/broken.png": "is not an image of a known format, or its header is damaged"
    }
    assert "left out: 9/broken.png is not an image" in err
    assert read(tmp_path / "codes.npz")["paths"].tolist() == PATHS
    for path in PATHS:
        (photographs / path).unlink()
    answer = isthmus("encode", runs / "lab", photographs, "--out", tmp_path / "none.npz")
    check_refused(answer, "None of the 1 image(s)", "9/broken.png is not an image")
    assert not (tmp_path / "none.npz").exists()


def test_an_existing_file_is_left_alone_unless_told(isthmus, runs, photographs, tmp_path):
    path = tmp_path / "codes.npz"
    path.write_bytes(b"mine")
    arguments = ("encode", runs / "lab", photographs, "--out", path)
    check_refused(isthmus(*arguments), "codes.npz exists already", "--overwrite", "another --out")
    assert path.read_bytes() == b"mine"
    assert isthmus(*arguments, "--overwrite")[0] == 0
    assert read(path)["codes"].shape == (6, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.npz", photographs.name]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("codes.pkl", ("ends in .pkl", ".npz, .csv, .parquet")),
        ("codes", ("ends in nothing", ".npz, .csv, .parquet")),
        ("file/codes.npz", ("cannot be written below", "it is a file")),
        ("folder.npz", ("is a folder", "name a file")),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_any_work(isthmus, photographs, tmp_path, out, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    check_refused(isthmus("encode", tmp_path / "no run", photographs, "--out", tmp_path / out, "--overwrite"), *words)


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("`classifier`, which has no codes", "`isthmus classify`", "`isthmus train vae`")),
        ("denoiser", (), ("`denoiser`, which has no codes", "`isthmus denoise`")),
        ("lab", ("--posterior",), ("is not a VAE", "leave out --posterior")),
        ("", (), ("of which 3 runs fit", "runs/lab", "runs/linear", "runs/vae")),
        ("runs/nothing", (), ("is not a finished run",)),
    ],
)
def test_runs_that_cannot_do_it_are_refused(isthmus, runs, photographs, tmp_path, run, options, words):
    folder = runs / run if run in NETWORKS else runs.parent / run
    check_refused(isthmus("encode", folder, photographs, "--out", tmp_path / "codes.npz", *options), *words)
    assert not (tmp_path / "codes.npz").exists()
