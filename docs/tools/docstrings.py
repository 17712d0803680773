"""Docstrings of the package as Markdown, for the pages on its public names.

They are written as prose for who reads the code: examples as doctests, formulas behind three spaces, arguments one
after another as `name: what it is.` Here each of these becomes what Markdown has for it, and nothing else is changed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from typing import Any

import griffe

LABELS = ("Arguments", "Returns", "Raises", "Attributes after `fit`")
LABEL = re.compile(rf"^({'|'.join(map(re.escape, LABELS))}): ?")
SPLIT = re.compile(rf"(?:^|(?<=[.)] ))(?=(?:{'|'.join(map(re.escape, LABELS))}): ?)")
FORMULA = re.compile(r"(?<=\S) {3,}(\S.*)$")
OTHERS = re.compile(r"(?<=\. )(?=The other(?:s are| arguments are))")


class Markdown(griffe.Extension):
    """Rewrites every docstring as it is collected."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **options: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value, names_of(obj))


def names_of(obj: griffe.Object) -> set[str]:
    """What a docstring may explain: arguments of a function, attributes and constructor arguments of a class."""
    names: set[str] = set()
    if isinstance(obj, griffe.Function):
        names |= {parameter.name for parameter in obj.parameters}
    elif isinstance(obj, griffe.Class):
        names |= {name for name, member in obj.members.items() if member.is_attribute}
        names |= {parameter.name for parameter in obj.parameters}
    return names - {"self", "cls"}


def as_markdown(text: str, names: Collection[str] = ()) -> str:
    r"""A docstring as Markdown.

    >>> print(as_markdown("Add.   x + y\n\nArguments: x: one. y: two. Returns: the sum.", ("x", "y")))
    Add. `x + y`
    <BLANKLINE>
    **Arguments**
    <BLANKLINE>
    - `x`: one.
    - `y`: two.
    <BLANKLINE>
    **Returns** the sum.
    """
    parts = []
    for block in _blocks(inspect.cleandoc(text).splitlines()):
        if block[0].startswith(">>>"):
            parts.append("\n".join(["```pycon", *block, "```"]))
        elif block[0].startswith("    "):
            parts.append("\n".join(["```text", *(line[4:] for line in block), "```"]))
        else:
            block[0] = FORMULA.sub(r" `\1`", block[0])
            parts += [_paragraph(each.strip(), names) for each in SPLIT.split(" ".join(map(str.strip, block))) if each]
    return "\n\n".join(parts)


def _blocks(lines: list[str]) -> list[list[str]]:
    """Paragraphs, doctests and indented text, each by itself. What is indented below `Arguments:` belongs to it."""
    blocks: list[list[str]] = []
    kind = ""
    for line in lines:
        if not line:
            kind = ""
            continue
        now = "test" if line.startswith(">>>") or (kind == "test") else "set" if line.startswith("    ") else "text"
        if kind == "text" and now == "set" and blocks[-1][0].split(":")[0] in LABELS:
            now = "text"
        if now == "text" and LABEL.match(line):
            kind = ""
        if now != kind:
            blocks.append([])
        blocks[-1].append(line)
        kind = now
    return blocks


def _paragraph(text: str, names: Collection[str]) -> str:
    """A paragraph, or what follows a label; where it explains names one after another, a list of them."""
    label = LABEL.match(text)
    body = text[label.end() :] if label else text
    title = f"**{label[1]}**" if label else ""
    several = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    start = re.compile(rf"(?:^|(?<=[.);] ))((?:{several})(?:, (?:{several}))*)(?:: |\. )") if names else None
    if start is None or not start.match(body):
        return f"{title} {_prose(body)}".strip()
    places = list(start.finditer(body))
    items, rest = [], []
    for place, following in zip(places, [*places[1:], None], strict=True):
        what, *rest = OTHERS.split(body[place.end() : following.start() if following else None])
        known = ", ".join(f"`{name}`" for name in place[1].split(", "))
        items.append(f"- {known}: {_prose(what.strip())}" if what.strip() else f"- {known}")
    return "\n\n".join(filter(None, [title, "\n".join(items), *map(_prose, rest)]))


def _prose(text: str) -> str:
    """Text that Markdown shows as it is; what stands between backticks is code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("*", r"\*").replace("<", "&lt;") for part in parts)
