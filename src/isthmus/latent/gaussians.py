"""What a density of codes is, and the two that are one Gaussian.

A density knows log p(z), its gradient by autograd, and a curvature: a positive semidefinite matrix that stands for
minus the Hessian of log p in second-order solvers (for a Gaussian it is that, exactly: the inverse covariance).
Notation: z codes (B, D).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from isthmus.errors import InputError
from isthmus.writing import write_bytes

LOG_2PI = math.log(2 * math.pi)


class Density(ABC):
    """A probability density over codes of D numbers."""

    name: ClassVar[str]
    smooth: ClassVar[bool] = True  # whether log p has a gradient that says where to go, as the prior of MAP must

    @classmethod
    @abstractmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> Self:
        """Fit to codes (N, D). `generator` decides what is drawn on the way, by default always the same.

        Raises: InputError if the codes are too few, not finite, or span too little.
        """

    @property
    @abstractmethod
    def latent_dim(self) -> int:
        """D."""

    @abstractmethod
    def log_prob(self, codes: Tensor) -> Tensor:
        """log p(z) in nats: (B, D) -> (B,), differentiable if `smooth`. Raises: ValueError if D is another."""

    @abstractmethod
    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Codes drawn independently: (count, D)."""

    @abstractmethod
    def curvature(self, codes: Tensor) -> Tensor:
        """Minus the Hessian of log p, or a positive semidefinite stand-in: (B, D) -> (B, D, D).

        Raises: InputError if the density is not `smooth`.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What has to be saved for the density to be built again."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Build the density from its `tensors`. Raises: KeyError if one is missing."""

    def save(self, path: Path) -> None:
        """Write the density as safetensors, its kind in the metadata. Raises: StorageError."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        write_bytes(path, save_tensors(tensors, metadata={"kind": self.name}))

    def _check(self, codes: Tensor) -> None:
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise ValueError(f"This density is over codes (B, {self.latent_dim}), got {tuple(codes.shape)}.")


def check_codes(codes: Tensor) -> Tensor:
    """Codes (N, D) to fit a density to, in float64 on the CPU. Raises: InputError if they are not that, or not finite.

    >>> check_codes(torch.zeros(2, 1)).dtype
    torch.float64
    """
    if codes.ndim != 2 or 0 in codes.shape:
        raise InputError(f"A density is fitted to codes (N, D), N and D at least 1; got {tuple(codes.shape)}.")
    wrong = int((~torch.isfinite(codes)).any(1).sum())
    if wrong:
        raise InputError(
            f"{wrong} of {len(codes)} codes hold NaN or infinite numbers, and no density can be fitted to them: leave "
            f"them out, or train the network again with a lower learning rate."
        )
    return codes.double().cpu()


@final
class StandardNormal(Density):
    """N(0, I) in D = `latent_dim` dimensions: the prior of a VAE."""

    name = "normal"

    def __init__(self, latent_dim: int):
        self._latent_dim = latent_dim

    @classmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> StandardNormal:
        """N(0, I) of the codes' size; there is nothing to fit."""
        return cls(check_codes(codes).shape[1])

    @property
    def latent_dim(self) -> int:
        return self._latent_dim

    def log_prob(self, codes: Tensor) -> Tensor:
        self._check(codes)
        return -0.5 * (codes.square() + LOG_2PI).sum(1)

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)

    def curvature(self, codes: Tensor) -> Tensor:
        return torch.eye(self.latent_dim, dtype=codes.dtype, device=codes.device).expand(len(codes), -1, -1)

    def tensors(self) -> dict[str, Tensor]:
        return {"latent_dim": torch.tensor(self.latent_dim)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> StandardNormal:
        return cls(int(tensors["latent_dim"]))


@final
class FullGaussian(Density):
    """N(mean, covariance) with a full covariance, as `fit` takes it from codes.

    Arguments: mean: (D,). covariance: (D, D). Raises: InputError if the covariance is not positive definite.
    """

    name = "gaussian"

    def __init__(self, mean: Tensor, covariance: Tensor):
        mean, covariance = mean.double().cpu(), covariance.double().cpu()
        root, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed) or not bool(torch.isfinite(root).all()):
            raise InputError(
                "The covariance of these codes is not positive definite: they lie in fewer dimensions than they have "
                "numbers (a dead axis, say) or are too few. A mixture or a kernel takes such codes."
            )
        self.mean, self.covariance, self._root = mean, covariance, root
        self._precision = torch.cholesky_inverse(root)

    @classmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> FullGaussian:
        """Of greatest likelihood: mean and covariance of codes (N, D).

        Raises: InputError if there are not more codes than numbers in each, or they do not span all dimensions.
        """
        codes = check_codes(codes)
        size = codes.shape[1]
        if len(codes) <= size:
            raise InputError(f"A Gaussian in {size} dimensions needs more codes than {len(codes)}.")
        return cls(codes.mean(0), torch.cov(codes.T, correction=0).reshape(size, size))

    @property
    def latent_dim(self) -> int:
        return len(self.mean)

    def log_prob(self, codes: Tensor) -> Tensor:
        self._check(codes)
        centred = codes - self.mean.to(codes)
        distance = ((centred @ self._precision.to(codes)) * centred).sum(1)
        log_determinant = 2 * float(self._root.diagonal().log().sum())
        values: Tensor = -0.5 * (distance + log_determinant + self.latent_dim * LOG_2PI)
        return values

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.latent_dim, generator=generator, device=generator.device)
        drawn: Tensor = self.mean.to(noise) + noise @ self._root.to(noise).T
        return drawn

    def curvature(self, codes: Tensor) -> Tensor:
        return self._precision.to(codes).expand(len(codes), -1, -1)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "covariance": self.covariance}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FullGaussian:
        return cls(tensors["mean"], tensors["covariance"])
