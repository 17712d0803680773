"""The density of the sum of two independent Gaussians, derived by sympy step by step.

It is the convolution of theirs, p_Z(z) = int p_X(x) p_Y(z - x) dx: complete the square in x, then one known integral.
Every step is an equation that sympy has verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.printing.mathml import MathMLPresentationPrinter

Array = NDArray[np.float64]
Curve = Callable[[Array], Array]
Gaussian = tuple[float, float]  # mu, sigma
X, Z, MU_1, MU_2 = sp.symbols("x z mu_1 mu_2", real=True)
SIGMA_1, SIGMA_2 = sp.symbols("sigma_1 sigma_2", positive=True)
P_X, P_Y, P_Z = (sp.Function(f"p_{name}") for name in "XYZ")
ALPHA = sp.Symbol("alpha", positive=True)
BETA, GAMMA = sp.symbols("beta gamma", real=True)


@dataclass(frozen=True)
class Step:
    """A step of a derivation: what is done, and an equation in sympy."""

    text: str
    formula: Any  # sympy.Eq

    @property
    def mathml(self) -> str:
        """The formula as presentation MathML, to be put into <math>."""
        return str(_Printer({"order": "none"}).doprint(self.formula))


@dataclass(frozen=True)
class Derivation:
    """The density of the sum of two Gaussians, as sympy expressions in z, mu_1, mu_2, sigma_1 and sigma_2."""

    steps: tuple[Step, ...]
    density: Any
    mean: Any
    variance: Any

    def at(self, first: Gaussian, second: Gaussian) -> tuple[Curve, float, float]:
        """The density as a function, the mean and the variance, for numbers (mu, sigma) of each."""
        values = dict(zip((MU_1, SIGMA_1, MU_2, SIGMA_2), (*first, *second), strict=True))
        density = sp.lambdify(Z, self.density.subs(values), "numpy")
        return density, float(self.mean.subs(values)), float(self.variance.subs(values))


@cache
def derive() -> Derivation:
    """Derive the density of X + Y for X ~ N(mu_1, sigma_1^2), Y ~ N(mu_2, sigma_2^2), with its mean and variance.

    Every step but the first, which defines p_Z, has been simplified by sympy to 0 = 0.
    """
    front = 1 / (2 * sp.pi * SIGMA_1 * SIGMA_2)
    exponent = (X - MU_1) ** 2 / (2 * SIGMA_1**2) + (Z - X - MU_2) ** 2 / (2 * SIGMA_2**2)
    product = front * sp.exp(-exponent)
    both = _normal(X, MU_1, SIGMA_1**2) * _normal(Z - X, MU_2, SIGMA_2**2)
    text = "X and Y are independent, so the density of Z = X + Y is the convolution of their densities."
    posed = [
        Step(text, sp.Eq(P_Z(Z), _over(P_X(X) * P_Y(Z - X), X), evaluate=False)),
        _step("Put in the two Gaussians.", P_X(X) * P_Y(Z - X), product, proof=(both, product)),
    ]
    squared, values, rest = _completed_square(exponent)
    integrated, density = _integrated(front, exponent, values, rest)
    moments, mean, variance = _moments(density)
    return Derivation((*posed, *squared, *integrated, *moments), density, mean, variance)


def _completed_square(exponent: Any) -> tuple[list[Step], dict[Any, Any], Any]:
    """The steps, what alpha, beta and gamma stand for, and what the square in x leaves over."""
    square, linear, constant = sp.Poly(sp.expand(exponent), X).all_coeffs()
    values = {ALPHA: sp.factor(square), BETA: sp.factor(-linear / 2), GAMMA: sp.factor(constant)}
    left_over = GAMMA - BETA**2 / ALPHA
    collected = sp.Add(ALPHA * X**2, -2 * BETA * X, GAMMA, evaluate=False)
    completed = sp.Add(ALPHA * (X - BETA / ALPHA) ** 2, *left_over.args, evaluate=False)
    rest = sp.factor(left_over.subs(values))
    at_zero = {ALPHA: exponent.diff(X, 2) / 2, BETA: -exponent.diff(X).subs(X, 0) / 2, GAMMA: exponent.subs(X, 0)}
    texts = ("Its coefficient of x\u00b2,", "that of x, over \u22122,", "and what has no x.")
    steps = [
        _step("Minus the exponent is quadratic in x.", exponent, collected, values=values),
        *(_step(text, k, values[k], proof=(at_zero[k], values[k])) for text, k in zip(texts, values, strict=True)),
        _step("Complete the square.", collected, completed),
        _step("What it leaves over has no x in it, and z only in a square.", left_over, rest, values=values),
    ]
    return steps, values, rest


def _integrated(front: Any, exponent: Any, values: dict[Any, Any], rest: Any) -> tuple[list[Step], Any]:
    """The steps from the completed square to the density."""
    width, place = sp.Symbol("a", positive=True), sp.Symbol("b", real=True)
    bell = _over(sp.exp(-width * (X - place) ** 2), X)
    area, root = (sp.Pow(sp.pi / k, sp.S.Half, evaluate=False) for k in (width, ALPHA))
    square = ALPHA * (X - BETA / ALPHA) ** 2
    pulled = front * sp.exp(-rest) * _over(sp.exp(-square), X)
    factor = sp.Mul(front, root, evaluate=False)
    density = _normal(Z, MU_1 + MU_2, SIGMA_1**2 + SIGMA_2**2)
    texts = (
        "So all but the square comes out of the integral.",
        "For any b, and any a above 0 (as \u03b1 is),",
        "so that the factors in front become",
        "and Z is Gaussian: the means add up, and so do the variances.",
    )
    steps = [
        _step(texts[0], P_Z(Z), pulled, proof=(exponent, square + rest), values=values),
        _step(texts[1], bell, area),
        _step(texts[2], factor, density.args[0], values=values),
        _step(texts[3], P_Z(Z), density, proof=(factor * sp.exp(-rest), density), values=values),
    ]
    return steps, density


def _moments(density: Any) -> tuple[list[Step], Any, Any]:
    """The steps, the mean and the variance, integrated from the density itself."""
    mean = sp.simplify(_over(Z * density, Z).doit())
    variance = sp.simplify(_over((Z - mean) ** 2 * density, Z).doit())
    shown = (_over(Z * P_Z(Z), Z), _over((Z - mean) ** 2 * P_Z(Z), Z))
    steps = [
        _step("The mean, integrated from this density,", shown[0], mean, proof=(MU_1 + MU_2, mean)),
        _step("and the variance.", shown[1], variance, proof=(SIGMA_1**2 + SIGMA_2**2, variance)),
    ]
    return steps, mean, variance


def _step(text: str, left: Any, right: Any, *, proof: Any = None, values: dict[Any, Any] | None = None) -> Step:
    """A step left = right that sympy simplifies to 0 = 0, with `values` for alpha, beta and gamma.

    Arguments: proof: the two sides to compare, where `left` or `right` hold what is only named, as p_Z.
    """
    one, other = proof or (left, right)
    difference = sp.simplify((one - other).subs(values or {}).doit())
    if difference != 0:
        raise AssertionError(f"{text} {left} = {right} does not hold: the difference is {difference}.")
    return Step(text, sp.Eq(left, right, evaluate=False))


def _over(integrand: Any, variable: Any) -> Any:
    return sp.Integral(integrand, (variable, -sp.oo, sp.oo))


def _normal(place: Any, mean: Any, variance: Any) -> Any:
    """N(place; mean, variance), not evaluated: sympy would take the root apart."""
    front = sp.Pow(2 * sp.pi * variance, -sp.S.Half, evaluate=False)
    return sp.Mul(front, sp.exp(-((place - mean) ** 2) / (2 * variance)), evaluate=False)


class _Printer(MathMLPresentationPrinter):  # type: ignore[misc]  # sympy is not typed
    """exp(...) in full size and in no denominator, integrals last in a product, functions with their subscripts."""

    def _print_Function(self, e: Any) -> Any:
        row = super()._print_Function(e)
        row.replaceChild(self._print_Symbol(sp.Symbol(e.func.__name__)), row.firstChild)
        return row

    _print_exp = _print_Function

    def _print_Mul(self, expr: Any) -> Any:
        roots = [e for e in expr.args if e.is_Pow and e.exp == sp.S.Half]
        last = [e for kind in (sp.exp, sp.Integral) for e in expr.args if isinstance(e, kind)]
        first = [e for e in expr.args if e not in (*roots, *last)]
        if not roots and not last:
            return super()._print_Mul(expr)
        row = self.dom.createElement("mrow")
        for part in [*([sp.Mul(*first, evaluate=len(first) > 1)] if first else []), *roots, *last]:
            row.appendChild(self._print(part))
        return row
