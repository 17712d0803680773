"""`isthmus outliers`: scores against what they are by definition, the area under the curve, and what bad input gets."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.data import batches
from isthmus.data.catalog import load
from isthmus.errors import StorageError
from isthmus.latent import outliers as module
from isthmus.latent.density import load_densities
from isthmus.latent.outliers import auroc, find_outliers
from isthmus.metrics import mse
from isthmus.networks.apply import encode, reconstruct
from isthmus.runs import Run
from isthmus.studies.single import train_one

SUFFIXES = ["npz", "csv", *(["parquet"] if importlib.util.find_spec("pyarrow") else [])]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A vae, an autoencoder and a classifier on tiny images of 16 x 16."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz", count=200))
    changes = {"vae": ["model.latent_dim=2", "model.units=16"], "linear": [], "classifier": []}
    for name, more in changes.items():
        train_one(name, data, folder / name, changes=["training.epochs=2", *more])
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """The same, with no density kept yet."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def odd(tmp_path):
    """New images as the runs know them, in `usual`, and three of noise among them, in `odd`."""
    generator = np.random.default_rng(5)
    usual = load(toy(tmp_path / "new.npz", count=20, seed=9)).images[:, 0]
    for i, image in enumerate([*usual, *generator.integers(0, 256, (3, 16, 16), dtype=np.uint8)]):
        path = tmp_path / "images" / ("usual" if i < 20 else "odd") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "images"


def table(folder):
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels(folder):
    """Names and images (N, 1, 16, 16) in [0, 1], in the order of their names."""
    paths = sorted(folder.rglob("*.png"), key=str)
    images = np.stack([np.asarray(Image.open(path), np.float32)[None] / 255 for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths], torch.from_numpy(images)


def test_the_area_is_the_probability_that_an_outlier_scores_higher():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 8, 60).astype(float)  # with many ties
    known = generator.random(60) < 0.3
    wins = np.sign(scores[known][:, None] - scores[~known][None])
    assert auroc(scores, known) == pytest.approx(float((wins / 2 + 0.5).mean()))
    assert auroc(np.exp(scores) - 5, known) == auroc(scores, known)  # only the order counts
    assert auroc(-scores, known) == pytest.approx(1 - auroc(scores, known))
    assert auroc(scores, ~known) == pytest.approx(1 - auroc(scores, known))
    assert auroc(np.zeros(60), known) == 0.5
    assert auroc(np.array([1.0, np.inf]), np.array([False, True])) == 1
    with pytest.raises(ValueError, match="needs outliers and others, and a score of each; got 0, 60 and 60"):
        auroc(scores, np.zeros(60, bool))


@pytest.mark.parametrize("name", ["vae", "linear"])
def test_the_error_is_that_of_the_reconstruction(isthmus, runs, odd, tmp_path, name):
    code, out, err = isthmus("outliers", runs / name, odd, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    names, images = pixels(odd)
    errors = dict(zip(names, mse(reconstruct(Run(runs / name).network(), images), images).tolist(), strict=True))
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["rank", "path", "class", "error"]
    assert [row["path"] for row in rows] == sorted(names, key=lambda name: -errors[name])
    assert [int(row["rank"]) for row in rows] == list(range(1, 24))
    assert [float(row["error"]) for row in rows] == pytest.approx([errors[row["path"]] for row in rows], rel=1e-4)
    assert {row["class"] for row in rows[:3]} == {"odd"}  # noise has no code
    facts = json.loads(out)
    assert facts["figures"] == {"images": 23}
    assert [each["path"] for each in facts["strangest"]] == [row["path"] for row in rows]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 1500


@pytest.mark.parametrize("density", ["gaussian", "normal", "kernel", "histogram"])
def test_the_surprise_is_minus_the_log_density_of_the_code(isthmus, runs, odd, tmp_path, density):
    arguments = ("outliers", runs / "vae", odd, "--by", "density", "--density", density, "--json")
    code, out, err = isthmus(*arguments, "--out", tmp_path / "out")
    assert code == 0, err
    assert json.loads(out)["density"] == density
    names, images = pixels(odd)
    codes = encode(Run(runs / "vae").network(), images).astype(np.float64)
    if density == "normal":
        expected = 0.5 * (np.square(codes) + np.log(2 * np.pi)).sum(1)
    else:
        kept = load_densities(runs / "vae/densities.safetensors")[density]
        expected = -kept.log_prob(torch.from_numpy(codes)).numpy()
    surprise = dict(zip(names, expected, strict=True))
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["rank", "path", "class", "error", "surprise"]
    assert [float(row["surprise"]) for row in rows] == pytest.approx([surprise[row["path"]] for row in rows], rel=1e-4)
    assert np.all(np.diff([float(row["surprise"]) for row in rows]) <= 0)


def test_the_density_that_is_kept_is_taken_or_a_mixture_fitted(isthmus, runs, odd, tmp_path):
    def run(name, *options):
        code, out, err = isthmus("outliers", runs / "linear", odd, "--out", tmp_path / name, "--json", *options)
        assert code == 0, err
        return json.loads(out)["density"]

    kept = runs / "linear/densities.safetensors"
    assert run("error") is None
    assert not kept.exists()
    assert run("gaussian", "--by", "density", "--density", "gaussian") == "gaussian"
    assert list(load_densities(kept)) == ["gaussian"]
    assert run("kept", "--by", "density") == "gaussian"
    kept.unlink()
    assert run("fitted", "--by", "density") == "mixture"
    assert list(load_densities(kept)) == ["mixture"]
    (runs / "linear/codes.npz").unlink()  # not needed any more
    assert run("again", "--by", "density") == "mixture"
    assert (tmp_path / "again/table.csv").read_bytes() == (tmp_path / "fitted/table.csv").read_bytes()


def test_a_density_that_cannot_be_kept_is_noted(isthmus, runs, odd, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise StorageError("Could not write it: Read-only file system.")

    monkeypatch.setattr("isthmus.latent.sampling.keep_density", refuse)
    code, _, err = isthmus("outliers", runs / "linear", odd, "--by", "density", "--out", tmp_path / "out")
    assert code == 0
    assert "the mixture was fitted, and is not kept with the run: Could not write it" in err


def test_normal_codes_of_an_autoencoder_are_noted(isthmus, runs, odd, tmp_path):
    options = ("--by", "density", "--density", "normal", "--out", tmp_path / "out")
    assert (
        "nothing made the codes of an autoencoder standard normal"
        in isthmus("outliers", runs / "linear", odd, *options)[2]
    )


def test_a_known_class_says_how_well_it_is_found(isthmus, runs, odd, tmp_path):
    arguments = ("outliers", runs / "linear", odd)
    code, out, err = isthmus(*arguments, "--outlier-class", "odd", "--out", tmp_path / "odd", "--json")
    assert code == 0, err
    assert json.loads(out)["figures"] == {"images": 23, "auroc": 1.0, "outliers": 3}
    code, out, err = isthmus(*arguments, "--outlier-class", "usual", "--out", tmp_path / "usual")
    assert code == 0, err
    assert "auroc                    0.0000, of 20 outliers" in out


def test_measuring_on_images_that_were_trained_on_warns(isthmus, runs, tmp_path):
    answer = isthmus("outliers", runs / "linear", runs / "toy.npz", "--outlier-class", 1, "--out", tmp_path / "out")
    assert answer[0] == 0
    assert "warning: 140 of the 200 images of" in answer[2]
    assert "so the AUROC is not that of such" in answer[2]
    answer = isthmus("outliers", runs / "linear", runs / "toy.npz", "--out", tmp_path / "plain")
    assert answer[2] == ""  # to look for odd ones among them is fair


def test_in_whatever_batches_the_strangest_are_the_same(runs, odd, monkeypatch):
    at_once = find_outliers(runs / "vae", odd, shown=5)
    monkeypatch.setattr(batches, "MOST", 4)
    in_parts = find_outliers(runs / "vae", odd, shown=5)
    assert at_once.names == in_parts.names
    np.testing.assert_array_equal(at_once.order, in_parts.order)
    torch.testing.assert_close(at_once.pictures, in_parts.pictures, atol=1e-4, rtol=1e-3)
    names, images = pixels(odd)
    assert tuple(names) == at_once.names
    torch.testing.assert_close(at_once.pictures[:, 0], images[at_once.order[:5].copy()])
    expected = reconstruct(Run(runs / "vae").network(), images)[at_once.order[:5].copy()]
    torch.testing.assert_close(at_once.pictures[:, 1], expected, atol=1e-4, rtol=1e-3)


def test_a_sheet_shows_as_many_as_asked_for(isthmus, runs, odd, tmp_path):
    heights = []
    for count in (6, 7, 500):
        out = tmp_path / str(count)
        code, stdout, err = isthmus("outliers", runs / "vae", odd, "-n", count, "--out", out, "--json")
        assert code == 0, err
        assert len(json.loads(stdout)["strangest"]) == min(count, 23)
        with Image.open(out / "sheet.png") as sheet:
            heights.append(sheet.height)
    row = heights[1] - heights[0]
    assert heights[2] - heights[1] == pytest.approx(2 * row, abs=2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_codes_is_as_surprising_as_the_images(isthmus, runs, odd, tmp_path, suffix):
    codes, density = tmp_path / f"codes.{suffix}", ("--by", "density", "--density", "gaussian")
    assert isthmus("encode", runs / "vae", odd, "--out", codes)[0] == 0
    for name, source in (("images", odd), ("codes", codes)):
        answer = isthmus(
            *("outliers", runs / "vae", source, *density, "--outlier-class", "odd", "--json", "-n", 5),
            *("--out", tmp_path / f"from {name}"),
        )
        assert answer[0] == 0, answer[2]
        assert (json.loads(answer[1])["figures"]["images"], len(json.loads(answer[1])["strangest"])) == (23, 5)
    ours, theirs = table(tmp_path / "from codes"), table(tmp_path / "from images")
    assert list(ours[0]) == ["rank", "path", "class", "surprise"]
    assert ours == [{name: row[name] for name in ours[0]} for row in theirs]
    by_default = isthmus("outliers", runs / "vae", codes, *density[2:], "--out", tmp_path / "by default")
    assert by_default[0] == 0, by_default[2]
    assert (tmp_path / "by default/table.csv").read_bytes() == (tmp_path / "from codes/table.csv").read_bytes()
    refused = isthmus("outliers", runs / "vae", codes, "--by", "error", "--out", tmp_path / "error")
    check_refused(refused, "holds codes", "take --by density")


def test_codes_of_another_run_or_of_nothing_but_nan_are_refused(isthmus, runs, odd, tmp_path):
    out = ("--by", "density", "--out", tmp_path / "out")
    assert isthmus("encode", runs / "vae", odd, "--out", tmp_path / "codes.npz")[0] == 0
    answer = isthmus("outliers", runs / "linear", tmp_path / "codes.npz", *out)
    check_refused(answer, "was written by another model", "codes of two models do not compare")
    np.save(tmp_path / "nan.npy", np.full((3, 2), np.nan))
    check_refused(isthmus("outliers", runs / "vae", tmp_path / "nan.npy", *out), "All 3 codes of", "hold NaN")
    np.save(tmp_path / "some.npy", np.array([[0, 0], [np.nan, 0], [0, 1.0]]))
    code, stdout, err = isthmus("outliers", runs / "vae", tmp_path / "some.npy", *out)
    assert code == 1
    assert "left out: 1 has a code with NaN or infinite numbers" in err
    assert "images                   2" in stdout
    assert "some.npy does not say which model wrote it" in err


@pytest.mark.parametrize("by", ["error", "density"])
def test_what_becomes_nan_is_named_and_the_others_scored(isthmus, runs, odd, tmp_path, monkeypatch, by):
    name = {"error": "reconstruct", "density": "encode"}[by]
    usual = getattr(module, name)

    def spoilt(network, images):
        found = usual(network, images)
        found = found.clone() if isinstance(found, torch.Tensor) else found.copy()
        found[1] = np.nan
        return found

    monkeypatch.setattr(module, name, spoilt)
    arguments = ("outliers", runs / "vae", odd, "--by", by, "--outlier-class", "odd", "--json")
    code, out, err = isthmus(*arguments, "--out", tmp_path / "out")
    assert code == 1
    assert "left out: odd/21.png has a reconstruction or a code with NaN" in err
    facts = json.loads(out)
    assert (facts["figures"]["images"], facts["figures"]["outliers"]) == (22, 2)
    assert facts["left_out"] == {"odd/21.png": "has a reconstruction or a code with NaN"}
    assert "odd/21.png" not in [row["path"] for row in table(tmp_path / "out")]


def test_bad_images_are_named_and_the_others_scored(isthmus, runs, odd, tmp_path):
    (odd / "odd/broken.png").write_bytes(b"no image")
    code, out, err = isthmus("outliers", runs / "vae", odd, "--out", tmp_path / "out", "--json", "-q")
    assert code == 1
    assert list(json.loads(out)["left_out"]) == ["odd/broken.png"]
    assert "left out: odd/broken.png is not an image" in err
    assert len(table(tmp_path / "out")) == 23
    answer = isthmus("outliers", runs / "vae", odd / "odd/broken.png", "--out", tmp_path / "none")
    check_refused(answer, "None of the 1 image(s)", "broken.png is not an image")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("`classifier`", "`isthmus classify`", "`isthmus train vae`")),
        ("nothing", (), ("is not a finished run",)),
        ("vae", ("-n", 0), ("-n is the number of images to show, from 1 to 500; got 0",)),
        ("vae", ("--density", "kernel"), ("--density kernel says more of --by density",)),
        ("vae", ("--outlier-class", "od"), ("--outlier-class 'od' is no class of", "did you mean 'odd'?")),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_folder(isthmus, runs, odd, tmp_path, run, options, words):
    check_refused(isthmus("outliers", runs / run, odd, *options, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_a_class_of_all_images_or_of_none_is_refused(isthmus, runs, odd, tmp_path):
    out = ("--outlier-class", "odd", "--out", tmp_path / "out")
    check_refused(isthmus("outliers", runs / "vae", odd / "odd", *out), "--outlier-class odd", "have no classes")
    shutil.rmtree(odd / "usual")
    check_refused(isthmus("outliers", runs / "vae", odd, *out), "all 3 images of", "there have to be others too")


def test_a_model_alone_without_codes_says_which_densities_it_has(isthmus, runs, odd, tmp_path):
    Run(runs / "vae").save_pretrained(tmp_path / "model")
    answer = isthmus("outliers", tmp_path / "model", odd, "--by", "density", "--out", tmp_path / "out")
    check_refused(answer, "is a model alone", "take one of normal")
    assert isthmus("outliers", tmp_path / "model", odd, "--out", tmp_path / "out")[0] == 0


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, odd, tmp_path):
    arguments = ("outliers", runs / "vae", odd, "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
