"""Pictures: rows of examples, the manifold a decoder draws, a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.figures.style import INK, PANEL, Panel, panel
from isthmus.latent.manifold import Grid

GAP = 2  # pixels between pictures
LETTERS = 80  # of labels side by side below the pictures of a gallery


def rows(name: str, title: str, columns: Sequence[str], pictures: Mapping[str, Tensor]) -> Panel:
    """A row of pictures a label: {label: (K, C, H, W)}, a column a class. Clipped to [0, 1]."""
    stack = np.stack([_colour(p) for p in pictures.values()])
    height, width = stack.shape[2:4]
    across = len(columns) * width / (len(pictures) * height)
    longest = max(map(len, columns))
    above = 0.0 if longest <= 4 else 0.1 + 0.055 * longest  # inches of names that are turned
    with panel(0.55 + above + (PANEL - 0.9) / across) as figure:
        axes = figure.subplots()
        axes.imshow(_tile(stack), interpolation="none")
        axes.set_xticks(_centres(len(columns), width), columns, rotation=45 if above else 0)
        axes.set_yticks(_centres(len(pictures), height), list(pictures))
        _bare(axes)
        axes.xaxis.tick_top()
        axes.set_title(title)
    return Panel(name, figure, f"{title}: {', '.join(pictures)}; columns {', '.join(columns)}.")


def manifold(
    name: str,
    title: str,
    grid: Grid,
    pictures: Tensor,
    strip: NDArray[np.float32] | None,
    *,
    unit: str = "number of the code",
    contours: bool = True,
) -> Panel:
    """The decoder's picture in each cell of a grid (R, R, C, H, W), cells without data tinted.

    Arguments: strip: codes (steps, 2) of a walk, drawn as a line. unit: what the axes count. contours: of density.
    """
    size = pictures.shape[0]
    flat = pictures.reshape(size, size, *pictures.shape[2:])
    picture = _tile(np.stack([_colour(row) for row in flat]), gap=0)
    left, right, bottom, top = grid.extent
    with panel(5.0) as figure:
        axes = figure.subplots()
        axes.imshow(picture, extent=grid.extent, interpolation="none", aspect="auto")
        tint = np.zeros((size, size, 4))
        tint[~grid.occupied] = (0.906, 0.388, 0.0, 0.38)
        axes.imshow(tint, extent=grid.extent, interpolation="none", aspect="auto")
        x, y, counts = _ringed(grid)
        styles = {0.9: ("#92dadd", "--"), 0.5: ("#92dadd", "-")}
        handles: list[object] = [Patch(color="#582600", label="no training code")]
        levels = grid.levels(tuple(styles))
        for share, (ink, dashes) in styles.items() if contours else ():
            axes.contour(x, y, counts, levels=[levels[share]], colors=[ink], linestyles=[dashes], linewidths=1.4)
            handles.append(axes.plot([], [], dashes, color=ink, label=f"densest {share:.0%} of codes")[0])
        if strip is not None:
            line = axes.plot(
                strip[:, 0], strip[:, 1], "-o", color="#ffa90e", markersize=3, linewidth=1.2, label="strip"
            )
            handles += line
        axes.set(
            title=title,
            xlabel=f"first {unit}",
            ylabel=f"second {unit}",
            xlim=(left, right),
            ylim=(bottom, top),
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.0)
    return Panel(name, figure, f"{title}: {size} by {size} decoded codes, tinted where no training code lies.")


def blocks(name: str, title: str, columns: Sequence[str], groups: Mapping[str, Mapping[str, Tensor]]) -> Panel:
    """Groups of rows of pictures, {group: {label: (K, C, H, W)}}, each under its name. Clipped to [0, 1]."""
    stacks = {group: np.stack([_colour(p) for p in rows.values()]) for group, rows in groups.items()}
    height, width = next(iter(stacks.values())).shape[2:4]
    each = [(PANEL - 1.0) * len(stack) * height / (len(columns) * width) for stack in stacks.values()]
    with panel(0.5 + sum(each) + 0.32 * len(each)) as figure:
        places = figure.subplots(len(stacks), 1, squeeze=False, height_ratios=each)[:, 0]
        for axes, (group, stack) in zip(places, stacks.items(), strict=True):
            axes.imshow(_tile(stack), interpolation="none")
            axes.set_xticks([])
            axes.set_yticks(_centres(len(stack), height), list(groups[group]))
            axes.set_title(group, fontsize=9, loc="left")
            _bare(axes)
        figure.suptitle(title, fontsize=10)
    text = "; ".join(f"{group}: {', '.join(rows)}" for group, rows in groups.items())
    return Panel(name, figure, f"{title}. {text}; columns {', '.join(columns)}.")


def strip(name: str, title: str, pictures: Tensor, labels: Sequence[str]) -> Panel:
    """One row of pictures (steps, C, H, W), each with its label below."""
    with panel(1.15) as figure:
        axes = figure.subplots()
        picture = _tile(_colour(pictures)[None])
        axes.imshow(picture, interpolation="none")
        axes.set_xticks(_centres(len(pictures), pictures.shape[-1]), labels)
        axes.set_yticks([])
        axes.set_xlabel("read as")
        _bare(axes)
        axes.set_title(title)
    return Panel(name, figure, f"{title}: {len(pictures)} pictures, read as {', '.join(labels)}.")


def gallery(name: str, title: str, pictures: Tensor, labels: Sequence[str]) -> Panel:
    """Pictures (M, C, H, W), each with its label below, as many in a row as these have room for. Clipped to [0, 1]."""
    colours = _colour(pictures)
    across = max(2, min(5, LETTERS // max(map(len, labels))))
    down = -(-len(colours) // across)
    side = (PANEL - 0.2) / across
    each = side * colours.shape[1] / colours.shape[2] + 0.24
    with panel(0.35 + each * down) as figure:
        places = figure.subplots(down, across, squeeze=False).ravel()
        for axes in places:
            axes.set_axis_off()
        for axes, picture, label in zip(places, colours, labels, strict=False):
            axes.imshow(picture, interpolation="none")
            axes.set_title(label, fontsize=7, y=0, pad=-11)
        figure.suptitle(title, fontsize=10)
    return Panel(name, figure, f"{title}: {'; '.join(labels)}.")


def sheet(name: str, title: str, groups: Mapping[str, Tensor], *, across: int = 8) -> Panel:
    """Contact sheets, {group: (M, C, H, W)}, in rows of `across`, each group under its name. Clipped to [0, 1]."""
    tiles = {}
    for group, pictures in groups.items():
        colours = _colour(pictures[: len(pictures) // across * across or len(pictures)])
        columns = min(across, len(colours))
        tiles[group] = _tile(colours.reshape(-1, columns, *colours.shape[1:]))
    each = [(PANEL - 0.2) * tile.shape[0] / tile.shape[1] for tile in tiles.values()]
    with panel(0.4 + sum(each) + 0.3 * len(each)) as figure:
        places = figure.subplots(len(tiles), 1, squeeze=False, height_ratios=each)[:, 0]
        for axes, (group, tile) in zip(places, tiles.items(), strict=True):
            axes.imshow(tile, interpolation="none")
            axes.set_title(group, fontsize=9, loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
            _bare(axes)
        figure.suptitle(title, fontsize=10)
    return Panel(name, figure, f"{title}: {'; '.join(groups)}.")


def signed(name: str, title: str, groups: Mapping[str, Tensor]) -> Panel:
    """Rows of pictures of either sign, {label: (D, C, H, W)}, each scaled by its largest value: below zero orange,
    above blue, the page's ground at zero. Colour images are shown by the mean of their channels."""
    stack = np.stack([p.mean(1).numpy() for p in groups.values()])
    stack = stack / np.maximum(np.abs(stack).max((2, 3), keepdims=True), 1e-12)
    rgba = np.zeros((*stack.shape, 4), np.float32)
    rgba[..., :3] = np.where(stack[..., None] > 0, (0.247, 0.565, 0.855), (0.906, 0.388, 0.0))
    rgba[..., 3] = np.abs(stack)
    down, across, height, width, _ = rgba.shape
    tiled = np.zeros((down * (height + GAP) - GAP, across * (width + GAP) - GAP, 4), np.float32)
    for r in range(down):
        for c in range(across):
            top, left = r * (height + GAP), c * (width + GAP)
            tiled[top : top + height, left : left + width] = rgba[r, c]
    with panel(0.6 + (PANEL - 0.9) * tiled.shape[0] / tiled.shape[1]) as figure:
        axes = figure.subplots()
        axes.imshow(tiled, interpolation="none")
        axes.set_xticks(_centres(across, width), [str(d + 1) for d in range(across)])
        axes.set_yticks(_centres(down, height), list(groups))
        _bare(axes)
        axes.xaxis.tick_top()
        axes.set_title(title)
    return Panel(name, figure, f"{title}: {', '.join(groups)}, {across} pictures each.")


def _ringed(grid: Grid) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.int64]]:
    """Places and counts of a grid with a ring of empty cells around it, so that contours close."""
    size = len(grid.counts)
    left, right, bottom, top = grid.extent
    x, y = (low + (high - low) * (np.arange(size) + 0.5) / size for low, high in ((left, right), (top, bottom)))
    x, y = (np.concatenate([[2 * a[0] - a[1]], a, [2 * a[-1] - a[-2]]]) for a in (x, y))
    return x, y, np.pad(grid.counts, 1)


def _colour(pictures: Tensor) -> NDArray[np.float32]:
    """(K, C, H, W) to (K, H, W, 3), clipped."""
    values = pictures.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return np.broadcast_to(values, (*values.shape[:3], 3)) if values.shape[3] == 1 else values


def _tile(pictures: NDArray[np.float32], *, gap: int = GAP) -> NDArray[np.float32]:
    """(rows, columns, H, W, 3) to one picture with clear gaps, RGBA."""
    count_rows, count_columns, height, width, _ = pictures.shape
    down, across = height + gap, width + gap
    tiled = np.zeros((count_rows * down - gap, count_columns * across - gap, 4), np.float32)
    for r in range(count_rows):
        for c in range(count_columns):
            tiled[r * down : r * down + height, c * across : c * across + width, :3] = pictures[r, c]
            tiled[r * down : r * down + height, c * across : c * across + width, 3] = 1
    return tiled


def _centres(count: int, size: int) -> NDArray[np.floating]:
    return np.arange(count) * (size + GAP) + (size - 1) / 2


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
