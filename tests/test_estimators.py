"""The estimators: what goes in and what comes out, in which layout and type; laws they obey; pipelines; model files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from command_line import toy
from isthmus import hub
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.denoiser import Denoiser
from isthmus.estimators.inputs import learn_form
from isthmus.estimators.parameters import calm_schedule, schedule
from isthmus.latent.sampling import density_of
from isthmus.networks import pca
from isthmus.networks.apply import classify, decode, encode, reconstruct
from isthmus.networks.catalog import NETWORKS
from isthmus.runs import Run
from isthmus.studies.single import train_one

GPU = torch.cuda.is_available()
QUICK = {"epochs": 2, "random_state": 0}
ROWS, FLOWERS = load_iris(return_X_y=True)
MODELS = Path(__file__).parent / "data" / "version-1"
EVERY = [
    ConvAutoencoder(**QUICK),
    LinearAutoencoder(random_state=0),
    VariationalAutoencoder(latent_dim=3, **QUICK),
    ImageClassifier(**QUICK),
    Denoiser(**QUICK),
]
OF_CODES = EVERY[:3]
RUNS = {
    "lab": ConvAutoencoder,
    "strong": ConvAutoencoder,
    "linear": LinearAutoencoder,
    "vae": VariationalAutoencoder,
    "classifier": ImageClassifier,
    "denoiser": Denoiser,
}


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth uint8 images of this shape: random waves."""
    height, width = [n for n in shape[1:] if n > 3]
    generator = np.random.default_rng(seed)
    phase, tilt = generator.random((2, shape[0], 1, 1))
    y, x = np.mgrid[:height, :width] / height
    waves = 127 + 120 * np.sin(6.28 * (phase + 2 * tilt * x + y))
    if len(shape) == 3:
        return waves.astype(np.uint8)
    last = shape[1] > 3
    return np.broadcast_to(waves[..., None] if last else waves[:, None], shape).astype(np.uint8)


def answers(estimator: object, X: object) -> np.ndarray:
    """What an estimator is for."""
    return estimator.predict_proba(X) if isinstance(estimator, ImageClassifier) else estimator.transform(X)


LAYOUTS = {"NHW": (24, 16, 20), "NCHW": (24, 3, 16, 20), "NHWC": (24, 16, 20, 3)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("estimator", OF_CODES, ids=repr)
def test_images_come_back_in_the_layout_they_came_in(estimator: ConvAutoencoder, layout: str) -> None:
    X = pictures(*LAYOUTS[layout])
    model = clone(estimator)
    codes = model.fit_transform(X)
    assert codes.shape == (24, model.latent_dim)
    assert codes.dtype == np.float32
    assert np.array_equal(codes, model.transform(X))
    assert model.layout_ == layout
    assert model.image_shape_ == ((1 if layout == "NHW" else 3), 16, 20)
    assert model.n_features_in_ == X[0].size
    for images in (model.inverse_transform(codes), model.sample(24, random_state=0)):
        assert images.shape == X.shape
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
    assert model.examples_.shape == (10, *model.image_shape_)
    assert model.examples_.max() <= 1


@pytest.mark.parametrize("estimator", EVERY, ids=repr)
def test_the_same_images_give_the_same_answers_whatever_array_they_lie_in(estimator: ConvAutoencoder) -> None:
    X, y = pictures(24, 3, 16, 20), np.arange(24) % 2
    model = clone(estimator).fit(X, y)
    expected = answers(model, X)
    floats = X.astype(np.float32) / np.float32(255)
    for other in (
        torch.from_numpy(X),
        ImageSet.from_arrays(X),
        floats,
        floats.astype(np.float64),
        torch.tensor(floats),
    ):
        assert np.allclose(answers(model, other), expected, atol=1e-6)
    last = np.moveaxis(X, 1, 3)
    back = answers(model, last)
    assert np.allclose(np.moveaxis(back, 3, 1) if isinstance(model, Denoiser) else back, expected, atol=1e-6)


def test_a_denoiser_answers_in_the_layout_of_each_question() -> None:
    X = pictures(24, 16, 20)
    model = Denoiser(**QUICK).fit(X)
    assert model.transform(X).shape == X.shape
    assert np.array_equal(model.transform(X[:, None])[:, 0], model.transform(X))


def test_float64_images_are_not_rounded_to_another_network_than_uint8_ones() -> None:
    X = pictures(20, 16, 16)
    whole, real = (ConvAutoencoder(**QUICK).fit(x) for x in (X, X / 255))
    assert np.allclose(whole.transform(X), real.transform(X / 255), atol=1e-4)


@pytest.mark.parametrize("estimator", OF_CODES, ids=repr)
def test_rows_come_back_in_float64_and_their_own_units(estimator: ConvAutoencoder) -> None:
    rows = 1e6 * ROWS - 3e6
    model = clone(estimator).set_params(latent_dim=2).fit(rows)
    codes = model.transform(rows)
    back = model.inverse_transform(codes)
    assert codes.dtype == back.dtype == np.float64
    assert model.layout_ == "ND"
    assert model.image_shape_ == (1, 1, 4)
    assert np.abs(back - rows).mean() < np.ptp(rows, axis=0).mean() / 2
    other = clone(model).fit(ROWS)
    assert np.allclose(other.transform(ROWS), codes, atol=1e-6)  # whatever the units


def test_a_constant_column_comes_back_as_it_was() -> None:
    rows = np.column_stack([ROWS, np.full(len(ROWS), 7.5)])
    model = LinearAutoencoder(latent_dim=3).fit(rows)
    assert np.isfinite(model.transform(rows)).all()
    assert np.allclose(model.inverse_transform(model.transform(rows))[:, 4], 7.5)


def test_the_exact_linear_autoencoder_is_pca_of_the_scaled_rows() -> None:
    scaled = (ROWS - ROWS.min(0)) / np.ptp(ROWS, axis=0)
    model, pca = LinearAutoencoder(latent_dim=2).fit(ROWS), PCA(2).fit(scaled)
    ours, theirs = model.transform(ROWS), pca.transform(scaled)
    signs = np.sign((ours * theirs).sum(0))
    assert np.allclose(ours, theirs * signs, atol=1e-12)
    restored = pca.inverse_transform(theirs)
    assert np.allclose(model.inverse_transform(ours), restored * np.ptp(ROWS, axis=0) + ROWS.min(0), atol=1e-12)
    assert model.score(ROWS) == pytest.approx(-np.square(restored - scaled).mean(), abs=1e-12)
    assert model.history_ is None


def test_the_gradient_solver_comes_near_the_exact_optimum_and_never_beyond() -> None:
    exact = LinearAutoencoder(latent_dim=2).fit(ROWS).score(ROWS)
    found = LinearAutoencoder(latent_dim=2, solver="gradient", epochs=200, random_state=0).fit(ROWS).score(ROWS)
    assert 1.2 * exact < found <= exact


def test_rows_that_hold_images_are_images() -> None:
    X = pictures(24, 16, 20)
    flat = X.reshape(24, -1)
    model = ConvAutoencoder(image_shape=(16, 20), **QUICK).fit(flat.astype(float))
    assert model.image_shape_ == (1, 16, 20)
    assert all(parameter.dtype == torch.float64 for parameter in model.network_.parameters())
    assert any(isinstance(layer, torch.nn.Conv2d) for layer in model.network_.encoder)
    back = model.inverse_transform(model.transform(flat))
    assert back.shape == flat.shape
    images = ConvAutoencoder(**QUICK).fit((X - X.min()) / np.ptp(X).astype(float))
    assert np.allclose(images.transform((X - X.min()) / np.ptp(X).astype(float)), model.transform(flat), atol=1e-3)


@pytest.mark.parametrize(("shape", "order"), [((3, 16, 20), (0, 1, 2, 3)), ((16, 20, 3), (0, 2, 3, 1))])
def test_colour_lies_in_a_row_as_image_shape_says(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    X = pictures(12, 3, 16, 20) * np.array([1, 2, 4], np.uint8)[:, None, None] // 4
    form, pixels = learn_form(X.transpose(order).reshape(12, -1), "Test", shape)
    low, high = X.min(), X.max()
    assert np.allclose(pixels, (X - float(low)) / (high - low))
    assert np.allclose(form.write(pixels), X.transpose(order).reshape(12, -1))


def test_nothing_is_changed_and_read_only_memory_is_taken(tmp_path: Path) -> None:
    X = pictures(20, 16, 16)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = ConvAutoencoder(**QUICK).fit(mapped)
    assert np.array_equal(model.transform(mapped), model.transform(X))
    assert np.array_equal(X, np.load(tmp_path / "x.npy"))


def test_small_sets_are_learnt_and_epochs_are_obeyed() -> None:
    X = pictures(32, 16, 16)
    model = ConvAutoencoder(random_state=0).fit(X)
    assert len(model.history_.epochs) >= 40
    assert model.score(X) > -np.square(X / 255 - (X / 255).mean(0)).mean() / 2  # half the error of the mean image
    assert len(ConvAutoencoder(epochs=3).fit(X).history_.epochs) == 3


def test_how_long_and_how_fast_is_decided_by_the_table_the_count_and_the_user() -> None:
    none = {"epochs": None, "batch_size": None, "learning_rate": None}
    assert schedule("lab", 50_000, none) == NETWORKS["lab"].training
    small = schedule("lab", 40, none)
    assert (small.epochs, small.batch_size, small.schedule, small.learning_rate) == (40, 8, "one-cycle", 1e-2)
    slow = schedule("lab", 40, {**none, "learning_rate": 1e-4})
    assert (slow.epochs, slow.schedule, slow.learning_rate) == (40, "one-cycle", 1e-4)
    assert schedule("vae", 40, {**none, "epochs": 7, "batch_size": 20}).epochs == 7
    calm = calm_schedule("strong", none)
    assert (calm.schedule, calm.learning_rate) == ("constant", NETWORKS["strong"].training.learning_rate / 4)


def test_numbers_of_another_type_mean_what_they_say() -> None:
    plain = {"latent_dim": 3, "epochs": 2, "batch_size": 8, "validation_fraction": 0.2}
    given = {"latent_dim": 3.0, "epochs": "2", "batch_size": np.float64(8), "validation_fraction": "0.2"}
    first, second = (ConvAutoencoder(random_state=0, **each).fit(ROWS) for each in (given, plain))
    assert np.array_equal(first.transform(ROWS), second.transform(ROWS))
    assert np.array_equal(first.partial_fit(ROWS).transform(ROWS), second.partial_fit(ROWS).transform(ROWS))
    exact = LinearAutoencoder(latent_dim=2.0).fit(ROWS)
    assert np.array_equal(exact.transform(ROWS), LinearAutoencoder(latent_dim=2).fit(ROWS).transform(ROWS))


def test_a_linear_optimum_that_is_only_approximated_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = LinearAutoencoder(latent_dim=2).fit(ROWS)
    monkeypatch.setattr(pca, "EXACT_UP_TO", 3)
    with pytest.warns(UserWarning, match="150 samples of 4 features, .* by a randomised solver. Take") as seen:
        near = LinearAutoencoder(latent_dim=2).fit(ROWS)
    assert seen[0].filename == __file__  # it points at the call
    assert near.score(ROWS) == pytest.approx(exact.score(ROWS), rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.skipif(not GPU, reason="no GPU"))])
def test_fitting_leaves_the_random_states_alone(device: str) -> None:
    def states() -> list[torch.Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if GPU else [])]

    model = ImageClassifier(dropout=0.5, device=device, **QUICK)
    before = states()
    first = model.fit(ROWS, FLOWERS).predict_proba(ROWS)
    assert all(map(torch.equal, before, states()))
    again = clone(model).fit(ROWS, FLOWERS)
    assert np.allclose(again.predict_proba(ROWS), first, atol=1e-6)
    again.partial_fit(ROWS, FLOWERS)
    assert all(map(torch.equal, before, states()))


@pytest.mark.parametrize("estimator", EVERY, ids=repr)
def test_a_seed_decides_everything(estimator: ConvAutoencoder) -> None:
    X, y = pictures(20, 16, 16), np.arange(20) % 2
    first, second, other = (clone(estimator).set_params(random_state=seed).fit(X, y) for seed in (1, 1, 2))
    assert np.array_equal(answers(first, X), answers(second, X))
    if not isinstance(estimator, LinearAutoencoder):  # PCA draws nothing
        assert not np.array_equal(answers(first, X), answers(other, X))
    if hasattr(first, "sample"):
        assert np.array_equal(first.sample(5, random_state=3), second.sample(5, random_state=3))
        assert not np.array_equal(first.sample(5, random_state=3), first.sample(5, random_state=4))


@pytest.mark.parametrize("estimator", OF_CODES, ids=repr)
def test_what_is_strange_scores_low(estimator: ConvAutoencoder) -> None:
    model = clone(estimator).set_params(latent_dim=2, **({} if "solver" in estimator.get_params() else {"epochs": 60}))
    usual, strange = pictures(60, 16, 16), np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    model.fit(usual)
    assert model.score_samples(strange).max() < np.median(model.score_samples(usual))
    assert model.score_samples(usual).shape == (60,)
    assert model.score(usual) == pytest.approx(model.score_samples(usual).mean())


def test_the_score_of_an_autoencoder_is_minus_its_squared_error() -> None:
    X = pictures(30, 16, 16)
    model = ConvAutoencoder(**QUICK).fit(X)
    restored = reconstruct(model.network_, X[:, None]).numpy()[:, 0]
    assert np.allclose(model.score_samples(X), -np.square(restored - X / 255).mean((1, 2)), atol=1e-6)


def test_the_score_of_a_linear_vae_is_its_exact_bound_and_below_its_evidence() -> None:
    """E_q[log p(x|z)] of a linear decoder is that at the mean less the variance the code brings in.

    The draws have this variance on each axis, and where columns of the decoder are orthogonal nothing else counts.
    """
    rows = np.random.default_rng(0).random((60, 3))
    model = VariationalAutoencoder(latent_dim=2, hidden=(8,), sigma=0.5, epochs=3, random_state=0).fit(rows)
    linear = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Unflatten(1, (1, 1, 3))).double().eval()
    torch.nn.init.orthogonal_(linear[0].weight, gain=0.4)
    model.network_.decoder = linear
    scaled = torch.from_numpy((rows - rows.min(0)) / np.ptp(rows, axis=0)).reshape(-1, 1, 1, 3)
    with torch.no_grad():
        posterior = model.network_.encode(scaled)
        at_mean = model.network_.log_likelihood(scaled, posterior.mean)
        brought_in = (posterior.log_variance.exp() @ linear[0].weight.square().T).sum(1) / (2 * 0.5**2)
        exact = (at_mean - brought_in - posterior.kl().sum(1)).numpy()
        w = linear[0].weight
        marginal = torch.distributions.MultivariateNormal(linear[0].bias, w @ w.T + 0.25 * torch.eye(3).double())
        evidence = marginal.log_prob(scaled.flatten(1)).numpy()
    assert np.allclose(model.score_samples(rows), exact, atol=1e-9)
    assert (exact < evidence).all()


def test_samples_come_from_the_chosen_density() -> None:
    X = pictures(80, 16, 16)
    model = ConvAutoencoder(density="gaussian", **QUICK).fit(X)
    codes = model.transform(X)
    assert np.allclose(model.density_.tensors()["mean"], codes.mean(0), atol=1e-4)
    drawn = model.density_.sample(
        3, generator=torch.Generator().manual_seed(int(np.random.RandomState(7).randint(2**31 - 1)))
    )
    assert np.allclose(model.sample(3, random_state=7), decode(model.network_, drawn)[:, 0])
    assert model.set_params(density="kernel").density_.name == "kernel"
    assert VariationalAutoencoder(latent_dim=2, **QUICK).fit(X).density_.name == "normal"


@pytest.mark.parametrize(
    "labels",
    [["b", "a"], [7, -3], [True, False], [2.0, 1.0], np.array(["b", "a"], object)],
    ids=lambda x: type(x[0]).__name__,
)
def test_labels_of_any_kind_come_back(labels: list[object]) -> None:
    y = np.asarray(labels)[FLOWERS % 2]
    model = ImageClassifier(random_state=0).fit(ROWS, y)
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    assert model.predict(ROWS).dtype == y.dtype
    assert model.score(ROWS, y) > 0.8
    probabilities = model.predict_proba(ROWS)
    assert np.allclose(probabilities.sum(1), 1)
    assert np.array_equal(model.classes_[probabilities.argmax(1)], model.predict(ROWS))


def test_an_image_set_brings_its_labels() -> None:
    images = ImageSet.from_arrays(pictures(30, 16, 16), ["wave", "tide", "swell"] * 10)
    model = ImageClassifier(**QUICK).fit(images)
    assert model.classes_.tolist() == ["swell", "tide", "wave"]
    assert 0 <= model.score(images) <= 1
    assert model.score(images) == model.score(images.images, ["wave", "tide", "swell"] * 10)


def test_a_denoiser_beats_leaving_the_noise_in() -> None:
    clean = pictures(200, 16, 16) / np.float32(255)
    model = Denoiser(noise=0.25, epochs=20, random_state=0).fit(clean)
    noisy = add_noise(torch.from_numpy(clean), 0.25, generator=torch.Generator().manual_seed(1)).numpy()
    assert noisy.min() < 0
    assert noisy.max() > 1
    restored = model.transform(noisy)
    assert restored.min() >= 0
    assert restored.max() <= 1
    assert np.square(restored - clean).mean() < 0.25**2 / 3
    assert model.score(clean) > -(0.25**2) / 3
    assert model.score(clean) == model.score(clean)


# -- inside scikit-learn


def test_estimators_work_in_pipelines_and_searches() -> None:
    X, y = pictures(30, 16, 16), np.arange(30) % 2
    pipeline = make_pipeline(FunctionTransformer(lambda x: x[:, ::-1]), ConvAutoencoder(**QUICK), StandardScaler())
    assert pipeline.fit_transform(X).shape == (30, 2)
    search = GridSearchCV(ConvAutoencoder(**QUICK), {"latent_dim": np.array([1, 3])}, cv=2).fit(X)
    assert search.best_params_["latent_dim"] in (1, 3)
    assert cross_val_score(ImageClassifier(**QUICK), X, y, cv=2).shape == (2,)
    folds = KFold(3, shuffle=True, random_state=0)
    assert cross_val_score(LinearAutoencoder(), ROWS, cv=folds).mean() > -0.005
    features = make_pipeline(ConvAutoencoder(random_state=0), ImageClassifier(random_state=0)).fit(ROWS, FLOWERS)
    assert features.score(ROWS, FLOWERS) > 0.8


def test_data_frames_come_in_and_out() -> None:
    frame = pd.DataFrame(ROWS, columns=list("abcd"), index=[f"row{i}" for i in range(len(ROWS))])
    model = LinearAutoencoder(latent_dim=2).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    assert list(codes.columns) == ["linearautoencoder0", "linearautoencoder1"]
    assert list(codes.index) == list(frame.index)
    assert model.inverse_transform(codes).shape == (150, 4)
    assert list(model.feature_names_in_) == list("abcd")
    clean = Denoiser(**QUICK).set_output(transform="pandas").fit(frame).transform(frame)
    assert list(clean.columns) == list("abcd")


@pytest.mark.parametrize("estimator", EVERY, ids=repr)
def test_pickle_and_clone(estimator: ConvAutoencoder) -> None:
    X, y = pictures(20, 16, 16), np.arange(20) % 2
    model = clone(estimator).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(answers(copy, X), answers(model, X))
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "network_")


def test_verbose_prints_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    ConvAutoencoder(epochs=3, verbose=1).fit(ROWS)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in printed] == [f"[ConvAutoencoder] epoch {i}/3" for i in (1, 2, 3)]
    ConvAutoencoder(epochs=3).fit(ROWS)
    assert not capsys.readouterr().out


def test_a_notebook_shows_parameters_before_and_results_after_fit() -> None:
    model = LinearAutoencoder()
    assert "LinearAutoencoder" in model._repr_mimebundle_()["text/html"]
    model.fit(pictures(20, 16, 16))
    assert model._repr_html_() == model._repr_mimebundle_()["text/html"]
    assert "svg" in model._repr_html_() or "png" in model._repr_html_()


# -- model files


@pytest.mark.parametrize("kind", ["images", "rows", "rows of images", "frame"])
@pytest.mark.parametrize("estimator", EVERY, ids=repr)
def test_what_is_saved_answers_the_same_to_the_last_bit(estimator: ConvAutoencoder, kind: str, tmp_path: Path) -> None:
    images, y = pictures(40, 16, 20, 3), np.array(["one", "two"])[np.arange(40) % 2]
    X = {
        "images": images,
        "rows": ROWS[::4] * np.pi,
        "rows of images": images.reshape(40, -1),
        "frame": pd.DataFrame(ROWS[::4], columns=list("abcd")),
    }[kind]
    y = np.resize(y, len(X))
    model = clone(estimator)
    if kind == "rows of images":
        model.set_params(image_shape=(16, 20, 3))
    model.fit(X, y)
    assert model.save_pretrained(tmp_path / "model") == tmp_path / "model"
    back = type(model).from_pretrained(tmp_path / "model")
    assert back.get_params() == model.get_params()
    assert np.array_equal(answers(back, X), answers(model, X))
    assert back.layout_ == model.layout_
    assert back.image_shape_ == model.image_shape_
    assert back.examples_.shape == (0, *model.image_shape_)
    if kind == "frame":
        assert list(back.feature_names_in_) == list("abcd")
    if isinstance(model, ImageClassifier):
        assert np.array_equal(back.predict(X), model.predict(X))
    if hasattr(model, "sample"):
        assert np.array_equal(back.sample(4, random_state=1), model.sample(4, random_state=1))
        assert np.array_equal(back.inverse_transform(model.transform(X)), model.inverse_transform(model.transform(X)))
        assert np.array_equal(back.score_samples(X), model.score_samples(X))
    assert (tmp_path / "model" / "README.md").read_text().count(type(model).__name__) >= 1


@pytest.mark.parametrize("labels", [[3, 10], ["a", "b"], [True, False]], ids=str)
def test_labels_keep_their_kind_in_a_model_file(labels: list[object], tmp_path: Path) -> None:
    y = np.array(labels)[np.arange(150) % 2]
    model = ImageClassifier(**QUICK).fit(ROWS, y)
    back = ImageClassifier.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert back.classes_.dtype == model.classes_.dtype
    assert np.array_equal(back.predict(ROWS), model.predict(ROWS))


def test_a_loaded_model_can_be_trained_on_and_saved_again(tmp_path: Path) -> None:
    model = ConvAutoencoder(**QUICK).fit(ROWS)
    back = ConvAutoencoder.from_pretrained(model.save_pretrained(tmp_path / "model"))
    back.partial_fit(ROWS).save_pretrained(tmp_path / "model", overwrite=True)
    again = ConvAutoencoder.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.transform(ROWS), back.transform(ROWS))
    assert not np.array_equal(again.transform(ROWS), model.transform(ROWS))
    assert clone(again).fit(ROWS).score(ROWS) == model.score(ROWS)


def test_what_is_sent_to_a_hub_is_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sent = ConvAutoencoder(**QUICK).fit(ROWS), {}

    def push(folder: Path, repo_id: str, **options: object) -> str:
        sent.update(options, answers=ConvAutoencoder.from_pretrained(folder).transform(ROWS))
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub, "push_to_hub", push)
    assert model.push_to_hub("someone/flowers", private=True) == "https://hub/someone/flowers"
    assert sent["private"]
    assert np.array_equal(sent["answers"], model.transform(ROWS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each network on tiny images."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz", names=["a", "b", "c"]))
    for name in RUNS:
        train_one(name, data, folder / name, changes=["training.epochs=1"])
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_loaded_by_the_estimator_that_fits_it(runs: Path, name: str) -> None:
    run, images = Run(runs / name), pictures(10, 16, 16)
    model = RUNS[name].from_pretrained(runs / name)
    network, pixels = run.network(), images[:, None]
    if name == "classifier":
        assert np.array_equal(model.predict_proba(images), classify(network, pixels).numpy())
        assert set(model.predict(images)) <= {"a", "b", "c"}
    elif name == "denoiser":
        assert np.array_equal(model.transform(pixels), reconstruct(network, pixels).clamp(0, 1).numpy())
    else:
        assert np.array_equal(model.transform(pixels), encode(network, pixels))
        assert model.inverse_transform(model.transform(images)).shape == (10, 1, 16, 16)
        density, _ = density_of(run, network, "gaussian")
        mean = model.set_params(density="gaussian").density_.tensors()["mean"]
        assert torch.equal(mean, density.tensors()["mean"])
    unfitted = clone(model).set_params(epochs=1) if name != "linear" else clone(model)
    y = np.arange(10) % 3
    refitted = unfitted.fit(images, y)
    assert [p.shape for p in refitted.network_.parameters()] == [p.shape for p in network.parameters()]


@pytest.mark.parametrize("folder", sorted(MODELS.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_stored_models_load(folder: Path) -> None:
    name = folder.parent.name.split("-")[0]
    model = RUNS.get(name, VariationalAutoencoder).from_pretrained(folder.parent)
    shape = (5, model.n_features_in_) if model.layout_ == "ND" else (5, *model.image_shape_)
    assert len(answers(model, np.full(shape, 0.5))) == 5
