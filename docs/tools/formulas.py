"""Formulas of a page, written in TeX between dollar signs, as MathML.

Arithmatex finds them (code is left alone), latex2mathml translates them while the site is built: no script and no font
is loaded by who reads it.
"""

from __future__ import annotations

import re
from html import unescape

from latex2mathml.converter import convert

FOUND = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)
UNKNOWN = re.compile(r">[^<]*(\\[A-Za-z]+)")


def with_formulas(html: str, page: str) -> str:
    """The page with every formula as MathML. Raises: ValueError for a command that is not known, naming `page`."""
    return FOUND.sub(lambda found: _formula(found, page), html)


def mathml(tex: str, *, block: bool, page: str) -> str:
    """One formula. Raises: ValueError for a command that latex2mathml does not know, which it would print as it is.

    >>> mathml("x^2", block=False, page="a.md").count("<msup>")
    1
    """
    made: str = convert(tex, display="block" if block else "inline")
    unknown = UNKNOWN.search(made)
    if unknown:
        raise ValueError(f"{page}: {unknown[1]} in the formula {tex!r} cannot be drawn; write it in other commands.")
    return made


def _formula(found: re.Match[str], page: str) -> str:
    kind, text = found[1], unescape(found[2]).strip()
    return f'<{kind} class="formula">{mathml(text[2:-2].strip(), block=kind == "div", page=page)}</{kind}>'
