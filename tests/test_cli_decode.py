"""`isthmus decode`: the images that Python gives, of codes in every sort of file, and what bad input gets."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.networks.apply import decode
from isthmus.runs import Run
from isthmus.studies.single import train_one

NETWORKS = {
    "vae": ["model.latent_dim=3", "model.units=16"],
    "other": ["model.latent_dim=3", "model.units=16", "seed=1"],
    "lab": [],
    "colour": [],
    "denoiser": [],
    "classifier": [],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of every sort on tiny images of 16 x 16; `other` differs from `vae` in its seed alone."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in NETWORKS.items():
        kind = {"other": "vae", "colour": "lab"}.get(name, name)
        data = toy(folder / f"{name}.npz", channels=3 if name == "colour" else 1)
        train_one(kind, str(data), folder / name, changes=["training.epochs=1", *more])
    return folder


@pytest.fixture
def photographs(tmp_path):
    """Six photographs in two folders."""
    generator = np.random.default_rng(1)
    for i in range(6):
        path = tmp_path / "photographs" / ("9" if i < 3 else "10") / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return tmp_path / "photographs"


CODES = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def table(folder):
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_pictures(folder, files, expected):
    for name, image in zip(files, expected, strict=True):
        with Image.open(folder / "images" / name) as picture:
            pixels = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
        np.testing.assert_allclose(pixels / 255, image, atol=0.503 / 255)


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_what_encode_wrote_is_decoded_under_the_same_names(isthmus, runs, photographs, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    codes = tmp_path / f"codes.{suffix}"
    assert isthmus("encode", runs / "vae", photographs, "--out", codes)[0] == 0
    code, out, err = isthmus("decode", runs / "vae", codes, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["images"], facts["left_out"]) == (6, {})
    rows = table(tmp_path / "out")
    assert [row["code"] for row in rows] == ["10/3.jpg", "10/4.jpg", "10/5.jpg", "9/0.jpg", "9/1.jpg", "9/2.jpg"]
    assert [row["picture"] for row in rows] == [f"{row['code'][:-4]}.png" for row in rows]
    assert isthmus("encode", runs / "vae", photographs, "--out", tmp_path / "same.npz")[0] == 0
    with np.load(tmp_path / "same.npz") as archive:
        expected = decode(Run(runs / "vae").network(), archive["codes"])
    check_pictures(tmp_path / "out", [row["picture"] for row in rows], expected)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_plain_array_is_decoded_by_number(isthmus, runs, tmp_path, kind):
    path = tmp_path / f"plain.{kind}"
    np.save(path, CODES.astype(np.float64)) if kind == "npy" else np.savez(path, CODES)
    code, out, err = isthmus("decode", runs / "vae", path, "--out", tmp_path / "out")
    assert code == 0, err
    assert "(12)" in out
    files = sorted(p.name for p in (tmp_path / "out/images").iterdir())
    assert files == [f"{i:02d}.png" for i in range(12)]
    check_pictures(tmp_path / "out", files, decode(Run(runs / "vae").network(), CODES))


def test_what_generate_drew_is_drawn_again(isthmus, runs, tmp_path):
    assert isthmus("generate", runs / "vae", "-n", 9, "--out", tmp_path / "drawn")[0] == 0
    code, _, err = isthmus("decode", runs / "vae", tmp_path / "drawn/codes.npz", "--out", tmp_path / "out")
    assert code == 0, err
    for i in range(9):
        again, before = (tmp_path / "out/images" / f"{i}.png", tmp_path / "drawn/samples" / f"{i + 1}.png")
        with Image.open(again) as one, Image.open(before) as other:
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_colour_is_decoded_in_colour(isthmus, runs, tmp_path):
    np.save(tmp_path / "codes.npy", CODES[:, :2])
    code, _, err = isthmus("decode", runs / "colour", tmp_path / "codes.npy", "--out", tmp_path / "out")
    assert code == 0, err
    expected = decode(Run(runs / "colour").network(), CODES[:, :2])
    check_pictures(tmp_path / "out", [f"{i:02d}.png" for i in range(12)], expected)


def test_the_sheet_shows_some_of_many(isthmus, runs, tmp_path):
    np.save(tmp_path / "codes.npy", np.repeat(CODES, 5, 0))
    assert isthmus("decode", runs / "vae", tmp_path / "codes.npy", "--out", tmp_path / "out")[0] == 0
    assert len(table(tmp_path / "out")) == 60
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width >= 900
        assert np.asarray(sheet.convert("L")).std() > 10


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["../a.png", "b.png"], ("by number", "'../a.png' is no plain relative path")),
        (["/tmp/a.png", "b.png"], ("'/tmp/a.png' is no plain relative path",)),
        (["C:\\a.png", "b.png"], ("is no plain relative path",)),
        (["a\n.png", "b.png"], ("is no plain relative path",)),
        (["a.png", "a.png"], ("by number", "not every code has a path of its own")),
        (["a.png", "A.PNG"], ("not every code has a path of its own",)),
    ],
)
def test_paths_that_lead_nowhere_safe_become_numbers(isthmus, runs, tmp_path, paths, words):
    np.savez(tmp_path / "codes.npz", codes=CODES[:2], paths=np.array(paths))
    code, _, err = isthmus("decode", runs / "vae", tmp_path / "codes.npz", "--out", tmp_path / "in/out")
    assert code == 0, err
    for word in words:
        assert word in err
    assert sorted(p.name for p in (tmp_path / "in/out/images").iterdir()) == ["0.png", "1.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.npz", "in"]


def test_two_paths_that_differ_in_their_suffix_give_two_pictures(isthmus, runs, tmp_path):
    np.savez(tmp_path / "codes.npz", codes=CODES[:3], paths=np.array(["a/x.jpg", "a/x.png", "a/x.v2"]))
    assert isthmus("decode", runs / "vae", tmp_path / "codes.npz", "--out", tmp_path / "out")[0] == 0
    assert [row["picture"] for row in table(tmp_path / "out")] == ["a/x.png", "a/x.png.png", "a/x.v2.png"]


def test_a_bad_code_is_named_and_the_others_are_drawn(isthmus, runs, tmp_path):
    codes = CODES.copy()
    codes[3, 1], codes[7, 0] = np.nan, np.inf
    np.save(tmp_path / "codes.npy", codes)
    code, out, err = isthmus("decode", runs / "vae", tmp_path / "codes.npy", "--out", tmp_path / "out", "--json")
    assert code == 1
    assert "left out: 03 holds NaN or infinite numbers" in err
    assert set(json.loads(out)["left_out"]) == {"03", "07"}
    assert len(table(tmp_path / "out")) == 10
    np.save(tmp_path / "codes.npy", np.full((4, 3), np.nan, np.float32))
    answer = isthmus("decode", runs / "vae", tmp_path / "codes.npy", "--out", tmp_path / "none")
    check_refused(answer, "None of the 4 codes", "NaN or infinite")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("lab", ("holds codes of 3 numbers", "lab have 2", "name the run that made them")),
        ("denoiser", ("`denoiser`, which has no decoder", "`isthmus denoise`", "`isthmus train vae`")),
        ("classifier", ("`classifier`, which has no decoder", "`isthmus classify`")),
        ("nowhere", ("is not a finished run",)),
    ],
)
def test_runs_that_cannot_do_it_are_refused(isthmus, runs, tmp_path, run, words):
    np.save(tmp_path / "codes.npy", CODES)
    check_refused(isthmus("decode", runs / run, tmp_path / "codes.npy", "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_codes_of_another_run_are_refused(isthmus, runs, photographs, tmp_path, suffix):
    codes = tmp_path / f"codes.{suffix}"
    assert isthmus("encode", runs / "other", photographs, "--out", codes)[0] == 0
    answer = isthmus("decode", runs / "vae", codes, "--out", tmp_path / "out")
    check_refused(answer, "was written by another model than", "Name the run that made them")
    assert isthmus("decode", runs / "other", codes, "--out", tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("name", "array"),
    [("codes.npy", CODES[0]), ("codes.npy", np.array([{}], object)), ("codes.npy", CODES[:0]), ("codes.txt", None)],
)
def test_what_is_no_array_of_codes_is_named(isthmus, runs, tmp_path, name, array):
    path = tmp_path / name
    path.write_text("no codes") if array is None else np.save(path, array)
    check_refused(isthmus("decode", runs / "vae", path, "--out", tmp_path / "out"), name)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_missing_or_damaged_is_named(isthmus, runs, tmp_path):
    check_refused(isthmus("decode", runs / "vae", tmp_path / "none.npz", "--out", tmp_path / "out"), "none.npz")
    for name in ("codes.npz", "codes.npy"):
        (tmp_path / name).write_bytes(b"\x93NUMPY and no more")
        check_refused(isthmus("decode", runs / "vae", tmp_path / name, "--out", tmp_path / "out"), name)


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, tmp_path):
    np.save(tmp_path / "codes.npy", CODES)
    arguments = ("decode", runs / "vae", tmp_path / "codes.npy", "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
