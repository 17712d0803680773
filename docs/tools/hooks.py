"""What MkDocs calls while it builds the site: generated pages join the written ones, formulas become MathML."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from formulas import with_formulas
from generated import pages

MADE = pages()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Where the navigation names a folder, put the generated pages of that folder."""
    config.nav = [_filled(item) for item in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for place, text in MADE.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the formulas of a page in MathML, which browsers draw without any script."""
    return with_formulas(html, page.file.src_uri)


def _filled(item: Any) -> Any:
    if isinstance(item, str) and item.endswith("/"):
        return [place for place in MADE if place.startswith(item)]
    if isinstance(item, dict):
        return {title: _filled(below) for title, below in item.items()}
    return [_filled(each) for each in item] if isinstance(item, list) else item
