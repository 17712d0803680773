"""A page of the documentation in parts: its code in blocks, and the code in its lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^( *)(`{3,})\s*(\S*)([^`\n]*)$")
INLINE = re.compile(r"(?<![`\w])`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """Code of a page: its language ("" of indented code), its title, the code, and the line before it, from 1."""

    language: str
    title: str
    body: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced and the indented code of a page, in order."""
    return [part for part in _parts(text.splitlines()) if isinstance(part, Block)]


def inline(text: str) -> list[str]:
    """The code in the lines of a page, each on one line."""
    prose = "\n".join(part if isinstance(part, str) else "" for part in _parts(text.splitlines()))
    return [" ".join(found.split()) for found in INLINE.findall(prose)]


def _parts(lines: list[str]) -> Iterator[Block | str]:
    """Blocks, and the lines between them. What is indented below a line of a list belongs to that line."""
    number, listed = 0, False
    while number < len(lines):
        line = lines[number]
        fence = FENCE.match(line)
        if fence:
            end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == fence[2])
            title = re.search(r'title="([^"]*)"', fence[4])
            body = textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n"
            yield Block(fence[3], title[1] if title else "", body, number + 1)
            number = end + 1
        elif line.startswith("    ") and not listed and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block("", "", textwrap.dedent("\n".join(lines[number:end])).rstrip() + "\n", number)
            number = end
        else:
            if line.strip():
                listed = line.startswith(("- ", "* ", "  ")) or bool(re.match(r"\d+\. ", line))
            yield line
            number += 1
