"""Codes of two numbers as a scatter, and tables of classes against classes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.patheffects as effects
import numpy as np
from numpy.typing import NDArray

from isthmus.figures.style import BLUE, INK, PAPER, SHADES, Panel, colour, panel

MARKERS = ("o", "^", "s")  # a second sign where there are more classes than colours


def scatter(
    name: str,
    title: str,
    codes: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    classes: Sequence[str],
) -> Panel:
    """Codes (N, 2), coloured by class; each class is also named at its median."""
    with panel(4.4 if labels is None else 4.9) as figure:
        axes = figure.subplots()
        size = 3.0 if len(codes) > 3000 else 9.0
        if labels is None:
            axes.scatter(codes[:, 0], codes[:, 1], s=size, color=BLUE, linewidths=0, rasterized=True)
        else:
            for k in range(len(classes)):
                marker = MARKERS[(k // 10) % len(MARKERS)]
                axes.scatter(
                    codes[labels == k, 0],
                    codes[labels == k, 1],
                    s=size,
                    color=colour(k),
                    marker=marker,
                    linewidths=0,
                    rasterized=True,
                    label=classes[k],
                )
            halo = [effects.withStroke(linewidth=3, foreground=PAPER)]
            for k in np.unique(labels):
                x, y = np.median(codes[labels == k], axis=0)
                axes.text(
                    x,
                    y,
                    classes[k],
                    ha="center",
                    va="center",
                    fontsize=12,
                    fontweight="bold",
                    color=INK,
                    path_effects=halo,
                )
            figure.legend(
                loc="outside lower center",
                ncols=min(len(classes), 10),
                markerscale=12 / size,
                handletextpad=0.0,
                columnspacing=0.6,
            )
        axes.set(title=title, xlabel="first number of the code", ylabel="second number")
        axes.set_xlim(*_window(codes[:, 0]))
        axes.set_ylim(*_window(codes[:, 1]))
    return Panel(name, figure, f"{title}: {len(codes)} codes of test images in the plane.")


def class_table(
    name: str,
    title: str,
    table: NDArray[np.float64] | NDArray[np.int64],
    classes: Sequence[str],
    *,
    rows: str,
    columns: str,
) -> Panel:
    """A (K, K) table of shares in percent or of counts, each row shaded by its shares; the diagonal is not shaded."""
    count = len(classes)
    counts = np.issubdtype(table.dtype, np.integer)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1) if counts else table
    shown = np.where(np.eye(count, dtype=bool), np.nan, shares)
    with panel(4.4) as figure:
        axes = figure.subplots()
        axes.imshow(shown, cmap=SHADES, vmin=0, vmax=max(float(np.nanmax(shown)), 1e-9))
        if count <= 12:
            for i in range(count):
                for j in range(count):
                    value = table[i, j]
                    text = (
                        ""
                        if not np.isfinite(value) or (i == j and not counts)
                        else f"{value}"
                        if counts
                        else f"{100 * value:.0f}"
                    )
                    axes.text(
                        j,
                        i,
                        text,
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color=INK,
                        fontweight="bold" if i == j else "normal",
                    )
        axes.set_xticks(range(count), classes, rotation=0 if max(map(len, classes)) <= 3 else 60)
        axes.set_yticks(range(count), classes)
        axes.tick_params(length=0)
        axes.set(title=title, xlabel=columns, ylabel=rows)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return Panel(name, figure, f"{title}, {count} by {count} classes.")


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    """What to show of an axis: all but a thousandth at each end, with a margin."""
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
