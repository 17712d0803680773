"""Densities that are sums of many parts: Gaussians of any shape, one Gaussian a code, boxes of a grid.

    p(z) = sum_k w_k p_k(z)

Codes are first measured in units of their own spread, so that no axis counts for more because its numbers are larger.
An axis without spread (a dead one) or a combination of axes that does not vary is given the spread FLOOR, as a share of
that of the others: the density is proper, but its log p holds an arbitrary constant for such an axis.
Notation: z codes (B, D), N codes fitted to, K parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import final

import torch
from scipy.optimize import minimize_scalar
from sklearn.mixture import GaussianMixture as Estimator
from torch import Tensor

from isthmus.errors import InputError
from isthmus.latent.gaussians import LOG_2PI, Density, check_codes

FLOOR = 0.03  # least spread of anything, as a share of the usual one
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # tried in this order
PATIENCE = 2  # so many numbers of components without a better BIC end the trial
FIT_AT_MOST = 10_000  # codes that a mixture is fitted to
CHUNK_VALUES = 2**22  # distances held at once while a kernel is evaluated
BANDWIDTH_VALUES = 2**24  # and while its bandwidth is sought
BANDWIDTHS = (0.02, 2.0)  # range of the search, in units of Scott's rule


def spread(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and root (D, D), lower triangular: root root' is the covariance, its least spread raised to FLOOR.

    Raises: InputError if all codes are equal, or not more than they have numbers.
    """
    if len(codes) <= codes.shape[1]:
        raise InputError(f"A density in {codes.shape[1]} dimensions needs more codes than {len(codes)}.")
    scale = _axis_spread(codes)
    correlation = torch.cov((codes / scale).T, correction=0).reshape(len(scale), len(scale))
    eye = torch.eye(len(scale), dtype=codes.dtype)
    return codes.mean(0), scale[:, None] * torch.linalg.cholesky(correlation + FLOOR**2 * eye)


def _axis_spread(codes: Tensor) -> Tensor:
    """Standard deviation of each axis, (D,); of a dead one the usual one of the others."""
    dead = codes.amax(0) == codes.amin(0)
    if bool(dead.all()):
        raise InputError(
            f"All {len(codes)} codes are equal: there is no density to fit to them; train another network."
        )
    std = codes.std(0, correction=0)
    return torch.where(dead, std[~dead].mean(), std)


def _inverse(root: Tensor) -> Tensor:
    """Of lower triangular matrices (..., D, D)."""
    eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device).expand_as(root)
    inverse: Tensor = torch.linalg.solve_triangular(root, eye, upper=False)
    return inverse


@final
class GaussianMixture(Density):
    """sum_k w_k N(mean_k, covariance_k).

    Arguments: weights: (K,), summing to 1. means: (K, D). covariances: (K, D, D).
    Raises: InputError if a covariance is not positive definite.
    """

    name = "mixture"

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor):
        self.weights, self.means, self.covariances = (t.double().cpu() for t in (weights, means, covariances))
        self._roots, failed = torch.linalg.cholesky_ex(self.covariances)
        if bool(failed.any()):
            raise InputError("A covariance of this mixture is not positive definite; fit it again.")
        self._whiten = _inverse(self._roots)  # R^-1, where R R' is the covariance
        self._precisions = self._whiten.transpose(1, 2) @ self._whiten
        log_roots = self._roots.diagonal(dim1=1, dim2=2).log().sum(1)
        self._constants = self.weights.log() - log_roots - 0.5 * self.latent_dim * LOG_2PI

    @classmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> GaussianMixture:
        """By expectation maximisation (scikit-learn), its number of components and their shape by BIC (Schwarz 1978).

        Components are of any shape, or aligned with the axes of the whitened codes, which takes far fewer numbers where
        codes are long. No component is narrower than FLOOR. Of more than 10,000 codes so many are drawn.
        Raises: InputError if there are not more codes than numbers in each, or all are equal.
        """
        codes = check_codes(codes)
        mean, root = spread(codes)
        generator = generator or torch.Generator().manual_seed(0)
        chosen = codes[torch.randperm(len(codes), generator=generator)[:FIT_AT_MOST]] - mean
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        roots = {"full": _axis_spread(codes).diag(), "diag": root}  # the units in which each shape is fitted
        found = [each for shape, units in roots.items() for each in _candidates(chosen, units, shape, seed)]
        best = min(found, key=lambda each: each[0])[1]
        units = roots[best.covariance_type]
        means, covariances = torch.from_numpy(best.means_), torch.from_numpy(best.covariances_)
        if best.covariance_type == "diag":
            covariances = torch.diag_embed(covariances)
        return cls(torch.from_numpy(best.weights_), mean + means @ units.T, units @ covariances @ units.T)

    @property
    def latent_dim(self) -> int:
        return self.means.shape[1]

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    def log_prob(self, codes: Tensor) -> Tensor:
        self._check(codes)
        return self._joint(codes).logsumexp(1)

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        device = generator.device
        picked = torch.multinomial(self.weights.to(device), count, replacement=True, generator=generator)
        noise = torch.randn(count, self.latent_dim, generator=generator, device=device)
        codes = torch.empty_like(noise)
        for k in range(self.components):
            here = picked == k
            codes[here] = self.means[k].to(noise) + noise[here] @ self._roots[k].to(noise).T
        return codes

    def curvature(self, codes: Tensor) -> Tensor:
        """sum_k r_k(z) precision_k, r_k the share of component k in p(z).

        Minus the Hessian is this less the covariance of the components' gradients, which may leave it indefinite.
        """
        self._check(codes)
        shares = self._joint(codes).softmax(1)
        return torch.einsum("bk,kde->bde", shares, self._precisions.to(codes))

    def tensors(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "means": self.means, "covariances": self.covariances}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> GaussianMixture:
        return cls(tensors["weights"], tensors["means"], tensors["covariances"])

    def _joint(self, codes: Tensor) -> Tensor:
        """log w_k N(z; mean_k, covariance_k): (B, K)."""
        means, whiten, constants = (t.to(codes) for t in (self.means, self._whiten, self._constants))
        squares = [((codes - means[k]) @ whiten[k].T).square().sum(1) for k in range(self.components)]
        return constants - 0.5 * torch.stack(squares, 1)


def _candidates(centred: Tensor, units: Tensor, shape: str, seed: int) -> Iterator[tuple[float, Estimator]]:
    """Mixtures of more and more components, in these units (D, D), with their BIC until it no longer falls."""
    inner = (centred @ _inverse(units).T).numpy()
    volume = 2 * len(inner) * float(units.diagonal().log().sum())  # so that BIC compares in any units
    numbers = inner.shape[1] + 1 if shape == "full" else 2
    least, worse = math.inf, 0
    for count in COMPONENTS:
        if count > 1 and len(inner) < 5 * numbers * count:
            return
        estimator = Estimator(count, covariance_type=shape, reg_covar=FLOOR**2, max_iter=500, random_state=seed)
        bic = float(estimator.fit(inner).bic(inner)) + volume
        yield bic, estimator
        least, worse = (bic, 0) if bic < least else (least, worse + 1)
        if worse == PATIENCE:
            return


@final
class Kernel(Density):
    """A Gaussian around every code, all of one shape: (1 / N) sum_i N(z_i, h^2 C), C the codes' own covariance.

    Arguments: codes: (N, D). bandwidth: h. mean, root: (D,) and (D, D), lower triangular, root root' = C.
    """

    name = "kernel"

    def __init__(self, codes: Tensor, bandwidth: float, *, mean: Tensor, root: Tensor):
        self.codes, self.bandwidth = codes.detach().cpu(), float(bandwidth)
        self.mean, self.root = mean.double().cpu(), root.double().cpu()
        self._whiten = _inverse(self.root)
        self._white = (self.codes.double() - self.mean) @ self._whiten.T
        self._precision = self._whiten.T @ self._whiten / self.bandwidth**2
        log_root = float(self.root.diagonal().log().sum())
        self._constant = -(
            math.log(len(codes)) + self.latent_dim * (math.log(self.bandwidth) + 0.5 * LOG_2PI) + log_root
        )

    @classmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> Kernel:
        """The bandwidth that gives codes the greatest likelihood by all the others (Duin 1976).

        It is sought from 0.02 to 2 times that of Scott (1992), N^(-1 / (D + 4)), which is right for one Gaussian and
        too wide for codes in clusters. Where N is large, a share of the codes is asked, each about all the others.
        Raises: InputError if there are not more codes than numbers in each, or all are equal.
        """
        exact = check_codes(codes)
        mean, root = spread(exact)
        white = ((exact - mean) @ _inverse(root).T).float()
        generator = generator or torch.Generator().manual_seed(0)
        asked = torch.randperm(len(white), generator=generator)[: max(2, BANDWIDTH_VALUES // len(white))]
        return cls(codes, _bandwidth(white, asked), mean=mean, root=root)

    @property
    def latent_dim(self) -> int:
        return self.codes.shape[1]

    def log_prob(self, codes: Tensor) -> Tensor:
        """log p(z) in nats: (B, D) -> (B,), differentiable once, in chunks of bounded memory with or without gradient.

        Raises: ValueError if D is another.
        """
        self._check(codes)
        plain, step = codes.detach(), max(1, CHUNK_VALUES // len(self.codes))
        parts = [self._in_chunk(plain[i : i + step]) for i in range(0, max(1, len(plain)), step)]
        values, gradients = (torch.cat(found) for found in zip(*parts, strict=True))
        # The gradient is known in closed form: autograd is handed it, and keeps nothing of size (B, N).
        attached: Tensor = values + (gradients * (codes - plain)).sum(1)
        return attached

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        device = generator.device
        picked = torch.randint(len(self.codes), (count,), generator=generator, device=device).cpu()
        noise = torch.randn(count, self.latent_dim, generator=generator, device=device)
        drawn: Tensor = self.codes[picked].to(noise) + self.bandwidth * noise @ self.root.to(noise).T
        return drawn

    def curvature(self, codes: Tensor) -> Tensor:
        """The precision of one kernel, from above: minus the Hessian is this less a covariance of gradients."""
        self._check(codes)
        return self._precision.to(codes).expand(len(codes), -1, -1)

    def tensors(self) -> dict[str, Tensor]:
        bandwidth = torch.tensor(self.bandwidth, dtype=torch.float64)
        return {"codes": self.codes, "bandwidth": bandwidth, "mean": self.mean, "root": self.root}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Kernel:
        return cls(tensors["codes"], float(tensors["bandwidth"]), mean=tensors["mean"], root=tensors["root"])

    def _in_chunk(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """log p (B,) and its gradient (B, D), zero where gradients are switched off."""
        wanted = torch.is_grad_enabled()
        with torch.no_grad():
            return self._value_and_gradient(codes, gradient=wanted)

    def _value_and_gradient(self, codes: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor]:
        whiten, centres = self._whiten.to(codes), self._white.to(codes)
        white = (codes - self.mean.to(codes)) @ whiten.T
        exponents = _squares(white, centres).mul_(-0.5 / self.bandwidth**2)
        values = exponents.logsumexp(1)
        if not gradient:
            return values + self._constant, torch.zeros_like(codes)
        pull = (exponents - values[:, None]).exp() @ centres - white
        return values + self._constant, pull @ whiten / self.bandwidth**2


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances: (A, D), (B, D) -> (A, B)."""
    found = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * (a @ b.T)
    return found.clamp_(min=0)


def _bandwidth(white: Tensor, asked: Tensor) -> float:
    """h of greatest likelihood of the codes `asked` (M,) under a kernel density of all others, white (N, D)."""
    count, size = white.shape
    squares = _squares(white[asked], white)
    squares[torch.arange(len(asked)), asked] = math.inf  # not by itself

    def surprise(log_h: float) -> float:
        return size * log_h - float((squares * (-0.5 * math.exp(-2 * log_h))).logsumexp(1).double().mean())

    scott = -math.log(count) / (size + 4)
    least, most = (scott + math.log(factor) for factor in BANDWIDTHS)
    found = minimize_scalar(surprise, bounds=(least, most), method="bounded", options={"xatol": 0.02})
    return math.exp(float(found.x))


@final
class Histogram(Density):
    """A grid of equal boxes, each as probable as the share of codes in it.

    One code's share, 1 / (N + 1), lies evenly over a box three times as wide as the grid, so that a code in an empty
    box is unlikely and not impossible; outside that log p is minus infinity. log p is flat in every box, without a
    gradient to follow.
    Arguments: counts: (B_1, ..., B_D) of codes in each box. low: (D,), where the grid begins. width: (D,) of the boxes.
    """

    name = "histogram"
    smooth = False

    def __init__(self, counts: Tensor, low: Tensor, width: Tensor):
        self.counts, self.low, self.width = counts.cpu(), low.double().cpu(), width.double().cpu()
        self._bins = torch.tensor(counts.shape)
        self._floor = 1 / (float(self.counts.sum()) + 1)
        self._log_volume = float(self.width.log().sum())

    @classmethod
    def fit(cls, codes: Tensor, *, generator: torch.Generator | None = None) -> Histogram:
        """Boxes of Scott's width (1992, eq. 3.70), 3.5 std N^(-1 / (D + 2)), as many as cover the codes.

        Raises: InputError if there would be more boxes than codes, or all codes are equal.
        """
        codes = check_codes(codes)
        count, size = codes.shape
        scale = _axis_spread(codes)
        low, extent = codes.amin(0), codes.amax(0) - codes.amin(0)
        width = torch.where(extent > 0, 3.5 * scale * count ** (-1 / (size + 2)), FLOOR * scale)
        bins = (extent / width).floor().long() + 1
        cells = math.prod(bins.tolist())
        if cells > count:
            raise InputError(
                f"A histogram in {size} dimensions would have {cells:.3g} boxes for {count} codes, and most of them "
                f"empty: take a mixture or a kernel, or codes of at most 3 numbers."
            )
        low = low - (bins * width - extent) / 2
        place = ((codes - low) / width).long().clamp(min=torch.zeros_like(bins), max=bins - 1)
        flat = torch.zeros(count, dtype=torch.int64)
        for axis in range(size):
            flat = flat * bins[axis] + place[:, axis]
        return cls(torch.bincount(flat, minlength=cells).reshape(*bins.tolist()), low, width)

    @property
    def latent_dim(self) -> int:
        return self.counts.ndim

    def log_prob(self, codes: Tensor) -> Tensor:
        self._check(codes)
        place = (codes.detach().double().cpu() - self.low) / self.width
        inside = ((place >= 0) & (place < self._bins)).all(1)
        near = ((place >= -self._bins) & (place < 2 * self._bins)).all(1)
        index = place.long().clamp(min=torch.zeros_like(self._bins), max=self._bins - 1)
        share = torch.where(inside, self.counts[index.unbind(1)] / self.counts.sum(), 0.0).double()
        wide = self._floor / (3.0**self.latent_dim * self.counts.numel())
        mass = (1 - self._floor) * share + torch.where(near, wide, 0.0).double()
        return (mass.log() - self._log_volume).to(codes)

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        device = generator.device
        weights = self.counts.flatten().double().to(device)
        cell = torch.multinomial(weights, count, replacement=True, generator=generator)
        corner = torch.stack(torch.unravel_index(cell, tuple(self.counts.shape)), 1)
        within = torch.rand(count, self.latent_dim, generator=generator, device=device)
        anywhere = torch.rand(count, generator=generator, device=device) < self._floor
        bins = self._bins.to(device)
        place = torch.where(anywhere[:, None], bins * (3 * within - 1), corner + within)
        return (self.low.to(device) + place * self.width.to(device)).to(within)

    def curvature(self, codes: Tensor) -> Tensor:
        raise InputError("A histogram has no gradient and no curvature; take a mixture or a kernel.")

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts, "low": self.low, "width": self.width}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Histogram:
        return cls(tensors["counts"], tensors["low"], tensors["width"])
