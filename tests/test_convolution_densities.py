"""S1.1: the convolution of densities on a grid against closed forms, its derivation step by step, and sampled sums."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy import stats

from isthmus.errors import InputError
from isthmus.figures import densities
from isthmus.figures.style import files, svg
from isthmus.studies import convolution, gaussian_sum
from isthmus.studies.convolution import Derivation, SumsResult, convolve_densities, derive, findings, run_sums

Array = NDArray[np.float64]
NUMBERS = {"mu_1": 0.7, "mu_2": -1.3, "sigma_1": 0.8, "sigma_2": 1.9}


@pytest.fixture(scope="module")
def result() -> SumsResult:
    return run_sums(generator=np.random.default_rng(0), samples=20_000)


@pytest.fixture(scope="module")
def derivation() -> Derivation:
    return derive()


def error(f: Callable[[Array], Array], g: Callable[[Array], Array], h: Callable[[Array], Array], grid: Array) -> float:
    found = convolve_densities(f, g, grid)
    return float(np.abs(found.density - h(found.grid)).max())


@pytest.mark.parametrize("low", [0.0, -0.5], ids=["jumps at the ends", "jumps inside"])
def test_uniform_and_uniform_give_the_triangle(low: float) -> None:
    flat, triangle = stats.uniform().pdf, stats.triang(0.5, 0, 2).pdf
    assert error(flat, flat, triangle, np.linspace(low, 1 - low, 101)) < 1e-12


def test_values_on_the_grid_do_as_a_function_does() -> None:
    found = convolve_densities(np.ones(65), np.ones(65), np.linspace(0, 1, 65))
    np.testing.assert_allclose(found.density, stats.triang(0.5, 0, 2).pdf(found.grid), atol=1e-12)


def test_uniforms_of_different_width_give_a_trapezium() -> None:
    narrow, wide = stats.uniform(0, 1).pdf, stats.uniform(0, 3).pdf
    trapezium = stats.trapezoid(0.25, 0.75, 0, 4).pdf
    assert error(narrow, wide, trapezium, np.linspace(-1, 4, 501)) < 1e-12


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_exponentials_give_the_gamma_density(low: float) -> None:
    grid = np.linspace(low, 40, round((40 - low) * 20) + 1)  # the jump on a place
    assert error(stats.expon().pdf, stats.expon().pdf, stats.gamma(2).pdf, grid) < 1e-13


def test_gammas_add_their_shapes() -> None:
    assert error(stats.gamma(3).pdf, stats.gamma(4).pdf, stats.gamma(7).pdf, np.linspace(0, 60, 4001)) < 1e-6


def test_error_falls_with_the_square_of_the_step_where_jumps_are_on_places() -> None:
    def both(z: Array) -> Array:  # rates 1 and 3
        return np.where(z < 0, 0, 1.5 * (np.exp(-z) - np.exp(-3 * z)))

    first, second = stats.expon().pdf, stats.expon(scale=1 / 3).pdf
    coarse, fine = (error(first, second, both, np.linspace(-2, 38, n + 1)) for n in (800, 1600))
    assert coarse / fine == pytest.approx(4, rel=0.1)


def test_error_falls_with_the_step_where_a_jump_is_between_places() -> None:
    flat, triangle = stats.uniform(1 / 3, 1).pdf, stats.triang(0.5, 2 / 3, 2).pdf
    coarse, fine = (error(flat, flat, triangle, np.linspace(0, 2, n + 1)) for n in (400, 1600))
    assert coarse < 2 / 400
    assert coarse / fine == pytest.approx(4, rel=0.2)


def test_sum_is_that_over_all_pairs_of_places() -> None:
    rng = np.random.default_rng(1)
    grid = np.linspace(-1, 2, 40)
    f, g = (p / np.trapezoid(p, grid) for p in rng.random((2, 40)))
    found = convolve_densities(f, g, grid)
    for k in range(79):
        i = np.arange(max(0, k - 39), min(k, 39) + 1)
        expected = np.trapezoid(f[i] * g[k - i], grid[i])
        assert found.density[k] == pytest.approx(expected, abs=1e-12)
        assert found.grid[k] == pytest.approx(grid[i[0]] + grid[k - i[0]])


def test_grid_of_single_precision_is_even_enough() -> None:
    grid = np.linspace(-20, 20, 2001, dtype=np.float32)
    found = convolve_densities(stats.norm().pdf, stats.norm().pdf, grid)
    np.testing.assert_allclose(found.density, stats.norm(0, 2**0.5).pdf(found.grid), atol=1e-6)


def test_order_does_not_matter_and_means_and_variances_add() -> None:
    f, g = stats.gamma(5, -1, 0.4).pdf, stats.norm(2, 0.7).pdf
    grid = np.linspace(-8, 16, 2401)
    one, other = convolve_densities(f, g, grid), convolve_densities(g, f, grid)
    np.testing.assert_allclose(one.density, other.density, atol=1e-14)
    mean = np.trapezoid(one.grid * one.density, one.grid)
    variance = np.trapezoid((one.grid - mean) ** 2 * one.density, one.grid)
    assert np.trapezoid(one.density, one.grid) == pytest.approx(1, abs=1e-6)
    assert mean == pytest.approx((-1 + 5 * 0.4) + 2, abs=1e-5)
    assert variance == pytest.approx(5 * 0.4**2 + 0.7**2, abs=1e-5)


@pytest.mark.parametrize(
    ("f", "grid", "words"),
    [
        (np.ones(5), np.array([0.0, 0.1, 0.2, 0.6, 1.0]), "even steps: place 2 is 0.2 where 0.5 .*np.linspace"),
        (np.ones(5), np.linspace(1, 0, 5), "finite places that increase"),
        (np.ones(5), np.array([0, 1, 2, 3, np.nan]), "finite places that increase"),
        (np.ones(2), np.linspace(0, 1, 2), r"at least 3 places, got shape \(2,\)"),
        (np.ones(4), np.ones((2, 2)), r"one dimension and at least 3 places, got shape \(2, 2\)"),
        (np.array([1, 2, -1, 2, 1.0]), np.linspace(0, 1, 5), "Density f is -1 at 0.5; it needs finite values"),
        (np.array([1, 1, 1, np.inf, 1]), np.linspace(0, 1, 5), "Density f is inf at 0.75"),
        (lambda x: np.full_like(x, np.nan), np.linspace(0, 1, 5), "Density f is nan at 0"),
        (np.ones(4), np.linspace(0, 1, 5), r"gives values of shape \(4,\) for 5 places"),
        (lambda x: 1.0, np.linspace(0, 1, 5), r"gives values of shape \(\)"),
        (stats.norm().pdf, np.linspace(-1, 1, 101), "Density f holds a probability of 0.6827 .*widen or refine"),
        (stats.norm(0, 1e-3).pdf, np.linspace(-1, 1, 101), "probability of 7.979 .*in steps of 0.02.*refine"),
        (2 * np.ones(5), np.linspace(0, 1, 5), "probability of 2 on the grid from 0 to 1 .*divide the density"),
    ],
)
def test_bad_densities_and_grids_are_named(f: object, grid: Array, words: str) -> None:
    with pytest.raises(InputError, match=words):
        convolve_densities(f, f, grid)  # type: ignore[arg-type]


def test_second_density_is_named_too() -> None:
    with pytest.raises(InputError, match="Density g holds a probability of 3 "):
        convolve_densities(np.ones(5), 3 * np.ones(5), np.linspace(0, 1, 5))


def test_every_step_holds_in_numbers(derivation: Derivation) -> None:
    """Against normal densities written here, with numbers for all symbols, integrated numerically."""

    def normal(mean: float, sigma: float) -> Callable[[sp.Expr], sp.Expr]:
        return lambda x: sp.exp(-((x - mean) ** 2) / (2 * sigma**2)) / (sigma * sp.sqrt(2 * sp.pi))

    means = (NUMBERS["mu_1"], NUMBERS["mu_2"], NUMBERS["mu_1"] + NUMBERS["mu_2"])
    sigmas = (NUMBERS["sigma_1"], NUMBERS["sigma_2"], float(np.hypot(NUMBERS["sigma_1"], NUMBERS["sigma_2"])))
    laws = {f"p_{k}": normal(*law) for k, law in zip("XYZ", zip(means, sigmas, strict=True), strict=True)}
    numbers: dict[str, sp.Expr] = {**NUMBERS, "z": 0.9, "x": -0.4, "a": 1.7, "b": 0.2}

    def value(side: sp.Expr) -> float:
        for name, law in laws.items():
            side = side.replace(sp.Function(name), law)
        return float(side.subs({s: numbers[s.name] for s in side.free_symbols}).evalf())

    # A step before those that read alpha, beta and gamma off names them already.
    read = [step.formula for step in derivation.steps if step.formula.lhs.is_Symbol]
    numbers |= {formula.lhs.name: value(formula.rhs) for formula in read}
    assert {"alpha", "beta", "gamma"} <= numbers.keys()
    assert len(derivation.steps) >= 12
    for step in derivation.steps:
        assert value(step.formula.lhs) == pytest.approx(value(step.formula.rhs), rel=1e-9), step.text


def test_a_false_step_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"Wrong\. .*does not hold"):
        gaussian_sum._step("Wrong.", gaussian_sum.X**2, gaussian_sum.X)
    values = {gaussian_sum.ALPHA: 2 * gaussian_sum.X}
    with pytest.raises(AssertionError, match="does not hold"):
        gaussian_sum._step("Wrong.", gaussian_sum.ALPHA, gaussian_sum.X, values=values)


@pytest.mark.parametrize("pair", [((0, 1), (1, 2)), ((-2, 0.5), (3, 1.5)), ((1e3, 1e-2), (0, 30))])
def test_derived_density_is_the_gaussian_of_added_means_and_variances(
    derivation: Derivation, pair: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    (mu_1, sigma_1), (mu_2, sigma_2) = pair
    density, mean, variance = derivation.at(*pair)
    assert mean == pytest.approx(mu_1 + mu_2)
    assert variance == pytest.approx(sigma_1**2 + sigma_2**2)
    z = np.linspace(mean - 4 * sigma_2, mean + 4 * sigma_2, 101)
    np.testing.assert_allclose(density(z), stats.norm(mean, np.hypot(sigma_1, sigma_2)).pdf(z), rtol=1e-9)


def test_formulas_are_mathml_with_subscripts(derivation: Derivation) -> None:
    for step in derivation.steps:
        ET.fromstring(f"<math>{html.unescape(step.mathml)}</math>")
    text = "".join(step.mathml for step in derivation.steps)
    for letter, index in (("p", "X"), ("p", "Y"), ("p", "Z"), ("&#956;", "1"), ("&#963;", "2")):
        assert f"<msub><mi>{letter}</mi><mi>{index}</mi></msub>" in text
    assert "ExponentialE" not in text
    assert "_" not in text


def test_sums_agree_in_all_three_ways(result: SumsResult) -> None:
    assert [s.name for s in result.gaussian] == ["N(0, 1²) + N(1, 2²)", "N(−2, 0.5²) + N(3, 1.5²)"]
    assert result.max_error == max(s.max_error for s in result.gaussian) < 1e-13
    assert all(s.max_error < 1e-13 for s in result.others)
    assert result.agrees
    for found in result.sums:
        assert found.counts.sum() == pytest.approx(0.998 * found.samples, rel=0.005)
        assert found.probabilities.sum() == pytest.approx(0.998)
        assert abs(found.mean.deviation) < 5
        assert abs(found.variance.deviation) < 5


def test_samples_follow_the_generator() -> None:
    one, same, other = (run_sums(generator=np.random.default_rng(s), samples=1000).sums[0].counts for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_chance_is_rarely_called_a_deviation_and_a_wrong_density_always(result: SumsResult) -> None:
    found = result.gaussian[0]
    rng = np.random.default_rng(3)

    def p_value(sigma: float) -> float:
        drawn = rng.normal(1, sigma, found.samples)
        return replace(found, counts=np.histogram(drawn, found.edges)[0]).p_value

    right = [p_value(5**0.5) for _ in range(200)]
    assert np.mean(np.array(right) < 0.1) < 0.17  # of 200 at 0.1, three standard errors above
    assert max(p_value(1.1 * 5**0.5) for _ in range(20)) < convolution.CHANCE / 4


def test_findings_follow_the_numbers(result: SumsResult) -> None:
    said = " ".join(findings(result))
    assert said.count("which is rounding") == 3
    assert said.count("no more than chance gives") == 2
    first = result.gaussian[0]
    drawn = np.random.default_rng(0).normal(1, 2.6, first.samples)
    wrong = replace(
        first,
        computed=first.computed + 1e-3,
        counts=np.histogram(drawn, first.edges)[0],
        variance=replace(first.variance, sampled=6.76),
    )
    spoiled = " ".join(findings(replace(result, gaussian=(wrong, *result.gaussian[1:]))))
    assert "within 0.001 of the derived density" in spoiled
    assert spoiled.count("which is rounding") == 2
    assert "more than chance explains for N(0, 1²) + N(1, 2²)." in spoiled
    assert "the variance of N(0, 1²) + N(1, 2²) is furthest off: 6.76 where 5 is exact" in spoiled
    assert "no more than" not in spoiled


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 10}, "samples is 10; .* at least 1,000"),
        ({"pairs": ()}, "pairs is empty; give at least one"),
        ({"pairs": (((0, 1), (1, 0)),)}, r"standard deviation above 0, got \(1, 0\)"),
        ({"pairs": (((float("nan"), 1), (1, 1)),)}, r"finite mean .* got \(nan, 1\)"),
        ({"pairs": (((0, 1e-6), (0, 1)),)}, r"grid of 3.6e\+08 places, at most 1,048,576 .*more alike"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_sums(generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]


def test_panels_show_what_was_found(result: SumsResult) -> None:
    single = densities.sums("gauss", result.gaussian[:1])
    double = densities.sums("others", result.others)
    assert [len(p.figure.axes) for p in (single, double)] == [1, 2]
    assert single.figure.axes[0].get_title() == "N(0, 1²) + N(1, 2²) gives N(1, 2.24²)"
    labels = [text.get_text() for text in single.figure.legends[0].get_texts()]
    assert labels == ["sampled X + Y", "X", "Y", "X + Y, exact", "X + Y, numeric"]
    bars = single.figure.axes[0].patches[0].get_data()
    area = float((bars.values * np.diff(bars.edges)).sum())
    assert area == pytest.approx(result.gaussian[0].counts.sum() / result.gaussian[0].samples)
    for drawn in (single, double):
        assert drawn.figure.get_figwidth() == 4.5
        assert "nan" not in svg(drawn)
        assert files(drawn)[f"{drawn.name}.png"].startswith(b"\x89PNG")
