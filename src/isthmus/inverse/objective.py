"""What MAP minimises, with the derivatives that its solvers ask for.

    F(z) = |y - A D(z)|^2 / (2 sigma_y^2) - log p(z)

The decoder D never saw damaged images; A and sigma_y enter only here. Notation: y measured (N, C, H', W'), z codes
(N, D), P' the pixels of y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.degrade import Degradation, Identity, Mask
from isthmus.inverse.laplace import at_once, jacobian
from isthmus.latent.density import Density

PROBES = 64  # codes of the prior over which the first curvature is averaged


@dataclass(frozen=True)
class Objective:
    """F for a batch of N images, and its derivatives, image by image.

    decode: D, (N, D) -> (N, C, H, W), differentiable. measured: y, (N, C, H', W'). sigma: sigma_y, (N,).
    """

    decode: Callable[[Tensor], Tensor]
    measured: Tensor
    degradation: Degradation
    sigma: Tensor
    prior: Density

    def take(self, index: Tensor | slice) -> Objective:
        """That of some of the images."""
        return Objective(self.decode, self.measured[index], self.degradation.take(index), self.sigma[index], self.prior)

    def predict(self, codes: Tensor) -> Tensor:
        """A D(z), flat: (N, P')."""
        return self.degradation.apply(self.decode(codes)).flatten(1)

    def residual(self, codes: Tensor) -> Tensor:
        """(A D(z) - y) / sigma_y: (N, P')."""
        return (self.predict(codes) - self.measured.flatten(1)) / self.sigma[:, None]

    def value(self, codes: Tensor) -> Tensor:
        """F: (N,)."""
        return 0.5 * self.residual(codes).square().sum(1) - self.prior.log_prob(codes)

    def gradient(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """F (N,) and its gradient (N, D)."""
        with torch.enable_grad():
            codes = codes.detach().requires_grad_()
            value = self.value(codes)
            (gradient,) = torch.autograd.grad(value.sum(), codes)
        return value.detach(), gradient

    def curvature(self, codes: Tensor) -> Tensor:
        """J'A'A J / sigma_y^2 + Lambda: (N, D, D) (Gauss-Newton)."""
        parts = []
        for part in at_once(len(codes), self.measured[0].numel() * codes.shape[1]):
            columns = jacobian(self.take(part).predict, codes[part]) / self.sigma[part, None, None]
            parts.append(columns.transpose(1, 2) @ columns)
        return torch.cat(parts) + self.prior.curvature(codes)

    def first_curvature(self, start: Tensor) -> Tensor:
        """The curvature averaged over codes of the prior, scaled to the noise and the seen pixels of each image:
        (N, D, D). It does not depend on the other images."""
        codes = self.prior.sample(PROBES, generator=torch.Generator().manual_seed(0)).to(start)
        seen, everywhere = torch.ones_like(self.sigma), self.degradation
        if isinstance(self.degradation, Mask):
            seen, everywhere = self.degradation.seen.to(start).flatten(1).mean(1), Identity()
        mean = torch.zeros_like(codes[0]).diag()
        for part in at_once(PROBES, self.measured[0].numel() * codes.shape[1]):
            columns = jacobian(lambda z: everywhere.apply(self.decode(z)).flatten(1), codes[part])
            mean += (columns.transpose(1, 2) @ columns).sum(0) / PROBES
        return mean * (seen / self.sigma.square())[:, None, None] + self.prior.curvature(start)
