"""Measures against known truths and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import scipy.linalg
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import _compute_fid

from isthmus import metrics


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(5, 3, 24, 31, generator=generator)
    return (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


def test_psnr_equals_torchmetrics(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    noisy, clean = pictures
    for i in range(len(clean)):
        expected = peak_signal_noise_ratio(noisy[i : i + 1], clean[i : i + 1], data_range=1.0)
        assert metrics.psnr(noisy, clean)[i] == pytest.approx(float(expected), abs=1e-4)


def test_ssim_equals_torchmetrics(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    noisy, clean = pictures
    theirs = structural_similarity_index_measure(
        noisy, clean, sigma=1.5, kernel_size=11, data_range=1.0, reduction="none"
    )
    assert torch.allclose(metrics.ssim(noisy, clean), theirs, atol=1e-4)


def test_equal_images_are_perfect(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, clean = pictures
    assert torch.isinf(metrics.psnr(clean, clean)).all()
    assert torch.allclose(metrics.ssim(clean, clean), torch.ones(5))


def test_more_noise_is_worse(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, clean = pictures
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    for measure in (metrics.psnr, metrics.ssim):
        values = [float(measure(clean + sigma * noise, clean).mean()) for sigma in (0.05, 0.1, 0.2)]
        assert values == sorted(values, reverse=True)


def test_psnr_of_known_noise() -> None:
    noise = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    clean = torch.zeros_like(noise)
    assert float(metrics.psnr(clean + 0.25 * noise, clean).mean()) == pytest.approx(-20 * math.log10(0.25), abs=0.02)


def test_ssim_refuses_images_it_cannot_mirror() -> None:
    with pytest.raises(ValueError, match="more than 5 pixels, got \\(5, 32\\)"):
        metrics.ssim(torch.zeros(1, 1, 5, 32), torch.zeros(1, 1, 5, 32))


def test_confusion_counts_and_accuracy() -> None:
    predicted, labels = torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 1, 2, 2, 2])
    counts = metrics.confusion(predicted, labels, classes=4)
    assert counts.sum() == 5
    assert counts[2].tolist() == [1, 1, 1, 0]
    shares = metrics.accuracy_per_class(counts)
    assert shares[:3].tolist() == pytest.approx([1, 1, 1 / 3])
    assert torch.isnan(shares[3])


@pytest.mark.parametrize(("correct", "total"), [(0, 20), (7, 20), (20, 20), (990, 1000)])
def test_wilson_interval_solves_its_equation(correct: int, total: int) -> None:
    """The ends are the shares p for which the observed share is z standard deviations away."""
    share = correct / total
    for end in metrics.wilson_interval(correct, total):
        assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total), abs=1e-9)


def test_wilson_interval_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one trial, got 0"):
        metrics.wilson_interval(0, 0)


# The Fréchet distance.


def samples(count: int, size: int, *, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing + seed


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return features.mean(0), torch.cov(features.T)


def test_frechet_of_equal_gaussians_is_zero_and_of_a_shift_its_square() -> None:
    mean, cov = moments(samples(100, 6, seed=1))
    assert metrics.frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-10)
    assert metrics.frechet_distance(mean, cov, mean + 2, cov) == pytest.approx(6 * 4)


def test_frechet_of_covariances_that_commute_is_that_of_their_roots() -> None:
    """With the same axes the distance is |mu_a - mu_b|^2 + sum_i (a_i - b_i)^2, a and b standard deviations."""
    axes = torch.linalg.qr(samples(5, 5, seed=2))[0]
    a, b = torch.tensor([1.0, 2, 3, 0, 5]).double(), torch.tensor([2.0, 2, 0, 0, 1]).double()
    zero = torch.zeros(5)
    for turn in (torch.eye(5).double(), axes):
        found = metrics.frechet_distance(zero, (turn * a**2) @ turn.T, zero, (turn * b**2) @ turn.T)
        assert found == pytest.approx(1 + 9 + 16)


@pytest.mark.parametrize("count", [200, 12])
def test_frechet_equals_that_by_the_root_of_the_product(count: int) -> None:
    """scipy's general square root, and the sum of roots of the eigenvalues of A B as torchmetrics takes it."""
    (mean_a, cov_a), (mean_b, cov_b) = (moments(samples(count, 8, seed=seed)) for seed in (1, 2))
    found = metrics.frechet_distance(mean_a, cov_a, mean_b, cov_b)
    root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy())
    expected = float((mean_a - mean_b).square().sum() + (cov_a + cov_b).trace()) - 2 * root.trace().real
    assert found == pytest.approx(expected, rel=1e-9)
    assert found == pytest.approx(float(_compute_fid(mean_a, cov_a, mean_b, cov_b)), rel=1e-9)
    assert metrics.frechet_distance(mean_b, cov_b, mean_a, cov_a) == pytest.approx(found)


@pytest.mark.parametrize(("count_a", "count_b"), [(10, 10), (10, 30), (100, 15), (100, 120)])
def test_frechet_of_samples_is_that_of_their_moments(count_a: int, count_b: int) -> None:
    """Fewer samples than features included, whose covariances are singular."""
    a, b = samples(count_a, 20, seed=1), samples(count_b, 20, seed=2)
    expected = metrics.frechet_distance(*moments(a), *moments(b))
    assert metrics.frechet_of_samples(a, b) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_of_samples(b, a) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_of_samples(a.float(), a.float()) == pytest.approx(0, abs=1e-4)


def test_frechet_of_small_samples_is_too_large() -> None:
    """Why only samples of one size compare: two of the same Gaussian are the further apart the fewer they are."""
    drawn = samples(2000, 10, seed=1)
    distances = [metrics.frechet_of_samples(drawn[:n], drawn[1000 : 1000 + n]) for n in (20, 100, 1000)]
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 0


def test_frechet_refuses_what_does_not_fit() -> None:
    mean, cov = moments(samples(50, 4, seed=1))
    with pytest.raises(ValueError, match=r"means \(F,\) and covariances \(F, F\), got \(4,\), \(4, 4\), \(3,\)"):
        metrics.frechet_distance(mean, cov, mean[:3], cov)
    with pytest.raises(ValueError, match="finite means"):
        metrics.frechet_distance(mean * math.nan, cov, mean, cov)
    with pytest.raises(ValueError, match="two rows at least"):
        metrics.frechet_of_samples(torch.zeros(1, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="finite features"):
        metrics.frechet_of_samples(torch.full((3, 4), math.inf), torch.zeros(5, 4))
