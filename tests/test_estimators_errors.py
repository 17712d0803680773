"""What estimators say to bad input: the thing by name, what was given, what is needed, and the next step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError, DivergedError, InputError
from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.denoiser import Denoiser
from isthmus.estimators.parameters import place

ROWS, FLOWERS = load_iris(return_X_y=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 20), np.uint8)
EVERY = [
    ConvAutoencoder(epochs=1),
    LinearAutoencoder(),
    VariationalAutoencoder(latent_dim=2, epochs=1),
    ImageClassifier(epochs=1),
    Denoiser(epochs=1),
]
every = pytest.mark.parametrize("estimator", EVERY, ids=lambda estimator: type(estimator).__name__)


def with_nan(X: np.ndarray, value: float = np.nan) -> np.ndarray:
    spoilt = X / X.max()
    spoilt.reshape(-1)[50] = value
    return spoilt


BAD_FIRST = {
    "rank 1": (ROWS[0], r"X has shape \(4,\); needed are rows of numbers \(N, D\), or images \(N, H, W\), .*Reshape"),
    "rank 5": (IMAGES[None, None], r"X has shape \(1, 1, 12, 16, 20\); needed are rows"),
    "ragged": ([[1.0, 2.0], [3.0]], "X is no array .*inhomogeneous.*; needed are rows of numbers"),
    "NaN in rows": (
        with_nan(ROWS),
        "NaN or infinite values in 1 of 150 rows, first in row 12; .*leave those rows out, or .*SimpleImputer",
    ),
    "infinite rows": (with_nan(ROWS, np.inf), "NaN or infinite values in 1 of 150 rows"),
    "NaN in images": (with_nan(IMAGES), r"images hold NaN or infinite values; needed are numbers in \[0, 1\]: replace"),
    "floats to 255": (
        IMAGES.astype(float),
        r"floats from 0 to 255; needed is \[0, 1\]: divide by .* \(255 for 8 bits\)",
    ),
    "integers": (IMAGES.astype(np.int64), "images are int64; needed is uint8 .*astype"),
    "five channels": (
        np.zeros((3, 5, 16, 16), np.uint8),
        r"shape \(3, 5, 16, 16\); needed is \(N, C, H, W\) with C of 1",
    ),
    "one row": (ROWS[:1], "X has 1 sample; .* learns from at least 2: give more"),
    "one image": (IMAGES[:1], "X has 1 sample; .* learns from at least 2: give more"),
    "no image": (IMAGES[:0], "there are no images; give at least one"),
    "no row": (ROWS[:0], r"Found array with 0 sample\(s\)"),
    "words": (np.array([["a", "b"]] * 3), "could not convert string to float"),
    "too far apart": (np.array([[-1e308], [1e308]]), "further apart than float64 can tell: divide them"),
}


@pytest.mark.parametrize("case", BAD_FIRST)
@every
def test_what_cannot_be_learnt_from(estimator: Any, case: str) -> None:
    X, words = BAD_FIRST[case]
    with pytest.raises((InputError, ValueError), match=f"(?s){words}") as caught:
        clone(estimator).fit(X, np.arange(len(X)) % 2)
    assert isinstance(caught.value, InputError) or case in ("no row", "words")  # scikit-learn's own, in its usual words


BAD_LATER = {
    "rows for images": (
        IMAGES,
        ROWS,
        r"X has shape \(150, 4\), but .* was fitted to images \(1, 16, 20\), \(C, H, W\): give",
    ),
    "images for rows": (ROWS, IMAGES, r"X has shape \(12, 16, 20\), but .* was fitted to rows of 4 numbers, \(N, D\)"),
    "another size": (
        IMAGES,
        IMAGES[:, :, :16],
        r"images \(1, 16, 16\), .* fitted to \(1, 16, 20\): bring them to 16 x 20",
    ),
    "colour": (
        IMAGES,
        np.zeros((3, 16, 20, 3), np.uint8),
        r"images \(3, 16, 20\).* to 16 x 20 and grey, .*load_images",
    ),
    "fewer columns": (ROWS, ROWS[:, :3], "X has 3 features, but .* is expecting 4 features as input: give the columns"),
    "NaN": (ROWS, with_nan(ROWS), "NaN or infinite values in 1 of 150 rows"),
    "NaN in images": (
        IMAGES / 255,
        with_nan(IMAGES),
        r"images hold NaN or infinite values; needed are numbers in \[.*: replace",
    ),
    "floats to 255": (IMAGES, IMAGES.astype(float), r"images are floats from 0 to 255; needed is \[.*\]: divide by"),
    "one image alone": (IMAGES, IMAGES[0], r"X has shape \(16, 20\), but .* X\[None\] a set of one image"),
}


@pytest.mark.parametrize("case", BAD_LATER)
@every
def test_what_differs_from_fit(estimator: Any, case: str) -> None:
    X, later, words = BAD_LATER[case]
    model = clone(estimator).fit(X, np.arange(len(X)) % 2)
    names = ["transform", "predict", "predict_proba", "score_samples", "score", "partial_fit"]
    for name in (name for name in names if hasattr(model, name)):
        call: Callable[..., Any] = getattr(model, name)
        y = [np.arange(len(later)) % 2] if name in ("score", "partial_fit") else []
        with pytest.raises(DataError, match=f"(?s){words}"):
            call(later, *y)


@every
def test_an_estimator_has_to_be_fitted_first(estimator: Any) -> None:
    for name in ("transform", "predict", "predict_proba", "score_samples", "inverse_transform"):
        if hasattr(estimator, name):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                getattr(clone(estimator), name)(ROWS)
    for act in (lambda model: model.save_pretrained("nowhere"), lambda model: model.push_to_hub("a/b")):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            act(clone(estimator))


BAD_PARAMETERS = {
    "latent_dim": (ConvAutoencoder(latent_dim=0), ROWS, r"model.latent_dim: .* greater than 0 \(given 0\)"),
    "two": (
        ConvAutoencoder(epochs=0, batch_size=1),
        ROWS,
        r"(?s)2 setting.*epochs: .*\(given 0\).*batch_size: .*given 1",
    ),
    "rate": (Denoiser(learning_rate=-1.0), ROWS, r"learning_rate: .* greater than 0 \(given -1.0\)"),
    "fraction": (ConvAutoencoder(validation_fraction=1.0), ROWS, r"validation_fraction: .* less than 1 \(given 1.0\)"),
    "verbose": (ConvAutoencoder(verbose="x"), ROWS, "verbose: input should be a valid integer"),
    "hidden": (ConvAutoencoder(hidden=()), ROWS, "model.hidden: tuple should have at least 1 item"),
    "architecture": (
        VariationalAutoencoder(architecture="deep"),
        ROWS,
        "architecture is 'deep'; give convolutional or mlp",
    ),
    "convolutions on rows": (
        ConvAutoencoder(architecture="convolutional"),
        ROWS,
        r"X holds rows of 4 numbers: give image_shape=\(H, W\) if each is an image",
    ),
    "hidden for images": (
        ConvAutoencoder(hidden=(8,)),
        IMAGES,
        r"hidden is \(8,\), but .* architecture='convolutional' and no",
    ),
    "width for rows": (
        ImageClassifier(width=8),
        ROWS,
        "width is 8, but .* architecture='mlp' and no width: leave it out",
    ),
    "small images": (
        ConvAutoencoder(),
        IMAGES[:, :8],
        r"images of 8 x 20 pixels; .* from 16 to 256: resize them, .*load_images",
    ),
    "one colour image": (
        ConvAutoencoder(),
        np.zeros((40, 30, 3), np.uint8),
        r"images of 30 x 3 pixels.*give X\[None\]",
    ),
    "halvings": (ConvAutoencoder(halvings=5), IMAGES, "can be halved 3 times, not 5"),
    "image_shape": (ConvAutoencoder(image_shape=(2, 2, 2)), ROWS, r"image_shape is \(2, 2, 2\); needed is .* \(H, W\)"),
    "no shape": (
        ConvAutoencoder(image_shape="16x16"),
        ROWS,
        "image_shape is '16x16'; needed is the shape of one image",
    ),
    "wrong shape": (
        ConvAutoencoder(image_shape=(3, 2)),
        ROWS,
        r"image_shape is \(1, 3, 2\), 6 numbers, but X has rows of 4",
    ),
    "shape of images": (
        ConvAutoencoder(image_shape=(9, 9)),
        IMAGES,
        r"\(9, 9\), but X holds images \(1, 16, 20\).*leave it out",
    ),
    "density": (ConvAutoencoder(density="mixtur"), ROWS, "'mixtur' is no density; did you mean 'mixture'"),
    "device": (ConvAutoencoder(device="gpu"), ROWS, "device is 'gpu'; give cpu, cuda, cuda:0 or mps"),
    "no such device": (
        ConvAutoencoder(device="xpu"),
        ROWS,
        "device is 'xpu', which this machine does not have; give cpu",
    ),
    "random_state": (ConvAutoencoder(random_state="a"), ROWS, "'a' cannot be used to seed"),
    "solver": (LinearAutoencoder(solver="svd"), ROWS, "solver is 'svd'; give exact or gradient"),
    "idle": (
        LinearAutoencoder(epochs=3, batch_size=9),
        ROWS,
        "epochs and batch_size belong to solver='gradient'; leave them",
    ),
    "too many": (
        LinearAutoencoder(latent_dim=5),
        ROWS,
        r"latent_dim=5\) needs .*n_features = 4 and 150 samples: give .* 4 or less",
    ),
    "noise": (Denoiser(noise=0), ROWS, "noise is 0; give the standard deviation to learn from, above 0"),
    "sigma": (VariationalAutoencoder(sigma=-1.0), ROWS, r"model.sigma.*greater than 0 \(given -1.0\)"),
    "idle sigma": (
        VariationalAutoencoder(likelihood="bernoulli", sigma=0.1),
        IMAGES // 128 * 255,
        "sigma is 0.1, but likelihood='bernoulli' has no sigma: leave it out, or give likelihood='gaussian'",
    ),
    "half a number": (LinearAutoencoder(latent_dim=1.5), ROWS, r"model.latent_dim: .*valid integer.* \(given 1.5\)"),
    "grey values": (
        VariationalAutoencoder(likelihood="bernoulli"),
        IMAGES,
        "grey values, which no Bernoulli likelihood draws",
    ),
}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_parameters_that_cannot_be_used(case: str) -> None:
    estimator, X, words = BAD_PARAMETERS[case]
    y = np.arange(len(X)) % 2
    with pytest.raises((InputError, ValueError), match=words) as caught:
        estimator.fit(X, y)
    assert isinstance(caught.value, InputError) or case == "random_state"
    assert not hasattr(estimator, "network_")


@pytest.mark.parametrize(
    ("y", "kind", "words"),
    [
        (None, InputError, "ImageClassifier requires y to be passed, but the target y is None: give one label"),
        (FLOWERS[:-1], DataError, "X has 150 samples, but y has 149 labels: give one for each"),
        (np.zeros(150), InputError, r"y holds one class only, \[0.0\]: a classifier tells at least two apart; add"),
        (ROWS[:, 0], ValueError, "Unknown label type: continuous"),
        (ROWS, ValueError, "y should be a 1d array"),
    ],
)
def test_labels_that_cannot_be_used(y: Any, kind: type[ValueError], words: str) -> None:
    with pytest.raises(kind, match=words):
        ImageClassifier(epochs=1).fit(ROWS, y)


def with_gaps(value: Any, kind: Any) -> Any:
    return kind([value if i in (7, 70) else ("a", "b")[i % 2] for i in range(150)])


MISSING = {
    "float": np.where(np.arange(150) % 71 == 7, np.nan, FLOWERS),
    "column": np.where(np.arange(150) % 71 == 7, np.nan, FLOWERS)[:, None],
    "object": with_gaps(None, lambda y: np.array(y, object)),
    "object with NaN": with_gaps(np.nan, lambda y: np.array(y, object)),
    "list": with_gaps(None, list),
    "Series": with_gaps(None, pd.Series),
    "nullable Series": with_gaps(pd.NA, lambda y: pd.Series(y, dtype="string")),
    "categories": with_gaps(None, lambda y: pd.Series(y, dtype="category")),
    "tensor": torch.where(torch.arange(150) % 71 == 7, torch.nan, torch.tensor(FLOWERS, dtype=torch.float32)),
}
GAPS = {**dict.fromkeys(MISSING, 2), "float": 3, "column": 3, "tensor": 3}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_labels_are_counted_and_the_first_is_named(kind: str) -> None:
    words = f"y has no label for {GAPS[kind]} of 150 samples, first at 7: leave them out or label them"
    with pytest.raises(DataError, match=words):
        ImageClassifier(epochs=1).fit(ROWS, MISSING[kind])
    model = ImageClassifier(epochs=1).fit(ROWS, FLOWERS)
    for act in (model.score, model.partial_fit):
        with pytest.raises(DataError, match=words):
            act(ROWS, MISSING[kind])


def test_labels_are_needed_after_fit_too_one_for_each_sample() -> None:
    model = ImageClassifier(epochs=1).fit(ROWS, FLOWERS)
    for act in (model.score, model.partial_fit):
        with pytest.raises(InputError, match="ImageClassifier requires y to be passed, but the target y is None: give"):
            act(ROWS)
        with pytest.raises(DataError, match="X has 150 samples, but y has 149 labels: give one for each"):
            act(ROWS, FLOWERS[1:])


def test_an_image_set_without_labels_says_that_they_are_missing() -> None:
    with pytest.raises(InputError, match="y is None: give one label for each sample, or an ImageSet with labels"):
        ImageClassifier(epochs=1).fit(ImageSet.from_arrays(IMAGES))


def test_partial_fit_says_what_it_needs() -> None:
    model = ImageClassifier()
    with pytest.raises(InputError, match="classes must be passed on the first call to partial_fit"):
        model.partial_fit(ROWS, FLOWERS)
    with pytest.raises(InputError, match=r"y holds \[2\], not among the classes \[0, 1\] of the first call"):
        model.partial_fit(ROWS, FLOWERS, classes=[0, 1])
    model.partial_fit(ROWS, FLOWERS, classes=[0, 1, 2])
    with pytest.raises(InputError, match=r"classes are \[0, 1\], but those of the calls before are \[0, 1, 2\]"):
        model.partial_fit(ROWS, FLOWERS, classes=[0, 1])
    with pytest.raises(DataError, match="X has 1 sample; ImageClassifier learns from at least 2 at once"):
        model.partial_fit(ROWS[:1], FLOWERS[:1])


def test_codes_that_do_not_fit() -> None:
    model = ConvAutoencoder(epochs=1).fit(ROWS)
    with pytest.raises(DataError, match=r"codes have shape \(5, 3\); ConvAutoencoder takes finite ones \(N, 2\)"):
        model.inverse_transform(np.zeros((5, 3)))
    with pytest.raises(DataError, match="takes finite ones"):
        model.inverse_transform([[np.nan, 0.0]])
    with pytest.raises(InputError, match="n_samples is 0; give a whole number of at least 1"):
        model.sample(0)


def test_a_density_that_cannot_be_fitted_is_said_when_it_is_asked_for_and_again_after_loading(tmp_path: Path) -> None:
    model = ConvAutoencoder(latent_dim=20, epochs=1).fit(ROWS[:10])
    with pytest.raises(InputError, match="A density in 20 dimensions needs more codes than 10"):
        model.sample()
    back = ConvAutoencoder.from_pretrained(model.save_pretrained(tmp_path / "model"))
    with pytest.raises(InputError, match=r"'mixture' was not saved .*because: A density in 20 .* with one of normal"):
        back.sample()
    assert back.set_params(density="normal").sample(3).shape == (3, 4)


def test_a_loss_that_is_not_finite_is_named_with_a_way_out() -> None:
    with pytest.raises(DivergedError, match=r"ConvAutoencoder: the loss .* at step \d+, .* for example learning_rate="):
        ConvAutoencoder(learning_rate=1e30, architecture="mlp", epochs=50).fit(IMAGES)


def test_restored_images_are_no_table() -> None:
    words = r"transform='pandas'\) asks for a table, but Denoiser was fitted to images \(1, 16, 20\), .*'default'"
    model = Denoiser(epochs=1).fit(IMAGES).set_output(transform="pandas")
    with pytest.raises(InputError, match=words):
        model.transform(IMAGES)
    assert model.set_output(transform="default").transform(IMAGES).shape == IMAGES.shape
    with config_context(transform_output="pandas"), pytest.raises(InputError, match=words):
        Denoiser(epochs=1).fit_transform(IMAGES)


@pytest.mark.parametrize(("count", "ways"), [(0, "cpu"), (1, "cpu or cuda:0"), (2, "cpu or cuda:0 or cuda:1")])
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(
    count: int, ways: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert all(str(place(f"cuda:{i}", double=True)) == f"cuda:{i}" for i in range(count))
    assert place("cpu", double=True).type == "cpu"
    for absent in (f"cuda:{count}", "mps", "cpu:1", *([] if count else ["cuda"])):
        with pytest.raises(InputError, match=f"device is '{absent}', which this machine does not have; give {ways}\\."):
            place(absent, double=True)


def test_noisy_images_may_leave_the_range_but_not_by_much() -> None:
    model = Denoiser(epochs=1).fit(IMAGES)
    model.transform(IMAGES / 255 * 2 - 0.5)
    with pytest.raises(DataError, match=r"floats from 0 to 510; needed is \[-4, 4\]: divide by the largest"):
        model.transform(IMAGES.astype(float) / IMAGES.max() * 510)
