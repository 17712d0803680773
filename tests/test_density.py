"""Densities of codes: against closed forms, scipy and scikit-learn, on disk, and as the prior of MAP."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from scipy import stats
from sklearn.mixture import GaussianMixture as Theirs

from isthmus.errors import InputError
from isthmus.inverse.laplace import laplace
from isthmus.inverse.map import restore, solve
from isthmus.inverse.solvers import Solver
from isthmus.latent import mixtures
from isthmus.latent.density import (
    DENSITIES,
    Density,
    FullGaussian,
    GaussianMixture,
    Histogram,
    Kernel,
    StandardNormal,
    fit_density,
    load_densities,
    load_density,
    save_densities,
)
from isthmus.networks.autoencoder import linear

SIZE = 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(count: int = 900, *, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """Three clusters of unlike shape and units: the second axis counts in hundreds."""
    noise = torch.randn(count, size, generator=generator(seed), dtype=torch.float64)
    centres = torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)[torch.arange(count) % 3]
    codes = noise * torch.linspace(0.3, 1.0, size) + centres[:, None]
    codes[:, 1] = 100 * codes[:, 1] + 1000
    return codes


@pytest.fixture(scope="module")
def fitted() -> dict[str, Density]:
    """Every density, fitted to the clusters."""
    return {name: fit_density(name, clusters(), generator=generator()) for name in DENSITIES}


def lattice(density: Density) -> tuple[torch.Tensor, float]:
    """Cell centres that cover almost all of a density over two numbers, and the area of a cell."""
    if isinstance(density, Histogram):  # its boxes and those around it
        bins = torch.tensor(density.counts.shape)
        low, width, steps = density.low - bins * density.width, density.width, (3 * bins).tolist()
    else:
        drawn = density.sample(20_000, generator=generator()).double()
        least, most = drawn.amin(0), drawn.amax(0)
        low, steps = least - 0.5 * (most - least), [300, 300]
        width = 2 * (most - least) / 300
    axes = [low[i] + width[i] * (torch.arange(steps[i], dtype=torch.float64) + 0.5) for i in range(2)]
    return torch.cartesian_prod(*axes), float(width.prod())


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_sums_to_one_and_its_samples_follow_it(name: str) -> None:
    density = fit_density(name, clusters(300, size=2), generator=generator())
    points, area = lattice(density)
    mass = density.log_prob(points).exp() * area
    assert float(mass.sum()) == pytest.approx(1, abs=0.01)
    mean = (mass[:, None] * points).sum(0)
    std = (mass[:, None] * (points - mean).square()).sum(0)
    if isinstance(density, Histogram):
        std += density.width.square() / 12  # within a box
    std = std.sqrt()
    drawn = density.sample(40_000, generator=generator(1)).double()
    torch.testing.assert_close((drawn.mean(0) - mean) / std, torch.zeros(2).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.std(0) / std, torch.ones(2).double(), rtol=0, atol=0.02)
    # The entropy, once from samples and once from the sum.
    entropy = float(-(mass * mass.clamp(min=1e-300).log()).sum()) + math.log(area)
    assert float(-density.log_prob(drawn).mean()) == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize("name", DENSITIES)
def test_files_keep_a_density_to_the_last_digit(name: str, fitted: dict[str, Density], tmp_path: Path) -> None:
    density, codes = fitted[name], clusters(50, seed=1)
    density.save(tmp_path / "one.safetensors")
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        assert file.metadata() == {"kind": name}
    again = load_density(tmp_path / "one.safetensors")
    assert type(again) is type(density)
    assert torch.equal(again.log_prob(codes), density.log_prob(codes))
    assert torch.equal(again.sample(5, generator=generator()), density.sample(5, generator=generator()))


def test_several_densities_lie_in_one_file(fitted: dict[str, Density], tmp_path: Path) -> None:
    path, codes = tmp_path / "densities.safetensors", clusters(50, seed=1)
    save_densities(path, fitted)
    found = load_densities(path)
    assert list(found) == list(fitted)
    for name, density in fitted.items():
        assert torch.equal(found[name].log_prob(codes), density.log_prob(codes))
    with pytest.raises(ValueError, match="no dot"):
        save_densities(path, {"a.b": fitted["normal"]})


def test_files_of_before_the_kind_was_written_still_load(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    path.write_bytes(save({"latent_dim": torch.tensor(4)}))
    assert isinstance(load_density(path), StandardNormal)
    path.write_bytes(save({"mean": torch.zeros(2).double(), "covariance": torch.eye(2).double()}))
    assert isinstance(load_density(path), FullGaussian)


def test_files_that_hold_something_else_are_refused(fitted: dict[str, Density], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(save({"mean": torch.zeros(2)}, metadata={"kind": "flow"}))
    with pytest.raises(InputError, match=r"a kind not known here \(flow\); update Isthmus"):
        load_density(path)
    path.write_bytes(save({"means": torch.zeros(2)}, metadata={"kind": "mixture"}))
    with pytest.raises(InputError, match="lacks 'weights' of its mixture; the file is damaged"):
        load_density(path)
    fitted["kernel"].save(path)
    with pytest.raises(InputError, match="does not hold densities by name"):
        load_densities(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="missing or damaged"):
        load_densities(path)


@pytest.mark.parametrize("name", ["mixture", "kernel", "histogram"])
def test_the_same_codes_and_generator_give_the_same_density(name: str, fitted: dict[str, Density]) -> None:
    again = fit_density(name, clusters(), generator=generator())
    for part, tensor in fitted[name].tensors().items():
        assert torch.equal(again.tensors()[part], tensor)


# One kind after another.


def test_a_mixture_is_that_of_scikit_learn() -> None:
    codes = clusters().numpy() / [1, 100, 1]
    theirs = Theirs(4, random_state=0).fit(codes)
    ours = GaussianMixture(*(torch.from_numpy(t) for t in (theirs.weights_, theirs.means_, theirs.covariances_)))
    asked = torch.from_numpy(codes[:100] + 0.3)
    np.testing.assert_allclose(ours.log_prob(asked), theirs.score_samples(asked.numpy()), rtol=1e-9)
    drawn, _ = theirs.sample(100_000)
    np.testing.assert_allclose(ours.sample(100_000, generator=generator()).mean(0), drawn.mean(0), atol=0.06)


def test_bic_finds_the_clusters() -> None:
    found = GaussianMixture.fit(clusters())
    assert found.components == 3
    np.testing.assert_allclose(np.sort(found.means[:, 0]), [-4, 0, 4], atol=0.1)
    np.testing.assert_allclose(np.sort(found.means[:, 1]), [600, 1000, 1400], atol=20)
    np.testing.assert_allclose(found.weights, 1 / 3, atol=0.02)
    alone = torch.randn(500, 2, generator=generator())
    assert GaussianMixture.fit(alone).components == 1


def test_one_component_is_the_gaussian() -> None:
    codes = (
        torch.randn(500, 2, generator=generator(), dtype=torch.float64) @ torch.tensor([[1.0, 0.5], [0, 2]]).double()
    )
    mixture, gaussian = GaussianMixture.fit(codes), FullGaussian.fit(codes)
    assert mixture.components == 1
    torch.testing.assert_close(mixture.log_prob(codes), gaussian.log_prob(codes), rtol=0, atol=0.02)
    torch.testing.assert_close(mixture.curvature(codes), gaussian.curvature(codes), rtol=0.01, atol=0.01)


def test_a_kernel_is_that_of_scipy() -> None:
    codes = clusters()
    found = Kernel.fit(codes)
    theirs = stats.gaussian_kde(codes.T.numpy(), bw_method=found.bandwidth)
    asked = clusters(60, seed=2)
    same = Kernel(codes, found.bandwidth, mean=found.mean, root=torch.linalg.cholesky(torch.cov(codes.T)))
    np.testing.assert_allclose(same.log_prob(asked), theirs.logpdf(asked.T.numpy()), rtol=1e-8)
    by_hand = [
        math.log(
            sum(
                math.exp(stats.multivariate_normal(c, found.bandwidth**2 * found.root @ found.root.T).logpdf(z))
                for c in codes.numpy()
            )
            / len(codes)
        )
        for z in asked[:3].numpy()
    ]
    np.testing.assert_allclose(found.log_prob(asked[:3]), by_hand, rtol=1e-8)


def test_the_bandwidth_is_found_for_codes_not_fitted_to() -> None:
    """One Gaussian: near Scott's rule. Clusters: far below it, and better on other codes than any rule of thumb."""
    plain = torch.randn(2000, 2, generator=generator(), dtype=torch.float64)
    assert Kernel.fit(plain).bandwidth == pytest.approx(2000 ** (-1 / 6), rel=0.3)
    codes, others = clusters(), clusters(seed=3)
    found = Kernel.fit(codes)
    scott = len(codes) ** (-1 / (SIZE + 4))
    assert found.bandwidth < 0.7 * scott
    best = float(found.log_prob(others).mean())
    for bandwidth in (scott, 2 * found.bandwidth, found.bandwidth / 2):
        assert float(Kernel(codes, bandwidth, mean=found.mean, root=found.root).log_prob(others).mean()) < best


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Density]) -> None:
    codes = clusters(70, seed=4).requires_grad_()
    whole = fitted["kernel"].log_prob(codes)
    (gradient,) = torch.autograd.grad(whole.sum(), codes)
    monkeypatch.setattr(mixtures, "CHUNK_VALUES", 900 * 8)
    torch.testing.assert_close(fitted["kernel"].log_prob(codes), whole)
    torch.testing.assert_close(torch.autograd.grad(fitted["kernel"].log_prob(codes).sum(), codes)[0], gradient)
    assert fitted["kernel"].log_prob(codes[:0]).shape == (0,)


def test_a_histogram_counts() -> None:
    """Every box as probable as its share of codes, one code's share spread over the box three times as wide."""
    codes = clusters(size=2)
    found = Histogram.fit(codes)
    low, width = found.low.numpy(), found.width.numpy()
    edges = [low[i] + width[i] * np.arange(found.counts.shape[i] + 1) for i in range(2)]
    counts, _, _ = np.histogram2d(*codes.T.numpy(), bins=edges)
    assert np.array_equal(counts, found.counts)
    assert counts.sum() == 900
    fullest = np.unravel_index(int(np.argmax(counts)), counts.shape)
    centre = found.low + (torch.tensor(fullest) + 0.5) * found.width
    area = float(found.width.prod())
    expected = (900 / 901 * counts.max() / 900 + 1 / 901 / (9 * counts.size)) / area
    assert float(found.log_prob(centre[None]).exp()) == pytest.approx(expected)
    just_outside = found.low - 0.1 * found.width
    assert float(found.log_prob(just_outside[None]).exp()) == pytest.approx(1 / 901 / (9 * counts.size) / area)
    assert float(found.log_prob(found.low[None] - 1e6)) == -math.inf


def test_a_histogram_of_many_dimensions_is_refused() -> None:
    codes = torch.randn(5000, 16, generator=generator())
    with pytest.raises(InputError, match=r"in 16 dimensions would have \S+ boxes for 5000 codes, and most of them emp"):
        Histogram.fit(codes)
    assert Histogram.fit(codes[:, :3]).latent_dim == 3


# What every fit refuses or makes the best of.


def test_an_unknown_density_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="'kernal' is no density; did you mean 'kernel'"):
        fit_density("kernal", clusters(), generator=generator())


@pytest.mark.parametrize("name", DENSITIES)
def test_codes_that_are_not_finite_are_refused(name: str) -> None:
    codes = clusters()
    codes[3, 1], codes[7, 0] = math.nan, math.inf
    with pytest.raises(InputError, match="2 of 900 codes hold NaN or infinite"):
        fit_density(name, codes, generator=generator())
    with pytest.raises(InputError, match=r"codes \(N, D\), N and D at least 1; got \(0, 2\)"):
        fit_density(name, codes[:0, :2], generator=generator())


@pytest.mark.parametrize("name", ["gaussian", "mixture", "kernel"])
def test_too_few_codes_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="in 4 dimensions needs more codes than 4"):
        fit_density(name, torch.eye(4), generator=generator())


@pytest.mark.parametrize("name", ["mixture", "kernel", "histogram"])
def test_codes_that_are_all_equal_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="All 20 codes are equal"):
        fit_density(name, torch.full((20, 2), 0.1), generator=generator())


@pytest.mark.parametrize("name", ["mixture", "kernel", "histogram"])
def test_a_dead_axis_is_given_a_small_spread(name: str) -> None:
    codes = clusters(size=2)
    codes[:, 1] = 7.0
    density = fit_density(name, codes, generator=generator())
    drawn = density.sample(2000, generator=generator())
    spread = drawn.std(0)
    assert torch.isfinite(density.log_prob(codes)).all()
    assert spread[1] < 0.1 * spread[0]
    assert float(drawn[:, 1].mean()) == pytest.approx(7, abs=0.02)
    with pytest.raises(InputError, match="A mixture or a kernel takes such codes"):
        fit_density("gaussian", codes)


def test_codes_on_a_line_and_codes_in_piles_are_taken() -> None:
    """Axes that say the same, and codes clipped at zero by a ReLU."""
    line = torch.randn(300, 1, generator=generator()).expand(300, 3)
    clipped = torch.randn(300, 2, generator=generator()).clamp(min=0)
    for codes in (line, clipped):
        for kind in (GaussianMixture, Kernel):
            density = kind.fit(codes)
            assert torch.isfinite(density.log_prob(codes)).all()
            assert torch.isfinite(density.curvature(codes)).all()


# As the prior of MAP.


@pytest.mark.parametrize("name", ["mixture", "kernel"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_gradient_and_curvature_fit_log_prob(name: str, kind: torch.dtype, fitted: dict[str, Density]) -> None:
    density = fitted[name]
    codes = clusters(8, seed=5).to(kind)
    assert density.log_prob(codes).dtype == kind
    curvature = density.curvature(codes)
    assert curvature.dtype == kind
    assert (torch.linalg.eigvalsh(curvature) > 0).all()
    if kind == torch.float32:
        torch.testing.assert_close(
            density.log_prob(codes), density.log_prob(codes.double()).float(), rtol=1e-3, atol=0.02
        )
        return
    assert torch.autograd.gradcheck(density.log_prob, codes.requires_grad_(), eps=1e-5, atol=1e-3)
    for code, bound in zip(codes.detach(), curvature, strict=True):
        steps = torch.eye(SIZE, dtype=kind) * torch.tensor([1e-4, 1e-2, 1e-4], dtype=kind)
        rows = [
            (_gradient(density, code + step) - _gradient(density, code - step)) / (2 * step.sum()) for step in steps
        ]
        minus_hessian = -torch.stack(rows)
        scale = torch.diag(bound.diagonal().rsqrt())
        excess = scale @ (bound - (minus_hessian + minus_hessian.T) / 2) @ scale
        assert torch.linalg.eigvalsh(excess).min() > -1e-4  # it bounds minus the Hessian from above


def _gradient(density: Density, code: torch.Tensor) -> torch.Tensor:
    code = code.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(code[None]).sum(), code)
    return gradient


@pytest.mark.parametrize("name", ["mixture", "kernel"])
@pytest.mark.parametrize("solver", ["bfgs", "lm", "adam"])
def test_map_climbs_to_a_mode_of_likelihood_times_prior(name: str, solver: Solver) -> None:
    codes = clusters(size=2) / torch.tensor([1.0, 100.0])
    density = fit_density(name, codes.float(), generator=generator())
    matrix = torch.randn(2, 64, generator=generator())

    def decode(z: torch.Tensor) -> torch.Tensor:
        return (z @ matrix).reshape(-1, 1, 8, 8)

    truth = codes[:30].float()
    measured = decode(truth) + 2.0 * torch.randn(30, 1, 8, 8, generator=generator())
    start = torch.linalg.lstsq(matrix.T, measured.flatten(1).T).solution.T
    found = solve(decode, measured, start, prior=density, sigma=2.0, solver=solver, steps=300)
    assert (found.objective <= found.start).all()
    assert found.converged.float().mean() > 0.8
    # Least squares has the least error of all, so what is gained is gained in the prior.
    assert (density.log_prob(found.codes) >= density.log_prob(start) - 1e-3).all()
    assert density.log_prob(found.codes).mean() > density.log_prob(start).mean() + 0.1
    spread = laplace(decode, found.codes, prior=density, sigma=2.0)
    assert torch.isfinite(spread.std).all()


def test_a_histogram_is_refused_as_a_prior(fitted: dict[str, Density]) -> None:
    network = linear((1, 16, 16), latent_dim=SIZE)
    images = torch.rand(2, 1, 16, 16)
    sentence = "A histogram cannot be the prior of MAP, having no gradient; take normal"
    with pytest.raises(InputError, match=sentence):
        restore(network, images, sigma=0.1, prior=fitted["histogram"])
    with pytest.raises(InputError, match=sentence):
        solve(network.decode, images, torch.zeros(2, SIZE), sigma=0.1, prior=fitted["histogram"])
    with pytest.raises(InputError, match="no gradient and no curvature"):
        laplace(network.decode, torch.zeros(2, SIZE), sigma=0.1, prior=fitted["histogram"])


@pytest.mark.parametrize("name", DENSITIES)
def test_codes_of_another_size_are_refused(name: str, fitted: dict[str, Density]) -> None:
    with pytest.raises(ValueError, match=r"codes \(B, 3\), got \(5, 4\)"):
        fitted[name].log_prob(torch.zeros(5, 4))
