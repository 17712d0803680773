"""Choose a code size: error, exact PCA, neighbours and the quality of samples against the numbers in a code.

Runs that are alike but for the size of the code and the seed form a curve. Where the curve has its elbow is decided on
the validation images:

    plateau  the smallest size that no larger one beats by more than runs of one size differ by chance
    bend     else the size that lies farthest below the chord from the first to the last point, both axes logarithmic
             (Satopaa et al. 2011), if that is more than 5 %
    none     else: every doubling gains about as much as the one before

Notation: d a size, e(d) > 0 its error, mean over the runs of that size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import InputError
from isthmus.latent.density import Density, StandardNormal, fit_density
from isthmus.latent.generation import features
from isthmus.metrics import frechet_of_samples
from isthmus.networks.apply import Coder, decode, encode
from isthmus.networks.variational import VAE
from isthmus.studies.analyses import Bench, error_of, neighbours_of
from isthmus.studies.samples import generator_of
from isthmus.studies.study_file import FEWEST_SIZES, Planned, families

DEPTH = 0.05  # below the chord, as a share of the error, from which on a bend counts as one
LEAST = 1e-12  # error that counts as none at all, whose logarithm would have no bound


@dataclass(frozen=True)
class Elbow:
    """Where a curve has its elbow, and why. size: None if it has none.

    spread: how far runs of one size differ, as the ratio of their errors minus 1; None where each size has one run.
    gain: by how much the best larger size is better, 1 minus the ratio of errors; 0 if none is. depth: how far the size
    lies below the chord, 1 minus the ratio to it.
    """

    size: int | None
    reason: Literal["plateau", "bend", "none"]
    spread: float | None
    gain: float
    depth: float


@dataclass(frozen=True)
class AtSize:
    """The runs of one size. validation, test: errors by run. pca: test error of PCA with as many components, None where
    there is none. neighbours: 1-NN accuracy by run, none without labels. frechet: of samples by run, None where no
    density could be fitted; none without a judge."""

    size: int
    runs: tuple[str, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    pca: float | None
    neighbours: tuple[float, ...]
    frechet: tuple[float | None, ...]

    @property
    def samples(self) -> float | None:
        """Fréchet distance, mean over the runs that have one."""
        known = [value for value in self.frechet if value is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Curve:
    """Sizes in ascending order, where they bend, and the density that samples were drawn from, by its name."""

    points: tuple[AtSize, ...]
    elbow: Elbow
    density: str

    @property
    def sizes(self) -> list[int]:
        """Numbers in the code."""
        return [point.size for point in self.points]

    @property
    def at_elbow(self) -> AtSize | None:
        """The point at the elbow."""
        return next((point for point in self.points if point.size == self.elbow.size), None)


@dataclass(frozen=True)
class CodeSizes:
    """Curves by name. floor: Fréchet distance between two halves of real images; None without a judge. short: what has
    too few sizes left, since runs diverged."""

    curves: dict[str, Curve]
    floor: float | None
    short: tuple[str, ...]


def code_sizes(bench: Bench, runs: Sequence[Planned]) -> CodeSizes:
    """Measure every family of the runs that were trained. Runs that diverged are left out."""
    halves = _halves(bench)
    curves, short = {}, []
    for name, group in families(runs).items():
        left = [run for run in group if run.name in bench.runs]
        if len({run.size for run in left}) >= FEWEST_SIZES:
            curves[name] = _curve(bench, left, halves)
        else:
            short.append(name)
    floor = None if halves is None else frechet_of_samples(*halves)
    return CodeSizes(curves, floor, tuple(short))


def elbow(sizes: Sequence[int], errors: Sequence[Sequence[float]]) -> Elbow:
    """Where error against size has its elbow.

    Arguments: sizes: ascending, at least 3. errors: of each size those of its runs, above 0.
    Raises: ValueError if there are fewer sizes, or an error is not above 0 and finite.

    >>> elbow([2, 4, 8, 16], [[0.04, 0.041], [0.02], [0.0101], [0.01]]).size
    8
    >>> elbow([2, 4, 8, 16], [[0.08], [0.04], [0.02], [0.01]]).reason
    'none'
    """
    means = np.array([float(np.mean(each)) for each in errors])
    if len(sizes) < FEWEST_SIZES or len(sizes) != len(means) or not (np.isfinite(means) & (means > 0)).all():
        raise ValueError(f"An elbow needs errors above 0 of at least {FEWEST_SIZES} sizes, got {list(sizes)}, {means}.")
    spread = _spread(errors)
    gains = [max(0.0, 1 - float(means[i + 1 :].min()) / float(means[i])) for i in range(len(means) - 1)]
    depths = _depths(sizes, means)
    if spread is not None:
        within = 1 - 1 / (1 + spread)  # the gain of the better of two runs that differ by the spread
        for i, gain in enumerate(gains):
            if gain <= within:
                return Elbow(sizes[i], "plateau", spread, gain, float(depths[i]))
    deepest = int(depths.argmax())
    if depths[deepest] > DEPTH:
        return Elbow(sizes[deepest], "bend", spread, gains[deepest], float(depths[deepest]))
    return Elbow(None, "none", spread, 0.0, float(depths[deepest]))


def figures(found: CodeSizes) -> dict[str, float | None]:
    """The numbers of the analysis by their dotted names; means over the runs of a size."""
    named: dict[str, float | None] = {}
    for name, curve in found.curves.items():
        prefix = f"code-size.{name}"
        named[f"{prefix}.elbow"] = None if curve.elbow.size is None else float(curve.elbow.size)
        named[f"{prefix}.spread"] = curve.elbow.spread
        for point in curve.points:
            named[f"{prefix}.validation_mse.{point.size}"] = float(np.mean(point.validation))
            named[f"{prefix}.test_mse.{point.size}"] = float(np.mean(point.test))
            named[f"{prefix}.pca_mse.{point.size}"] = point.pca
            if point.neighbours:
                named[f"{prefix}.1nn_mean.{point.size}"] = float(np.mean(point.neighbours))
            if point.frechet:
                named[f"{prefix}.frechet.{point.size}"] = point.samples
    if found.floor is not None:
        named["code-size.real_floor"] = found.floor
    return named


def _spread(errors: Sequence[Sequence[float]]) -> float | None:
    """How far runs of one size differ: the ratio of the largest to the least error, minus 1, root mean square of its
    logarithm over the sizes that have two runs or more; None where none has."""
    ratios = [math.log(max(each) / min(each)) for each in errors if len(each) > 1]
    return math.expm1(math.sqrt(float(np.mean(np.square(ratios))))) if ratios else None


def _depths(sizes: Sequence[int], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each point lies below the chord from the first to the last, as a share of the error there."""
    x, y = np.log(np.asarray(sizes, dtype=np.float64)), np.log(means)
    chord = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    below: NDArray[np.float64] = 1 - np.exp(y - chord)
    return below


def _halves(bench: Bench) -> tuple[Tensor, Tensor] | None:
    """Features of two halves of the images that were not trained on, divided at random; None without a judge."""
    if bench.judge is None:
        return None
    real = torch.from_numpy(np.concatenate([bench.parts.validation.images, bench.parts.test.images]))
    size = len(real) // 2
    order = torch.randperm(len(real), generator=generator_of((bench.seed, 9)))
    found = features(bench.judge, real[order[: 2 * size]])
    return found[:size], found[size:]


def _curve(bench: Bench, group: Sequence[Planned], halves: tuple[Tensor, Tensor] | None) -> Curve:
    sizes = sorted({run.size for run in group if run.size is not None})
    points = tuple(_at(bench, size, [run.name for run in group if run.size == size], halves) for size in sizes)
    validation = [[max(error, LEAST) for error in point.validation] for point in points]
    density = "normal" if isinstance(bench.coders[points[0].runs[0]], VAE) else "mixture"
    return Curve(points, elbow(sizes, validation), density)


def _at(bench: Bench, size: int, runs: Sequence[str], halves: tuple[Tensor, Tensor] | None) -> AtSize:
    networks = [bench.coders[name] for name in runs]
    return AtSize(
        size,
        tuple(runs),
        tuple(error_of(network, bench.parts.validation) for network in networks),
        tuple(error_of(network, bench.parts.test) for network in networks),
        bench.optimum(size),
        tuple(neighbours_of(network, bench.parts).mean for network in networks) if bench.labelled else (),
        tuple(_frechet(bench, network, halves[1]) for network in networks) if halves is not None else (),
    )


def _frechet(bench: Bench, network: Coder, real: Tensor) -> float | None:
    """Of as many images drawn from the code: by the prior of a VAE, by a mixture fitted to the codes of another."""
    assert bench.judge is not None
    density: Density
    if isinstance(network, VAE):
        density = StandardNormal(network.latent_dim)
    else:
        codes = torch.from_numpy(encode(network, bench.parts.train.images))
        try:
            density = fit_density("mixture", codes, generator=generator_of((bench.seed, 8)))
        except InputError:  # too few codes, or too alike: what cannot be drawn has no distance, as the report says
            return None
    drawn = decode(network, density.sample(len(real), generator=generator_of((bench.seed, 10))).cpu())
    return frechet_of_samples(features(bench.judge, drawn), real)
