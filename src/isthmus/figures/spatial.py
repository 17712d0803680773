"""Codes of three numbers: stills from two angles, and a scene that a page lets its reader turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from isthmus.figures.codes import MARKERS, class_legend
from isthmus.figures.style import PALETTE, RULE, Panel, colour, panel

ANGLES = ((22, -60), (22, 30))  # elevation and azimuth of the stills, in degrees
INSIDE = (
    0.005,
    0.995,
)  # of each axis is shown at full size; what lies beyond is drawn at the edge of the scene and left out of the stills


@dataclass(frozen=True)
class Scene:
    """Points in space for a page to draw and turn. data: JSON with points in [-1, 1], class numbers, names, colours."""

    name: str
    title: str
    description: str
    data: str


def scene(
    name: str, title: str, codes: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]
) -> Scene:
    """Codes (N, 3) with labels (N,), scaled axis by axis to the middle 99 % of them."""
    low, high = np.quantile(codes, INSIDE, axis=0)
    points = np.clip(2 * (codes - low) / np.where(high > low, high - low, 1) - 1, -1.15, 1.15)
    content = {
        "points": np.round(points, 3).tolist(),
        "labels": labels.tolist(),
        "classes": list(classes),
        "colours": [colour(k) for k in range(len(classes))],
    }
    text = f"{title}: {len(codes)} codes of three numbers; drag, or use the arrow keys, to turn them."
    # Inside a script element only "</" and "<!--" could end it early.
    return Scene(name, title, text, json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def stills(
    name: str, title: str, codes: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]
) -> Panel:
    """Codes (N, 3) coloured by class (N,), seen from two angles."""
    low, high = np.quantile(codes, INSIDE, axis=0)
    shown = ((codes >= low) & (codes <= high)).all(1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(shown))
    signs = np.array(MARKERS)[labels[order] // len(PALETTE) % len(MARKERS)]
    by_marker = {marker: order[signs == marker] for marker in MARKERS if (signs == marker).any()}
    with panel(7.0) as figure:
        for i, (elevation, azimuth) in enumerate(ANGLES):
            axes: Any = figure.add_subplot(2, 1, i + 1, projection="3d")
            for marker, at in by_marker.items():
                inks = [colour(k) for k in labels[at]]
                axes.scatter(*codes[at].T, s=9, c=inks, marker=marker, linewidths=0, depthshade=False)
            axes.view_init(elevation, azimuth)
            axes.set_box_aspect((1, 1, 0.8), zoom=0.98)
            axes.grid(False)
            axes.set(xlabel="first number", ylabel="second", zlabel="third")
            axes.set_title(f"{title}, azimuth {azimuth:+d}°", y=0.96)
            for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
                axis.set_pane_color((0, 0, 0, 0))
                axis.pane.set_edgecolor(RULE)
                axis.line.set_color(RULE)
                axis.set_major_locator(MaxNLocator(4))
                axis.set_tick_params(labelsize=7.5, pad=0)
        class_legend(figure, classes)
    text = f"{title}: {len(order)} of {len(codes)} codes of three numbers from two angles, coloured by class."
    return Panel(name, figure, text)
