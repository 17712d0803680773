"""`isthmus generate`: from every kind of run and density, and what bad input gets."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.errors import StorageError
from isthmus.latent import sampling
from isthmus.latent.density import load_densities
from isthmus.networks.apply import decode
from isthmus.runs import Run
from isthmus.studies.single import train_one

DENSITIES = ("normal", "gaussian", "mixture", "kernel", "histogram")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished vae, wide vae, autoencoder, denoiser and classifier on tiny images of 16 x 16."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz", count=200))
    changes = {
        "vae": ["model.latent_dim=2", "model.units=16"],
        "wide": ["model.latent_dim=16", "model.units=16"],
        "lab": ["model.code_relu=false"],
        "denoiser": ["model.width=4"],
        "classifier": [],
    }
    for name, more in changes.items():
        kind = {"wide": "vae"}.get(name, name)
        train_one(kind, data, folder / name, changes=["training.epochs=2", *more])
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """The same, with no density kept yet."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("density", DENSITIES)
def test_every_density_draws_images(isthmus, runs, tmp_path, density):
    out = tmp_path / "out"
    code, stdout, err = isthmus("generate", runs / "lab", "--density", density, "-n", 10, "--out", out, "--json")
    assert code == 0, err
    answer = json.loads(stdout)
    assert answer["density"] == density
    assert answer["figures"]["images"] == 10
    assert np.isfinite(answer["figures"]["heldout_nats"])
    assert sorted(path.name for path in (out / "samples").iterdir()) == [f"{i:02d}.png" for i in range(1, 11)]
    with np.load(out / "codes.npz") as found:
        codes, log_prob = found["codes"], found["log_prob"]
    header, *rows = (line.split(",") for line in (out / "table.csv").read_text().splitlines())
    assert (header, [row[0] for row in rows]) == (["sample", "log_prob"], [f"{i:02d}.png" for i in range(1, 11)])
    np.testing.assert_allclose([float(row[1]) for row in rows], log_prob, rtol=1e-4)
    assert codes.shape == (10, 2)
    images = decode(Run(runs / "lab").network(), codes)
    for i in (0, 9):
        with Image.open(out / f"samples/{i + 1:02d}.png") as picture:
            np.testing.assert_allclose(np.asarray(picture) / 255, images[i, 0], atol=0.503 / 255)
    with Image.open(out / "samples.png") as sheet:
        assert sheet.size == (4 * (4 * 18 + 2), 4 * (3 * 18 + 2))  # four columns, three rows, enlarged four times
    kept = runs / "lab/densities.safetensors"
    assert kept.exists() == (density != "normal")
    if density != "normal":
        assert list(load_densities(kept)) == [density]
        np.testing.assert_allclose(load_densities(kept)[density].log_prob(torch.from_numpy(codes)), log_prob)


def test_the_default_is_the_prior_of_a_vae_and_a_mixture_elsewhere(isthmus, runs, tmp_path):
    code, stdout, err = isthmus("generate", runs / "vae", "--out", tmp_path / "vae")
    assert code == 0, err
    assert "density                  normal" in stdout
    assert f"samples: {tmp_path / 'vae' / 'samples.png'}" in stdout
    assert len(list((tmp_path / "vae/samples").iterdir())) == 64
    assert "density                  mixture" in isthmus("generate", runs / "lab", "--out", tmp_path / "lab")[1]


def test_the_seed_decides_the_samples(isthmus, runs, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert isthmus("generate", runs / "vae", "-n", 5, "--seed", seed, "--out", tmp_path / name)[0] == 0
    pictures = [(tmp_path / name / "samples.png").read_bytes() for name in "abc"]
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_fitted_density_is_kept_and_read_again(isthmus, runs, tmp_path):
    run = runs / "lab"
    for name in ("mixture", "kernel"):
        assert isthmus("generate", run, "--density", name, "-n", 4, "--out", tmp_path / name)[0] == 0
    assert set(load_densities(run / "densities.safetensors")) == {"mixture", "kernel"}
    (run / "codes.npz").unlink()  # not needed any more
    code, stdout, err = isthmus("generate", run, "--density", "kernel", "-n", 4, "--out", tmp_path / "again", "--json")
    assert code == 0, err
    assert json.loads(stdout)["figures"]["heldout_nats"] is None
    assert (tmp_path / "again/samples.png").read_bytes() == (tmp_path / "kernel/samples.png").read_bytes()


def test_a_run_that_cannot_be_written_to_is_noted(isthmus, runs, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise StorageError("Could not write it: Read-only file system.")

    monkeypatch.setattr(sampling, "save_densities", refuse)
    code, _, err = isthmus("generate", runs / "lab", "-n", 4, "--out", tmp_path / "out")
    assert code == 0
    assert "the mixture was fitted, and is not kept with the run: Could not write it" in err
    assert (tmp_path / "out/samples.png").exists()


def test_normal_codes_of_an_autoencoder_are_noted(isthmus, runs, tmp_path):
    code, _, err = isthmus("generate", runs / "lab", "--density", "normal", "-n", 4, "--out", tmp_path / "out")
    assert code == 0
    assert "nothing made the codes of an autoencoder standard normal" in err


def test_many_samples_go_into_one_file(isthmus, runs, tmp_path):
    assert isthmus("generate", runs / "vae", "-n", 1100, "--out", tmp_path / "out")[0] == 0
    with np.load(tmp_path / "out/samples.npz") as found:
        assert found["images"].shape == (1100, 1, 16, 16)
        assert found["images"].dtype == np.uint8
    assert not (tmp_path / "out/samples").exists()
    with Image.open(tmp_path / "out/samples.png") as sheet:
        assert sheet.size == (4 * (32 * 18 + 2),) * 2


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_count_that_makes_no_sense_is_refused(isthmus, runs, tmp_path, count):
    answer = isthmus("generate", runs / "vae", "-n", count, "--out", tmp_path / "out")
    check_refused(answer, f"from 1 to 10000; got {count}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("is a classifier", "no codes", "give a run of a vae or autoencoder")),
        ("denoiser", (), ("is a denoiser", "no codes")),
        ("nowhere", (), ("is not a finished run",)),
        ("wide", ("--density", "histogram"), ("in 16 dimensions", "140 codes", "take a mixture or a kernel")),
    ],
)
def test_runs_and_densities_that_cannot_do_it_are_refused(isthmus, runs, tmp_path, run, options, words):
    check_refused(isthmus("generate", runs / run, *options, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_an_unknown_density_is_wrong_usage(isthmus, runs, tmp_path):
    code, stdout, err = isthmus("generate", runs / "vae", "--density", "flow", "--out", tmp_path / "out")
    assert (code, stdout) == (2, "")
    assert "'flow' is not one of" in err


def test_damaged_and_foreign_densities_are_refused(isthmus, runs, tmp_path):
    arguments = ("--density", "gaussian", "-n", 4, "--out", tmp_path / "out")
    assert isthmus("generate", runs / "lab", *arguments, "--overwrite")[0] == 0
    shutil.copy(runs / "lab/densities.safetensors", runs / "wide")
    check_refused(isthmus("generate", runs / "wide", *arguments, "--overwrite"), "over codes of 2 numbers", "have 16")
    (runs / "lab/densities.safetensors").write_bytes(b"nonsense")
    check_refused(isthmus("generate", runs / "lab", *arguments, "--overwrite"), "missing or damaged, fit it again")
    (runs / "lab/densities.safetensors").unlink()
    (runs / "lab/codes.npz").write_bytes(b"nonsense")
    check_refused(isthmus("generate", runs / "lab", *arguments, "--overwrite"), "codes.npz is empty, cut short")


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, tmp_path):
    arguments = ("generate", runs / "vae", "-n", 4, "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/samples.png").write_text("mine")
    check_refused(isthmus(*arguments[:-1], tmp_path / "mine", "--overwrite"), "holds other files")


@pytest.mark.parametrize("prior", ["mixture", "kernel"])
def test_restoring_takes_the_same_densities_as_priors(isthmus, runs, tmp_path, prior):
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).random((3, 16, 16), dtype=np.float32))
    arguments = ("denoise", runs / "lab", tmp_path / "images.npz", "--degrade", "noise:0.2", "--out", tmp_path / "out")
    code, stdout, err = isthmus(*arguments, "--prior", prior)
    assert code == 0, err
    assert "psnr_restored" in stdout


def test_restoring_refuses_a_histogram(isthmus, runs, tmp_path):
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).random((3, 16, 16), dtype=np.float32))
    arguments = ("denoise", runs / "lab", tmp_path / "images.npz", "--degrade", "noise:0.2", "--out", tmp_path / "out")
    check_refused(isthmus(*arguments, "--prior", "histogram"), "A histogram cannot be the prior of MAP", "no gradient")
    assert not (tmp_path / "out").exists()
