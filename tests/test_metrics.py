"""Measures against known truths and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

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
