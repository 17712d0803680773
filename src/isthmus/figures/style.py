"""How figures look: one width, one palette, and ink that follows the page from light to dark.

Figures are panels as wide as a telephone, so that a page sets them side by side where there is room and below each
other where there is not; nothing has to shrink. Ink, rules and paper are drawn in three marker colours that become
CSS variables when a figure is put into a page. Classes are coloured by Petroff's sequence of ten, made to be told apart
by colour-blind readers (Petroff 2021, arXiv:2107.02270; red and violet lightened for dark pages, and reordered so that
no two greys are neighbours in shape among digits), and are named beside the data as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

PANEL = 4.5  # inches
INK, RULE, PAPER = "#1b1c1e", "#8b8c8e", "#fdfdfb"
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#d0361b",
    "#92dadd",
    "#9a52cf",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#94a4a2",
)
TOGGLED = "toggled"
BLUE, ORANGE, RED, PURPLE = PALETTE[0], PALETTE[6], PALETTE[2], PALETTE[4]
MODEL_COLOURS = {"pca": PALETTE[8], "lab": BLUE, "strong": ORANGE, "published": RED}
# From clear to blue: the page shines through, and ink is legible on it in light and in dark.
SHADES = LinearSegmentedColormap.from_list("shades", [(0.247, 0.565, 0.855, 0.0), (0.247, 0.565, 0.855, 0.6)])

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.alpha": 0.25,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class may be called $x$
}


@dataclass(frozen=True)
class Panel:
    """A drawn figure with the name of its file and a sentence for those who cannot see it.

    toggle: what a page lets its reader switch on: the artists with the gid TOGGLED, hidden at first. Empty for nothing.
    """

    name: str
    figure: Figure
    description: str
    toggle: str = ""

    @cached_property
    def drawn(self) -> str:
        """The figure as SVG on a clear ground, drawn once for the page and for the file."""
        return _render(self, "svg", transparent=True).decode()


@contextmanager
def panel(height: float, *, width: float = PANEL) -> Iterator[Figure]:
    """A figure of `width` by `height` inches to draw on, in our style, without pyplot's global state."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def colour(k: int) -> str:
    """Of class or series k."""
    return PALETTE[k % len(PALETTE)]


def svg(drawn: Panel) -> str:
    """The figure as an SVG element for a page: ids of its own, colours that follow the page."""
    text = drawn.drawn[drawn.drawn.index("<svg") :]
    for marker, variable in ((INK, "var(--ink)"), (RULE, "var(--rule)"), (PAPER, "var(--paper)")):
        text = text.replace(marker, variable)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{drawn.name}-", text)  # ids are shared by a whole page
    text = text.replace(f'id="{drawn.name}-{TOGGLED}"', 'class="toggled"')
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    width = re.search(r'width="([\d.]+)pt"', text)
    assert width is not None, "matplotlib writes the width in points"
    label = drawn.description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    size = f'style="width:{float(width.group(1)) / 72:.3f}in" role="img" aria-label="{label}"'
    return re.sub(
        r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"|(<svg[^>]*?) height="[\d.]+pt" width="[\d.]+pt"',
        lambda m: f"{m.group(1) or m.group(2)} {size}",
        text,
        count=1,
    )


def files(drawn: Panel) -> dict[str, bytes]:
    """The figure as files on a white ground, without what a page toggles: {"<name>.png": ..., "<name>.svg": ...}."""
    ground = re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="white"/>', drawn.drawn, count=1)
    vector = ground.replace(f'<g id="{TOGGLED}">', f'<g id="{TOGGLED}" display="none">')
    toggled = drawn.figure.findobj(lambda artist: artist.get_gid() == TOGGLED)
    for artist in toggled:
        artist.set_visible(False)
    bitmap = _render(drawn, "png", transparent=False)
    for artist in toggled:
        artist.set_visible(True)
    return {f"{drawn.name}.png": bitmap, f"{drawn.name}.svg": vector.encode()}


def _render(drawn: Panel, kind: str, *, transparent: bool) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"transparent": True} if transparent else {"facecolor": "white"}
    # The same figure gives the same bytes: no date, and ids salted with the name alone.
    metadata = {"Date": None} if kind == "svg" else {}
    with mpl.rc_context({**RC, "svg.hashsalt": drawn.name}):
        drawn.figure.savefig(buffer, format=kind, dpi=200, metadata=metadata, **options)
    return buffer.getvalue()
