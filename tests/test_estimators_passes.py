"""Learning pass by pass: passes go on from one another, a failed one leaves nothing behind, and what a model file says
of the data stays true."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from isthmus.data.imageset import ImageSet
from isthmus.errors import DivergedError, InputError
from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.denoiser import Denoiser
from isthmus.model_config import DataFacts
from isthmus.model_files import read_config, read_trained_on

ROWS, FLOWERS = load_iris(return_X_y=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 20), np.uint8)
LABELS = np.arange(12) % 2
EVERY = [
    ConvAutoencoder(random_state=0),
    LinearAutoencoder(solver="gradient", random_state=0),
    VariationalAutoencoder(random_state=0),
    ImageClassifier(random_state=0),
    Denoiser(random_state=0),
]
every = pytest.mark.parametrize("estimator", EVERY, ids=lambda estimator: type(estimator).__name__)


def answers(estimator: Any, X: Any) -> np.ndarray:
    """What an estimator is for."""
    found: np.ndarray = estimator.predict_proba(X) if isinstance(estimator, ImageClassifier) else estimator.transform(X)
    return found


def labels_of(estimator: Any, classes: list[int]) -> dict[str, list[int]]:
    """What the first call needs."""
    return {"classes": classes} if isinstance(estimator, ImageClassifier) else {}


@every
def test_passes_go_on_from_one_another(estimator: Any) -> None:
    model, y = clone(estimator), labels_of(estimator, [0, 1, 2])
    scores = []
    for i in range(30):
        model.partial_fit(ROWS, FLOWERS, **(y if i == 0 else {}))
        scores.append(model.score(ROWS, FLOWERS))
    assert scores[-1] > scores[0]
    again = clone(model)
    for i in range(3):
        again.partial_fit(ROWS, FLOWERS, **(y if i == 0 else {}))
    halfway = pickle.loads(pickle.dumps(again))  # the optimizer comes along
    assert np.array_equal(
        answers(halfway.partial_fit(ROWS, FLOWERS), ROWS), answers(again.partial_fit(ROWS, FLOWERS), ROWS)
    )


def test_partial_fit_goes_on_from_fit_and_takes_rows_beyond_the_first() -> None:
    model = ConvAutoencoder(random_state=0).fit(ROWS)
    before = model.score(ROWS)
    for _ in range(10):
        model.partial_fit(ROWS)
    assert model.score(ROWS) > 1.5 * before
    assert np.isfinite(model.partial_fit(3 * ROWS).score(ROWS))
    assert model.fit(ROWS).score(ROWS) == before  # fit begins anew


def test_the_exact_solver_has_no_partial_fit() -> None:
    assert not hasattr(LinearAutoencoder(), "partial_fit")
    assert hasattr(LinearAutoencoder(solver="gradient"), "partial_fit")


# -- a pass that fails


@every
def test_a_first_pass_that_diverges_leaves_no_fitted_model(estimator: Any) -> None:
    model, classes = clone(estimator).set_params(learning_rate=1e30), labels_of(estimator, [0, 1])
    with pytest.raises(DivergedError, match="the loss stopped being finite at step 1, with learning rate 1e"):
        model.partial_fit(IMAGES, LABELS, **classes)  # one batch: only what it left behind shows it
    with pytest.raises(NotFittedError, match="not fitted yet"):
        answers(model, IMAGES)
    model.set_params(learning_rate=None).partial_fit(IMAGES, LABELS, **classes)
    fresh = clone(estimator).partial_fit(IMAGES, LABELS, **classes)
    assert np.array_equal(answers(model, IMAGES), answers(fresh, IMAGES))


@every
def test_a_later_pass_that_diverges_changes_nothing(estimator: Any) -> None:
    model, classes = clone(estimator), labels_of(estimator, [0, 1])
    model.partial_fit(IMAGES, LABELS, **classes).partial_fit(IMAGES, LABELS)
    untouched, facts = pickle.loads(pickle.dumps(model)), model._config()
    with pytest.raises(DivergedError, match="give a lower one"):
        model.set_params(learning_rate=1e30).partial_fit(255 - IMAGES, LABELS)
    model.set_params(learning_rate=None)
    assert model._config() == facts
    assert np.array_equal(answers(model, IMAGES), answers(untouched, IMAGES))
    for each in (model, untouched):  # the optimizer is what it was, too
        each.partial_fit(IMAGES, LABELS)
    assert np.array_equal(answers(model, IMAGES), answers(untouched, IMAGES))


def test_images_that_a_first_pass_refuses_leave_no_fitted_model() -> None:
    model = VariationalAutoencoder(likelihood="bernoulli")
    with pytest.raises(InputError, match="X has grey values, which no Bernoulli likelihood draws"):
        model.partial_fit(IMAGES)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.transform(IMAGES)
    model.partial_fit(IMAGES // 128 * 255)
    before = model.transform(IMAGES)
    with pytest.raises(InputError, match="X has grey values"):
        model.partial_fit(IMAGES)
    assert np.array_equal(model.transform(IMAGES), before)


def test_an_interrupted_pass_has_not_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConvAutoencoder(random_state=0).partial_fit(ROWS)
    before, step = model.transform(ROWS), torch.optim.Adam.step

    def interrupted(optimizer: Any, *arguments: Any) -> None:
        step(optimizer, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(ROWS)
    assert np.array_equal(model.transform(ROWS), before)


# -- what changes between passes


def test_a_learning_rate_given_between_passes_is_obeyed() -> None:
    model = LinearAutoencoder(solver="gradient", random_state=0).partial_fit(ROWS).partial_fit(ROWS)
    quick, slow = model.transform(ROWS), pickle.loads(pickle.dumps(model))
    assert np.allclose(slow.set_params(learning_rate=1e-12).partial_fit(ROWS).transform(ROWS), quick, atol=1e-9)
    assert not np.allclose(model.partial_fit(ROWS).transform(ROWS), quick, atol=1e-3)
    tenth = slow.set_params(learning_rate=None).partial_fit(ROWS).transform(ROWS)
    assert not np.allclose(tenth, quick, atol=1e-3)  # and left out again, it is the usual one again


def facts_of(model: Any, folder: Path) -> DataFacts:
    """What a model's file says of the data."""
    path = model.save_pretrained(folder / "model", overwrite=True)
    facts = read_config(path).data
    assert facts.images == len(read_trained_on(path))
    return facts


def test_a_model_file_counts_each_sample_once_and_tells_all_of_them(tmp_path: Path) -> None:
    first, second = ImageSet.from_arrays(IMAGES[:8], name="first"), ImageSet.from_arrays(IMAGES[6:], name="second")
    model = ConvAutoencoder(random_state=0).partial_fit(first)
    alone = facts_of(model, tmp_path)
    assert (alone.name, alone.images, alone.fingerprint) == ("first", 8, first.fingerprint)
    assert facts_of(model.partial_fit(first), tmp_path) == alone
    assert facts_of(model.partial_fit(IMAGES[:5]), tmp_path) == alone  # nothing new in them
    both = facts_of(model.partial_fit(second), tmp_path)
    assert (both.name, both.images) == ("several sets", 12)
    assert both.fingerprint not in (first.fingerprint, second.fingerprint)
    other = facts_of(ConvAutoencoder(random_state=0).partial_fit(second).partial_fit(first), tmp_path)
    assert (other.images, other.fingerprint) == (12, both.fingerprint)  # whatever their order


def test_repeated_rows_are_samples_of_their_own_and_stay_as_many(tmp_path: Path) -> None:
    model = LinearAutoencoder(solver="gradient", epochs=2, random_state=0).fit(ROWS)  # two of the flowers are equal
    fitted = facts_of(model, tmp_path)
    assert fitted.images == 150
    assert facts_of(model.partial_fit(ROWS), tmp_path) == fitted


def test_the_noise_in_a_model_file_is_that_of_the_training(tmp_path: Path) -> None:
    model = Denoiser(noise=0.25, epochs=1, random_state=0).fit(ROWS)
    before = model.score(ROWS)
    assert read_config(model.set_params(noise=0.5).save_pretrained(tmp_path / "fitted")).noise == 0.25
    assert model.score(ROWS) == before
    assert Denoiser.from_pretrained(tmp_path / "fitted").score(ROWS) == before
    assert read_config(model.partial_fit(ROWS).save_pretrained(tmp_path / "later")).noise == 0.5
