"""A measure against the numbers in a code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

from isthmus.figures.curves import MARKERS, SERIES
from isthmus.figures.labels import fit_legend
from isthmus.figures.style import INK, MODEL_COLOURS, RULE, Panel, panel

Line = tuple[Sequence[int], Sequence[float]]
CLOSEST = 0.055  # of the axis' length: labels nearer to each other would overlap
DECADES = 3.0  # of a logarithmic axis: what lies further below the curves is cut off


def against_size(
    name: str,
    title: str,
    measure: str,
    curves: Mapping[str, Line],
    *,
    dots: Mapping[str, Line] | None = None,
    pca: Line | None = None,
    levels: Mapping[str, float] | None = None,
    elbows: Sequence[int] = (),
    shares: bool = False,
    logarithmic: bool = False,
) -> Panel:
    """Curves of a measure over code size, whose axis is logarithmic.

    Arguments: curves: label -> (sizes, values), means over runs. dots: the single runs of the same labels. pca: its
    curve. levels: dashed lines by name. elbows: sizes marked by a vertical line. shares: values are shares.
    """
    with panel(3.9) as figure:
        axes = figure.subplots()
        for size in dict.fromkeys(elbows):
            axes.axvline(size, color=RULE, linewidth=6, alpha=0.35, label="elbow" if size == elbows[0] else None)
        if pca is not None and pca[0]:
            marker = "" if len(pca[0]) > 1 else "D"
            axes.plot(*pca, marker=marker, markersize=4, color=MODEL_COLOURS["pca"], label="PCA")
        for i, (label, line) in enumerate(curves.items()):
            ink, marker = SERIES[(i + 2) % len(SERIES)], MARKERS[i % len(MARKERS)]
            axes.plot(*line, "-", marker=marker, color=ink, markersize=5, label=label)
            if dots is not None and label in dots:
                axes.plot(*dots[label], linestyle="", marker="_", color=ink, markersize=8, markeredgewidth=1.2)
        for i, (label, value) in enumerate((levels or {}).items()):
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 3) if i == 0 else (1, 2)), label=label)
        axes.set(title=title, xlabel="numbers in the code", ylabel=measure, xscale="log")
        if logarithmic:
            drawn = [value for _, values in curves.values() for value in values]
            _logarithmic(axes, [*drawn, *(levels or {}).values()])
        if shares:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        shown = sorted({size for sizes, _ in curves.values() for size in sizes})
        axes.set_xticks(_labelled(shown))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid()
        figure.legend(loc="outside lower center")
        fit_legend(figure)
    marked = f" Elbow at {', '.join(map(str, elbows))}." if elbows else ""
    return Panel(
        name, figure, f"{title}: {measure} of {', '.join(curves)} for codes of {', '.join(map(str, shown))}.{marked}"
    )


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis with plain numbers, unless the values are too near to each other, or zero, for one."""
    low, high = min(values), max(values)
    if low <= 0 or not math.isfinite(high):
        return
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low / 10**DECADES), top)
    ratio = top / axes.get_ylim()[0]
    marks = (1.0,) if ratio > 1000 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=marks) if ratio > 5 else MaxNLocator(5))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:.3g}")


def _labelled(sizes: Sequence[int]) -> list[int]:
    """Of ascending sizes on a logarithmic axis those whose labels leave each other room; the last is one of them.

    >>> _labelled([2, 4, 8, 16]), _labelled(range(1, 33))
    ([2, 4, 8, 16], [1, 2, 3, 4, 5, 7, 9, 11, 14, 17, 21, 26, 32])
    """
    room = CLOSEST * math.log(sizes[-1] / sizes[0])
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log(kept[-1] / size) >= room:
            kept.append(size)
    return kept[::-1]
