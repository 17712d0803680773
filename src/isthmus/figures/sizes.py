"""A measure against the numbers in a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter

from isthmus.figures.curves import MARKERS, SERIES
from isthmus.figures.style import INK, MODEL_COLOURS, RULE, Panel, panel

Line = tuple[Sequence[int], Sequence[float]]


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
        if pca is not None:
            axes.plot(*pca, color=MODEL_COLOURS["pca"], label="PCA")
        for i, (label, line) in enumerate(curves.items()):
            ink, marker = SERIES[(i + 2) % len(SERIES)], MARKERS[i % len(MARKERS)]
            axes.plot(*line, "-", marker=marker, color=ink, markersize=5, label=label)
            if dots is not None and label in dots:
                axes.plot(*dots[label], linestyle="", marker="_", color=ink, markersize=8, markeredgewidth=1.2)
        for i, (label, value) in enumerate((levels or {}).items()):
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 3) if i == 0 else (1, 2)), label=label)
        axes.set(title=title, xlabel="numbers in the code", ylabel=measure, xscale="log")
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter("{x:.3g}")
        if shares:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        shown = sorted({size for sizes, _ in curves.values() for size in sizes})
        axes.set_xticks(shown, [str(size) for size in shown])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid()
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.8, columnspacing=1.0)
    marked = f" Elbow at {', '.join(map(str, elbows))}." if elbows else ""
    return Panel(
        name, figure, f"{title}: {measure} of {', '.join(curves)} for codes of {', '.join(map(str, shown))}.{marked}"
    )
