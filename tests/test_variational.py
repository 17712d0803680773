"""Variational autoencoders against mathematics: Gaussians, the bound, probabilistic PCA, and what a weight means."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from isthmus.data.imageset import ImageSet, Split
from isthmus.errors import InputError, SettingsError
from isthmus.metrics import mse
from isthmus.networks.apply import encode, fold, posteriors, reconstruct
from isthmus.networks.autoencoder import lab, strong
from isthmus.networks.pca import principal_components
from isthmus.networks.variational import (
    VAE,
    Gaussian,
    active_units,
    importance_bound,
    log_importance_weights,
    vae,
)
from isthmus.settings import TrainingSettings, validate_model
from isthmus.training.loop import train
from isthmus.training.scoring import score

KINDS = [
    {"architecture": "mlp", "hidden": (32, 16)},
    {"architecture": "convolutional", "width": 4, "units": 16},
]


def images_of(count: int = 40, shape: tuple[int, int, int] = (1, 16, 16)) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 2.5), (0.0, 0.05)])
def test_kl_equals_the_numeric_integral(mean: float, std: float) -> None:
    q = stats.norm(mean, std)

    def integrand(z: float) -> float:
        return float(q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)))

    exact = integrate.quad(integrand, mean - 12 * std, mean + 12 * std, points=[mean])[0]
    found = Gaussian(torch.tensor([[mean]]).double(), torch.tensor([[2 * math.log(std)]]).double()).kl()
    assert float(found) == pytest.approx(exact, abs=1e-6)


def test_kl_is_zero_exactly_where_posterior_is_prior_and_positive_elsewhere() -> None:
    assert torch.equal(Gaussian(torch.zeros(3, 2), torch.zeros(3, 2)).kl(), torch.zeros(3, 2))
    random = torch.randn(200, 2, 3, generator=torch.Generator().manual_seed(0))
    assert bool((Gaussian(random[:, 0], random[:, 1]).kl() > 0).all())


def test_log_prob_of_a_gaussian_is_that_of_scipy() -> None:
    q = Gaussian(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2, -0.5]]))
    z = torch.tensor([[0.1, 0.4]])
    expected = stats.norm.logpdf(z.numpy(), q.mean.numpy(), q.std.numpy()).sum()
    assert float(q.log_prob(z)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_gradients_reach_every_parameter(options: dict[str, object], likelihood: str) -> None:
    network = vae((1, 16, 16), latent_dim=3, likelihood=likelihood, sigma="learned", **options)  # type: ignore[arg-type]
    network.loss(images_of(), images_of()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("options", KINDS)
def test_the_bound_does_not_depend_on_the_order_of_the_batch(options: dict[str, object]) -> None:
    network = vae((1, 16, 16), latent_dim=3, **options).eval()  # type: ignore[arg-type]
    images, noise = images_of(), torch.randn(40, 3)
    order = torch.randperm(40)
    straight, shuffled = network.bound(images, noise=noise), network.bound(images[order], noise=noise[order])
    torch.testing.assert_close(straight.nats[order], shuffled.nats, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(straight.kl[order], shuffled.kl, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 37, 50), (1, 28, 28)])
@pytest.mark.parametrize("options", KINDS)
def test_any_image_shape_comes_back(shape: tuple[int, int, int], options: dict[str, object]) -> None:
    network = vae(shape, latent_dim=3, **options)  # type: ignore[arg-type]
    assert network(images_of(4, shape)).shape == (4, *shape)
    posterior = network.encode(images_of(4, shape))
    assert posterior.mean.shape == posterior.log_variance.shape == (4, 3)


def test_the_gaussian_likelihood_is_that_of_scipy() -> None:
    network = vae((1, 16, 16), latent_dim=2, architecture="mlp", hidden=(8,), sigma=0.2).eval()
    images, codes = images_of(3), torch.randn(3, 2)
    drawn = network.decode(codes).detach()
    expected = stats.norm.logpdf(images.numpy(), drawn.numpy(), 0.2).sum((1, 2, 3))
    np.testing.assert_allclose(network.log_likelihood(images, codes).detach(), expected, rtol=1e-4)


def test_the_bernoulli_likelihood_is_a_probability_of_binary_images() -> None:
    network = vae((1, 16, 16), latent_dim=2, architecture="mlp", hidden=(8,), likelihood="bernoulli").eval()
    images, codes = images_of(3).round(), torch.randn(3, 2)
    p = network.decode(codes).detach().double().numpy()
    assert bool(((p > 0) & (p < 1)).all())
    expected = stats.bernoulli.logpmf(images.numpy(), p).sum((1, 2, 3))
    np.testing.assert_allclose(network.log_likelihood(images, codes).detach(), expected, rtol=1e-4)


def test_optimal_sigma_is_the_one_no_other_beats() -> None:
    network = vae((1, 16, 16), latent_dim=2, architecture="mlp", hidden=(8,))
    images, noise = images_of(), torch.randn(40, 2)
    network.encoder.eval()
    network.decoder.train()
    best = float(network.bound(images, noise=noise).log_likelihood.detach().mean())
    codes = network.encode(images).sample(noise=noise)
    error = float(mse(network.decoder(codes), images).detach().mean())
    for factor in (0.8, 0.95, 1.0, 1.05, 1.25):
        log_sigma = torch.tensor(math.log(factor * math.sqrt(error)))
        other = float(network.log_likelihood(images, codes, log_sigma=log_sigma).detach().mean())
        assert other == pytest.approx(best, rel=1e-5) if factor == 1 else other < best


def test_stored_sigma_follows_the_error_and_rests_outside_training() -> None:
    network = vae((1, 16, 16), latent_dim=2, architecture="mlp", hidden=(8,))
    images = images_of()
    for _ in range(200):
        network.loss(images, images)
    network.decoder.train()
    codes = network.encode(images).sample()
    assert network.sigma == pytest.approx(float(mse(network.decoder(codes), images).detach().mean().sqrt()), rel=0.05)
    network.eval()
    before = network.sigma
    network.loss(images, images)
    assert network.sigma == before


def test_free_bits_and_warm_up_change_the_loss_as_they_say() -> None:
    options: dict[str, object] = {"latent_dim": 2, "architecture": "mlp", "hidden": (8,), "sigma": 0.3}
    plain = vae((1, 16, 16), **options).eval()  # type: ignore[arg-type]
    images = images_of()

    def loss_of(**more: object) -> float:
        network = vae((1, 16, 16), **options, **more).eval()  # type: ignore[arg-type]
        network.load_state_dict(plain.state_dict())
        torch.manual_seed(3)
        return float(network.loss(images, images).detach())

    kl = plain.encode(images).kl().mean(0).detach()
    assert loss_of(free_bits=100.0) - loss_of() == pytest.approx(200 - float(kl.sum()), rel=1e-3)
    assert loss_of() - loss_of(kl_warmup=10) == pytest.approx(0.9 * float(kl.sum()), rel=1e-2, abs=2e-3)
    assert loss_of(beta=3.0) - loss_of() == pytest.approx(2 * float(kl.sum()), rel=1e-2, abs=2e-3)


def test_warm_up_ends_after_so_many_updates() -> None:
    network = vae((1, 16, 16), latent_dim=2, architecture="mlp", hidden=(8,), kl_warmup=3, sigma=0.3)
    shares = []
    for _ in range(5):
        torch.manual_seed(0)
        loss = float(network.loss(images_of(), images_of()).detach())
        torch.manual_seed(0)
        network.kl_warmup = 0
        network.updates -= 1  # the same update with the full weight
        full = float(network.loss(images_of(), images_of()).detach())
        network.kl_warmup = 3
        kl = float(network.encode(images_of()).kl().sum(1).mean().detach())
        shares.append(1 - (full - loss) / kl)
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 1, 1, 1], atol=0.02)


@pytest.mark.parametrize(
    ("reduction", "pixels", "pixel_range", "per_sse"),
    [
        ("mean", 1024, (-1, 1), 2.56),
        ("mean", 784, (0, 1), 7.84),
        ("sum", 1024, (0, 1), 0.01),
        ("sum", 9, (-1, 1), 0.0025),
    ],
)
def test_a_course_weight_has_the_same_optimum_as_what_it_means(
    reduction: str, pixels: int, pixel_range: tuple[float, float], per_sse: float
) -> None:
    """The folk loss and minus the bound of the sigma found differ by a factor and a constant, at any error and KL."""
    weight = VAE.from_course(0.01, reduction=reduction, pixels=pixels, pixel_range=pixel_range)  # type: ignore[arg-type]
    assert weight.per_sse == pytest.approx(per_sse)
    assert weight.beta == 1
    width = pixel_range[1] - pixel_range[0]

    def folk(sse: float, kl: float) -> float:
        squares = width**2 * sse / (pixels if reduction == "mean" else 1)
        return squares + 0.01 * kl

    def ours(sse: float, kl: float) -> float:
        return sse / (2 * weight.sigma**2) + weight.beta * kl

    places = [(10.0, 5.0), (40.0, 0.0), (3.0, 30.0)]
    ratios = {round(folk(*place) / ours(*place), 9) for place in places}
    assert len(ratios) == 1
    assert f"{weight.sigma:.3g}" in weight.meaning


@pytest.mark.parametrize("bad", [{"kl_weight": 0.0}, {"pixels": 0}, {"pixel_range": (1, 1)}])
def test_a_course_weight_that_means_nothing_is_refused(bad: dict[str, object]) -> None:
    options = {"reduction": "sum", "pixels": 4, "pixel_range": (0, 1), **bad}
    with pytest.raises(InputError, match="positive weight, pixels and range"):
        VAE.from_course(**options)  # type: ignore[arg-type]


def test_a_sigma_not_above_zero_is_refused() -> None:
    with pytest.raises(InputError, match="standard deviation above 0"):
        vae((1, 16, 16), sigma=0.0)
    with pytest.raises(SettingsError, match=r"model\.sigma"):
        validate_model({"name": "vae", "sigma": -1.0})


def test_active_units_counts_axes_whose_means_vary() -> None:
    means = torch.stack([torch.randn(1000), 0.01 * torch.randn(1000), torch.full((1000,), 5.0)], 1)
    assert active_units(means).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "network",
    [
        vae((1, 16, 16), latent_dim=3, width=4, units=64),
        vae((1, 18, 21), latent_dim=3, architecture="mlp", hidden=(16, 8)),
        lab((3, 30, 32), latent_dim=3),
        lab((1, 16, 16), upsample="transposed"),
        strong((1, 16, 16), hidden=(12,)),
    ],
)
def test_folding_batch_norm_changes_nothing_but_the_layers(network: VAE) -> None:
    network.train()
    for i in range(3):
        network(images_of(20, network.image_shape) * (i + 1))
    network.eval()
    codes = torch.randn(10, network.latent_dim)
    folded = fold(network.decoder)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    torch.testing.assert_close(folded(codes), network.decoder(codes), rtol=1e-4, atol=1e-5)


# Probabilistic PCA: x = W z + m + noise, whose likelihood is known in closed form (Tipping and Bishop 1999).

SIDE, RANK, NOISE = 4, 2, 0.1


@pytest.fixture(scope="module")
def ppca() -> tuple[ImageSet, np.ndarray, np.ndarray]:
    """4,000 images from probabilistic PCA, and the mean and covariance they were drawn from."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(SIDE**2, RANK)) * np.array([0.08, 0.05])
    mean = np.full(SIDE**2, 0.5)
    images = mean + generator.normal(size=(4000, RANK)) @ weights.T + NOISE * generator.normal(size=(4000, SIDE**2))
    covariance = weights @ weights.T + NOISE**2 * np.eye(SIDE**2)
    return ImageSet(np.clip(images, 0, 1).astype(np.float32).reshape(-1, 1, SIDE, SIDE), None), mean, covariance


def exact_log_likelihood(images: ImageSet, mean: np.ndarray, covariance: np.ndarray) -> float:
    flat = images.images.reshape(len(images), -1)
    return float(stats.multivariate_normal(mean, covariance).logpdf(flat).mean())


class _Centre(nn.Module):
    """Take the mean of the images away, so that a linear encoder need not learn to."""

    def forward(self, flat: torch.Tensor) -> torch.Tensor:
        return flat - 0.5


class _OneVariance(nn.Module):
    """Give means (B, D) log-variances that are the same for every image, as the exact posterior's are."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        return torch.cat([means, self.log_variance.expand_as(means)], 1)


@pytest.fixture(scope="module")
def linear_vae(ppca: tuple[ImageSet, np.ndarray, np.ndarray]) -> VAE:
    """A VAE of one linear layer each way, with one learnt sigma, trained on the images of probabilistic PCA."""
    images = ppca[0]
    torch.manual_seed(0)
    network = VAE(
        nn.Sequential(nn.Flatten(), _Centre(), nn.Linear(SIDE**2, RANK), _OneVariance(RANK)),
        nn.Sequential(nn.Linear(RANK, SIDE**2), nn.Unflatten(1, (1, SIDE, SIDE))),
        latent_dim=RANK,
        image_shape=(1, SIDE, SIDE),
        sigma="learned",
    )
    settings = TrainingSettings(epochs=60, batch_size=50, learning_rate=2e-2, schedule="one-cycle")
    train(network, images, images.take(np.arange(500)), settings)
    return network


def test_exact_ppca_of_the_images_is_the_likelihood_of_scipy(ppca: tuple[ImageSet, np.ndarray, np.ndarray]) -> None:
    images, mean, covariance = ppca
    fitted = principal_components(images, RANK)
    found = float(fitted.log_likelihood(images).mean())
    weights = fitted.components.T.numpy() * np.sqrt(fitted.variances.numpy() - fitted.noise_variance)
    model = weights @ weights.T + fitted.noise_variance * np.eye(SIDE**2)
    assert found == pytest.approx(exact_log_likelihood(images, fitted.mean.numpy(), model), abs=1e-4)
    # Of greatest likelihood: above the truth it was drawn from, by no more than 50 parameters can gain.
    truth = exact_log_likelihood(images, mean, covariance)
    assert truth < found < truth + 0.05


def test_a_linear_vae_reaches_the_likelihood_of_ppca(
    ppca: tuple[ImageSet, np.ndarray, np.ndarray], linear_vae: VAE
) -> None:
    images = ppca[0]
    exact = float(principal_components(images, RANK).log_likelihood(images).mean())
    scored = score(linear_vae, torch.from_numpy(images.images), None)
    bound = -scored["reconstruction"] - scored["kl"]
    assert exact - 0.1 < bound < exact + 0.02  # the bound is sampled: it may pass by its error


def test_importance_bounds_rise_to_the_exact_likelihood(
    ppca: tuple[ImageSet, np.ndarray, np.ndarray], linear_vae: VAE
) -> None:
    images = ppca[0].take(np.arange(1000))
    decode = linear_vae.decoder[0]
    assert isinstance(decode, nn.Linear)
    weights, mean = decode.weight.detach().double().numpy(), decode.bias.detach().double().numpy()
    exact = exact_log_likelihood(images, mean, weights @ weights.T + linear_vae.sigma**2 * np.eye(SIDE**2))
    # From a posterior that is wrong on purpose, so that there is a gap to close.
    wrong = copy.deepcopy(linear_vae)
    wrong.encoder.append(_Widen())
    log_weights = log_importance_weights(
        wrong, torch.from_numpy(images.images), samples=256, generator=torch.Generator().manual_seed(0)
    )
    bounds = [float(importance_bound(log_weights[:, :k]).mean()) for k in (1, 4, 16, 64, 256)]
    assert bounds == sorted(bounds)
    assert exact - bounds[0] > 0.5
    assert abs(exact - bounds[-1]) < 0.05


class _Widen(nn.Module):
    """Shift the means of a posterior and double its standard deviations."""

    def forward(self, parameters: torch.Tensor) -> torch.Tensor:
        mean, log_variance = parameters.chunk(2, dim=1)
        return torch.cat([mean + 0.2, log_variance + 2 * math.log(2)], 1)


def test_the_bound_of_the_exact_posterior_is_tight() -> None:
    """With q = p(z|x) every importance weight is p(x) itself, whatever the sample."""
    generator = torch.Generator().manual_seed(0)
    pixels = SIDE**2
    weights = 0.05 * torch.randn(pixels, RANK, generator=generator).double()
    sigma = 0.2
    precision = weights.T @ weights / sigma**2 + torch.eye(RANK).double()
    covariance = torch.linalg.inv(precision)
    # A rotation of the code makes the exact posterior a diagonal one.
    values, vectors = torch.linalg.eigh(covariance)
    weights = weights @ vectors
    encoder, decoder = nn.Linear(pixels, 2 * RANK).double(), nn.Linear(RANK, pixels).double()
    with torch.no_grad():
        encoder.weight[:RANK] = torch.diag(values) @ weights.T / sigma**2
        encoder.weight[RANK:] = 0
        encoder.bias[:RANK] = 0
        encoder.bias[RANK:] = values.log()
        decoder.weight.copy_(weights)
        decoder.bias.zero_()
    network = VAE(
        nn.Sequential(nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (1, SIDE, SIDE))),
        latent_dim=RANK,
        image_shape=(1, SIDE, SIDE),
        sigma=sigma,
    ).double()
    images = images_of(20, (1, SIDE, SIDE)).double()
    exact = stats.multivariate_normal(
        np.zeros(pixels), (weights @ weights.T).numpy() + sigma**2 * np.eye(pixels)
    ).logpdf(images.flatten(1).numpy())
    found = log_importance_weights(network, images, samples=5, generator=generator)
    np.testing.assert_allclose(found.numpy(), np.repeat(exact[:, None], 5, 1), rtol=1e-6)


# In the product.


def test_a_vae_learns_and_its_codes_are_means(parts: Split) -> None:
    network = vae(parts.train.shape, latent_dim=4, architecture="mlp", hidden=(64, 32))
    history = train(network, parts.train, parts.validation, TrainingSettings(epochs=4, batch_size=32))
    assert history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"]
    assert {"validation_kl", "validation_reconstruction"} <= set(history.epochs[0])
    found = posteriors(network, parts.test.images)
    np.testing.assert_allclose(encode(network, parts.test.images), found.mean, rtol=1e-5, atol=1e-6)
    assert reconstruct(network, parts.test.images).shape == parts.test.images.shape


def test_scoring_twice_gives_the_same_numbers(parts: Split) -> None:
    network = vae(parts.train.shape, latent_dim=4, architecture="mlp", hidden=(16,))
    pixels = torch.from_numpy(parts.test.images)
    first = score(network, pixels, None)
    torch.randn(10)
    assert score(network, pixels, None) == first


def test_a_frozen_decoder_does_not_move(parts: Split) -> None:
    network = vae(parts.train.shape, latent_dim=4, architecture="mlp", hidden=(16,), sigma="learned")
    train(network, parts.train, parts.validation, TrainingSettings(epochs=1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = TrainingSettings(epochs=2, frozen="decoder", noise=0.2)
    train(network, parts.train, parts.validation, settings)
    for name, tensor in network.state_dict().items():
        if name.startswith("decoder") or name == "log_sigma":
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(network.encoder[1].weight, before["encoder.1.weight"])  # type: ignore[arg-type]
