"""A card: what a notebook shows of one object, as an HTML fragment that needs nothing else.

It has no script and asks nothing of the network: pictures are PNGs inside it, curves are SVG. Its ink is the page's own
text colour, so that it is read on light and dark pages alike; it wraps where there is little room, and what is still
too wide scrolls inside it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from isthmus.figures.style import RULE, Panel, svg
from isthmus.report.page import Table

SHOWN = 72  # CSS pixels of the longer side of a picture, at most
SIDES = (144, 96, 72, 64, 48, 40, 32)  # pixels of it in the file: as many as fit into BUDGET
BUDGET = 180_000  # bytes of all PNGs of a card, before they become text


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, its size in CSS pixels, and words for those who cannot see it.

    enlarged: whether a pixel of the image is more than one of the page.
    """

    uri: str
    width: int
    height: int
    alt: str
    enlarged: bool


@dataclass(frozen=True)
class Column:
    """Pictures that belong together, one below the other, and their label, of one line or several."""

    pictures: Sequence[Picture]
    label: str


@dataclass(frozen=True)
class Gallery:
    """Columns side by side, which wrap into several rows where there is little room."""

    caption: str
    columns: Sequence[Column]


@dataclass(frozen=True)
class Card:
    """All that is shown of one object.

    kind: what it is; title: its name; facts: name -> value. alerts: what a reader must know first. folded: tables shown
    on demand. notes: sentences below.
    """

    kind: str
    title: str
    facts: Mapping[str, str]
    alerts: Sequence[str] = ()
    galleries: Sequence[Gallery] = ()
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    notes: Sequence[str] = ()


def gallery(caption: str, rows: Mapping[str, Tensor], labels: Sequence[str], *, budget: int = BUDGET) -> Gallery:
    """Rows of pictures {what they show: (M, C, H, W) in [0, 1]}, clipped, with a label for each of the M columns.

    Pictures are made as small as their number asks for, so that all together stay within the budget, in bytes.
    """
    for side in SIDES:
        files = [[_png(image) for image in _shrunk(images, side)] for images in rows.values()]
        if sum(len(file) for row in files for file in row) <= budget:
            break
    height, width = next(iter(rows.values())).shape[2:]
    longer = max(height, width)
    factor = SHOWN // longer if longer <= SHOWN else SHOWN / longer
    size = max(1, round(width * factor)), max(1, round(height * factor))
    columns = []
    for m, label in enumerate(labels):
        words = label.replace("\n", ", ")
        said = [f"{what}: {words}" if label else what for what in rows]
        each = zip(said, (row[m] for row in files), strict=True)
        pictures = [Picture(_uri(file), *size, alt, factor > 1) for alt, file in each]
        columns.append(Column(pictures, label))
    return Gallery(caption, columns)


def render(card: Card) -> str:
    """The card as HTML. Every text is escaped."""
    environment = Environment(
        loader=PackageLoader("isthmus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    return environment.get_template("notebook.html").render(card=card)


def inline(drawn: Panel) -> Markup:
    """A figure for a page that is not ours: the page's ink, no style that reaches beyond it, ids that only equal
    figures share."""
    text = svg(drawn).replace("var(--ink)", "currentColor").replace("var(--rule)", RULE)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Markup(re.sub(rf'(\bid="|url\(#|href="#){re.escape(drawn.name)}-', rf"\g<1>i{key}-", text))


def _shrunk(images: Tensor, side: int) -> Tensor:
    """Images with their longer side at most `side`, as whole numbers: (M, C, H, W) -> (M, H, W, C) uint8."""
    height, width = images.shape[2:]
    images = images.detach().cpu().float().clamp(0, 1)
    if max(height, width) > side:
        scale = side / max(height, width)
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    return (images * 255).round().byte().permute(0, 2, 3, 1)


def _png(image: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1).numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _uri(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"
