"""Contact sheets: pictures in rows, each with a line or two of text below it.

A cell is one picture, or a few that belong together side by side. Lengths are in inches, the page's own; a picture's
longer side has one length on every sheet, whatever its pixels.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from torch import Tensor

from isthmus.figures.style import PANEL, RC, RULE, Panel, panel

SIDE = 0.8  # of a picture
DOTS = 200  # an inch
NEAR, GAP, APART = 0.03, 0.12, 0.36  # between the pictures of a cell, between cells, after those set apart
LINE, HEAD, TITLE = 0.125, 0.2, 0.18  # heights of lines of text: below a picture, above a column, of the title
CHARACTER, LETTER = 0.056, 0.082  # mean width of one, at 6.5 and at 10 points


@dataclass(frozen=True)
class Cell:
    """pictures: (K, C, H, W), clipped to [0, 1] when drawn. lines: of text below them; a long one is cut at its front,
    as the end of a path says most."""

    pictures: Tensor
    lines: tuple[str, ...] = ()


def contact_sheet(
    name: str,
    title: str,
    rows: Sequence[Sequence[Cell]],
    *,
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
    apart: int = 0,
) -> Panel:
    """Rows of cells, the first `apart` columns set off by a rule.

    Arguments: rows: cells of one number of pictures of one size; the last row may be shorter. labels: one a row, at its
    left. heads: one a column, above it.
    """
    height, width = rows[0][0].pictures.shape[2:]
    across, down = SIDE * width / max(height, width), SIDE * height / max(height, width)
    count = len(rows[0][0].pictures)
    cell = count * across + (count - 1) * NEAR
    below = LINE * max(len(each.lines) for row in rows for each in row)
    left = GAP + (CHARACTER * 1.25 * max(map(len, labels)) + GAP if labels else 0.0)
    columns = max(map(len, rows))
    starts = [left + i * (cell + GAP) + (APART - GAP if apart and i >= apart else 0.0) for i in range(columns)]
    full = max(starts[-1] + cell + GAP, PANEL)
    words = textwrap.wrap(_clean(title), int((full - 2 * GAP) / LETTER))
    top = GAP + TITLE * len(words) + GAP + (HEAD if heads else 0.0)
    tall = top + len(rows) * (down + below + GAP)
    with panel(tall, width=full) as figure:
        figure.set_layout_engine("none")  # everything has its place
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, full), ylim=(tall, 0))
        axes.set_axis_off()
        for i, line in enumerate(words):
            axes.text(GAP, GAP + (i + 0.5) * TITLE, line, fontsize=10, va="center")
        for start, head in zip(starts, heads, strict=False):
            axes.text(start + cell / 2, top - HEAD / 2, head, fontsize=8, ha="center", va="center")
        for i, row in enumerate(rows):
            above = top + i * (down + below + GAP)
            if labels:
                axes.text(GAP, above + down / 2, _clean(labels[i]), fontsize=8, va="center")
            for start, each in zip(starts, row, strict=False):
                _draw(axes, each, (start, above), (across, down), cell)
        if apart and columns > apart:
            place = starts[apart] - APART / 2
            axes.plot([place, place], [top, tall - GAP], color=RULE, linewidth=0.8)
    return Panel(name, figure, f"{title}: {sum(map(len, rows))} pictures in {len(rows)} rows.")


def png(sheet: Panel) -> bytes:
    """A sheet as a PNG on a white ground; `style.files` would draw it as SVG too, which takes five times as long."""
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        sheet.figure.savefig(buffer, format="png", dpi=DOTS, facecolor="white")
    return buffer.getvalue()


def _draw(axes: Axes, cell: Cell, corner: tuple[float, float], size: tuple[float, float], full: float) -> None:
    (left, top), (across, down) = corner, size
    colours = cell.pictures.detach().float().clamp(0, 1).permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    for i, picture in enumerate(colours.numpy()):
        start = left + i * (across + NEAR)
        axes.imshow(picture, extent=(start, start + across, top + down, top), aspect="auto")
    for i, line in enumerate(cell.lines):
        place = top + down + (i + 0.6) * LINE
        axes.text(left + full / 2, place, _fitted(line, full), fontsize=6.5, ha="center", va="center")


def _fitted(line: str, width: float) -> str:
    """As much of the end of a line as has room."""
    most = max(4, int((width + GAP / 2) / CHARACTER))
    clean = _clean(line)
    return clean if len(clean) <= most else f"…{clean[1 - most :]}"


def _clean(text: str) -> str:
    """What has no glyph, as a line break in a file's name, is a dot."""
    return "".join(c if c.isprintable() else "·" for c in text)
