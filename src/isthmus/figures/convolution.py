"""A transposed convolution step by step: zeros inserted, a border, and a kernel that slides over both."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from isthmus.figures.style import BLUE, INK, ORANGE, PANEL, PURPLE, RULE, Panel, panel
from isthmus.networks.convolution import Insertion

GAP, HEAD = 1.0, 0.9  # between grids, and above them for their titles, in cells
LINE = 0.2  # inches a line of text takes
MOST_TERMS = 9  # that a sum below the picture may have


@dataclass(frozen=True)
class _Grid:
    """Numbers (rows, columns) with their upper left corner at (left, top), in cells.

    given: the cells that hold pixels of the input: of the first one (row, column), and the step to the next.
    """

    title: str
    values: Tensor
    left: float
    top: float
    given: tuple[tuple[int, int], tuple[int, int]] | None = None


def zero_insertion(name: str, title: str, found: Insertion) -> Panel:
    """The steps for one image of one channel, (1, 1, H, W), with two places of the kernel and the sums they give.

    Arguments: found: what `isthmus.networks.convolution.insertion` returns.
    Raises: ValueError for more images or channels.
    """
    if found.images.shape[:2] != (1, 1) or found.kernel.shape[:2] != (1, 1):
        raise ValueError(
            f"The picture is of one image of one channel; got images {tuple(found.images.shape)} and a kernel "
            f"{tuple(found.kernel.shape)}. Take one of each."
        )
    grids = _layout(found)
    width = max(grid.left + grid.values.shape[1] for grid in grids)
    height = max(grid.top + grid.values.shape[0] for grid in grids)
    rows, columns = found.output.shape[2:]
    places = {ORANGE: (0, 0), PURPLE: (max(rows - 2, 0), max(columns - 2, 0))}
    sums = [(ink, line) for ink, place in places.items() for line in _sum(found, place)]
    cell = (PANEL - 0.1) / (width + 0.1)
    with panel(0.4 + cell * (height + 0.1) + LINE * (len(sums) + 0.5)) as figure:
        axes = figure.subplots()
        for grid in grids:
            _draw(axes, grid, size=min(9.0, 26 * cell))
        for ink, place in places.items():
            _outline(axes, grids[3], place, _covered(found), ink)
            _outline(axes, grids[4], place, (1, 1), ink)
        for i, (ink, text) in enumerate(sums):
            axes.text(0, height + LINE * (i + 1) / cell, text, color=ink, fontsize=8.5, va="center")
        axes.set(xlim=(-0.05, width + 0.05), ylim=(height + LINE * (len(sums) + 0.5) / cell, 0), aspect="equal")
        axes.set_axis_off()
        figure.suptitle(title, fontsize=10)
    said = [f"{grid.title}: {grid.values.tolist()}" for grid in grids]
    return Panel(name, figure, f"{title}. {'; '.join(said)}. {'; '.join(text for _, text in sums)}.")


def _layout(found: Insertion) -> list[_Grid]:
    """Input, inserted zeros and kernel above; below them what is padded, and the output."""
    steps = (found.images, found.inserted, found.kernel, found.padded, found.output)
    image, inserted, kernel, padded, output = (step[0, 0].detach() for step in steps)
    second = image.shape[1] + GAP
    third = second + inserted.shape[1] + GAP
    below = max(len(image), len(inserted), len(kernel)) + 2 * HEAD + 0.3
    return [
        _Grid(f"input, {_size(image)}", image, 0, HEAD, ((0, 0), (1, 1))),
        _Grid(f"zeros inserted, {_size(inserted)}", inserted, second, HEAD, ((0, 0), found.stride)),
        _Grid("kernel, turned", kernel, third, HEAD),
        _Grid(f"padded, {_size(padded)}", padded, 0, below, (found.border, found.stride)),
        _Grid(f"output, {_size(output)}", output, padded.shape[1] + GAP, below),
    ]


def _size(values: Tensor) -> str:
    return " x ".join(map(str, values.shape))


def _draw(axes: Axes, grid: _Grid, *, size: float) -> None:
    rows, columns = grid.values.shape
    axes.text(grid.left, grid.top - 0.3, grid.title, fontsize=8.5, va="baseline")
    for i in range(rows):
        for j in range(columns):
            given = grid.given is not None and all(
                (place - first) % step == 0 and place >= first
                for place, first, step in zip((i, j), *grid.given, strict=True)
            )
            box, middle = (grid.left + j, grid.top + i), (grid.left + j + 0.5, grid.top + i + 0.5)
            axes.add_patch(Rectangle(box, 1, 1, facecolor=BLUE if given else "none", alpha=0.35, linewidth=0))
            axes.add_patch(Rectangle(box, 1, 1, facecolor="none", edgecolor=RULE, linewidth=0.6))
            text, strength = f"{float(grid.values[i, j]):.3g}", 1.0 if given or grid.given is None else 0.55
            axes.text(*middle, text, color=INK, alpha=strength, ha="center", va="center_baseline", fontsize=size)


def _outline(axes: Axes, grid: _Grid, place: tuple[int, int], covered: tuple[int, int], ink: str) -> None:
    row, column = place
    box = Rectangle((grid.left + column, grid.top + row), covered[1], covered[0])
    box.set(facecolor="none", edgecolor=ink, linewidth=2.2, zorder=3)
    axes.add_patch(box)


def _covered(found: Insertion) -> tuple[int, int]:
    """Rows and columns that the kernel spans."""
    rows, columns = (d * (k - 1) + 1 for d, k in zip(found.dilation, found.kernel.shape[2:], strict=True))
    return rows, columns


def _sum(found: Insertion, place: tuple[int, int]) -> list[str]:
    """The products that are not zero, and what they sum to, in lines; none where there are too many."""
    rows, columns = (slice(p, p + c, d) for p, c, d in zip(place, _covered(found), found.dilation, strict=True))
    window, kernel = found.padded[0, 0, rows, columns].flatten().tolist(), found.kernel[0, 0].flatten().tolist()
    terms = [f"{a:.3g} x {b:.3g}" for a, b in zip(window, kernel, strict=True) if a != 0]
    if found.bias is not None:
        terms.append(f"{float(found.bias[0]):.3g}")
    if len(terms) > MOST_TERMS:
        return []
    total = float(found.output[0, 0, place[0], place[1]])
    return textwrap.wrap(f"{' + '.join(terms) or '0'} = {total:.3g}", 62)
