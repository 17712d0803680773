"""`isthmus search`: what is nearest by brute force, from images and from files of codes, and what bad input gets."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.data.catalog import load
from isthmus.latent import search as module
from isthmus.latent.search import images_by_name, nearest_codes
from isthmus.networks.apply import encode
from isthmus.runs import Run
from isthmus.studies.single import train_one

SUFFIXES = ["npz", "csv", *(["parquet"] if importlib.util.find_spec("pyarrow") else [])]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A vae, two autoencoders and a classifier on tiny images of 16 x 16."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz"))
    changes = {"vae": ["model.latent_dim=3", "model.units=16"], "linear": [], "other": [], "classifier": []}
    for name, more in changes.items():
        kind = {"other": "linear"}.get(name, name)
        train_one(kind, data, folder / name, changes=["training.epochs=1", *more], seed=int(name == "other"))
    return folder


@pytest.fixture
def photographs(tmp_path):
    """Twelve grey photographs, six in each of two folders."""
    generator = np.random.default_rng(1)
    folder = tmp_path / "meine Bilder ü"
    for i in range(12):
        path = folder / ("9" if i < 6 else "10") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return folder


def table(folder):
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def brute_force(references, queries):
    """Distances (M, N) in float64."""
    differences = queries[:, None].astype(np.float64) - references[None].astype(np.float64)
    return np.sqrt(np.square(differences).sum(2))


@pytest.mark.parametrize(
    ("count", "size", "queries", "chunk"),
    [(1, 1, 1, 2**22), (500, 3, 1, 2**22), (500, 16, 600, 2**22), (999, 5, 7, 350)],
)
def test_the_nearest_are_those_of_brute_force(monkeypatch, count, size, queries, chunk):
    monkeypatch.setattr(module, "CHUNK_VALUES", chunk)
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(count, size, generator=generator)
    asked = torch.randn(queries, size, generator=generator)
    found = nearest_codes(references, asked, count=10)
    distances = brute_force(references.numpy(), asked.numpy())
    assert found.index.shape == (queries, min(10, count))
    np.testing.assert_array_equal(found.index, distances.argsort(1, kind="stable")[:, :10])
    np.testing.assert_allclose(found.distances, np.sort(distances, 1)[:, :10], rtol=1e-5)


def test_codes_far_from_the_origin_lose_nothing():
    """|q|^2 - 2 q z + |z|^2 would leave no correct digit of these distances."""
    references = torch.arange(100.0)[:, None] / 64 + 10_000
    found = nearest_codes(references, torch.tensor([[10_000.5]]), count=3)
    assert found.index.tolist() == [[32, 31, 33]]
    np.testing.assert_array_equal(found.distances, [[0, 1 / 64, 1 / 64]])


def test_equal_codes_come_in_their_order():
    found = nearest_codes(torch.zeros(5, 2), torch.ones(1, 2), count=5)
    assert found.index.tolist() == [[0, 1, 2, 3, 4]]
    with pytest.raises(ValueError, match=r"Codes \(1, 3\) have no neighbours among \(5, 2\)"):
        nearest_codes(torch.zeros(5, 2), torch.zeros(1, 3), count=1)


@pytest.mark.parametrize("name", ["vae", "linear"])
def test_an_image_of_a_folder_finds_itself_and_its_neighbours(isthmus, runs, photographs, tmp_path, name):
    query = photographs / "9/3.png"
    code, out, err = isthmus("search", runs / name, query, photographs, "-n", 5, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["queries"], facts["images"]) == (1, 12)
    images = load(photographs)
    codes = encode(Run(runs / name).network(), images.images)
    names = [f"10/{i}.png" for i in (10, 11, 6, 7, 8, 9)] + [f"9/{i}.png" for i in range(6)]
    distances = brute_force(codes, codes[[names.index("9/3.png")]])[0]
    rows = table(tmp_path / "out")
    assert [row["path"] for row in rows] == [names[i] for i in distances.argsort()[:5]]
    assert rows[0]["path"] == "9/3.png"
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
    assert {row["query"] for row in rows} == {"3.png"}
    assert [row["class"] for row in rows] == [row["path"].split("/")[0] for row in rows]
    np.testing.assert_allclose([float(row["distance"]) for row in rows], np.sort(distances)[:5], rtol=1e-3, atol=1e-4)
    assert [near["path"] for near in facts["found"][0]["found"]] == [row["path"] for row in rows]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 1000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_codes_gives_the_same_answer_as_the_images(isthmus, runs, photographs, tmp_path, suffix):
    codes = tmp_path / f"codes.{suffix}"
    assert isthmus("encode", runs / "vae", photographs, "--out", codes)[0] == 0
    for name, data in (("images", photographs), ("codes", codes)):
        code, out, err = isthmus("search", runs / "vae", photographs / "10", data, "--out", tmp_path / name)
        assert code == 0, err
        assert "6 queries among 12 images" in out
        assert err == ""
    assert (tmp_path / "images/table.csv").read_bytes() == (tmp_path / "codes/table.csv").read_bytes()
    assert len(table(tmp_path / "codes")) == 6 * 10


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_codes_may_be_asked_about_too(isthmus, runs, photographs, tmp_path, suffix):
    codes = tmp_path / f"codes.{suffix}"
    assert isthmus("encode", runs / "vae", photographs, "--out", codes)[0] == 0
    for name, query, data in (
        ("images", photographs, photographs),
        ("codes", codes, photographs),
        ("both", codes, codes),
    ):
        code, _, err = isthmus("search", runs / "vae", query, data, "-n", 4, "--out", tmp_path / name)
        assert (code, err) == (0, "")
        with Image.open(tmp_path / name / "sheet.png") as sheet:
            assert np.asarray(sheet.convert("L")).std() > 10
    found = [[(row["query"], row["path"]) for row in table(tmp_path / name)] for name in ("images", "codes", "both")]
    assert found[0] == found[1] == found[2]


def test_a_query_of_another_size_is_refused_unless_it_is_to_be_scaled(isthmus, runs, photographs, tmp_path):
    with Image.open(photographs / "9/3.png") as image:
        image.resize((40, 32)).save(tmp_path / "large.png")
    arguments = ("search", runs / "vae", tmp_path / "large.png", photographs, "--out", tmp_path / "out")
    refused = isthmus(*arguments)
    check_refused(refused, "QUERY: large.png has 32 x 40 pixels, and", "images of 16 x 16", "add --resize")
    assert not (tmp_path / "out").exists()
    code, _, err = isthmus(*arguments, "--resize")
    assert code == 0
    assert "1 image resized to 16 x 16, as in training.\n1 image cropped at the centre to these proportions." in err
    assert isthmus("encode", runs / "linear", photographs, "--out", tmp_path / "codes.npz")[0] == 0
    refused = isthmus("search", runs / "vae", tmp_path / "codes.npz", photographs, "--out", tmp_path / "none")
    check_refused(refused, "codes.npz holds codes of 2 numbers, those of", "have 3")
    assert not (tmp_path / "none").exists()


def test_queries_of_any_size_are_taken_where_the_training_scaled_its_images(isthmus, photographs, tmp_path):
    changes = ["training.epochs=1", "data.height=24", "data.width=24"]
    train_one("linear", str(toy(tmp_path / "toy.npz")), tmp_path / "run", changes=changes)
    out = ("--out", tmp_path / "out")
    code, _, err = isthmus("search", tmp_path / "run", photographs / "9/3.png", photographs, *out)
    assert code == 0, err
    assert "resized to 24 x 24, as in training" in err


def test_images_that_were_named_from_another_folder_are_found(isthmus, photographs, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    toy(tmp_path / "there/toy.npz")
    toy(tmp_path / "toy.npz", count=9)  # of the same name, and not what was trained on
    monkeypatch.chdir(tmp_path / "there")
    train_one("linear", "toy.npz", tmp_path / "run", changes=["training.epochs=1"])
    for place, name in (("there", "toy.npz"), (".", str(tmp_path / "there/toy.npz"))):
        monkeypatch.chdir(tmp_path / place)
        out = ("--out", tmp_path / f"from {place}", "--json")
        code, stdout, err = isthmus("search", tmp_path / "run", photographs / "9/3.png", *out)
        assert code == 0, err
        assert f"searched among {name}, which" in err
        assert json.loads(stdout)["images"] == 60


def test_without_data_the_images_of_the_training_are_searched(isthmus, runs, photographs, tmp_path):
    code, _, err = isthmus("search", runs / "linear", photographs / "9/0.png", "--out", tmp_path / "out")
    assert code == 0, err
    assert f"searched among {runs / 'toy.npz'}, which {runs / 'linear'} was trained on" in err
    assert all(row["path"].startswith("toy-") for row in table(tmp_path / "out"))
    assert table(tmp_path / "out")[0]["class"] in {"0", "1", "2"}


def test_arrays_and_names_are_searched(isthmus, runs, tmp_path):
    data = runs / "toy.npz"
    answer = isthmus("search", runs / "vae", data, "mnist-5k", "-n", 2, "--out", tmp_path / "out", "--json")
    assert answer[0] == 0, answer[2]
    assert "5,000 images scaled from 28 x 28 to 16 x 16" in answer[2]
    facts = json.loads(answer[1])
    assert (facts["queries"], facts["images"], len(facts["found"][59]["found"])) == (60, 5000, 2)
    code, out, err = isthmus("search", runs / "vae", data, data, "-n", 100, "--out", tmp_path / "all")
    assert code == 0, err
    assert "and 50 more queries, in the table" in out
    assert len(table(tmp_path / "all")) == 60 * 60  # no more than there are
    firsts = [row for row in table(tmp_path / "all") if row["rank"] == "1"]
    assert all(float(row["distance"]) == 0 for row in firsts)


def test_images_are_found_again_by_name(runs, photographs):
    shape = (1, 16, 16)
    names = ["9/2.png", "10/7.png", "9/2.png"]
    found = images_by_name(str(photographs), shape, names)
    expected = [np.asarray(Image.open(photographs / name), np.float32)[None] / 255 for name in names]
    np.testing.assert_allclose(found, np.stack(expected))
    arrays = load(runs / "toy.npz").images
    np.testing.assert_array_equal(
        images_by_name(str(runs / "toy.npz"), shape, ["toy-41", "toy-03"]), arrays[[41, 3]].astype(np.float32) / 255
    )
    with pytest.raises(ValueError, match=r"toy-99 of .* was there a moment ago"):
        images_by_name(str(runs / "toy.npz"), shape, ["toy-99"])


def test_bad_images_are_named_and_the_others_searched(isthmus, runs, photographs, tmp_path):
    (photographs / "9/broken.png").write_bytes(b"no image")
    arguments = ("search", runs / "vae", photographs / "9", photographs, "--json", "-q", "--out", tmp_path / "out")
    code, out, err = isthmus(*arguments)
    assert code == 1
    facts = json.loads(out)
    assert list(facts["queries_left_out"]) == ["broken.png"]
    assert list(facts["left_out"]) == ["9/broken.png"]
    assert (facts["queries"], facts["images"]) == (6, 12)
    assert "left out: broken.png is not an image" in err
    assert "left out: 9/broken.png is not an image" in err
    answer = isthmus("search", runs / "vae", photographs / "9/broken.png", photographs, "--out", tmp_path / "none")
    check_refused(answer, "None of the 1 image(s)", "broken.png is not an image")
    assert not (tmp_path / "none").exists()


def test_codes_that_are_not_finite_are_named_and_the_others_searched(isthmus, runs, photographs, tmp_path):
    assert isthmus("encode", runs / "vae", photographs, "--out", tmp_path / "codes.npz")[0] == 0
    with np.load(tmp_path / "codes.npz") as file:
        arrays = dict(file)
    arrays["codes"][4, 1] = np.nan
    np.savez(tmp_path / "codes.npz", **arrays)
    arguments = ("search", runs / "vae", photographs / "9/0.png", tmp_path / "codes.npz", "-n", 50, "--json")
    code, out, _ = isthmus(*arguments, "--out", tmp_path / "out")
    assert code == 1
    assert json.loads(out)["left_out"] == {arrays["paths"][4]: "has a code with NaN or infinite numbers"}
    assert len(table(tmp_path / "out")) == 11
    arrays["codes"][:] = np.inf
    np.savez(tmp_path / "codes.npz", **arrays)
    check_refused(isthmus(*arguments, "--out", tmp_path / "none"), "All 12 codes of", "train the network again")


def test_codes_that_do_not_say_their_model_are_taken_with_a_note(isthmus, runs, photographs, tmp_path):
    np.savez(tmp_path / "plain.npz", codes=np.random.default_rng(0).normal(size=(20, 3)))
    arguments = ("search", runs / "vae", photographs / "9/0.png", tmp_path / "plain.npz", "-n", 3)
    code, _, err = isthmus(*arguments, "--out", tmp_path / "out")
    assert code == 0, err
    assert "plain.npz does not say which model wrote it: only the size of its codes was checked" in err
    assert all(row["path"].isdigit() for row in table(tmp_path / "out"))


def test_codes_of_another_run_or_damaged_ones_are_refused(isthmus, runs, photographs, tmp_path):
    for name in ("other", "vae"):
        assert isthmus("encode", runs / name, photographs, "--out", tmp_path / f"{name}.npz")[0] == 0
    arguments = ("search", runs / "linear", photographs / "9/0.png")
    out = ("--out", tmp_path / "out")
    check_refused(isthmus(*arguments, tmp_path / "other.npz", *out), "was written by another model", "do not compare")
    check_refused(isthmus(*arguments, tmp_path / "vae.npz", *out), "codes of 3 numbers", "have 2")
    shutil.copy(tmp_path / "other.npz", tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    check_refused(isthmus(*arguments, tmp_path / "cut.npz", *out), "cut.npz is empty, cut short or not an .npz archive")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("`classifier`, which has no codes", "`isthmus classify`")),
        ("nothing", (), ("is not a finished run",)),
        ("vae", ("-n", 0), ("-n is the number of images to find, from 1 to 1000; got 0",)),
        ("vae", ("-n", 1001), ("from 1 to 1000; got 1001",)),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_folder(isthmus, runs, photographs, tmp_path, run, options, words):
    out = tmp_path / "deep/out"
    answer = isthmus("search", runs / run, photographs / "9/0.png", photographs, *options, "--out", out)
    check_refused(answer, *words)
    assert not out.exists()


def test_a_model_alone_has_to_be_told_where_to_search(isthmus, runs, photographs, tmp_path):
    Run(runs / "vae").save_pretrained(tmp_path / "model")
    arguments = ("search", tmp_path / "model", photographs / "9/0.png")
    check_refused(isthmus(*arguments, "--out", tmp_path / "out"), "has no run.json", "as DATA")
    assert isthmus(*arguments, photographs, "--out", tmp_path / "out")[0] == 0


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, photographs, tmp_path):
    arguments = ("search", runs / "vae", photographs / "9/0.png", photographs, "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table.csv").write_text("mine")
    check_refused(isthmus(*arguments[:-1], tmp_path / "mine", "--overwrite"), "holds other files")
    assert (tmp_path / "mine/table.csv").read_text() == "mine"
