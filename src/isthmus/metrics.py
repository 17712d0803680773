"""Measures of pictures and of predictions: pure functions of tensors, images in [0, 1].

Functions named in the plural sense return one number an image, (B,); the mean is taken by the caller, once.
"""

from __future__ import annotations

import math

import torch
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
    if min(images.shape[-2:]) <= window // 2:
        raise ValueError(f"ssim needs sides of more than {window // 2} pixels, got {tuple(images.shape[-2:])}.")
    rows, columns = (_mirrored_window(side, window, sigma).to(images) for side in images.shape[-2:])

    def blur(x: Tensor) -> Tensor:
        return rows @ x @ columns.T

    mu_x, mu_y = blur(images), blur(targets)
    var_x = blur(images * images) - mu_x**2
    var_y = blur(targets * targets) - mu_y**2
    cov = blur(images * targets) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mu_x * mu_y + c1) * (2 * cov + c2)) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return index.flatten(1).mean(1)


def _mirrored_window(side: int, window: int, sigma: float) -> Tensor:
    """The matrix that takes the mean of a line under a Gaussian window around every pixel: (side, side) float64."""
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    profile = torch.exp(-(offsets**2) / (2 * sigma**2))
    places = torch.arange(side)[:, None] + torch.arange(window) - window // 2
    mirrored = side - 1 - (side - 1 - places.abs()).abs()
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(
        1, mirrored, (profile / profile.sum()).expand(side, -1)
    )


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


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson and Landau 1982, eq. 4).

        |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2))

    The trace of the root is the sum of the singular values of A^(1/2) B^(1/2), both roots taken by eigenvalues; so it
    holds for singular A and B, as of fewer samples than numbers.
    Arguments: means (F,), covariances (F, F). Returns: a number of at least 0, computed in float64.
    Raises: ValueError if the sizes do not fit, or a number is not finite.

    >>> round(frechet_distance(torch.zeros(1), torch.ones(1, 1), torch.ones(1), 4 * torch.ones(1, 1)), 6)
    2.0
    """
    size = mean_a.numel()
    if mean_a.shape != (size,) or mean_b.shape != (size,) or {cov_a.shape, cov_b.shape} != {(size, size)}:
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean_a, cov_a, mean_b, cov_b))
        raise ValueError(f"frechet_distance needs means (F,) and covariances (F, F), got {shapes}.")
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    shift = float((mean_a - mean_b).square().sum())
    traces = float(cov_a.trace() + cov_b.trace())
    if not math.isfinite(shift + traces):
        raise ValueError("frechet_distance needs finite means and covariances.")
    cross = float(torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum())
    return max(0.0, shift + traces - 2 * cross)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix; eigenvalues within rounding of 0 are 0."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    least = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    root: Tensor = (vectors * values.where(values > least, torch.zeros_like(values)).sqrt()) @ vectors.T
    return root


def frechet_of_samples(features_a: Tensor, features_b: Tensor) -> float:
    """`frechet_distance` of the Gaussians that fit two samples, covariances with divisor N - 1.

    With X and Y the centred samples, the trace of (A B)^(1/2) is the sum of the singular values of
    X Y' / sqrt((N - 1) (M - 1)): where there are fewer samples than features, as is usual, no covariance is formed.
    The distance falls with the sample size; compare only what was taken from samples of the same size.
    Arguments: (N, F) and (M, F). Raises: ValueError if the sizes do not fit, there are fewer than two, or a number is
    not finite.
    """
    shapes = features_a.shape, features_b.shape
    if any(len(s) != 2 or s[0] < 2 for s in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"frechet_of_samples needs (N, F) and (M, F), two rows at least, got {shapes}.")
    a, b = (features.double() for features in (features_a, features_b))
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("frechet_of_samples needs finite features.")
    mean_a, mean_b = a.mean(0), b.mean(0)
    if min(len(a), len(b)) >= a.shape[1]:
        size = a.shape[1]
        return frechet_distance(mean_a, torch.cov(a.T).reshape(size, size), mean_b, torch.cov(b.T).reshape(size, size))
    x, y = ((each - mean) / math.sqrt(len(each) - 1) for each, mean in ((a, mean_a), (b, mean_b)))
    cross = torch.linalg.svdvals(x @ y.T).sum()
    distance = (mean_a - mean_b).square().sum() + x.square().sum() + y.square().sum() - 2 * cross
    return max(0.0, float(distance))
