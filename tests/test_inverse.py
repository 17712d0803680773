"""Degradations and their adjoints, densities, and MAP against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scipy import stats
from torch import Tensor

from isthmus.data.degrade import (
    Degradation,
    Identity,
    Mask,
    Separable,
    add_noise,
    blur,
    estimate_noise,
    low_resolution,
    parse_recipe,
    random_mask,
)
from isthmus.data.imageset import Split
from isthmus.errors import InputError
from isthmus.inverse.laplace import coverage, jacobian, laplace
from isthmus.inverse.map import decoder, restore, solve
from isthmus.latent.density import Density, FullGaussian, StandardNormal, load_density
from isthmus.networks.apply import to_float
from isthmus.networks.autoencoder import lab
from isthmus.networks.variational import VAE, vae
from isthmus.settings import TrainingSettings
from isthmus.training.loop import train

SHAPE = (3, 13, 10)
COUNT, CODE = 6, 4
SIGMA = 0.2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


DEGRADATIONS: dict[str, Degradation] = {
    "identity": Identity(),
    "one mask each": random_mask(SHAPE, 0.4, count=COUNT, generator=generator()),
    "one mask for all": Mask(random_mask(SHAPE, 0.4, count=1, generator=generator()).seen),
    "blur": blur(SHAPE, 1.5),
    "wide blur": blur(SHAPE, 8.0),
    "low resolution": low_resolution(SHAPE, 2),
    "ragged blocks": low_resolution(SHAPE, 3),
}
EACH = pytest.mark.parametrize("degradation", DEGRADATIONS.values(), ids=DEGRADATIONS)


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@EACH
def test_adjoint(degradation: Degradation) -> None:
    x = double(COUNT, *SHAPE)
    y = double(*degradation.apply(x).shape, seed=1)
    left = (degradation.apply(x) * y).sum((1, 2, 3))
    right = (x * degradation.adjoint(y)).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@EACH
def test_degradations_are_linear(degradation: Degradation) -> None:
    x, y = double(COUNT, *SHAPE), double(COUNT, *SHAPE, seed=1)
    torch.testing.assert_close(
        degradation.apply(2 * x - 3 * y), 2 * degradation.apply(x) - 3 * degradation.apply(y), rtol=1e-10, atol=1e-10
    )


@EACH
def test_some_images_are_degraded_as_among_all(degradation: Degradation) -> None:
    x = double(COUNT, *SHAPE)
    index = torch.tensor([4, 1])
    assert torch.equal(degradation.take(index).apply(x[index]), degradation.apply(x)[index])


def test_blur_and_blocks_keep_a_flat_image_flat_and_a_guess_has_full_size() -> None:
    flat = torch.full((2, *SHAPE), 0.3)
    for degradation in (blur(SHAPE, 2.0), low_resolution(SHAPE, 3)):
        measured = degradation.apply(flat)
        torch.testing.assert_close(measured, torch.full_like(measured, 0.3))
        torch.testing.assert_close(degradation.guess(measured), flat)
    assert low_resolution(SHAPE, 3).apply(flat).shape == (2, 3, 5, 4)


def test_blocks_are_means() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert low_resolution((1, 4, 4), 2).apply(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_a_mask_hides_its_share_and_a_guess_fills_from_near() -> None:
    mask = random_mask((1, 64, 64), 0.3, count=10, generator=generator())
    assert float(mask.seen.mean()) == pytest.approx(0.7, abs=0.01)
    ramp = torch.linspace(0, 1, 64).expand(10, 1, 64, 64)
    filled = mask.guess(mask.apply(ramp))
    assert float((filled - ramp).abs().max()) < 0.2
    assert torch.equal(filled * mask.seen, ramp * mask.seen)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: random_mask(SHAPE, 1.0, count=1, generator=generator()), "hides everything"),
        (lambda: random_mask(SHAPE, 0.0, count=1, generator=generator()), "between 0 and 1"),
        (lambda: random_mask((1, 2, 2), 0.999, count=100, generator=generator()), "hides every pixel"),
        (lambda: blur(SHAPE, 0.0), "above 0 pixels"),
        (lambda: blur(SHAPE, float("inf")), "above 0 pixels"),
        (lambda: low_resolution(SHAPE, 1), "from 2 to 10"),
        (lambda: low_resolution(SHAPE, 11), "from 2 to 10"),
        (lambda: parse_recipe("fog:1"), "not a degradation"),
        (lambda: parse_recipe("noise"), "not a degradation"),
        (lambda: parse_recipe("noise:0"), "above 0"),
        (lambda: parse_recipe("noise:-1"), "above 0"),
        (lambda: parse_recipe("noise:nan"), "not a degradation"),
        (lambda: parse_recipe("mask:0.5+blur:1"), "combines mask and blur"),
        (lambda: parse_recipe("lowres:2.5"), "whole number"),
    ],
)
def test_degradations_that_make_no_sense_are_refused(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]


def test_recipes_read_what_they_write() -> None:
    for text in ("noise:0.25", "mask:0.5", "blur:1.5+noise:0.1", "lowres:2"):
        assert str(parse_recipe(text)) == text
        built = parse_recipe(text).build(SHAPE, count=2, generator=generator())
        kinds = {"noise": Identity, "mask": Mask, "blur": Separable, "lowres": Separable}
        assert type(built) is kinds[text.partition(":")[0]]


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_the_noise_of_flat_and_of_real_images_is_found(sigma: float, parts: Split) -> None:
    clean = to_float(torch.from_numpy(parts.train.images))
    for images in (torch.zeros(20, 1, 32, 32), clean):
        found = estimate_noise(add_noise(images, sigma, generator=generator()))
        assert float(found.median()) == pytest.approx(sigma, rel=0.1 if sigma > 0.05 else 0.5)
    seen = random_mask((1, 32, 32), 0.3, count=20, generator=generator())
    noisy = seen.apply(add_noise(torch.full((20, 1, 32, 32), 0.5), sigma, generator=generator()))
    assert float(estimate_noise(noisy, seen=seen.seen).median()) == pytest.approx(sigma, rel=0.15)


# Densities.


def gaussian() -> FullGaussian:
    root = double(CODE, CODE)
    return FullGaussian(double(CODE, seed=1), root @ root.T + 0.1 * torch.eye(CODE).double())


@pytest.mark.parametrize("density", [StandardNormal(CODE), gaussian()], ids=["normal", "gaussian"])
def test_log_prob_sample_curvature_and_file_agree(density: Density, tmp_path: Path) -> None:
    mean = density.mean.numpy() if isinstance(density, FullGaussian) else np.zeros(CODE)
    covariance = density.covariance.numpy() if isinstance(density, FullGaussian) else np.eye(CODE)
    codes = double(5, CODE)
    expected = stats.multivariate_normal(mean, covariance).logpdf(codes.numpy())
    np.testing.assert_allclose(density.log_prob(codes), expected, rtol=1e-8)
    drawn = density.sample(200_000, generator=generator())
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.02 * np.sqrt(covariance.max()))
    np.testing.assert_allclose(torch.cov(drawn.T), covariance, atol=0.03 * covariance.max())
    hessian = torch.func.hessian(lambda z: density.log_prob(z[None])[0])(codes[0])
    torch.testing.assert_close(density.curvature(codes)[0], -hessian)
    density.save(tmp_path / "density.safetensors")
    torch.testing.assert_close(load_density(tmp_path / "density.safetensors").log_prob(codes), density.log_prob(codes))
    with pytest.raises(ValueError, match=r"codes \(B, 4\)"):
        density.log_prob(double(5, CODE + 1))


def test_fit_finds_the_gaussian_and_refuses_codes_without_spread() -> None:
    truth = gaussian()
    fitted = FullGaussian.fit(truth.sample(200_000, generator=generator()))
    torch.testing.assert_close(fitted.covariance, truth.covariance, rtol=0.05, atol=0.05)
    with pytest.raises(InputError, match="positive definite"):
        FullGaussian.fit(torch.cat([double(50, 2), torch.zeros(50, 1)], 1))
    with pytest.raises(InputError, match="more codes"):
        FullGaussian.fit(double(3, 4))


def test_a_density_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(save({"weights": torch.ones(2)}))
    with pytest.raises(InputError, match=r"holds no density known here \(weights\)"):
        load_density(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_density_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "density.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="missing or damaged"):
        load_density(path)


# MAP with a linear decoder is ridge regression.


class Linear:
    """x = W z + b, and what ridge regression makes of a measurement."""

    def __init__(self) -> None:
        self.weights, self.offset = 0.3 * double(int(np.prod(SHAPE)), CODE), 0.1 * double(int(np.prod(SHAPE)), seed=5)

    def __call__(self, codes: Tensor) -> Tensor:
        return (codes @ self.weights.T + self.offset).reshape(-1, *SHAPE)

    def ridge(self, y: Tensor, degradation: Degradation, prior: Density, sigma: float) -> tuple[Tensor, Tensor]:
        """The exact posterior: means (N, D) and covariances (N, D, D)."""
        mean = prior.mean if isinstance(prior, FullGaussian) else torch.zeros(CODE).double()
        means, covariances = [], []
        for i in range(len(y)):
            one = degradation.take(slice(i, i + 1))
            columns = torch.stack([one.apply(w.reshape(1, *SHAPE)).flatten() for w in self.weights.T], 1) / sigma
            rest = (y[i : i + 1] - one.apply(self(mean[None]))).flatten() / sigma
            covariance = torch.linalg.inv(columns.T @ columns + prior.curvature(mean[None])[0])
            means.append(mean + covariance @ columns.T @ rest)
            covariances.append(covariance)
        return torch.stack(means), torch.stack(covariances)


@EACH
@pytest.mark.parametrize("prior", [StandardNormal(CODE), gaussian()], ids=["normal", "gaussian"])
def test_map_of_a_linear_decoder_is_ridge_regression(degradation: Degradation, prior: Density) -> None:
    linear = Linear()
    measured = degradation.apply(linear(double(COUNT, CODE, seed=2)))
    measured = measured + SIGMA * double(*measured.shape, seed=3)
    exact, covariance = linear.ridge(measured, degradation, prior, SIGMA)
    start = double(COUNT, CODE, seed=4)
    found = solve(linear, measured, start, prior=prior, sigma=SIGMA, degradation=degradation, solver="lm")
    torch.testing.assert_close(found.codes, exact, rtol=1e-5, atol=1e-7)
    assert bool(found.converged.all())
    sure = laplace(linear, found.codes, prior=prior, sigma=SIGMA, degradation=degradation, decoder_sigma=0.1)
    torch.testing.assert_close(sure.covariance, covariance, rtol=1e-8, atol=1e-10)
    pixels = torch.einsum("pd,nde,pe->np", linear.weights, covariance, linear.weights) + 0.01
    torch.testing.assert_close(sure.std.flatten(1), pixels.sqrt(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", ["bfgs", "adam"])
def test_first_order_solvers_come_near_the_same_optimum(solver: str) -> None:
    linear, prior = Linear(), StandardNormal(CODE)
    measured = linear(double(COUNT, CODE, seed=2)) + SIGMA * double(COUNT, *SHAPE, seed=3)
    start = double(COUNT, CODE, seed=2) + 0.1
    exact = solve(linear, measured, start, prior=prior, sigma=SIGMA, solver="lm")
    found = solve(linear, measured, start, prior=prior, sigma=SIGMA, solver=solver, steps=100)  # type: ignore[arg-type]
    torch.testing.assert_close(found.objective, exact.objective, rtol=1e-4, atol=0)


def test_the_interval_of_the_exact_posterior_covers_nine_in_ten() -> None:
    """Images from the model itself; too small a sigma makes the intervals too narrow, too large a one too wide."""
    linear, prior, count = Linear(), StandardNormal(CODE), 400
    decoder_sigma, sigma = 0.1, 0.3
    clean = linear(double(count, CODE, seed=2)) + decoder_sigma * double(count, *SHAPE, seed=7)
    # To the codes, the decoder's own noise and the measurement's are one.
    total = float(np.hypot(decoder_sigma, sigma))
    measured = clean + sigma * double(count, *SHAPE, seed=3)
    shares = {}
    for assumed in (0.5, 1.0, 2.0):
        found = solve(
            linear, measured, torch.zeros(count, CODE).double(), prior=prior, sigma=assumed * total, solver="lm"
        )
        std = laplace(
            linear, found.codes, prior=prior, sigma=assumed * total, decoder_sigma=assumed * decoder_sigma
        ).std
        shares[assumed] = float(coverage(found.images, std, clean).double().mean())
    # The pixel's own noise was seen through the measurement too, so the truth lies slightly nearer: 0.9 within 0.01.
    assert shares[1.0] == pytest.approx(0.9, abs=0.012)
    assert shares[0.5] < 0.8
    assert shares[2.0] > 0.98


# MAP with a network.


@pytest.fixture(scope="module")
def network(parts: Split) -> VAE:
    made = vae(parts.train.shape, latent_dim=4, width=4, units=64)
    train(made, parts.train, parts.validation, TrainingSettings(epochs=5, batch_size=32, learning_rate=3e-3))
    return made


@pytest.fixture(scope="module")
def noisy(parts: Split) -> Tensor:
    return add_noise(to_float(torch.from_numpy(parts.test.images)), 0.25, generator=generator())


@pytest.mark.parametrize("solver", ["bfgs", "lm", "adam"])
def test_no_image_ends_above_its_start_and_the_path_tells(solver: str, network: VAE, noisy: Tensor) -> None:
    found = restore(network, noisy, sigma=0.25, solver=solver)  # type: ignore[arg-type]
    assert bool((found.objective <= found.start).all())
    assert found.path.shape[1] == len(noisy)
    torch.testing.assert_close(found.path[0], found.start)
    torch.testing.assert_close(found.path.min(0).values, found.objective)
    assert found.objective.mean() < found.start.mean()
    assert found.images.shape == noisy.shape
    torch.testing.assert_close(decoder(network)(found.codes), found.images)


@pytest.mark.parametrize("solver", ["bfgs", "lm", "adam"])
def test_converged_means_what_it_says(solver: str, network: VAE, noisy: Tensor) -> None:
    """Recomputed from the returned path, and by the gradient at the returned codes."""
    found = restore(network, noisy, sigma=0.25, solver=solver, steps=60)  # type: ignore[arg-type]
    decode, prior = decoder(network), StandardNormal(4)
    start = restore(network, noisy, sigma=0.25, steps=0)

    def norm(codes: Tensor) -> Tensor:
        codes = codes.clone().requires_grad_()
        value = ((decode(codes) - noisy).square().sum((1, 2, 3)) / (2 * 0.25**2) - prior.log_prob(codes)).sum()
        return torch.autograd.grad(value, codes)[0].norm(dim=1)

    small_gradient = norm(found.codes) <= 1e-3 * norm(start.codes) * 1.01
    small_decrease = torch.stack(
        [
            found.path[: int(t) - 4].min(0).values[i] - found.objective[i] <= 1e-5 * found.objective[i].abs() * 1.01
            if int(t) >= 5
            else torch.tensor(False)
            for i, t in enumerate(found.steps)
        ]
    )
    assert bool((found.converged <= (small_gradient | small_decrease)).all())
    assert float(found.converged.float().mean()) > (0.2 if solver == "adam" else 0.9)
    if solver != "lm":  # it goes on, and may leave where it had converged
        assert bool((small_gradient <= found.converged).all())


def test_a_stop_at_the_first_step_has_not_converged(network: VAE, noisy: Tensor) -> None:
    assert not bool(restore(network, noisy, sigma=0.25, steps=1).converged.any())


@pytest.mark.parametrize("solver", ["bfgs", "lm", "adam"])
def test_images_do_not_know_of_each_other(solver: str, network: VAE, noisy: Tensor) -> None:
    """In another order, and one by one, each image reaches the same objective."""
    some = noisy[:12]
    together = restore(network, some, sigma=0.25, solver=solver)  # type: ignore[arg-type]
    order = torch.randperm(len(some), generator=generator())
    shuffled = restore(network, some[order], sigma=0.25, solver=solver)  # type: ignore[arg-type]
    torch.testing.assert_close(shuffled.objective, together.objective[order], rtol=1e-4, atol=0)
    alone = torch.cat([restore(network, x[None], sigma=0.25, solver=solver).objective for x in some])  # type: ignore[arg-type]
    torch.testing.assert_close(alone, together.objective, rtol=1e-4, atol=0)


def test_many_images_are_solved_as_few(network: VAE, noisy: Tensor) -> None:
    many = noisy.repeat(12, 1, 1, 1)[:1030]  # more than one batch
    found = restore(network, many, sigma=0.25)
    alone = torch.cat([restore(network, many[i : i + 1], sigma=0.25).objective for i in (0, 500, 999, 1000, 1029)])
    torch.testing.assert_close(found.objective[[0, 500, 999, 1000, 1029]], alone, rtol=1e-4, atol=0)


def test_restarts_never_harm_and_each_noise_counts(network: VAE, noisy: Tensor) -> None:
    once = restore(network, noisy[:20], sigma=0.25)
    more = restore(network, noisy[:20], sigma=0.25, restarts=4, generator=generator())
    assert bool((more.objective <= once.objective).all())
    each = torch.linspace(0.1, 0.5, 20)
    mixed = restore(network, noisy[:20], sigma=each)
    one = restore(network, noisy[7:8], sigma=float(each[7]))
    torch.testing.assert_close(mixed.objective[7:8], one.objective, rtol=1e-4, atol=0)


def test_the_jacobian_is_that_of_autograd(network: VAE) -> None:
    decode, codes = decoder(network), torch.randn(3, 4, generator=generator())
    columns = jacobian(lambda z: decode(z).flatten(1), codes)
    for i in range(3):
        expected = torch.autograd.functional.jacobian(lambda z: decode(z[None]).flatten(), codes[i])
        torch.testing.assert_close(columns[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("degradation", ["mask:0.5", "blur:1.5", "lowres:2"])
def test_every_degradation_is_undone_in_part(degradation: str, network: VAE, parts: Split) -> None:
    clean = to_float(torch.from_numpy(parts.test.images))
    operator = parse_recipe(degradation).build((1, 32, 32), count=len(clean), generator=generator())
    measured = operator.apply(clean)
    found = restore(network, measured, sigma=network.sigma, degradation=operator)
    fit = (operator.apply(found.images) - measured).square().mean()
    before = restore(network, measured, sigma=network.sigma, degradation=operator, steps=0)
    assert fit < (operator.apply(before.images) - measured).square().mean()


def test_a_bernoulli_decoder_restores_within_its_range(noisy: Tensor) -> None:
    network = vae((1, 32, 32), latent_dim=3, architecture="mlp", hidden=(16,), likelihood="bernoulli").eval()
    found = restore(network, noisy[:5], sigma=0.25)
    assert 0 < float(found.images.min()) < float(found.images.max()) < 1


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf")])
def test_a_sigma_that_is_none_is_refused(sigma: float, network: VAE, noisy: Tensor) -> None:
    with pytest.raises(InputError, match="above 0, on the"):
        restore(network, noisy, sigma=sigma)


def test_what_cannot_be_restored_is_refused(network: VAE, noisy: Tensor) -> None:
    broken = noisy.clone()
    broken[3, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="1 of 90 images hold NaN"):
        restore(network, broken, sigma=0.25)
    with pytest.raises(InputError, match="needs a prior"):
        restore(lab((1, 32, 32)), noisy, sigma=0.25)
    with pytest.raises(InputError, match="give a generator"):
        restore(network, noisy, sigma=0.25, restarts=2)


def test_an_autoencoder_with_a_fitted_prior_restores(noisy: Tensor) -> None:
    network = lab((1, 32, 32), latent_dim=2, code_relu=False).eval()
    prior = FullGaussian(torch.zeros(2), torch.eye(2))
    found = restore(network, noisy[:5], sigma=0.25, prior=prior)
    assert bool((found.objective < found.start).all())
    far = FullGaussian(torch.full((2,), 30.0), 1e-4 * torch.eye(2))  # a prior that leaves no choice
    torch.testing.assert_close(
        restore(network, noisy[:5], sigma=0.25, prior=far, solver="lm").codes,
        torch.full((5, 2), 30.0),
        atol=0.5,
        rtol=0,
    )


@pytest.mark.parametrize("degradation", ["noise:0.2", "mask:0.5+noise:0.1", "blur:1.5+noise:0.1", "lowres:2+noise:0.1"])
@pytest.mark.parametrize("solver", ["bfgs", "lm"])
def test_colour_images_of_any_shape_are_restored(degradation: str, solver: str) -> None:
    network = vae((3, 18, 23), latent_dim=3, width=4, units=16).eval()
    recipe = parse_recipe(degradation)
    clean = network.decode(torch.randn(5, 3, generator=generator())).detach()
    operator = recipe.build((3, 18, 23), count=5, generator=generator())
    measured = operator.apply(clean) + recipe.sigma * torch.randn(operator.apply(clean).shape, generator=generator())
    found = restore(network, measured, sigma=recipe.sigma, degradation=operator, solver=solver)  # type: ignore[arg-type]
    assert found.images.shape == clean.shape
    assert bool((found.objective <= found.start).all())
    prior = StandardNormal(3)
    sure = laplace(decoder(network), found.codes, prior=prior, sigma=recipe.sigma, degradation=operator)
    assert sure.std.shape == clean.shape
    assert bool((sure.std > 0).all())
