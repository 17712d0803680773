"""The manifold a decoder draws: a regular grid of two-number codes, a walk between two of them, and where data lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm


@dataclass(frozen=True)
class Grid:
    """A regular grid over the plane of codes.

    codes: (R, R, 2), row 0 at the top, the largest second number. counts: (R, R) training codes in the cell around
    each. extent: (left, right, bottom, top) of the whole, cells included, as matplotlib takes it: in units of the code,
    or in quantiles of N(0, 1) if it is a `quantile_grid`.
    """

    codes: NDArray[np.float32]
    counts: NDArray[np.int64]
    extent: tuple[float, float, float, float]

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """(R, R), True where at least one code lies in the cell."""
        return self.counts > 0

    def levels(self, shares: tuple[float, ...]) -> dict[float, float]:
        """For each share, the count that the fullest cells holding together that share of the codes all reach."""
        ordered = np.sort(self.counts.ravel())[::-1]
        held = np.cumsum(ordered) / max(1, ordered.sum())
        return {share: max(0.5, float(ordered[np.searchsorted(held, share)])) for share in shares}


def grid(codes: NDArray[np.floating], *, size: int = 20, tail: float = 0.005) -> Grid:
    """Lay a grid of `size` by `size` over codes (N, 2), leaving out the share `tail` of them at each end of each axis.

    An axis without spread (a dead one) is given the width 1, so that the grid shows it changes nothing.
    Raises: ValueError if the codes are not of two numbers.
    """
    if codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"A grid needs codes (N, 2), got {codes.shape}.")
    low, high = np.quantile(codes, [tail, 1 - tail], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    middle = (low + high) / 2
    low, high = middle - spread / 2, middle + spread / 2
    half = spread / (size - 1) / 2
    x, y = (np.linspace(low[i], high[i], size) for i in range(2))
    points = np.stack(np.meshgrid(x, y[::-1]), axis=-1).astype(np.float32)
    edges = [np.linspace(low[i] - half[i], high[i] + half[i], size + 1) for i in range(2)]
    counts = np.histogram2d(codes[:, 0], codes[:, 1], bins=edges)[0].T[::-1]
    extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
    return Grid(points, counts.astype(np.int64), tuple(float(e) for e in extent))  # type: ignore[arg-type]


def quantile_grid(codes: NDArray[np.floating], *, size: int = 20) -> Grid:
    """A grid whose cells all hold the same share of N(0, I): codes at its quantiles (Kingma and Welling 2014, fig. 4).

    Arguments: codes: (N, 2), counted by cell. Its extent is (0, 1, 0, 1), the quantiles.
    Raises: ValueError if the codes are not of two numbers.

    >>> quantile_grid(np.zeros((1, 2)), size=3).codes[1, 1]
    array([0., 0.], dtype=float32)
    """
    if codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"A grid needs codes (N, 2), got {codes.shape}.")
    steps = norm.ppf((np.arange(size) + 0.5) / size)
    points = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).astype(np.float32)
    places = norm.cdf(codes.astype(np.float64))
    edges = np.linspace(0, 1, size + 1)
    counts = np.histogram2d(places[:, 0], places[:, 1], bins=[edges, edges])[0].T[::-1]
    return Grid(points, counts.astype(np.int64), (0.0, 1.0, 0.0, 1.0))


def uneven(grid: Grid) -> float:
    """Total variation distance between the counts of a quantile grid and the prior, which fills its cells evenly: from
    0 to 1. Even samples of the prior itself differ from it a little; compare with theirs."""
    shares = grid.counts / max(1, grid.counts.sum())
    return float(0.5 * np.abs(shares - 1 / grid.counts.size).sum())


def middle(codes: NDArray[np.floating]) -> NDArray[np.floating]:
    """The code nearest to the median of codes (N, D): a real one, in the thick of them."""
    distance = np.square(codes - np.median(codes, axis=0)).sum(1)
    chosen: NDArray[np.floating] = codes[int(distance.argmin())]
    return chosen


def walk(start: NDArray[np.floating], end: NDArray[np.floating], *, steps: int) -> NDArray[np.float32]:
    """Codes at equal steps on the straight line: (D,), (D,) -> (steps, D), both ends included.

    >>> walk(np.zeros(1), np.ones(1), steps=3).ravel()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    share = np.linspace(0, 1, steps)[:, None]
    return ((1 - share) * start + share * end).astype(np.float32)
