"""Names that people gave, in pictures as wide as a telephone: shortened, and set in as many columns as have room."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from isthmus.figures.style import PANEL, RC

LETTER, SIGN = 0.072, 0.32  # inches of a legend: a letter at its size, and a sign with the space around it
SEPARATORS = " -_./"


def short_classes(names: Sequence[str], most: int = 12) -> list[str]:
    """`short_names`, and without the words with which all of them begin or end.

    >>> short_classes(["hand showing one", "hand showing two"])
    ['one', 'two']
    >>> short_classes(["a hand with 1 finger up", "a hand with 2 finger up"])
    ['1', '2']
    """
    if max(map(len, names), default=0) <= most:
        return list(names)
    begun = [name[_shared(names) :] for name in names]
    backwards = [name[::-1] for name in begun]
    own = [name[_shared(backwards) :][::-1] for name in backwards]
    return short_names(own if all(own) else begun if all(begun) else names, most)


def _shared(names: Sequence[str]) -> int:
    """How many letters the words take with which all names begin, and the separator after them."""
    first, last = min(names), max(names)  # what these two begin with, all do
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return max(first.rfind(separator, 0, same) for separator in SEPARATORS) + 1


def short_names(names: Sequence[str], most: int = 12) -> list[str]:
    """Names of so many letters at most, without their middle; as they are where that would make two of them the same.

    >>> short_names(["conv-2", "photographs-of-hands-2"])
    ['conv-2', 'photog…nds-2']
    >>> short_names(["a" * 20 + "b" * 20, "a" * 20 + "c" + "b" * 20], 8)[0] == "a" * 20 + "b" * 20
    True
    """
    shown = [name if len(name) <= most else f"{name[: most // 2]}…{name[1 - (most + 1) // 2 :]}" for name in names]
    return shown if len(set(shown)) == len(set(names)) else list(names)


def legend_columns(labels: Sequence[str]) -> int:
    """As many columns of a legend as have room below a panel.

    >>> legend_columns("0123456789"), legend_columns(["a hand showing one", "a hand showing two"])
    (10, 2)
    """
    return max(1, min(len(labels), int(PANEL / (SIGN + LETTER * max(map(len, labels))))))


def fit_legend(figure: Figure) -> None:
    """Set the legend below a figure again, in as many columns as have room."""
    (old,) = figure.legends
    labels = [text.get_text() for text in old.get_texts()]
    old.remove()
    with mpl.rc_context(RC):
        figure.legend(
            [handle for handle in old.legend_handles if handle is not None],
            labels,
            loc="outside lower center",
            ncols=legend_columns(labels),
            handlelength=1.6,
            handletextpad=0.4,
            columnspacing=0.9,
        )
