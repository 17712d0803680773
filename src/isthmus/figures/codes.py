"""Codes of two numbers as a scatter, and tables of classes against classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from isthmus.figures.labels import legend_columns
from isthmus.figures.style import BLUE, INK, ORANGE, PALETTE, PAPER, SHADES, TOGGLED, Panel, colour, panel

ELLIPSES = 300  # posteriors drawn as ellipses
MARKERS = ("o", "^", "s")  # a second sign where there are more classes than colours


def scatter(
    name: str,
    title: str,
    codes: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    classes: Sequence[str],
    *,
    stds: NDArray[np.float32] | None = None,
) -> Panel:
    """Codes (N, 2), coloured by class; each class is also named at its median.

    Arguments: stds: (N, 2) of the posterior of each code; a page can then show their ellipses (one standard deviation)
    for some of them.
    """
    with panel(4.4 if labels is None else 4.9) as figure:
        axes = figure.subplots()
        size = 3.0 if len(codes) > 3000 else 9.0
        if labels is None:
            axes.scatter(codes[:, 0], codes[:, 1], s=size, color=BLUE, linewidths=0, rasterized=True)
        else:
            # In one shuffled order, so that no class hides another.
            order = np.random.default_rng(0).permutation(len(codes))
            colours = np.array([colour(k) for k in range(len(classes))])
            for j, marker in enumerate(MARKERS):
                chosen = order[(labels[order] // len(PALETTE)) % len(MARKERS) == j]
                x, y, ink = codes[chosen, 0], codes[chosen, 1], colours[labels[chosen]]
                axes.scatter(x, y, s=size, c=ink, marker=marker, linewidths=0, rasterized=True)
            halo = [effects.withStroke(linewidth=3, foreground=PAPER)]
            for k, (x, y) in _apart(codes, labels).items():
                style: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "color": INK, "path_effects": halo}
                axes.text(x, y, classes[k], ha="center", va="center", **style)
            class_legend(figure, classes)
        toggle = ""
        if stds is not None:
            shown = np.linspace(0, len(codes) - 1, min(len(codes), ELLIPSES)).round().astype(int)
            inks = [INK] * len(shown) if labels is None else [colour(k) for k in labels[shown]]
            sizes = {"widths": 2 * stds[shown, 0], "heights": 2 * stds[shown, 1], "angles": 0.0}
            place: dict[str, Any] = {"units": "xy", "offsets": codes[shown], "offset_transform": axes.transData}
            ellipses = EllipseCollection(**sizes, **place, facecolors="none", edgecolors=inks)
            ellipses.set(gid=TOGGLED, linewidth=0.8)
            axes.add_collection(ellipses)
            toggle = f"ellipses of the posterior (one standard deviation), {len(shown)} of {len(codes):,}"
        axes.set(title=title, xlabel="first number of the code", ylabel="second number of the code")
        axes.set_xlim(*_window(codes[:, 0]))
        axes.set_ylim(*_window(codes[:, 1]))
    text = f"{title}: {len(codes)} codes of test images, a thousandth at each end of an axis left out."
    return Panel(name, figure, text, toggle)


def class_legend(figure: Figure, classes: Sequence[str]) -> None:
    """Name every class with its colour and sign below the figure."""
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[k // len(PALETTE) % len(MARKERS)], color=colour(k), label=name)
        for k, name in enumerate(classes)
    ]
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(legend_columns(classes), 10)}
    figure.legend(handles=handles, handletextpad=0.0, columnspacing=0.6, **place)


def marginals(name: str, title: str, codes: NDArray[np.floating], *, what: str, prior: bool = True) -> Panel:
    """How the numbers of codes (N, D) are distributed, an axis a row.

    Arguments: what: they are codes of. prior: draw N(0, 1) beside them.
    """
    count = codes.shape[1]
    with panel(0.7 + 1.25 * count) as figure:
        rows = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        low, high = _window(codes.ravel())
        if prior:
            high = max(3.5, -low, high)
            low = -high
        x = np.linspace(low, high, 201)
        for i, axes in enumerate(rows):
            axes.hist(codes[:, i], bins=80, range=(low, high), density=True, color=BLUE, alpha=0.55)
            axes.set(ylabel=f"axis {i + 1}", yticks=[])
            if prior:
                axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=ORANGE, label="N(0, 1)")
        if prior:
            rows[0].legend(loc="upper right")
        rows[0].set_title(title)
        rows[-1].set_xlabel(what)
    beside = ", and the prior" if prior else ""
    return Panel(name, figure, f"{title}: histograms of {count} numbers over {len(codes)} codes{beside}.")


def class_table(
    name: str,
    title: str,
    table: NDArray[np.float64] | NDArray[np.int64],
    classes: Sequence[str],
    *,
    rows: str,
    columns: str,
    least: float = 0.0,
) -> Panel:
    """A (K, K) table of shares in percent or of counts, each row shaded by its shares; the diagonal is not shaded.

    Arguments: least: a share with no shade.
    """
    count = len(classes)
    counts = np.issubdtype(table.dtype, np.integer)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1) if counts else table
    shown = np.where(np.eye(count, dtype=bool), np.nan, shares)
    with panel(4.4) as figure:
        axes = figure.subplots()
        axes.imshow(shown, cmap=SHADES, vmin=least, vmax=max(float(np.nanmax(shown)), least + 1e-9))
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


def _apart(codes: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[int, NDArray[np.floating]]:
    """Where to write each class: at its median, pushed away from the names of others that would lie on it."""
    present = np.unique(labels)
    scale = np.array([np.subtract(*_window(codes[:, i])[::-1]) for i in range(2)])
    places = np.array([np.median(codes[labels == k], axis=0) / scale for k in present])
    places += np.random.default_rng(0).normal(scale=1e-6, size=places.shape)
    for _ in range(100):
        between = places[:, None] - places[None]
        distance = np.linalg.norm(between, axis=2, keepdims=True) + np.eye(len(present))[..., None]
        places += 0.25 * (np.clip(0.055 - distance, 0, None) * between / distance).sum(1)
    return dict(zip(present.tolist(), places * scale, strict=True))


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    """What to show of an axis: all but a thousandth at each end, with a margin."""
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
