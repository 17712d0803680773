"""Text of the program as Markdown that shows it as it is."""

from __future__ import annotations

import inspect
import re


def cards(head: str, rows: list[str]) -> str:
    """A wide table, which narrow screens show as a card a row."""
    line = "|" + "---|" * (head.count("|") - 1)
    return "\n".join(['<div class="cards" markdown>\n', head, line, *rows, "\n</div>"])


def summary(text: str | None) -> str:
    """The first paragraph of a docstring up to its first full stop, on one line."""
    line = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", line, maxsplit=1)[0]


def prose(text: str | None) -> str:
    """Paragraphs, each on one line."""
    return "\n\n".join(escaped(" ".join(part.split())) for part in inspect.cleandoc(text or "").split("\n\n"))


def cell(text: str | None) -> str:
    """What a cell of a table may hold."""
    return escaped(" ".join((text or "").split())).replace("|", r"\|")


def escaped(text: str) -> str:
    """Text as Markdown that shows it as it is; what stands between backticks is code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("*", r"\*").replace("<", "&lt;") for part in parts)
