"""Ways to the code of least F, for many images side by side, each with steps of its own.

"bfgs" learns the curvature of F on the way, beginning with the mean Gauss-Newton curvature of the decoder; "lm"
(Levenberg-Marquardt) computes the curvature at every step, is exact at once where D is linear, and goes on to the last
digits; "adam" is what is usually done. No image ends with a larger F than it began with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isthmus.inverse.objective import Objective

Solver = Literal["bfgs", "lm", "adam"]

STEPS: dict[Solver, int] = {"bfgs": 40, "lm": 40, "adam": 100}
RATE = 0.05  # of Adam
ARMIJO = 1e-4  # share of the promised decrease that a step must bring (Nocedal and Wright 2006, eq. 3.4)
GRADIENT = 1e-3  # of the gradient's norm at the start: converged
DECREASE, WINDOW = 1e-5, 5  # relative decrease over so many steps: converged


@dataclass(frozen=True)
class Optimum:
    """Where a solver has come to with N images.

    codes: (N, D), the best seen of each. values: (N,), their F in nats. path: (steps + 1, N), F after each step; it
    rests where the solver has left an image. converged: (N,). steps: (N,), taken for each.
    """

    codes: Tensor
    values: Tensor
    path: Tensor
    converged: Tensor
    steps: Tensor


def minimise(objective: Objective, start: Tensor, *, solver: Solver, steps: int | None = None) -> Optimum:
    """Follow F down from codes (N, D), for at most so many steps, by default STEPS."""
    return WAYS[solver](objective, start, STEPS[solver] if steps is None else steps)


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


def _bfgs(objective: Objective, start: Tensor, steps: int) -> Optimum:
    """Quasi-Newton steps (Nocedal and Wright 2006, algorithm 6.1), an inverse Hessian for each image.

    A step that does not fall enough is shortened to the minimum of the parabola through what is known of it.
    """
    follow = _Follow(start, gradient=GRADIENT, decrease=DECREASE)
    active = torch.arange(len(start), device=start.device)
    here, codes = objective, start.clone()
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


def _adam(objective: Objective, start: Tensor, steps: int) -> Optimum:
    """Adam (Kingma and Ba 2015) on every code, its rate falling by a cosine so that it comes to rest."""
    follow = _Follow(start, gradient=GRADIENT, decrease=DECREASE)
    active = torch.arange(len(start), device=start.device)
    codes, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    here = objective
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


def _levenberg_marquardt(objective: Objective, start: Tensor, steps: int) -> Optimum:
    """Gauss-Newton steps, damped for each image alone (Levenberg 1944, Marquardt 1963).

    It goes on past convergence, until nothing falls any more: to the last digits of the number type.
    """
    follow = _Follow(start, gradient=1e-12, decrease=1e-14 if start.dtype == torch.float64 else 1e-7)
    active = torch.arange(len(start), device=start.device)
    codes, here = start.clone(), objective
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


def _finish(follow: _Follow, steps: int) -> Optimum:
    path = follow.path + [follow.path[-1]] * (steps + 1 - len(follow.path))
    return Optimum(follow.codes, follow.values, torch.stack(path), follow.converged, follow.steps)


WAYS: dict[Solver, Callable[[Objective, Tensor, int], Optimum]] = {
    "bfgs": _bfgs,
    "lm": _levenberg_marquardt,
    "adam": _adam,
}
