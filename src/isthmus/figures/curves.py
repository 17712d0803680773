"""Curves over epochs and figures by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from isthmus.figures.style import BLUE, INK, MODEL_COLOURS, ORANGE, PURPLE, RED, RULE, Panel, panel

SERIES = (RED, ORANGE, BLUE, PURPLE)
MARKERS = ("o", "s", "^", "D", "v", "P")


def loss_curves(
    name: str, title: str, epochs: Sequence[dict[str, float]], *, best: int, level: tuple[str, float]
) -> Panel:
    """Training and validation loss of one run, the epoch whose weights were kept, and a level to compare with.

    Arguments: level: its name and value, drawn as a dashed line (the exact PCA error, say).
    """
    with panel(2.7) as figure:
        axes = figure.subplots()
        _two_lines(axes, epochs, "loss", best)
        axes.axhline(level[1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label=level[0])
        axes.set(title=title, xlabel="epoch", ylabel="mean squared error")
        losses = [e[f"{part}_loss"] for e in epochs for part in ("train", "validation")]
        if 0 < 10 * min(losses) < max(losses):  # an early spike would flatten all the rest
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:.3g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside lower center", ncols=4, handlelength=1.5, columnspacing=1.0)
    return Panel(name, figure, f"{title}: training and validation loss over {len(epochs)} epochs, best epoch {best}.")


def accuracy_curves(name: str, title: str, epochs: Sequence[dict[str, float]], *, best: int) -> Panel:
    """Training and validation accuracy and loss of a classifier, one above the other."""
    with panel(3.9) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        _two_lines(upper, epochs, "accuracy", best)
        upper.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        upper.set(title=title, ylabel="accuracy")
        upper.legend(loc="best")
        _two_lines(lower, epochs, "loss", best)
        lower.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        losses = [e[f"{part}_loss"] for e in epochs for part in ("train", "validation")]
        if min(losses) > 0 and max(losses) > 10 * min(losses):
            _logarithmic(lower)
        lower.yaxis.set_major_formatter("{x:.4g}")
    return Panel(
        name,
        figure,
        f"{title}: accuracy and loss on training and validation images over {len(epochs)} epochs.",
    )


def compared_curves(name: str, title: str, runs: Mapping[str, Sequence[dict[str, float]]]) -> Panel:
    """Loss and accuracy of several classifiers on shared axes: validation solid, training dotted, a colour a run.

    Arguments: runs: label -> epochs; a run that diverged in its first epoch has none and is named in the legend alone.
    """
    with panel(5.4) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        for i, (label, epochs) in enumerate(runs.items()):
            numbers = [int(e["epoch"]) for e in epochs]
            for axes, measure in ((upper, "accuracy"), (lower, "loss")):
                for part, style, width in (("train", ":", 1.3), ("validation", "-", 1.7)):
                    values = [e[f"{part}_{measure}"] for e in epochs]
                    named = label if axes is upper and part == "validation" else None
                    axes.plot(numbers, values, style, color=SERIES[i % len(SERIES)], linewidth=width, label=named)
        upper.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        upper.set(title=title, ylabel="accuracy", ylim=(0, 1.02))
        lower.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        losses = [e[f"{part}_loss"] for epochs in runs.values() for e in epochs for part in ("train", "validation")]
        if losses and 0 < 10 * min(losses) < max(losses):
            _logarithmic(lower)
        for axes in (upper, lower):
            axes.grid()
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = upper.get_legend_handles_labels()
        handles.append(Line2D([], [], color=INK, linestyle=":", linewidth=1.3))
        legend: dict[str, Any] = {"loc": "outside lower center", "handlelength": 1.5, "columnspacing": 1.0}
        figure.legend(handles, [*labels, "training"], ncols=min(5, len(labels) + 1), **legend)
    return Panel(name, figure, f"{title}: accuracy and loss on training and validation images of {', '.join(runs)}.")


def error_by_size(
    name: str,
    title: str,
    optimum: Sequence[NDArray[np.float64]],
    points: Mapping[str, tuple[Sequence[int], Sequence[float], str, str]],
) -> Panel:
    """Error against the size of the code, both logarithmic.

    Arguments: optimum: of PCA on training and on test images, from no component on. points: label -> (sizes, errors,
    colour, marker).
    """
    with panel(4.3) as figure:
        axes = figure.subplots()
        for values, style, label in zip(optimum, (":", "-"), ("PCA, training", "PCA, test"), strict=True):
            sizes = np.arange(1, len(values))
            axes.plot(sizes, values[1:], style, color=MODEL_COLOURS["pca"], label=label)
        for label, (sizes_, errors, ink, marker) in points.items():
            axes.plot(sizes_, errors, linestyle="", marker=marker, color=ink, markersize=5.5, label=label)
        shown = sorted({size for sizes_, *_ in points.values() for size in sizes_})
        axes.set(title=title, xlabel="numbers in the code", ylabel="squared error per pixel", xscale="log")
        axes.set_xticks(shown, [str(size) for size in shown])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _logarithmic(axes)
        axes.grid()
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.5, columnspacing=1.0)
    return Panel(
        name, figure, f"{title}: {', '.join(points)}, and exact PCA of every size up to {len(optimum[0]) - 1}."
    )


def bound_curves(name: str, title: str, epochs: Sequence[dict[str, float]], *, best: int) -> Panel:
    """Both halves of a VAE's loss, one above the other: minus the log-likelihood, and the KL, in nats per image."""
    with panel(3.9) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        _two_lines(upper, epochs, "reconstruction", best)
        upper.set(title=title, ylabel="\u2212log p(x|z) (nats)")
        upper.legend(loc="upper right")
        _two_lines(lower, epochs, "kl", best)
        lower.set(xlabel="epoch", ylabel="KL (nats)")
    return Panel(name, figure, f"{title}: reconstruction and KL over {len(epochs)} epochs, best epoch {best}.")


def by_size(
    name: str,
    title: str,
    sizes: Sequence[int],
    series: Mapping[str, tuple[Sequence[float], str]],
    levels: Mapping[str, float],
) -> Panel:
    """PSNR against the size of the code. series: label -> (a value a size, colour). levels: methods without a code."""
    with panel(3.7) as figure:
        axes = figure.subplots()
        places = np.arange(len(sizes))
        for i, (label, (values, ink)) in enumerate(series.items()):
            axes.plot(places, values, "-" + MARKERS[i % len(MARKERS)], color=ink, markersize=5, label=label)
        dashes = [(0, (4, 3)), (0, (1, 2)), (0, (5, 2, 1, 2)), (0, (8, 3))]
        for i, (label, value) in enumerate(levels.items()):
            axes.axhline(value, color=INK, linewidth=1, linestyle=dashes[i % len(dashes)], label=label)
        axes.set_xticks(places, [str(size) for size in sizes])
        axes.set(title=title, xlabel="numbers in the code", ylabel="PSNR (dB)", xlim=(-0.15, len(sizes) - 0.85))
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=2, handlelength=2.2, columnspacing=1.0)
    return Panel(name, figure, f"{title}, for codes of {', '.join(map(str, sizes))} numbers: {', '.join(series)}.")


def objective_path(name: str, title: str, path: NDArray[np.floating]) -> Panel:
    """The MAP objective above its end, image by image (T + 1, N): median and the middle eight tenths, in nats."""
    above = path - path.min(0)
    steps = np.arange(len(path))
    low, middle, high = np.maximum(np.quantile(above, [0.1, 0.5, 0.9], axis=1), 1e-3)
    with panel(2.9) as figure:
        axes = figure.subplots()
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.25, linewidth=0, label="eight images of ten")
        axes.plot(steps, middle, color=BLUE, label="median")
        axes.set(title=title, xlabel="step", ylabel="nats above its end", yscale="log")
        axes.set_ylim(1e-3, None)
        axes.yaxis.set_major_formatter("{x:g}")  # not as a power: mathematics is not parsed, classes may hold a $
        axes.grid()
        axes.legend(loc="upper right")
    return Panel(name, figure, f"{title}: over {len(path) - 1} steps, {path.shape[1]} images.")


def by_class(
    name: str,
    title: str,
    classes: Sequence[str],
    series: Mapping[str, tuple[NDArray[np.float64] | Sequence[float], str]],
    *,
    level: tuple[str, float] | None = None,
    lowest: float = 0.0,
) -> Panel:
    """Shares by class, a marker a series. Arguments: series: label -> (K shares, colour). level: a dashed line."""
    with panel(3.4) as figure:
        axes = figure.subplots()
        places = np.arange(len(classes))
        for i, (label, (shares, ink)) in enumerate(series.items()):
            offset = (i - (len(series) - 1) / 2) * 0.16
            axes.plot(places + offset, shares, MARKERS[i % len(MARKERS)], color=ink, markersize=4.5, label=label)
        for place in places[:-1]:
            axes.axvline(place + 0.5, color=RULE, linewidth=0.5, alpha=0.4)
        if level is not None:
            axes.axhline(level[1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label=level[0])
        axes.set_xticks(places, classes, rotation=0 if max(map(len, classes)) <= 3 else 60)
        axes.set(title=title, xlabel="true class", ylabel="accuracy", ylim=(lowest, 1.0 + 0.02 * (1 - lowest)))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3, columnspacing=1.0)
    return Panel(name, figure, f"{title}, for {len(classes)} classes: {', '.join(series)}.")


def _logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:.3g}")


def _two_lines(axes: Axes, epochs: Sequence[dict[str, float]], measure: str, best: int) -> None:
    numbers = [int(e["epoch"]) for e in epochs]
    marker = "o" if len(epochs) <= 30 else None
    for part, ink in (("train", BLUE), ("validation", ORANGE)):
        label = "training" if part == "train" else part
        axes.plot(
            numbers,
            [e[f"{part}_{measure}"] for e in epochs],
            color=ink,
            marker=marker,
            markersize=3,
            label=label,
        )
    if best:
        axes.plot(
            best,
            epochs[best - 1][f"validation_{measure}"],
            "o",
            markersize=8,
            markerfacecolor="none",
            color=INK,
            label="kept",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
