"""How sure a restored image is: the Laplace approximation at its code, carried to the pixels.

    z | y  ~  N(z*, (J'A'A J / sigma_y^2 + Lambda)^-1)          var(x_i) = (J Sigma J')_ii + sigma_dec^2

J is the Jacobian of the decoder at z*, Lambda the curvature of the prior there (Gauss-Newton: second derivatives of the
decoder are left out). Notation as in map.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.degrade import Degradation, Identity
from isthmus.errors import InputError
from isthmus.latent.density import Density

JACOBIANS, JACOBIAN_VALUES = 100, 2**24  # Jacobians held at once, and their numbers, at most
Z90 = 1.6448536269514722  # 90 % of a normal distribution lies within so many standard deviations


def at_once(count: int, values: int) -> list[slice]:
    """Slices over `count` codes whose Jacobians, of `values` numbers each, fit into memory together."""
    size = max(1, min(JACOBIANS, JACOBIAN_VALUES // values))
    return [slice(begin, begin + size) for begin in range(0, count, size)]


def jacobian(function: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """Of a function (N, D) -> (N, P) that works on each row alone, all columns in one forward pass: (N, P, D)."""
    size = codes.shape[1]
    directions = torch.eye(size, dtype=codes.dtype, device=codes.device)[:, None, :].expand(-1, len(codes), -1)
    columns = torch.func.vmap(lambda direction: torch.func.jvp(function, (codes,), (direction,))[1])(directions)
    result: Tensor = columns.permute(1, 2, 0)
    return result


@dataclass(frozen=True)
class Uncertainty:
    """covariance: (N, D, D) of the codes. std: (N, C, H, W) of the pixels, the decoder's own sigma included."""

    covariance: Tensor
    std: Tensor


@torch.no_grad()
def laplace(
    decode: Callable[[Tensor], Tensor],
    codes: Tensor,
    *,
    prior: Density,
    sigma: float | Tensor,
    degradation: Degradation | None = None,
    decoder_sigma: float = 0.0,
) -> Uncertainty:
    """The Laplace approximation at MAP codes, carried to the pixels: var(x_i) = (J Sigma J')_ii + sigma_dec^2.

    Arguments: as in `map.solve`; decoder_sigma: of the VAE's own likelihood, in [0, 1] units.
    Raises: InputError unless sigma is above 0.
    """
    if not bool((torch.as_tensor(sigma) > 0).all()):
        raise InputError(f"The noise's standard deviation must be above 0, on the [0, 1] scale; got {sigma}.")
    degradation = degradation or Identity()
    sigmas = torch.as_tensor(sigma, dtype=codes.dtype, device=codes.device).expand(len(codes))
    covariances, stds = [], []
    shape = decode(codes[:1]).shape[1:]
    for part in at_once(len(codes), shape.numel() * codes.shape[1]):
        z, seen = codes[part], degradation.take(part)
        columns = jacobian(lambda c: decode(c).flatten(1), z)  # (B, P, D)
        images = columns.transpose(1, 2).reshape(-1, *shape)
        each = seen.take(torch.arange(len(z)).repeat_interleave(z.shape[1]))
        measured = each.apply(images).reshape(len(z), z.shape[1], -1) / sigmas[part, None, None]
        precision = measured @ measured.transpose(1, 2) + prior.curvature(z)
        covariance = torch.linalg.inv(precision.double()).to(precision)
        variance = ((columns @ covariance) * columns).sum(2).clamp(min=0) + decoder_sigma**2
        covariances.append(covariance)
        stds.append(variance.sqrt().reshape(-1, *shape))
    return Uncertainty(torch.cat(covariances), torch.cat(stds))


def coverage(images: Tensor, std: Tensor, clean: Tensor) -> Tensor:
    """Whether each clean pixel lies in the 90 % interval image +- 1.645 std: booleans of the images' shape.

    Their mean is 0.9 if the uncertainty is calibrated, more if it is too wide, less if too narrow.
    """
    return (images - clean).abs() <= Z90 * std
