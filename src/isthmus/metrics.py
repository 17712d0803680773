"""Measures of pictures and of predictions: pure functions of tensors, images in [0, 1].

Functions named in the plural sense return one number an image, (B,); the mean is taken by the caller, once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(images: Tensor, targets: Tensor) -> Tensor:
    """Squared error, mean over the pixels of each image. Arguments: (B, C, H, W) twice. Returns: (B,)."""
    return (images - targets).square().flatten(1).mean(1)


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in decibels, 10 log10(1 / mse).

    Restored images are to be clipped to [0, 1] first, noisy ones not. Equal images give infinity.
    Arguments: (B, C, H, W) twice. Returns: (B,).

    >>> psnr(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.1))
    tensor([20.])
    """
    return -10 * torch.log10(mse(images, targets))


def ssim(images: Tensor, targets: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of each image (Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13).

    Means, variances and the covariance are taken under a Gaussian window around every pixel; beyond the border the
    images are mirrored. Constants are (0.01)^2 and (0.03)^2 for images in [0, 1].
    Arguments: (B, C, H, W) twice, H and W above half the window. Returns: (B,), at most 1.
    Raises: ValueError if the images are too small to be mirrored.
    """
    border = window // 2
    if min(images.shape[-2:]) <= border:
        raise ValueError(f"ssim needs sides of more than {border} pixels, got {tuple(images.shape[-2:])}.")
    offsets = torch.arange(window, dtype=images.dtype, device=images.device) - (window - 1) / 2
    profile = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = torch.outer(profile, profile) / profile.sum() ** 2
    channels = images.shape[1]

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel.expand(channels, 1, -1, -1), groups=channels)

    images, targets = (F.pad(x, (border,) * 4, mode="reflect") for x in (images, targets))
    mu_x, mu_y = blur(images), blur(targets)
    var_x = blur(images * images) - mu_x**2
    var_y = blur(targets * targets) - mu_y**2
    cov = blur(images * targets) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mu_x * mu_y + c1) * (2 * cov + c2)) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return index.flatten(1).mean(1)


def confusion(predicted: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    """Count predictions: row = true class, column = predicted. Arguments: (B,) twice. Returns: (K, K) int64.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), classes=2)
    tensor([[1, 1],
            [0, 1]])
    """
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy_per_class(counts: Tensor) -> Tensor:
    """Share of each true class predicted right, from a confusion matrix (K, K). NaN for a class without images."""
    return counts.diagonal().double() / counts.sum(1).double()


def wilson_interval(correct: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share (Wilson 1927): 95 % by default, never outside [0, 1].

    >>> low, high = wilson_interval(0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    if total <= 0:
        raise ValueError(f"wilson_interval needs at least one trial, got {total}.")
    share = correct / total
    middle = share + z**2 / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
