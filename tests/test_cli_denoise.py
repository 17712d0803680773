"""`isthmus denoise`: on files of every sort, with every damage, and what bad input gets."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from command_line import BRIEF, check_refused, content, toy
from isthmus.studies.single import train_one


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished vae, lab, denoiser and classifier on tiny images of 16 x 16."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz"))
    changes = {
        "vae": ["model.latent_dim=3", "model.units=16"],
        "lab": [],
        "free": ["model.code_relu=false"],
        "denoiser": ["model.width=4"],
        "classifier": [],
    }
    for name, more in changes.items():
        train_one("lab" if name == "free" else name, data, folder / name, changes=["training.epochs=2", *more])
    return folder


@pytest.fixture
def photographs(tmp_path):
    """Five grey PNG files, one of them in a subfolder."""
    generator = np.random.default_rng(1)
    for i in range(5):
        path = tmp_path / "photographs" / ("inner/4.png" if i == 4 else f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return tmp_path / "photographs"


def table(folder):
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", ["noise:0.25", "mask:0.5", "blur:1.5", "lowres:2", "mask:0.3+noise:0.1"])
@pytest.mark.parametrize("method", ["map", "bottleneck"])
def test_whole_images_are_damaged_restored_and_compared(isthmus, runs, photographs, tmp_path, recipe, method):
    out = tmp_path / "out"
    code, stdout, err = isthmus(
        "denoise", runs / "vae", photographs, "--method", method, "--degrade", recipe, "--out", out, "--json"
    )
    assert code == 0, err
    figures = json.loads(stdout)["figures"]
    assert figures["images"] == 5
    rows = table(out)
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "3.png", "inner/4.png"]
    assert np.mean([float(row["psnr_restored"]) for row in rows]) == pytest.approx(figures["psnr_restored"], abs=0.01)
    assert ("converged" in rows[0]) == (method == "map")
    for row in rows:
        with Image.open(out / "restored" / row["restored"]) as image:
            assert image.size == (16, 16)
        with Image.open(out / "damaged" / row["restored"]) as image:
            assert image.size == ((8, 8) if recipe == "lowres:2" else (16, 16))


def test_damaged_images_are_restored_with_estimated_noise(isthmus, runs, tmp_path):
    generator = np.random.default_rng(0)
    noisy = (0.4 + 0.2 * generator.normal(size=(8, 1, 16, 16))).astype(np.float32)
    np.savez(tmp_path / "noisy.npz", images=noisy)
    assert noisy.min() < 0  # as unclipped noise may be
    code, stdout, err = isthmus("denoise", runs / "vae", tmp_path / "noisy.npz", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    figures = json.loads(stdout)["figures"]
    assert figures["sigma"] == pytest.approx(0.2, rel=0.2)
    assert figures["sigma_is"] == "estimated from each image"
    assert "psnr_restored" not in figures
    assert not (tmp_path / "out/damaged").exists()
    assert len(list((tmp_path / "out/restored").iterdir())) == 8


def test_low_resolution_images_of_a_person_are_enlarged(isthmus, runs, tmp_path):
    np.savez(tmp_path / "small.npz", images=np.random.default_rng(0).random((3, 8, 8), dtype=np.float32))
    answer = isthmus(
        "denoise", runs / "vae", tmp_path / "small.npz", "--degrade", "lowres:2", "--damaged", "--out", tmp_path / "o"
    )
    assert answer[0] == 0, answer[2]
    with Image.open(tmp_path / "o/restored/small-0.png") as image:
        assert image.size == (16, 16)


def test_the_same_seed_gives_the_same_files(isthmus, runs, photographs, tmp_path):
    for name in ("a", "b"):
        isthmus("denoise", runs / "vae", photographs, "--degrade", "mask:0.5", "--seed", 3, "--out", tmp_path / name)
    assert (tmp_path / "a/table.csv").read_bytes() == (tmp_path / "b/table.csv").read_bytes()
    a, b = (np.asarray(Image.open(tmp_path / name / "damaged/0.png")) for name in ("a", "b"))
    assert np.array_equal(a, b)


def test_uncertainty_restarts_and_the_exact_solver(isthmus, runs, photographs, tmp_path):
    options = ("--degrade", "noise:0.25", "--uncertainty", "--restarts", 3, "--solver", "lm", "--clip")
    code, _, err = isthmus("denoise", runs / "vae", photographs, *options, "--out", tmp_path / "out")
    assert code == 0, err
    assert "no longer Gaussian" in err
    with np.load(tmp_path / "out/uncertainty.npz") as found:
        assert found["std"].shape == (5, 1, 16, 16)
        assert (found["std"] > 0).all()
        assert str(found["names"][0]) == "0.png"
    once = isthmus(
        "denoise", runs / "vae", photographs, *options[:2], "--clip", "--solver", "lm", "--out", tmp_path / "once"
    )
    assert once[0] == 0
    for more, one in zip(table(tmp_path / "out"), table(tmp_path / "once"), strict=True):
        assert float(more["objective"]) <= float(one["objective"]) + 1e-3


@pytest.mark.parametrize("name", ["lab", "denoiser"])
def test_other_runs_restore_by_the_bottleneck(isthmus, runs, photographs, tmp_path, name):
    answer = isthmus(
        "denoise",
        runs / name,
        photographs,
        "--method",
        "bottleneck",
        "--degrade",
        "noise:0.2",
        "--out",
        tmp_path / "out",
    )
    assert answer[0] == 0, answer[2]
    assert "psnr_restored" in answer[1]


def test_an_autoencoder_takes_a_prior_fitted_to_its_codes(isthmus, runs, photographs, tmp_path):
    refused = isthmus("denoise", runs / "lab", photographs, "--degrade", "noise:0.2", "--out", tmp_path / "out")
    check_refused(refused, "not a VAE", "--prior gaussian", "--method bottleneck")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    options = ("--degrade", "noise:0.2", "--prior", "gaussian", "--out", tmp_path / "out")
    answer = isthmus("denoise", runs / "free", photographs, *options)
    assert answer[0] == 0, answer[2]
    assert "psnr_restored" in answer[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--degrade", "noise:0"), ("noise needs a standard deviation above 0",)),
        (("--degrade", "noise:-1"), ("above 0",)),
        (("--degrade", "mask:1"), ("hides everything",)),
        (("--degrade", "fog:1"), ("not a degradation", "noise:0.25")),
        (("--degrade", "lowres:40"), ("from 2 to 16",)),
        (("--sigma", "0"), ("above 0",)),
        (("--sigma", "-0.1"), ("above 0",)),
        (("--sigma", "nan"), ("above 0",)),
        (("--sigma", "much"), ("neither a number nor auto",)),
        (("--degrade", "mask:0.5", "--damaged"), ("cannot be told",)),
        (("--clip",), ("--clip and --damaged say more",)),
        (("--damaged",), ("--clip and --damaged say more",)),
        (("--degrade", "noise:0.1", "--clip", "--damaged"), ("--clip is a part of the damage",)),
        (("--degrade", "lowres:0", "--damaged"), ("at least 2 pixels",)),
        (("--degrade", "noise:0.1", "--method", "bottleneck", "--sigma", "0.1"), ("--sigma belongs to --method map",)),
        (("--method", "bottleneck", "--uncertainty", "--degrade", "noise:0.1"), ("belongs to --method map",)),
    ],
)
def test_options_that_make_no_sense_are_refused(isthmus, runs, photographs, tmp_path, options, words):
    check_refused(isthmus("denoise", runs / "vae", photographs, *options, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("is a classifier",)),
        ("denoiser", ("--degrade", "noise:0.1"), ("without codes to search", "--method bottleneck")),
        ("denoiser", ("--method", "bottleneck", "--degrade", "blur:1"), ("knows nothing of blur",)),
        ("nowhere", (), ("is not a finished run",)),
    ],
)
def test_runs_that_cannot_do_it_are_refused(isthmus, runs, photographs, tmp_path, run, options, words):
    check_refused(isthmus("denoise", runs / run, photographs, *options, "--out", tmp_path / "out"), *words)


def test_images_of_another_size_are_refused_or_resized(isthmus, runs, tmp_path):
    toy(tmp_path / "large.npz", count=4, size=20)
    check_refused(
        isthmus("denoise", runs / "vae", tmp_path / "large.npz", "--out", tmp_path / "out"),
        "None of the 4",
        "is 20 x 20, needed is 16 x 16",
        "--resize",
    )
    answer = isthmus("denoise", runs / "vae", tmp_path / "large.npz", "--resize", "--out", tmp_path / "out")
    assert answer[0] == 0, answer[2]


def test_one_bad_image_is_named_and_the_others_are_written(isthmus, runs, photographs, tmp_path):
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(photographs / "large.png")
    (photographs / "broken.png").write_bytes(b"no image")
    code, stdout, err = isthmus(
        "denoise", runs / "vae", photographs, "--degrade", "noise:0.2", "--out", tmp_path / "out", "--json"
    )
    assert code == 1
    assert "left out: large.png is 30 x 30, needed is 16 x 16" in err
    assert "left out: broken.png" in err
    assert set(json.loads(stdout)["left_out"]) == {"large.png", "broken.png"}
    assert len(table(tmp_path / "out")) == 5


def test_nan_pixels_are_named_and_the_others_are_written(isthmus, runs, tmp_path):
    images = np.random.default_rng(0).random((12, 16, 16), dtype=np.float32)
    images[7, 3, 3] = np.nan
    images[9] = 200.0
    np.savez(tmp_path / "some.npz", images=images)
    code, _, err = isthmus("denoise", runs / "vae", tmp_path / "some.npz", "--out", tmp_path / "out")
    assert code == 1
    assert "some-07 holds NaN" in err
    assert "some-09 has pixels up to 200" in err
    assert len(table(tmp_path / "out")) == 10
    np.savez(tmp_path / "all.npz", images=np.full((3, 16, 16), np.nan, np.float32))
    check_refused(isthmus("denoise", runs / "vae", tmp_path / "all.npz", "--out", tmp_path / "o"), "holds NaN")


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, photographs, tmp_path):
    arguments = ("denoise", runs / "vae", photographs, "--degrade", "noise:0.2", "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table.csv").write_text("mine")
    check_refused(isthmus(*arguments[:-1], tmp_path / "mine", "--overwrite"), "holds other files")


def test_a_run_can_start_from_another(isthmus, runs, tmp_path):
    data = runs / "toy.npz"
    fine = ("--set", "training.frozen=decoder", "--set", "training.noise=0.2", "--set", f"start={runs / 'vae'}")
    model = ("--set", "model.latent_dim=3", "--set", "model.units=16")
    answer = isthmus("train", "vae", data, "--out", tmp_path / "fine", *BRIEF, *model, *fine)
    assert answer[0] == 0, answer[2]
    other = isthmus("train", "vae", data, "--out", tmp_path / "other", *BRIEF, *fine)
    check_refused(other, "another network", "latent_dim was 3, now 16", "model.* settings")
    lab = isthmus("train", "classifier", data, "--out", tmp_path / "c", *BRIEF, "--set", "training.frozen=decoder")
    check_refused(lab, "name that run, --set start=RUN")
    check_refused(
        isthmus("train", "vae", data, "--out", tmp_path / "b", *BRIEF, "--set", "model.likelihood=bernoulli"),
        "has grey values",
        "threshold",
    )


def test_evaluate_gives_the_bounds_of_a_vae(isthmus, runs, tmp_path):
    other = toy(tmp_path / "other.npz", seed=5)
    code, stdout, err = isthmus("evaluate", runs / "vae", other, "--samples", 20, "--json")
    assert code == 0, err
    figures = json.loads(stdout)["figures"]
    assert figures["kl_nats"] > 0
    assert figures["iwae_nats"] > figures["bound_nats"]
    assert "iwae_nats" not in json.loads(isthmus("evaluate", runs / "vae", other, "--json")[1])["figures"]
    check_refused(isthmus("evaluate", runs / "lab", other, "--samples", 5), "belong to the likelihood of a VAE")


def test_evaluate_gives_a_denoiser_its_noise(isthmus, runs, tmp_path):
    code, stdout, err = isthmus("evaluate", runs / "denoiser", toy(tmp_path / "other.npz", seed=5), "--json")
    assert code == 0, err
    assert json.loads(stdout)["figures"]["noisy_psnr"] == pytest.approx(12.04, abs=0.2)  # -20 log10(0.25)
