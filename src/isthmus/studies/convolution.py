"""Exercise S1.1: the density of a sum Z = X + Y of independent variables, derived and computed.

It is the convolution of their densities, p_Z(z) = int p_X(x) p_Y(z - x) dx. For two Gaussians sympy derives it step by
step (complete the square, then one known integral); for any two densities `convolve_densities` computes it on a grid.
`run_sums` sets both beside a histogram of sampled sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from isthmus.errors import InputError
from isthmus.studies.gaussian_sum import Array, Curve, Derivation, Gaussian, derive

PAIRS: tuple[tuple[Gaussian, Gaussian], ...] = (((0, 1), (1, 2)), ((-2, 0.5), (3, 1.5)))
MASS = 0.01  # a density may miss one by so much on the grid
LARGEST = 2**20  # places on a grid
BINS, TAIL = 50, 0.001  # of the histograms, and the probability left out at each end
CHANCE = 0.01  # deviations as rare as this, over all sums together, are not put down to chance
ROUNDING = 1e-12  # of the peak


@dataclass(frozen=True)
class SumDensity:
    """The density of a sum on the grid of its support: grid (2 n - 1,), density (2 n - 1,)."""

    grid: Array
    density: Array


def convolve_densities(f: Curve | Array, g: Curve | Array, grid: Array) -> SumDensity:
    """The density of X + Y for independent X ~ f and Y ~ g, by FFT.   h(z) = int f(x) g(z - x) dx

    The trapezoid rule between neighbouring places, with the limits from inside each interval: a density may jump at a
    place of the grid, at its ends above all. The error falls with the square of the step where densities are smooth
    between places, and with the step itself where one jumps elsewhere.

    Arguments: f, g: functions of an array of places, or their values (n,) on the grid (which then jump to zero at its
    ends only). grid: (n,) evenly spaced and increasing; outside of it both are taken as zero.
    Raises: InputError if the grid is not evenly spaced, or a density has negative or non-finite values, or holds a
    probability on the grid that is not one within a hundredth.

    >>> inside = convolve_densities(np.ones(5), np.ones(5), np.linspace(0, 1, 5))
    >>> inside.density
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    places, step = _evenly_spaced(grid)
    f_right, f_left = _limits("f", f, places, step)
    g_right, g_left = _limits("g", g, places, step)
    count = len(places)
    size = fft.next_fast_len(2 * count - 3, real=True)
    # Where x leaves a place to the right, z - x leaves one to the left.
    spectrum = fft.rfft(f_right, size) * fft.rfft(g_left, size) + fft.rfft(f_left, size) * fft.rfft(g_right, size)
    density = np.zeros(2 * count - 1)
    density[1:-1] = np.maximum(fft.irfft(spectrum, size)[: 2 * count - 3], 0) * (step / 2)
    return SumDensity(np.linspace(2 * places[0], 2 * places[-1], 2 * count - 1), density)


def _evenly_spaced(grid: Array) -> tuple[Array, float]:
    places = np.asarray(grid, dtype=np.float64)
    if places.ndim != 1 or len(places) < 3:
        raise InputError(f"A grid needs one dimension and at least 3 places, got shape {places.shape}.")
    if not (np.isfinite(places).all() and (np.diff(places) > 0).all()):
        raise InputError("A grid needs finite places that increase; this one does not, use np.linspace(low, high, n).")
    even = np.linspace(places[0], places[-1], len(places))
    step = float(even[-1] - even[0]) / (len(even) - 1)
    worst = int(np.abs(places - even).argmax())
    if abs(places[worst] - even[worst]) > 1e-3 * step:
        raise InputError(
            f"A grid needs even steps: place {worst} is {places[worst]:.6g} where {even[worst]:.6g} would be even; use "
            "np.linspace(low, high, n)."
        )
    return even, step


def _limits(name: str, density: Curve | Array, places: Array, step: float) -> tuple[Array, Array]:
    """The density just right of every place but the last, and just left of every place but the first: (n - 1,) each."""
    beside = max(1e-6 * step, 4 * float(np.spacing(np.abs(places).max())))
    if callable(density):
        right = _values(name, density(places[:-1] + beside), places[:-1])
        left = _values(name, density(places[1:] - beside), places[1:])
    else:
        values = _values(name, density, places)
        right, left = values[:-1], values[1:]
    mass = float(right.sum() + left.sum()) * step / 2
    if abs(mass - 1) > MASS:
        raise InputError(
            f"Density {name} holds a probability of {mass:.4g} on the grid from {places[0]:.6g} to {places[-1]:.6g} in "
            f"steps of {step:.3g}, where 1 is needed; widen or refine the grid, or divide the density by its integral."
        )
    return right, left


def _values(name: str, found: Any, places: Array) -> Array:
    values = np.asarray(found, dtype=np.float64)
    if values.shape != places.shape:
        raise InputError(
            f"Density {name} gives values of shape {values.shape} for {len(places)} places; it needs one for each."
        )
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        i = int(wrong.argmax())
        raise InputError(f"Density {name} is {values[i]:g} at {places[i]:.6g}; it needs finite values, none below 0.")
    return values


@dataclass(frozen=True)
class Moment:
    """A mean or a variance: exact, of the sampled sums, and the standard error of the latter."""

    exact: float
    sampled: float
    error: float

    @property
    def deviation(self) -> float:
        """In standard errors."""
        return (self.sampled - self.exact) / self.error


@dataclass(frozen=True)
class SumOfTwo:
    """The density of X + Y in three ways: exact and computed (2 n - 1,) on `grid`, and counted in bins between `edges`.

    law: what the exact density is called. places, first, second: (n,) the grid of the summands, and their densities.
    counts: of `samples` sums; probabilities: the exact ones of the bins. mean, variance: of the sums.
    """

    name: str
    law: str
    places: Array
    first: Array
    second: Array
    grid: Array
    exact: Array
    computed: Array
    samples: int
    edges: Array
    counts: NDArray[np.int64]
    probabilities: Array
    mean: Moment
    variance: Moment

    @property
    def max_error(self) -> float:
        """Largest difference of the computed density from the exact one."""
        return float(np.abs(self.computed - self.exact).max())

    @property
    def deviation(self) -> float:
        """Largest deviation of a count from what is expected, in standard errors."""
        error = np.sqrt(self.samples * self.probabilities * (1 - self.probabilities))
        return float(np.abs((self.counts - self.samples * self.probabilities) / error).max())

    @property
    def p_value(self) -> float:
        """Probability by chance of a bin at least as far off (binomial, both sides, times the number of bins)."""
        law = stats.binom(self.samples, self.probabilities)
        rarest = 2 * np.minimum(law.cdf(self.counts), law.sf(self.counts - 1)).min()
        return min(1.0, len(self.counts) * float(rarest))


@dataclass(frozen=True)
class SumsResult:
    """S1.1: the derivation, and sums of Gaussians and of other variables computed and sampled."""

    derivation: Derivation
    gaussian: tuple[SumOfTwo, ...]
    others: tuple[SumOfTwo, ...]

    @property
    def max_error(self) -> float:
        """Of the numeric convolution against the derived density, the largest over all pairs of Gaussians."""
        return max(s.max_error for s in self.gaussian)

    @property
    def agrees(self) -> bool:
        """Whether every histogram deviates from its exact density by no more than chance gives."""
        return all(self.explained(s) for s in self.sums)

    def explained(self, found: SumOfTwo) -> bool:
        """Whether chance explains the deviations of this one's histogram, being one of several."""
        return found.p_value >= CHANCE / len(self.sums)

    @property
    def sums(self) -> tuple[SumOfTwo, ...]:
        return (*self.gaussian, *self.others)


def run_sums(
    *,
    generator: np.random.Generator,
    samples: int = 100_000,
    pairs: Sequence[tuple[Gaussian, Gaussian]] = PAIRS,
) -> SumsResult:
    """Derive, compute and sample sums of two Gaussians, and of two uniform and two exponential variables.

    Arguments: pairs: ((mu_1, sigma_1), (mu_2, sigma_2)) of the Gaussians.
    Raises: InputError for fewer than 1,000 samples, no pairs, or a pair that no grid fits.
    """
    if samples < 1000:
        raise InputError(f"samples is {samples}; comparing a histogram with a density needs at least 1,000.")
    if not pairs:
        raise InputError("pairs is empty; give at least one pair of Gaussians, as ((0, 1), (1, 2)).")
    derivation = derive()
    draw = _Draw(samples, generator)
    gaussian = tuple(_gaussian_sum(derivation, first, second, draw) for first, second in pairs)
    flat, falling, triangle, gamma = stats.uniform(), stats.expon(), stats.triang(0.5, 0, 2), stats.gamma(2)
    known = (
        ("uniform + uniform", "the triangle", (flat, flat, triangle), np.linspace(-0.5, 1.5, 401)),
        ("exponential + exponential", "the gamma density", (falling, falling, gamma), np.linspace(-1, 44, 1801)),
    )
    others = tuple(_sum(name, law, laws, laws[2].pdf, places, draw) for name, law, laws, places in known)
    return SumsResult(derivation, gaussian, others)


@dataclass(frozen=True)
class _Draw:
    samples: int
    generator: np.random.Generator

    def __call__(self, law: Any) -> Array:
        return np.asarray(law.rvs(self.samples, random_state=self.generator))


def _gaussian_sum(derivation: Derivation, first: Gaussian, second: Gaussian, draw: _Draw) -> SumOfTwo:
    for mu, sigma in (first, second):
        if not (math.isfinite(mu) and 0 < sigma < math.inf):
            raise InputError(f"A Gaussian needs a finite mean and a standard deviation above 0, got ({mu}, {sigma}).")
    ends = [mu + side * 9 * sigma for mu, sigma in (first, second) for side in (-1, 1)]
    count = (max(ends) - min(ends)) / min(first[1], second[1]) * 20 + 1
    if count > LARGEST:
        raise InputError(
            f"The Gaussians {first} and {second} need a grid of {count:.2g} places, at most {LARGEST:,} are computed; "
            "choose means closer together or standard deviations more alike."
        )
    density, mean, variance = derivation.at(first, second)
    sigma = math.sqrt(variance)
    laws = (stats.norm(*first), stats.norm(*second), stats.norm(mean, sigma))
    places = np.linspace(min(ends), max(ends), math.ceil(count))
    return _sum(f"{_named(*first)} + {_named(*second)}", _named(mean, sigma), laws, density, places, draw)


def _named(mu: float, sigma: float) -> str:
    return f"N({mu:.3g}, {sigma:.3g}\u00b2)".replace("-", "\u2212")


def _sum(name: str, law: str, laws: tuple[Any, Any, Any], exact: Curve, places: Array, draw: _Draw) -> SumOfTwo:
    """laws: of both summands and of their sum, frozen distributions of scipy."""
    first, second, total = laws
    computed = convolve_densities(first.pdf, second.pdf, places)
    drawn = draw(first) + draw(second)
    edges = np.linspace(total.ppf(TAIL), total.ppf(1 - TAIL), BINS + 1)
    mean, variance, _, kurtosis = (float(moment) for moment in total.stats("mvsk"))
    return SumOfTwo(
        name,
        law,
        places,
        first.pdf(places),
        second.pdf(places),
        computed.grid,
        exact(computed.grid),
        computed.density,
        draw.samples,
        edges,
        np.histogram(drawn, edges)[0],
        np.diff(total.cdf(edges)),
        Moment(mean, float(drawn.mean()), math.sqrt(variance / draw.samples)),
        Moment(variance, float(drawn.var(ddof=1)), variance * math.sqrt((kurtosis + 2) / draw.samples)),
    )


def findings(result: SumsResult) -> list[str]:
    """How far derivation, computation and samples lie apart, in words."""
    gaussian = max(result.gaussian, key=lambda s: s.max_error)
    sentences = [
        f"The numeric convolution of two Gaussians lies within {result.max_error:.1g} of the derived density at every "
        f"place of the grid (the largest of {len(result.gaussian)}, for {gaussian.name}, whose peak is "
        f"{gaussian.exact.max():.3g}){_rounding(gaussian)}."
    ]
    sentences += [f"{s.name} gives {s.law}, within {s.max_error:.1g}{_rounding(s)}." for s in result.others]
    return [*sentences, _histograms(result), _sampled_moments(result)]


def _rounding(found: SumOfTwo) -> str:
    return ", which is rounding" if found.max_error <= ROUNDING * found.exact.max() else ""


def _histograms(result: SumsResult) -> str:
    sums = result.sums
    far = [s for s in sums if not result.explained(s)]
    worst = max(sums, key=lambda s: s.deviation)
    text = (
        f"In {len(sums)} histograms of {worst.samples:,} sampled sums the bin furthest from its exact probability is "
        f"{worst.deviation:.1f} standard errors off ({worst.name}, {len(worst.counts)} bins, p = {worst.p_value:.2g})"
    )
    if far:
        return f"{text}; more than chance explains for {'; '.join(s.name for s in far)}."
    return f"{text}, no more than chance gives."


def _sampled_moments(result: SumsResult) -> str:
    named = [(s, kind, m) for s in result.sums for kind, m in (("mean", s.mean), ("variance", s.variance))]
    found, kind, worst = max(named, key=lambda entry: abs(entry[2].deviation))
    limit = float(stats.norm.isf(CHANCE / (2 * len(named))))
    verdict = "no more than" if abs(worst.deviation) <= limit else "more than"
    return (
        f"Of the means and variances of the samples, the {kind} of {found.name} is furthest off: {worst.sampled:.4g} "
        f"where {worst.exact:.4g} is exact, {abs(worst.deviation):.1f} standard errors, {verdict} chance gives among "
        f"{len(named)} such numbers ({limit:.1f})."
    )
