"""The study of hand signs: what its parts find where the truth is known, and the whole of it on drawn hands."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.data.drawn_hands import NOTE, drawn_hands
from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.errors import DataError, DivergedError, InputError, TrainingFailedError
from isthmus.figures import images, spatial
from isthmus.figures.style import files
from isthmus.latent.separability import linear_separability, silhouettes
from isthmus.networks.catalog import build
from isthmus.networks.pca import principal_components
from isthmus.report.page import Page, Section, render
from isthmus.report.studies import _begun_with, run_study
from isthmus.runs import Run
from isthmus.settings import LabSettings, SettingsError, TrainingSettings
from isthmus.studies import findings_signs
from isthmus.studies.clusters import Explanation, _as_numbers, _explain
from isthmus.studies.rates import Rates, Share, read
from isthmus.studies.signs import _trained, check_images
from isthmus.studies.sizes import _random_codes
from isthmus.studies.study import Plan, SignsSettings, Swept, open_study
from isthmus.training.job import Trained

PROMISED = [
    "S1.gauss.max_error",
    *(f"S2.validation_accuracy.{rate}" for rate in ("1e-1", "1e-3", "1e-4", "1e-5")),
    *("S2.test_accuracy", "S2.test_accuracy.low", "S2.test_accuracy.high", "S2.best_rate", "S2.strong.test_accuracy"),
    *(f"S3.conv.test_mse.{name}" for name in ("3", "10", "10b", "100", "250")),
    *("S3.linear.test_mse.10", "S3.linear.gap", "S3.code3.1nn_mean", "S3.code3.silhouette", "S3.density.real_floor"),
    *(f"S3.pca.test_mse.{size}" for size in (3, 10, 100, 250)),
    *(f"S3.density.{name}.frechet" for name in ("gaussian", "mixture", "kernel", "histogram")),
    "study.seconds",
]


def epochs(losses, *, train=None, accuracy=0.9):
    train = losses if train is None else train
    return [
        {"epoch": i + 1, "validation_loss": v, "train_loss": t, "validation_accuracy": accuracy, "train_accuracy": 1.0}
        for i, (v, t) in enumerate(zip(losses, train, strict=True))
    ]


def trained(history, best):
    return Trained(build(LabSettings(), (1, 16, 16)), history, best, 1.0)


@pytest.mark.parametrize(
    ("losses", "train", "accuracy", "verdict"),
    [
        ([2.0, 1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.02], None, 0.9, "still falling"),
        ([2.30, 2.28, 2.26, 2.24, 2.22, 2.20, 2.18, 2.16], None, 0.3, "still falling"),
        ([2.0, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2], None, 0.9, "settled"),
        ([2.0, 0.5, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4], [2.0, 0.5, 0.2, 0.1, 0.1, 0.05, 0.04, 0.03], 0.9, "overfits"),
        ([2.0, 0.5, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4], None, 0.9, "gets worse"),  # on training images too
        ([2.0, 0.1, 0.001, 0.0015, 0.001, 0.0015, 0.001, 0.001], None, 0.9, "settled"),  # jumps of next to nothing
        ([2.0, 0.1], None, 0.9, "too short"),
        ([2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3], None, 0.11, "learns nothing"),
        ([9.0, 2.0, 1.0, 3.0, 0.9, 2.0, 0.8, 1.5], None, 0.8, "unsteady"),
    ],
)
def test_the_reading_of_a_curve(losses, train, accuracy, verdict):
    history = epochs(losses, train=train, accuracy=accuracy)
    found = read(1e-3, trained(history, len(losses)), history, images=300, chance=0.1)
    assert (found.verdict, found.accuracy) == (verdict, accuracy)
    assert found.since == int(np.argmin(losses)) + 1


def test_a_diverged_run_has_no_accuracy():
    found = read(1e-1, None, epochs([2.0]), images=300, chance=0.1)
    assert (found.verdict, found.accuracy, found.since) == ("diverged", None, None)
    assert findings_signs._reading("1e-1", found).startswith("1e-1: diverged after 1 whole epoch:")
    text = findings_signs._reading("1e-1", replace(found, epochs=[]))
    assert "after 0 whole epochs" in text


def rates(validation, test):
    counts = np.diag([5, 5])
    return Rates({}, "1e-3", validation, test, counts, np.ones(2), None, None)


def test_the_difference_of_two_shares_and_its_error():
    """Of equal counts the variance of a difference is twice that of one share."""
    difference, error = rates(Share.of(50, 100), Share.of(60, 100)).difference
    assert difference == pytest.approx(0.1)
    pooled = (110 + 1) / (200 + 2)
    assert error == pytest.approx(np.sqrt(2 * pooled * (1 - pooled) / 100))
    assert rates(Share.of(100, 100), Share.of(100, 100)).difference[1] > 0  # two perfect shares are not sure


def test_planes_part_what_is_apart_and_nothing_else():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    centres = np.array([[0, 0, 0], [9, 0, 0], [0, 0, 0]])
    codes = centres[labels] + generator.normal(size=(180, 3))
    table = linear_separability(codes, labels, classes=4)
    assert table[0, 1] == 1
    assert table[1, 2] == 1
    assert 0.35 < table[0, 2] < 0.65
    assert np.array_equal(table, table.T, equal_nan=True)
    assert np.isnan(table.diagonal()).all()
    assert np.isnan(table[3]).all()  # a class without codes
    shares = silhouettes(codes, labels, classes=4)
    assert shares[1] > 0.6
    assert abs(shares[0]) < 0.2
    assert np.isnan(shares[3])
    moved = linear_separability(5 * codes + 3, labels, classes=4)
    np.testing.assert_allclose(moved, table, atol=0.05, equal_nan=True)


def test_unbalanced_classes_are_judged_in_balance():
    """A class of nine tenths must not make a guess look like 90 %."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20])
    table = linear_separability(generator.normal(size=(200, 3)), labels, classes=2)
    assert 0.3 < table[0, 1] < 0.7


def test_pca_errors_are_those_of_its_networks(parts):
    components = principal_components(parts.train, 5)
    errors = components.errors(parts.test)
    pixels = torch.from_numpy(parts.test.images).double() / 255
    mean = components.mean.reshape(parts.test.shape)
    assert float(errors[0]) == pytest.approx(float((pixels - mean).square().mean()))
    for size in (1, 5):
        network = principal_components(parts.train, size).autoencoder().double()
        with torch.inference_mode():
            expected = float((network(pixels) - pixels).square().mean())
        assert float(errors[size]) == pytest.approx(expected, rel=1e-5)
    assert bool((errors.diff() <= 0).all())


def test_permutations_tell_a_real_correlation_from_none():
    places = np.arange(8.0)
    distance = np.abs(places[:, None] - places[None])
    generator = np.random.default_rng(0)
    found = _explain(0.5 + distance / 20, distance, generator)
    assert found.correlation == pytest.approx(1)
    assert found.p_value < 0.01
    noise = generator.normal(size=(8, 8))
    assert _explain(noise + noise.T, distance, generator).p_value > 0.05
    assert _explain(np.full((8, 8), 0.5), distance, generator) is None
    assert _explain(distance[:4, :4], distance[:4, :4], generator) is None  # no order of four classes is rare


def test_words_for_each_kind_of_explanation():
    say = findings_signs._explained
    assert "are confused because of neighbouring numbers" in say(Explanation(0.5, 0.01), "neighbouring numbers", "d")
    assert "the opposite" in say(Explanation(-0.5, 0.01), "neighbouring numbers", "d")
    assert "no sign that" in say(Explanation(0.5, 0.4), "neighbouring numbers", "d")


def test_only_numbers_are_numbers():
    assert _as_numbers(["A", "B"]) is None
    assert _as_numbers(["0", "10"]).tolist() == [0, 10]


def test_images_without_labels_or_too_few_are_refused():
    hands = drawn_hands(60, size=(16, 16))
    with pytest.raises(InputError, match="has no labels, and the study of signs is about classes"):
        check_images(replace(hands, labels=None, classes=()))
    with pytest.raises(InputError, match=r"leaves \d+ images to train on, and the study of signs needs at least 28"):
        check_images(hands.take(np.arange(30)))
    with pytest.raises(InputError, match="has images of one class only"):
        check_images(hands.take(np.flatnonzero(hands.labels == 3)))


@pytest.fixture(scope="module")
def hands() -> ImageSet:
    return drawn_hands(160, size=(16, 16))


@pytest.fixture(scope="module")
def study(hands: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The whole study on 160 drawings of 16 x 16, in two processes: its folder and its figures."""
    folder = tmp_path_factory.mktemp("signs")
    np.savez(folder / "hands.npz", images=hands.images, labels=hands.labels)
    changes = ["data.height=16", "data.width=16"]
    _, summary = run_study("signs", str(folder / "hands.npz"), folder / "out", changes=changes, fast=True, workers=2)
    return folder / "out", summary["figures"]


def test_summary_holds_the_promised_names(study):
    figures = study[1]
    assert set(PROMISED) <= set(figures)
    assert all(value is None or np.isfinite(value) for value in figures.values())
    assert figures["S3.pca.test_mse.250"] is None  # 112 training images have no 250 directions
    assert figures["S3.pca.test_mse.10"] > figures["S3.pca.test_mse.100"]
    assert figures["S3.linear.gap"] > 0  # nothing linear is better than PCA on the images it was fitted to
    assert figures["S2.test_accuracy.low"] <= figures["S2.test_accuracy"] <= figures["S2.test_accuracy.high"]
    assert figures["S2.best_rate"] in (1e-1, 1e-3, 1e-4, 1e-5)


def test_every_figure_is_documented(study):
    text = (Path(__file__).parent.parent / "docs/figures.md").read_text()
    names = re.findall(r"^\| `([^`]+)`", text, re.M)
    patterns = [re.sub(r"<[^>]*>", "[^.]+", name.replace(".", r"\.")) for name in names]
    assert not [name for name in study[1] if not any(re.fullmatch(pattern, name) for pattern in patterns)]


def test_the_page_shows_every_exercise(study):
    text = (study[0] / "report.html").read_text()
    for anchor in ("S1.1", "S1.2", "S2", "S3.2", "S3.3", "S3.4", "S3.note"):
        assert f'id="{anchor}"' in text
    assert text.count("<math") >= 10
    assert "<canvas" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "nan" not in re.sub(r"<[^>]+>", " ", text.split("<main>")[1]).lower().split()


def test_densities_are_kept_with_the_run_and_read_by_generate(study, isthmus, tmp_path):
    run = study[0] / "runs/conv3"
    assert (run / "densities.safetensors").exists()
    code, _, err = isthmus("generate", run, "--density", "histogram", "-n", 4, "--out", tmp_path / "new")
    assert code == 0, err
    assert (tmp_path / "new/samples.png").exists()


def test_every_run_is_a_run(study):
    names = {path.name for path in (study[0] / "runs").iterdir()}
    rates = {f"rate-{rate}" for rate in ("1e-1", "1e-3", "1e-4", "1e-5")}
    strong = {f"classifier-strong-{i}" for i in range(3)}
    assert names == rates | strong | {"conv3", "conv10", "conv10b", "conv100", "conv250", "linear10"}
    assert all(Run(study[0] / "runs" / name).finished for name in names)


@pytest.mark.slow
def test_a_resumed_study_trains_nothing_again(study, hands, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(study[0], folder)
    (folder / "status.json").write_text(json.dumps({"state": "interrupted", "seconds": 1.0}))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/model/model.safetensors")}
    source = study[0].parent / "hands.npz"
    changes = ["data.height=16", "data.width=16"]
    _, summary = run_study("signs", str(source), folder, changes=changes, fast=True, resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/model/model.safetensors")}
    timed = ("study.seconds", "microseconds")
    for name, value in study[1].items():
        if value is None:
            assert summary["figures"][name] is None, name
        elif not name.endswith(timed):
            assert summary["figures"][name] == pytest.approx(value, rel=1e-6), name


def test_hands_are_drawn_where_photographs_cannot_be_had(tmp_path, monkeypatch, isthmus):
    """Without a network nothing is fetched, and the first line says so; here training stops at the first update."""
    monkeypatch.setenv("ISTHMUS_OFFLINE", "1")
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    monkeypatch.setattr("isthmus.studies.study.sweep", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = isthmus("study", "signs", "--out", tmp_path / "s", "--fast")
    assert code == 130
    assert err.splitlines()[0].startswith("drawn-hands stand in for sign-digits, which cannot be had here: ")
    assert NOTE in err
    with pytest.raises(DataError, match=r"offline|OFFLINE"):
        run_study("signs", "sign-digits", tmp_path / "t")


def test_a_failed_training_is_named(hands, tmp_path):
    settings = SignsSettings(data={"name": "hands"})
    plan = {"broken": Plan(LabSettings(halvings=7), TrainingSettings(epochs=1), 0)}
    with (
        open_study(tmp_path / "s", settings, "x") as opened,
        pytest.raises(TrainingFailedError, match=r"1 of 1 trainings failed \(broken: Images of 16 x 16 can be halved"),
    ):
        opened.sweep(plan, split(hands))


def test_a_study_that_diverges_where_it_must_not_says_which(tmp_path):
    run = Run(tmp_path / "conv3")
    run.folder.mkdir()
    run.set_status("diverged", step=7, learning_rate=0.1)
    with pytest.raises(DivergedError, match=r"The training of conv3 diverged at step 7 with learning rate 0\.1"):
        _trained({"conv3": Swept(run, None, [])}, "conv3")


def test_random_codes_of_a_code_with_a_dead_number():
    codes = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32) * [1, 2, 0]
    drawn = _random_codes(codes.astype(np.float32), seed=0)
    assert drawn.shape[1] == 3
    assert torch.allclose(drawn.std(0), torch.tensor([1.0, 2.0, 0.0]), atol=0.25)


def test_a_resumed_study_keeps_the_images_it_was_begun_with(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "study.toml").write_text('study = "signs"\n[data]\nname = "drawn-hands"\n')
    assert _begun_with(folder / "study.toml") == "drawn-hands"
    (folder / "study.toml").write_text("[data\n")
    with pytest.raises(InputError, match="cannot be read"):
        _begun_with(folder / "study.toml")


def test_settings_of_one_study_are_not_those_of_the_other(tmp_path):
    with pytest.raises(SettingsError, match="noise: no such setting"):
        run_study("signs", "drawn-hands", tmp_path / "s", changes=["noise=0.1"])


def test_a_scene_cannot_end_its_script_early():
    codes, labels = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2
    scene = spatial.scene("x", "t", codes, labels, ["</script><b>", "b"])
    assert "<" not in scene.data
    content = json.loads(scene.data)
    assert content["classes"][0] == "</script><b>"
    assert np.abs(content["points"]).max() <= 1.15
    page = Page("t", [], [], {}, [Section("A", "a", "", [], scenes=[scene])])
    assert "requestAnimationFrame" in render(page)
    assert "requestAnimationFrame" not in render(replace(page, sections=[Section("A", "a", "", [])]))


def test_pictures_for_any_number_of_images():
    pictures = torch.rand(7, 3, 16, 24)
    drawn = [
        images.gallery("g", "t", pictures, [f"class {i}" for i in range(7)]),
        images.sheet("s", "t", {"a": pictures, "b": pictures[:3]}),
        images.signed("c", "t", {"a": pictures - 0.5, "b": torch.zeros(7, 3, 16, 24)}),
    ]
    for panel in drawn:
        assert len(files(panel)[f"{panel.name}.png"]) > 1000
