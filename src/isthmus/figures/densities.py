"""Densities: of a sum of two variables, exact, computed on a grid and sampled, beside those of its summands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from isthmus.figures.style import BLUE, INK, ORANGE, PURPLE, RULE, Panel, panel
from isthmus.studies.convolution import SumOfTwo

SHOWN = 0.004  # of the highest density: where less is left, the axis ends
DOTS = 40  # of the computed density, across the axis


def sums(name: str, found: Sequence[SumOfTwo]) -> Panel:
    """Sums of two variables, one below the other: exact, numeric and sampled, the summands as thin lines."""
    titles = [f"{each.name} gives {each.law}" for each in found]
    with panel(0.75 + 2.3 * len(found)) as figure:
        rows = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for axes, each, title in zip(rows, found, titles, strict=True):
            _sum(axes, each)
            axes.set_title(title)
        rows[-1].set_xlabel("value")
        handles, labels = rows[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=1.6, columnspacing=1.0)
    text = f"{'; '.join(titles)}: exact density, numeric convolution, histogram of {found[0].samples:,} sampled sums."
    return Panel(name, figure, text)


def _sum(axes: Axes, found: SumOfTwo) -> None:
    low, high = _window(found)
    heights = found.counts / (found.samples * np.diff(found.edges))
    axes.stairs(heights, found.edges, fill=True, color=BLUE, alpha=0.3, label="sampled X + Y")
    axes.plot(found.places, found.first, color=PURPLE, linewidth=1, label="X")
    axes.plot(found.places, found.second, color=RULE, linewidth=1, linestyle=(0, (4, 2)), label="Y")
    axes.plot(found.grid, found.exact, color=INK, linewidth=1.3, label="X + Y, exact")
    inside = np.flatnonzero((found.grid >= low) & (found.grid <= high))
    dots = inside[:: max(1, len(inside) // DOTS)]
    axes.plot(found.grid[dots], found.computed[dots], "o", color=ORANGE, markersize=3, label="X + Y, numeric")
    axes.set(ylabel="density", xlim=(low, high), ylim=(0, None))


def _window(found: SumOfTwo) -> tuple[float, float]:
    """From the first to the last place where one of the three densities shows."""
    curves = ((found.places, found.first), (found.places, found.second), (found.grid, found.exact))
    seen = np.concatenate([x[p > SHOWN * p.max()] for x, p in curves])
    margin = 0.02 * float(seen.max() - seen.min())
    return float(seen.min()) - margin, float(seen.max()) + margin
