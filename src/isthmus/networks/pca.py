"""Principal component analysis: the exact optimum of the linear autoencoder.

Of all linear maps to D numbers and back, x_hat = m + V V'(x - m) with the D leading eigenvectors V of the covariance
has the least squared error (Eckart and Young 1936). Pixels P, images N: the covariance (P, P) is decomposed if
P <= N, else the Gram matrix (N, N), both exact and gathered in chunks. Where both pass 8192 a randomised solver is
used, and the result is labelled approximate.

Sums of squares of eight-bit pixels are exact in float32 as long as they stay below 2^24: from pixels less 128, products
are at most 2^14, and 2^10 images can be added up. The covariance is made of such products, at twice the speed of
float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.decomposition import PCA as RandomisedPCA
from torch import Tensor, nn

from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError
from isthmus.networks.autoencoder import Autoencoder, linear

EXACT_UP_TO = 8192
CHUNK = 8192
EXACT_CHUNK, MIDDLE = 1024, 128.0  # images whose eight-bit pixels float32 adds up without rounding


@dataclass(frozen=True)
class PrincipalComponents:
    """Mean and directions of largest variance.

    mean: (P,). components: (D, P), orthonormal rows, largest variance first; the largest entry of each row is
    positive. variances: (D,), of the training images along each row. noise_variance: mean variance of the directions
    that are left out, per pixel squared. exact: False for the randomised solver.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    noise_variance: float
    image_shape: tuple[int, int, int]
    exact: bool

    def log_likelihood(self, images: ImageSet) -> Tensor:
        """log p(x) under probabilistic PCA in nats, (N,): the best any linear VAE with these numbers can reach.

        p(x) = N(m, W W' + s^2 I), whose greatest likelihood has s^2 = noise_variance and W from these components
        (Tipping and Bishop 1999, eqs. 4, 7 and 8).
        Raises: InputError if the components leave no variance, where the density has no bound.
        """
        pixels, latent_dim = len(self.mean), len(self.components)
        if not self.noise_variance > 0 or not bool((self.variances > 0).all()):
            raise InputError(f"PCA with {latent_dim} components leaves no variance to call noise; take fewer.")
        volume = float(self.variances.log().sum()) + (pixels - latent_dim) * math.log(self.noise_variance)
        parts = []
        for i in range(0, len(images), CHUNK):
            centred = _chunk(images, i) - self.mean
            along = (centred @ self.components.T).square()
            across = (centred.square().sum(1) - along.sum(1)).clamp(min=0)
            distance = (along / self.variances).sum(1) + across / self.noise_variance
            parts.append(-0.5 * (distance + volume + pixels * math.log(2 * math.pi)))
        return torch.cat(parts)

    def errors(self, images: ImageSet) -> Tensor:
        """Mean squared error per pixel of images rebuilt from the first d components, d = 0 to D: (D + 1,) float64.

        |x - m|^2 less the squares of the first d scores, over the number of pixels.
        """
        total = torch.zeros(len(self.components) + 1, dtype=torch.float64)
        for i in range(0, len(images), CHUNK):
            centred = _chunk(images, i) - self.mean
            along = (centred @ self.components.T).square().cumsum(1)
            across = centred.square().sum(1)
            total[0] += across.sum()
            total[1:] += (across[:, None] - along).clamp(min=0).sum(0)
        return total / (len(images) * len(self.mean))

    def autoencoder(self) -> Autoencoder:
        """The linear autoencoder with these weights, so that PCA takes part wherever an autoencoder does."""
        network = linear(self.image_shape, latent_dim=len(self.components))
        encode, decode = network.encoder[1], network.decoder[0]
        assert isinstance(encode, nn.Linear)
        assert isinstance(decode, nn.Linear)
        with torch.no_grad():
            encode.weight.copy_(self.components)
            encode.bias.copy_(-self.components @ self.mean)
            decode.weight.copy_(self.components.T)
            decode.bias.copy_(self.mean)
        return network.eval()


def principal_components(images: ImageSet, latent_dim: int) -> PrincipalComponents:
    """Fit PCA with D = `latent_dim` components to images.

    Raises: InputError if there are not more images than D, or not at least D pixels.
    """
    count, pixels = len(images), int(np.prod(images.shape))
    if latent_dim > min(count - 1, pixels):
        raise InputError(
            f"PCA with {latent_dim} components needs more than {latent_dim} images and as many pixels; "
            f"{images.name} has {count} images of {pixels} pixels. Choose a smaller latent_dim."
        )
    exact = min(count, pixels) <= EXACT_UP_TO
    if not exact:
        mean, rows, variances, total = _randomised(images, latent_dim)
    elif pixels <= count:
        mean, rows, variances, total = _from_covariance(images, latent_dim)
    else:
        mean, rows, variances, total = _from_gram(images, latent_dim)
    largest = rows.abs().argmax(1, keepdim=True)
    rows = rows * rows.gather(1, largest).sign()
    left = max(0.0, total - float(variances.sum()))
    return PrincipalComponents(mean, rows, variances, left / max(1, pixels - latent_dim), images.shape, exact)


def _chunk(images: ImageSet, start: int) -> Tensor:
    """(chunk, P) in float64, in [0, 1]; a copy, on which the caller may work in place."""
    part: NDArray[np.generic] = images.images[start : start + CHUNK]
    scale = 255.0 if part.dtype == np.uint8 else 1.0
    return torch.from_numpy(part).flatten(1).to(torch.float64, copy=True).div_(scale)


def _mean(images: ImageSet) -> Tensor:
    total = sum((_chunk(images, i).sum(0) for i in range(0, len(images), CHUNK)), torch.zeros(1).double())
    return total / len(images)


def _total_variance(images: ImageSet, mean: Tensor) -> float:
    squares = sum(float(_chunk(images, i).sub_(mean).square_().sum()) for i in range(0, len(images), CHUNK))
    return squares / len(images)


def _from_covariance(images: ImageSet, latent_dim: int) -> tuple[Tensor, Tensor, Tensor, float]:
    mean, covariance = _covariance(images) if images.images.dtype == np.uint8 else _float_covariance(images)
    pixels = len(mean)
    values, vectors = eigh(covariance, subset_by_index=[pixels - latent_dim, pixels - 1])
    rows = torch.from_numpy(np.ascontiguousarray(vectors.T[::-1]))
    variances = torch.from_numpy(values[::-1].copy()).clamp(min=0)
    return torch.from_numpy(mean), rows, variances, float(np.trace(covariance))


def _covariance(images: ImageSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (P,) and covariance (P, P) of eight-bit images in one pass. With s = sum x and S = sum x x' of pixels less
    128, both without rounding, the covariance is S / N - (s / N)(s / N)', on the [0, 1] scale over 255^2."""
    pixels = int(np.prod(images.shape))
    squares, total = np.zeros((pixels, pixels)), np.zeros(pixels)
    for i in range(0, len(images), EXACT_CHUNK):
        part = images.images[i : i + EXACT_CHUNK].reshape(-1, pixels).astype(np.float32) - np.float32(MIDDLE)
        squares += part.T @ part
        total += part.sum(0, dtype=np.float64)
    mean = total / len(images)
    return (mean + MIDDLE) / 255, (squares / len(images) - np.outer(mean, mean)) / 255**2


def _float_covariance(images: ImageSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of float images, in two passes."""
    mean = _mean(images)
    scatter = np.zeros((len(mean), len(mean)))
    for i in range(0, len(images), CHUNK):
        centred = _chunk(images, i).sub_(mean).numpy()
        scatter += centred.T @ centred
    return mean.numpy(), scatter / len(images)


def _from_gram(images: ImageSet, latent_dim: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """With X = U S V', the Gram matrix X X' = U S^2 U' gives V' = U' X / S."""
    mean = _mean(images)
    centred = torch.cat([_chunk(images, i) for i in range(0, len(images), CHUNK)]) - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    left = vectors.flip(1)[:, :latent_dim]
    # A second orthonormalisation: directions of no variance come out of the division as noise.
    rows = torch.linalg.qr((left.T @ centred).T).Q.T
    variances = values.flip(0)[:latent_dim].clamp(min=0) / len(images)
    return mean, rows.contiguous(), variances, float(centred.square().sum()) / len(images)


def _randomised(images: ImageSet, latent_dim: int) -> tuple[Tensor, Tensor, Tensor, float]:
    flat = np.asarray(images.images).reshape(len(images), -1).astype(np.float32)
    if images.images.dtype == np.uint8:
        flat /= 255.0
    fitted = RandomisedPCA(latent_dim, svd_solver="randomized", random_state=0).fit(flat)
    variances = fitted.explained_variance_ * (len(flat) - 1) / len(flat)  # over N, as the exact ones
    mean, rows, variances = (
        torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in (fitted.mean_, fitted.components_, variances)
    )
    return mean, rows, variances, _total_variance(images, mean)
