"""Restoring by maximum a posteriori: the code that best explains a damaged image under the prior.

    z* = argmin_z F(z),   F(z) = |y - A D(z)|^2 / (2 sigma_y^2) - log p(z)          x_hat = D(z*)

What is minimised stands in `objective`, the ways to the minimum in `solvers`. Here images are cut into batches, codes
to begin with are chosen, and the best of several starts is kept.
Notation: y measured (N, C, H', W'), x images (N, C, H, W), z codes (N, D).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.degrade import Degradation, Identity
from isthmus.errors import InputError
from isthmus.inverse.objective import Objective
from isthmus.inverse.solvers import Solver, minimise
from isthmus.latent.density import Density, StandardNormal
from isthmus.networks.apply import Coder, encode, fold
from isthmus.networks.variational import VAE
from isthmus.training.loop import Progress

BATCH, BATCH_PIXELS = 1000, 2**22  # images solved at once, and their pixels, at most


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
    progress: Progress | None = None,
) -> Solution:
    """Minimise F from given codes; no image ends with a larger F than it began with.

    Arguments: decode: D, (N, D) -> (N, C, H, W), differentiable. measured: y. start: (N, D). sigma: sigma_y in [0, 1]
    units, one for all or (N,). steps: at most so many, by default STEPS. progress: called with (images solved, images
    in all, a line). An image has converged when its gradient's norm is 1e-3 of that at the start, or F fell by less
    than 1e-5 of itself in 5 steps; all but "lm" then leave it.
    Raises: InputError unless sigma is above 0, y is finite and the prior has a gradient.
    """
    check_prior(prior)
    _check(measured, sigma)
    count = len(measured)
    sigmas = torch.as_tensor(sigma, dtype=start.dtype, device=start.device).expand(count)
    objective = Objective(decode, measured, degradation or Identity(), sigmas, prior)
    size = max(1, min(BATCH, BATCH_PIXELS // measured[0].numel()))
    found = []
    with torch.no_grad():
        for begin in range(0, count, size):
            batch = slice(begin, begin + size)
            found.append(minimise(objective.take(batch), start[batch], solver=solver, steps=steps))
            if progress is not None:
                done = min(begin + size, count)
                progress(done, count, f"{done:,} of {count:,} images")
    codes, values, converged, taken = (
        torch.cat([getattr(part, name) for part in found]) for name in ("codes", "values", "converged", "steps")
    )
    path = torch.cat([part.path for part in found], 1)[: int(taken.max()) + 1]
    return Solution(codes, decode_all(decode, codes), path[0], values, path, converged, taken)


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
    progress: Progress | None = None,
) -> Solution:
    """Restore damaged images with a trained network: start from the encoder's code, keep the best of all restarts.

    Arguments: measured: (N, C, H', W'), on the [0, 1] scale. sigma: of its noise, one for all or (N,).
    prior: by default the N(0, I) of a VAE. restarts: 1 begins at the encoder's code of a rough image; every further one
    at a code drawn from the prior with `generator`. progress: called with (images solved, images to solve, a line),
    each restart counted.
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
            decode,
            measured,
            begin,
            prior=prior,
            sigma=sigma,
            degradation=degradation,
            solver=solver,
            steps=steps,
            progress=progress and _part(progress, attempt, restarts),
        )
        best = found if best is None else _better(best, found)
    assert best is not None
    return best


def _part(progress: Progress, attempt: int, restarts: int) -> Progress:
    """What one of several restarts has done, as a part of all."""

    def follow(done: int, count: int, text: str) -> None:
        line = text if restarts == 1 else f"start {attempt + 1} of {restarts}, {text}"
        progress(attempt * count + done, restarts * count, line)

    return follow


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
