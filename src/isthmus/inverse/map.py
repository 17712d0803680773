"""Restoring by maximum a posteriori: the code that best explains a damaged image under the prior.

    z* = argmin_z F(z),   F(z) = |y - A D(z)|^2 / (2 sigma_y^2) - log p(z)          x_hat = D(z*)

The decoder D never saw damaged images; A and sigma_y enter only here. Images are solved side by side, each with steps
of its own. "bfgs", the default, learns the curvature of F on the way, beginning with the mean Gauss-Newton curvature of
the decoder; "lm" (Levenberg-Marquardt) computes the curvature at every step, is exact at once where D is linear, and
goes on to the last digits; "adam" is what is usually done.
Notation: y measured (N, C, H', W'), x images (N, C, H, W), z codes (N, D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isthmus.data.degrade import Degradation, Identity, Mask
from isthmus.errors import InputError
from isthmus.inverse.laplace import at_once, jacobian
from isthmus.latent.density import Density, StandardNormal
from isthmus.networks.apply import Coder, encode, fold
from isthmus.networks.variational import VAE

Solver = Literal["bfgs", "lm", "adam"]

STEPS: dict[Solver, int] = {"bfgs": 40, "lm": 40, "adam": 100}
BATCH, BATCH_PIXELS = 1000, 2**22  # images solved at once, and their pixels, at most
PROBES = 64  # codes of the prior over which the first curvature is averaged
RATE = 0.05  # of Adam
ARMIJO = 1e-4  # share of the promised decrease that a step must bring (Nocedal and Wright 2006, eq. 3.4)
GRADIENT = 1e-3  # of the gradient's norm at the start: converged
DECREASE, WINDOW = 1e-5, 5  # relative decrease over so many steps: converged


@dataclass(frozen=True)
class Solution:
    """Optima of N images.

    codes: (N, D). images: (N, C, H, W), D(z*), not clipped. start, objective: (N,), F before and after, in nats.
    path: (T + 1, N), F after each step; it rests where the solver has left an image. converged: (N,). steps: (N,).
    """

    codes: Tensor
    images: Tensor
    start: Tensor
    objective: Tensor
    path: Tensor
    converged: Tensor
    steps: Tensor


@dataclass(frozen=True)
class _Problem:
    """F for a batch, and its derivatives."""

    decode: Callable[[Tensor], Tensor]
    measured: Tensor
    degradation: Degradation
    sigma: Tensor
    prior: Density

    def take(self, index: Tensor | slice) -> _Problem:
        return _Problem(self.decode, self.measured[index], self.degradation.take(index), self.sigma[index], self.prior)

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


def solve(
    decode: Callable[[Tensor], Tensor],
    measured: Tensor,
    start: Tensor,
    *,
    prior: Density,
    sigma: float | Tensor,
    degradation: Degradation | None = None,
    solver: Solver = "bfgs",
    steps: int | None = None,
) -> Solution:
    """Minimise F from given codes; no image ends with a larger F than it began with.

    Arguments: decode: D, (N, D) -> (N, C, H, W), differentiable. measured: y. start: (N, D). sigma: sigma_y in [0, 1]
    units, one for all or (N,). steps: at most so many, by default STEPS. An image has converged when its gradient's
    norm is 1e-3 of that at the start, or F fell by less than 1e-5 of itself in 5 steps; all but "lm" then leave it.
    Raises: InputError unless sigma is above 0, y is finite and the prior has a gradient.
    """
    check_prior(prior)
    _check(measured, sigma)
    count = len(measured)
    sigmas = torch.as_tensor(sigma, dtype=start.dtype, device=start.device).expand(count)
    problem = _Problem(decode, measured, degradation or Identity(), sigmas, prior)
    limit = STEPS[solver] if steps is None else steps
    run = {"bfgs": _bfgs, "lm": _levenberg_marquardt, "adam": _adam}[solver]
    parts = []
    with torch.no_grad():
        size = max(1, min(BATCH, BATCH_PIXELS // measured[0].numel()))
        for begin in range(0, count, size):
            batch = slice(begin, begin + size)
            parts.append(run(problem.take(batch), start[batch], limit))
    codes, objective, converged, taken = (torch.cat([part[i] for part in parts]) for i in (0, 1, 3, 4))
    path = torch.cat([part[2] for part in parts], 1)[: int(taken.max()) + 1]
    return Solution(codes, decode_all(decode, codes), path[0], objective, path, converged, taken)


def restore(
    network: Coder,
    measured: Tensor,
    *,
    sigma: float | Tensor,
    degradation: Degradation | None = None,
    prior: Density | None = None,
    solver: Solver = "bfgs",
    steps: int | None = None,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Solution:
    """Restore damaged images with a trained network: start from the encoder's code, keep the best of all restarts.

    Arguments: measured: (N, C, H', W'), on the [0, 1] scale. sigma: of its noise, one for all or (N,).
    prior: by default the N(0, I) of a VAE. restarts: 1 begins at the encoder's code of a rough image; every further one
    at a code drawn from the prior with `generator`.
    Raises: InputError if an autoencoder is given without a prior, the prior has no gradient, sigma is not above 0, y
    is not finite, or restarts are asked for without a generator.
    """
    if prior is None and not isinstance(network, VAE):
        raise InputError(
            "MAP needs a prior over the codes, which this network does not have: train a `vae`, or give a density "
            "fitted to its codes."
        )
    if restarts < 1:
        raise InputError(f"MAP needs at least one start, got {restarts}.")
    if restarts > 1 and generator is None:
        raise InputError("Restarts begin at random codes: give a generator.")
    prior = StandardNormal(network.latent_dim) if prior is None else prior
    degradation = degradation or Identity()
    check_prior(prior)
    _check(measured, sigma)
    device = next(network.parameters()).device
    measured = measured.to(device)
    decode = decoder(network)
    begin = torch.from_numpy(encode(network, degradation.guess(measured))).to(device)
    best = None
    for attempt in range(restarts):
        if attempt and generator is not None:
            begin = prior.sample(len(measured), generator=generator).to(begin)
        found = solve(
            decode, measured, begin, prior=prior, sigma=sigma, degradation=degradation, solver=solver, steps=steps
        )
        best = found if best is None else _better(best, found)
    assert best is not None
    return best


def decoder(network: Coder) -> Callable[[Tensor], Tensor]:
    """The decoder's mean image as a function of codes, with batch norm folded into the layer before it."""
    folded = fold(network.decoder)
    if isinstance(network, VAE) and network.likelihood == "bernoulli":
        return lambda codes: folded(codes).sigmoid()
    return folded


@torch.no_grad()
def decode_all(decode: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """Images of many codes, in batches: (N, D) -> (N, C, H, W)."""
    return torch.cat([decode(codes[i : i + 1000]) for i in range(0, len(codes), 1000)])


def check_prior(prior: Density | type[Density]) -> None:
    """Refuse a prior that MAP cannot follow. Raises: InputError."""
    if not prior.smooth:
        raise InputError(
            f"A {prior.name} cannot be the prior of MAP, having no gradient; take normal, gaussian, mixture or kernel."
        )


def _check(measured: Tensor, sigma: float | Tensor) -> None:
    values = torch.as_tensor(sigma).reshape(-1)
    wrong = values[~(torch.isfinite(values) & (values > 0))]
    if len(wrong):
        given = float(wrong[0])
        raise InputError(f"The noise's standard deviation must be above 0, on the [0, 1] scale; got {given}.")
    finite = torch.isfinite(measured).flatten(1).all(1)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise InputError(
            f"{bad} of {len(measured)} images hold NaN or infinite pixels; leave them out, or set missing "
            f"pixels to 0 and mark them with a mask."
        )


class _Follow:
    """What is known of each image on the way: the best code so far, F after each step, and who has converged."""

    def __init__(self, codes: Tensor, *, gradient: float, decrease: float):
        self.gradient, self.decrease = gradient, decrease  # where the solver stops; at most those of `converged`
        self.codes, self.values = codes.clone(), torch.full_like(codes[:, 0], math.inf)
        self.first_norm = torch.zeros_like(self.values)
        self.path: list[Tensor] = []
        self.bests: list[Tensor] = []
        self.converged = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
        self.steps = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)

    def add(self, active: Tensor, codes: Tensor, values: Tensor, norms: Tensor) -> Tensor:
        """Record step t of the images `active`; returns which of them go on."""
        current = self.path[-1].clone() if self.path else values.clone()
        current[active] = values
        if not self.path:
            self.first_norm = norms.clone()
        self.path.append(current)
        better = values < self.values[active]
        self.codes[active[better]] = codes[better]
        self.values[active[better]] = values[better]
        self.bests.append(self.values.clone())
        first = self.first_norm[active]
        converged, done = norms <= GRADIENT * first, norms <= self.gradient * first
        if len(self.bests) > WINDOW:
            best = self.values[active]
            fallen, above = self.bests[-1 - WINDOW][active] - best, values - best
            scale = best.abs()
            converged |= (fallen <= DECREASE * scale) & (above <= DECREASE * scale)
            done |= (fallen <= self.decrease * scale) & (above <= DECREASE * scale)
        self.converged[active[converged]] = True
        self.steps[active] = len(self.path) - 1
        return ~done


_Part = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _bfgs(problem: _Problem, start: Tensor, steps: int) -> _Part:
    """Quasi-Newton steps (Nocedal and Wright 2006, algorithm 6.1), an inverse Hessian for each image.

    A step that does not fall enough is shortened to the minimum of the parabola through what is known of it.
    """
    follow = _Follow(start, gradient=GRADIENT, decrease=DECREASE)
    active = torch.arange(len(start), device=start.device)
    here, codes = problem, start.clone()
    values, gradient = here.gradient(codes)
    inverse = first = torch.linalg.inv(here.first_curvature(start))
    length = torch.ones_like(values)
    for step in range(steps + 1):
        going = follow.add(active, codes, values, gradient.norm(dim=1))
        if step == steps or not bool(going.any()):
            break
        if not bool(going.all()):
            active, here, length = active[going], here.take(going), length[going]
            inverse, first = inverse[going], first[going]
            codes, values, gradient = codes[going], values[going], gradient[going]
        direction = -_times(inverse, gradient)
        lost = (gradient * direction).sum(1) >= 0  # rounding has made it no descent: begin the curvature anew
        inverse = torch.where(lost[:, None, None], first, inverse)
        direction = torch.where(lost[:, None], -_times(first, gradient), direction)
        slope = (gradient * direction).sum(1)
        move = length[:, None] * direction
        new_values, new_gradient = here.gradient(codes + move)
        rise = new_values - values - length * slope
        fell = rise <= (ARMIJO - 1) * length * slope
        inverse = torch.where(fell[:, None, None], _updated(inverse, move, new_gradient - gradient), inverse)
        shorter = (-slope * length.square() / (2 * rise)).clamp(0.1 * length, 0.5 * length)
        length = torch.where(fell, 1.0, torch.where(torch.isfinite(shorter), shorter, 0.1 * length))
        codes = torch.where(fell[:, None], codes + move, codes)
        values = torch.where(fell, new_values, values)
        gradient = torch.where(fell[:, None], new_gradient, gradient)
    return _finish(follow, steps)


def _updated(inverse: Tensor, move: Tensor, change: Tensor) -> Tensor:
    """The BFGS update of inverse Hessians (N, D, D) by a step and the change of the gradient, (N, D) each.

    (Nocedal and Wright 2006, eq. 6.17.) Left as they are where the curvature along the step is not positive.
    """
    along = (move * change).sum(1)
    usable = along > 1e-8 * move.norm(dim=1) * change.norm(dim=1)
    rho = torch.where(usable, 1 / along, 0.0)[:, None, None]
    turned = _times(inverse, change)
    outer = turned[:, :, None] * move[:, None, :]
    scale = 1 + rho * (change * turned).sum(1)[:, None, None]
    return inverse + rho * (scale * move[:, :, None] * move[:, None, :] - outer - outer.transpose(1, 2))


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(N, D, D), (N, D) -> (N, D)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _adam(problem: _Problem, start: Tensor, steps: int) -> _Part:
    """Adam (Kingma and Ba 2015) on every code, its rate falling by a cosine so that it comes to rest."""
    follow = _Follow(start, gradient=GRADIENT, decrease=DECREASE)
    active = torch.arange(len(start), device=start.device)
    codes, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    here = problem
    for step in range(steps + 1):
        values, gradient = here.gradient(codes)
        going = follow.add(active, codes, values, gradient.norm(dim=1))
        if step == steps or not bool(going.any()):
            break
        if not bool(going.all()):
            active, codes, gradient = active[going], codes[going], gradient[going]
            first, second = first[going], second[going]
            here = here.take(going)
        first = first.lerp(gradient, 1 - 0.9)
        second = second.lerp(gradient.square(), 1 - 0.999)
        rate = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        mean, root = first / (1 - 0.9 ** (step + 1)), (second / (1 - 0.999 ** (step + 1))).sqrt()
        codes = codes - rate * mean / (root + 1e-8)
    return _finish(follow, steps)


def _levenberg_marquardt(problem: _Problem, start: Tensor, steps: int) -> _Part:
    """Gauss-Newton steps, damped for each image alone (Levenberg 1944, Marquardt 1963).

    It goes on past convergence, until nothing falls any more: to the last digits of the number type.
    """
    follow = _Follow(start, gradient=1e-12, decrease=1e-14 if start.dtype == torch.float64 else 1e-7)
    active = torch.arange(len(start), device=start.device)
    codes, here = start.clone(), problem
    eye = torch.eye(start.shape[1], dtype=start.dtype, device=start.device)
    damping = torch.full_like(start[:, 0], 1e-3)
    values, gradient = here.gradient(codes)
    for step in range(steps + 1):
        going = follow.add(active, codes, values, gradient.norm(dim=1))
        if step == steps or not bool(going.any()):
            break
        if not bool(going.all()):
            active, codes, values, gradient = active[going], codes[going], values[going], gradient[going]
            damping, here = damping[going], here.take(going)
        curvature = here.curvature(codes)
        scale = curvature.diagonal(dim1=1, dim2=2).mean(1)
        moved = codes - torch.linalg.solve(curvature + (damping * scale)[:, None, None] * eye, gradient)
        new_values, new_gradient = here.gradient(moved)
        better = new_values < values
        codes = torch.where(better[:, None], moved, codes)
        values = torch.where(better, new_values, values)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        damping = torch.where(better, damping / 10, damping * 10)
    return _finish(follow, steps)


def _finish(follow: _Follow, steps: int) -> _Part:
    path = follow.path + [follow.path[-1]] * (steps + 1 - len(follow.path))
    return follow.codes, follow.values, torch.stack(path), follow.converged, follow.steps


def _better(a: Solution, b: Solution) -> Solution:
    """Image by image the solution of lower objective; the start is that of `a`."""
    wins = b.objective < a.objective
    steps = max(len(a.path), len(b.path))
    paths = [torch.cat([path, path[-1:].expand(steps - len(path), -1)]) for path in (a.path, b.path)]
    pick = wins.reshape(-1, 1, 1, 1)
    return Solution(
        torch.where(wins[:, None], b.codes, a.codes),
        torch.where(pick, b.images, a.images),
        a.start,
        torch.where(wins, b.objective, a.objective),
        torch.where(wins, paths[1], paths[0]),
        torch.where(wins, b.converged, a.converged),
        torch.where(wins, b.steps, a.steps),
    )
