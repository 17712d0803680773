"""What a notebook shows: whole, escaped, small, without scripts or requests, and never a traceback."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from browser import browser
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.display import html
from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.denoiser import Denoiser
from isthmus.figures.curves import bound_curves, loss_curves
from isthmus.networks.classifier import classifier
from isthmus.report.answers import answers, learning_curves, spread
from isthmus.report.card import BUDGET, Card, gallery, inline, render
from isthmus.report.notebook import show_estimator, show_images, show_run
from isthmus.runs import Run
from isthmus.settings import DataSettings, RunSettings, TrainingSettings, validate_model
from isthmus.training.job import train_run

pytestmark = pytest.mark.slow
VOID = {"img", "br", "hr", "meta", "link", "input", "path", "use", "image", "rect"}
HOSTILE = '<script>alert("1")</script>'
LARGEST = 400_000


class Reader(HTMLParser):
    """Checks that what is opened is closed, and collects attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, each, value in self.attributes if each == name]


def check(fragment: str) -> Reader:
    """What holds of every fragment."""
    assert len(fragment) < LARGEST
    reader = Reader()
    reader.feed(fragment)
    reader.close()
    assert not reader.open
    tags = Counter(tag for tag, _, _ in reader.attributes)
    assert not {"script", "link", "iframe", "object"} & tags.keys()
    assert "<script" not in fragment
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in reader.values("src"))
    assert all(value.startswith("#") for value in [*reader.values("href"), *reader.values("xlink:href")])
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", fragment))
    assert "@import" not in fragment
    assert "var(--" not in fragment
    assert not re.search(r"(?m)^\s*\*\s*\{|<style[^>]*>\s*\*", fragment), "a style that reaches the whole page"
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert all(reader.values("alt"))
    return reader


def pictures(reader: Reader) -> list[np.ndarray]:
    files = [base64.b64decode(value.partition(",")[2]) for value in reader.values("src")]
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def settings(name: str = "lab", data: str = "mnist-5k", **model: object) -> RunSettings:
    return RunSettings(
        data=DataSettings(name=data, height=16, width=16),
        model=validate_model({"name": name, **model}),
        training=TrainingSettings(epochs=2, noise=0.25 if name == "denoiser" else 0.0),
    )


@pytest.fixture(scope="module")
def embedded() -> Split:
    return split(load("mnist-5k", size=(16, 16)))


@pytest.fixture(scope="module")
def few(embedded: Split) -> Split:
    """The same images, of which only some are learnt from."""
    return Split(embedded.train.take(range(200)), embedded.validation.take(range(50)), embedded.test)


@pytest.fixture(scope="module")
def autoencoder(few: Split, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "lab")
    train_run(run, settings(data="elsewhere.npz"), few)
    return run


def copy_of(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return Run(folder)


def test_a_set_shows_its_images_to_the_last_bit(digits: ImageSet) -> None:
    fragment = show_images(digits)
    shown = pictures(check(fragment))
    assert len(shown) == 24
    originals = {image.tobytes() for image in digits.images[:, 0]}
    assert all(picture.tobytes() in originals for picture in shown)
    assert digits.fingerprint in fragment
    assert "600 of 32 × 32 pixels, grey" in fragment


def test_a_set_counts_its_classes(digits: ImageSet) -> None:
    assert digits.labels is not None
    unequal = digits.take(np.flatnonzero((digits.labels == 3) | (np.arange(600) % 10 == 0)))
    reader = check(show_images(unequal))
    text = [" ".join(part.split()) for part in reader.text if part.strip()]
    counts = np.bincount(np.asarray(unequal.labels), minlength=10)
    start = text.index("share")
    cells = text[start + 1 : start + 31]
    assert cells[::3] == list("0123456789")
    assert [int(cell) for cell in cells[1::3]] == counts.tolist()
    assert sum(float(cell.rstrip("%")) for cell in cells[2::3]) == pytest.approx(100, abs=0.5)


def test_every_class_is_shown_while_there_is_room() -> None:
    labels = np.repeat(np.arange(10), [500, 3, 3, 3, 3, 3, 3, 3, 3, 3])
    assert len(set(spread(labels, len(labels), 24).tolist())) == 24
    even = np.repeat(np.arange(10), 50)
    assert set(even[spread(np.random.default_rng(0).permutation(even), 500, 20)]) <= set(range(10))
    chosen = np.random.default_rng(1).permutation(even)
    assert Counter(chosen[spread(chosen, 500, 20)].tolist()) == dict.fromkeys(range(10), 2)
    assert spread(None, 5, 24).tolist() == [0, 1, 2, 3, 4]


def test_a_set_without_labels_has_no_classes() -> None:
    reader = check(show_images(ImageSet.from_arrays(np.zeros((3, 20, 30)), name="blank")))
    assert len(pictures(reader)) == 3
    assert "none: the images have no labels" in reader.text
    assert "share" not in reader.text
    assert pictures(reader)[0].shape == (20, 30)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    images = ImageSet.from_arrays(np.zeros((4, 16, 16)), [HOSTILE, '"><img src=x>', "a", "b"], name=HOSTILE)
    noted = ImageSet(images.images, images.labels, images.classes, HOSTILE, notes=(HOSTILE,))
    reader = check(show_images(noted))
    assert "".join(reader.text).count(HOSTILE) == 4  # the name, below its image, in the table, in the note
    check(show_run(Run(tmp_path / "<script>")))


def test_the_worst_pictures_fit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 3, 256, 256), dtype=np.uint8)
    reader = check(show_images(ImageSet.from_arrays(noise)))
    assert len(pictures(reader)) == 24
    assert sum(len(base64.b64decode(value.partition(",")[2])) for value in reader.values("src")) <= BUDGET

    many = gallery("g", {row: torch.rand(10, 3, 256, 256) for row in ("clean", "noisy", "denoised")}, [""] * 10)
    losses = [{"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e} for e in range(1, 201)]
    check(render(Card("a", "b", {}, galleries=[many], panels=learning_curves(losses, 1))))


@pytest.mark.parametrize("shape", [(1, 8), (300, 4), (17, 200)])
def test_pictures_of_any_proportion_are_shown(shape: tuple[int, int]) -> None:
    shown = gallery("g", {"image": torch.ones(2, 1, *shape)}, ["", ""]).columns[0].pictures[0]
    assert max(shown.width, shown.height) <= 72
    assert min(shown.width, shown.height) >= 1
    assert shown.enlarged == (max(shape) <= 36)


def test_many_classes_are_cut_short() -> None:
    images = ImageSet.from_arrays(np.zeros((300, 16, 16)), [f"class {k}" for k in range(300)])
    assert "and 200 more" in show_images(images)


def test_a_run_on_embedded_images_shows_reconstructions(embedded: Split, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train_run(run, settings("linear"), embedded)
    reader = check(show_run(run))
    shown = pictures(reader)
    assert len(shown) == 20
    tests = {image.tobytes() for image in embedded.test.images[:, 0]}
    assert all(picture.tobytes() in tests for picture in shown[::2])
    assert "Test images, and below each its reconstruction" in reader.text
    assert [value for value in reader.values("aria-label") if value.startswith("Learning curves")]


def test_a_run_of_a_study_shows_the_test_images_of_the_study(tmp_path: Path) -> None:
    """Its images were divided by the study's seed, not by its own."""
    parts = split(load("mnist-5k", size=(16, 16)), seed=5)
    run = Run(tmp_path / "runs/linear")
    train_run(run, settings("linear"), parts)
    (tmp_path / "study.toml").write_text("seed = 5\n")
    reader = check(show_run(run))
    tests = {image.tobytes() for image in parts.test.images[:, 0]}
    assert [picture.tobytes() in tests for picture in pictures(reader)[::2]] == [True] * 10
    (tmp_path / "study.toml").unlink()
    moved = check(show_run(copy_of(run, tmp_path / "alone")))
    words = "Test images cannot be shown. mnist-5k is not what"
    (said,) = [text for text in moved.text if text.startswith(words)]
    assert said.endswith("Name the images to use, as in `isthmus evaluate RUN DATA`.")
    assert "Decoded codes of test images" in moved.text


def test_a_run_on_other_images_decodes_its_codes(autoencoder: Run) -> None:
    reader = check(show_run(autoencoder))
    assert "Decoded codes of test images" in reader.text
    assert len(pictures(reader)) == 10
    assert any(text.startswith("finished") and "2 of 2 epochs" in text for text in reader.text)


def test_a_classifiers_run_shows_its_classes(few: Split, tmp_path: Path) -> None:
    train_run(Run(tmp_path / "a"), settings("classifier", data="elsewhere.npz"), few)
    reader = check(show_run(Run(tmp_path / "a")))
    assert {"10 classes", "output"} <= set(reader.text)
    assert len([value for value in reader.values("aria-label") if "accuracy" in value]) == 1


def test_a_classifiers_run_on_embedded_images_counts_what_is_right(embedded: Split, tmp_path: Path) -> None:
    trained = train_run(Run(tmp_path / "a"), settings("classifier", width=4), embedded)
    reader = check(show_run(Run(tmp_path / "a")))
    with torch.inference_mode():
        read = trained.network(torch.from_numpy(embedded.test.images) / 255).argmax(1).numpy()
    share = float((read == embedded.test.labels).mean())
    assert f"{share:.1%} of {len(embedded.test):,} test images read right" in reader.text


def test_a_vaes_run_and_a_denoisers_run_show_themselves(few: Split, tmp_path: Path) -> None:
    for name in ("vae", "denoiser"):
        train_run(Run(tmp_path / name), settings(name, data="elsewhere.npz"), few)
        reader = check(show_run(Run(tmp_path / name)))
        assert any(text.startswith(f"{name}: ") for text in reader.text)
        assert len(pictures(reader)) == (10 if name == "vae" else 0)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"state": "running", "time": "t"}, "Running since t, or cut off since then: 2 of 2 epochs are done"),
        ({"state": "interrupted", "time": "t"}, "Interrupted t after 2 of 2 epochs: there are no weights"),
        ({"state": "diverged", "step": 7, "learning_rate": 0.5}, "finite at step 7, with learning rate 0.5"),
        ({"state": "failed", "time": "t", "error": HOSTILE}, f"Failed t after 2 of 2 epochs: {HOSTILE}"),
        ({"state": "asleep"}, "The state 'asleep' is unknown."),
    ],
)
def test_an_unfinished_run_says_so(autoencoder: Run, tmp_path: Path, status: dict[str, object], words: str) -> None:
    run = copy_of(autoencoder, tmp_path / "run")
    shutil.rmtree(run.folder / "model")
    (run.folder / "status.json").write_text(json.dumps(status))
    reader = check(show_run(run))
    assert any(words in text for text in reader.text)
    assert [value for value in reader.values("aria-label") if value.startswith("Learning curves")]
    assert not pictures(reader)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("status.json", "{", "The state cannot be shown."),
        ("run.json", "[]", "The settings cannot be shown."),
        ("run.json", "{}", "The settings cannot be shown. KeyError: 'settings'"),
        ("metrics.jsonl", "{broken\n", "The record of epochs cannot be shown."),
        ("metrics.jsonl", '{"epoch": 1}\n', "The curves cannot be shown. KeyError: 'validation_loss'"),
        ("model/config.json", "{", "The model cannot be shown."),
        ("model/model.safetensors", "short", "The network cannot be shown."),
        ("codes.npz", "short", "Images cannot be shown."),
        ("status.json", '{"state": "finished", "seconds": "long"}', "What is known cannot be shown."),
        ("status.json", '{"state": "finished", "best_epoch": Infinity}', "The curves cannot be shown. OverflowError"),
    ],
)
def test_a_damaged_run_shows_the_rest(autoencoder: Run, tmp_path: Path, file: str, content: str, words: str) -> None:
    run = copy_of(autoencoder, tmp_path / "run")
    (run.folder / file).write_text(content)
    reader = check(show_run(run))
    assert any(words in text for text in reader.text)
    assert "Run" in reader.text


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"test": np.zeros((9, 2), np.float32), "test_labels": np.full(9, 99)}, "IndexError: "),
        ({"test": np.zeros((9, 2), np.float64)}, "RuntimeError: "),  # the network computes in float32
        ({"test": np.zeros((9, 5), np.float32)}, "ValueError: "),
    ],
)
def test_codes_of_another_run_are_named(
    autoencoder: Run, tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    run = copy_of(autoencoder, tmp_path / "run")
    np.savez(run.folder / "codes.npz", **arrays)
    reader = check(show_run(run))
    assert any(text.startswith(f"Images cannot be shown. {words}") for text in reader.text)
    assert [value for value in reader.values("aria-label") if value.startswith("Learning curves")]


def test_a_folder_that_cannot_be_looked_into_is_shown(
    autoencoder: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may be forbidden, and a name may be none."""
    assert any("null byte" in text for text in check(show_run(Run(tmp_path / "a\0b"))).text)
    look = Path.exists

    def forbidden(path: Path, **rest: bool) -> bool:
        if path.name == "run.json":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **rest)

    monkeypatch.setattr(Path, "exists", forbidden)
    reader = check(show_run(autoencoder))
    assert any(text.startswith("The run cannot be shown. PermissionError: ") for text in reader.text)
    assert str(autoencoder.folder) in reader.text


def test_lost_weights_are_named(autoencoder: Run, tmp_path: Path) -> None:
    run = copy_of(autoencoder, tmp_path / "run")
    (run.folder / "model/model.safetensors").unlink()
    reader = check(show_run(run))
    assert "damaged" in reader.text
    assert any("the weights are missing: train the run again" in text for text in reader.text)


def test_what_is_no_run_says_what_it_is(autoencoder: Run, tmp_path: Path) -> None:
    assert "There is no such folder" in show_run(Run(tmp_path / "none"))
    assert "This folder holds no run" in show_run(Run(tmp_path))
    copy_of(autoencoder, tmp_path / "study/runs/lab")
    assert "This folder is a study" in show_run(Run(tmp_path / "study"))
    (tmp_path / "study/status.json").write_text('{"state": "finished"}')
    assert "This folder is a study" in show_run(Run(tmp_path / "study"))
    assert "Decoded codes" in show_run(Run(tmp_path / "study/runs/lab"))


def test_curves_are_those_of_the_kind_of_network() -> None:
    losses = [{"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e} for e in (1, 2, 3)]
    assert learning_curves([], 0) == []
    [plain] = learning_curves(losses, 9)  # an epoch that is not there is not marked
    assert plain.drawn == loss_curves(plain.name, "Learning curves", losses, best=0, level=("0.667", 2 / 3)).drawn
    halves = [
        {**e, **{f"{p}_{h}": 1.0 for p in ("train", "validation") for h in ("reconstruction", "kl")}} for e in losses
    ]
    [both] = learning_curves(halves, 2)
    assert both.drawn == bound_curves(both.name, "Learning curves", halves, best=2).drawn


def test_figures_share_ids_only_if_they_are_equal() -> None:
    losses = [{"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e} for e in (1, 2, 3)]
    first, again, other = (str(inline(learning_curves(part, 1)[0])) for part in (losses, losses, losses[:2]))
    found = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, again, other)]
    assert first == again
    assert found[0] == found[1]
    assert not found[0] & found[2]
    assert found[0] >= set(re.findall(r'(?:url\(#|href="#)([^")]+)', first))


def test_importing_a_set_loads_no_figures_and_showing_it_does() -> None:
    code = (
        "import sys, numpy as np; from isthmus.data.imageset import ImageSet; from isthmus.display import html;"
        "images = ImageSet.from_arrays(np.zeros((2, 8, 8))); assert 'matplotlib' not in sys.modules;"
        "assert html(images, 'show_images').startswith('<div'); assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sets_and_runs_call_what_draws_them(digits: ImageSet, autoencoder: Run) -> None:
    assert digits._repr_html_() == html(digits, "show_images") == show_images(digits)
    assert autoencoder._repr_html_() == show_run(autoencoder)


@pytest.mark.browser
@pytest.mark.parametrize("width", [280, 390, 1280])
def test_nothing_leaves_the_card(digits: ImageSet, tmp_path: Path, width: int) -> None:
    classes = tuple(f"{'w' * 40 * k}{k}" for k in range(10))
    long = ImageSet(digits.images, digits.labels, classes, "n" * 300, 0, ("m" * 300,))
    losses = [{"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e} for e in (1, 2, 3)]
    curves = render(Card("a", "b", {"c" * 100: "d" * 300}, ["e" * 300], panels=learning_curves(losses, 1)))
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{show_images(long)}{curves}")
    with browser(tmp_path / "profile") as tab:
        tab.open((tmp_path / "page.html").as_uri(), width=width)
        assert tab.ask("document.documentElement.scrollWidth <= innerWidth")
        beyond = "[...document.querySelectorAll('.isthmus-card')].filter(c => c.scrollWidth > c.clientWidth).length"
        assert tab.ask(beyond) == 0


def test_an_estimator_that_is_not_fitted_shows_scikit_learns_diagram() -> None:
    shown = show_estimator(ConvAutoencoder(latent_dim=3))
    assert "sk-top-container" in shown
    assert "isthmus-card" not in shown


@pytest.fixture(scope="module")
def arrays(few: Split) -> tuple[np.ndarray, np.ndarray]:
    assert few.train.labels is not None
    return few.train.images[:120, 0], np.array([HOSTILE, *"123456789"])[few.train.labels[:120]]


FITTED = {
    "conv": (lambda: ConvAutoencoder(3, epochs=2, random_state=0), 20, "mean squared error"),
    "linear": (lambda: LinearAutoencoder(3), 20, ""),
    "vae": (lambda: VariationalAutoencoder(3, epochs=2, random_state=0), 30, "reconstruction and KL"),
    "classifier": (lambda: ImageClassifier(epochs=2, random_state=0), 10, "accuracy"),
    "denoiser": (lambda: Denoiser(epochs=2, random_state=0), 30, "mean squared error"),
}


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_estimator_shows_what_it_makes_of_images(
    arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path, name: str
) -> None:
    make, count, curve = FITTED[name]
    estimator = make().fit(*arrays)
    reader = check(show_estimator(estimator))
    shown = pictures(reader)
    assert len(shown) == count
    first = {image.tobytes() for image in arrays[0]}
    assert shown[0].tobytes() in first
    assert len([value for value in reader.values("aria-label") if value.startswith("Learning curves")]) == bool(curve)
    assert type(estimator).__name__ in reader.text
    assert (HOSTILE in reader.text) == (name == "classifier")
    assert estimator._repr_mimebundle_()["text/html"] == show_estimator(estimator) == estimator._repr_html_()
    loaded = type(estimator).from_pretrained(estimator.save_pretrained(tmp_path / "model"))
    assert len(pictures(check(show_estimator(loaded)))) == (10 if name == "vae" else 0)


def test_reconstructions_are_those_of_the_estimator(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    estimator = LinearAutoencoder(5).fit(arrays[0])
    shown = pictures(check(show_estimator(estimator)))
    examples = estimator.examples_[:, 0]
    drawn = estimator.inverse_transform(estimator.transform(np.round(examples * 255).astype(np.uint8)))
    for i in range(10):
        np.testing.assert_allclose(shown[2 * i], examples[i] * 255, atol=1e-3)
        np.testing.assert_allclose(shown[2 * i + 1], drawn[i] * 255, atol=0.51)


def test_rows_of_numbers_have_curves_and_no_pictures() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    reader = check(show_estimator(ConvAutoencoder(2, epochs=2, random_state=0).fit(rows)))
    assert "rows of 4 numbers" in reader.text
    assert not pictures(reader)
    assert [value for value in reader.values("aria-label") if value.startswith("Learning curves")]
    images = np.random.default_rng(0).normal(size=(60, 256))
    shown = pictures(check(show_estimator(LinearAutoencoder(2, image_shape=(16, 16)).fit(images))))
    assert len(shown) == 20


def test_parameters_that_were_set_are_bold(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    fragment = show_estimator(LinearAutoencoder(7).fit(arrays[0]))
    assert re.findall(r'class="isthmus-strong">([^<]*)<', fragment) == ["7"]
    assert "Bold: not the default." in fragment
    assert "Bold" not in show_estimator(LinearAutoencoder().fit(arrays[0]))


def test_a_class_that_is_missed_stands_below_the_one_that_was_read(few: Split) -> None:
    network = classifier((1, 16, 16), classes=2)
    torch.nn.init.zeros_(network.layers[-1].weight)
    with torch.no_grad():
        network.layers[-1].bias.copy_(torch.tensor([0.0, math.log(3)]))  # says "b" with probability 3/4 of everything
    images = torch.from_numpy(few.train.images[:3]) / 255
    shown = answers(network.eval(), images, ["a", "b", ""], ["a", "b"], noise=0.0, which="Images")
    assert [column.label for column in shown.columns] == ["b\n75%\nis a", "b\n75%", "b\n75%"]
    assert shown.columns[0].pictures[0].alt == "image: b, 75%, is a"
