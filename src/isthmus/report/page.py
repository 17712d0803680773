"""The page: sections of words, figures and tables, put into one HTML file that needs nothing else.

A section is an exercise: what was asked, what was found, then its panels and tables. The page follows the reader's
light or dark setting, sets panels side by side where there is room, and prints in black on white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isthmus.figures.spatial import Scene
from isthmus.figures.style import Panel, files, svg
from isthmus.writing import write_bytes


@dataclass(frozen=True)
class Table:
    """Rows under a head. notes stand below; the first column is the row's name; cells of `strong`
    (row, column) are set bold."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    strong: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Derived:
    """A step of a derivation: what is done, and the formula as presentation MathML."""

    text: str
    mathml: str


@dataclass(frozen=True)
class Section:
    """One exercise on the page. `anchor` is its id; `asked` says what is to be done; `found` what the numbers say.

    steps: a derivation, and scenes: points in space that a reader can turn; both stand before the panels.
    """

    anchor: str
    title: str
    asked: str
    found: Sequence[str]
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    steps: Sequence[Derived] = ()
    scenes: Sequence[Scene] = ()


@dataclass(frozen=True)
class Page:
    """A whole report. facts: name -> value, the first thing after the lead. figures: the content of summary.json."""

    title: str
    lead: Sequence[str]
    found: Sequence[str]
    facts: Mapping[str, str]
    sections: Sequence[Section]
    tables: Sequence[Table] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    footer: Sequence[str] = field(default_factory=tuple)


def render(page: Page) -> str:
    """The page as HTML. Every text is escaped; figures are inline SVG."""
    environment = Environment(
        loader=PackageLoader("isthmus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda panel: Markup(svg(panel))
    environment.filters["markup"] = Markup
    script = Markup(environment.loader.get_source(environment, "scene.js")[0])  # type: ignore[union-attr]
    return environment.get_template("page.html").render(page=page, script=script)


def write_pictures(page: Page, folder: Path) -> None:
    """Write each panel as PNG and SVG under `figures/`. Raises: StorageError."""
    for section in page.sections:
        for panel in section.panels:
            for name, content in files(panel).items():
                write_bytes(folder / "figures" / name, content)


def write_page(page: Page, folder: Path) -> Path:
    """Write `report.html`; returns its path. Raises: StorageError."""
    path = folder / "report.html"
    write_bytes(path, render(page).encode())
    return path
