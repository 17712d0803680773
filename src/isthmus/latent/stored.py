"""Codes in a file in the place of images: those of the run that is asked, and usable."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isthmus.data.catalog import CATALOG
from isthmus.errors import DataError
from isthmus.runs import Run
from isthmus.training.codes import CodesFile, check_model
from isthmus.training.joined_codes import holds_joined_codes, read_joined_codes
from isthmus.training.redraw import unsaid


@dataclass(frozen=True)
class Usable:
    """Codes that are finite, with names. left_out: the others, name -> reason. notes: sentences for the user."""

    codes: CodesFile
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


def stored_codes(source: str | Path, run: Run) -> Usable | None:
    """What is usable of a source that is a file of codes by `run`; None if it is anything else, such as images.

    Raises: InputError if the file is damaged, or its codes are of another size or another run; DataError if none of
    them is finite.
    """
    path = Path(os.path.expanduser(source))
    if is_named(source) or not holds_joined_codes(path):
        return None
    codes = read_joined_codes(path)
    check_model(path, codes, run)
    found = usable(codes, source)
    return found if codes.run is not None else replace(found, notes=(unsaid(path),))


def usable(codes: CodesFile, source: str | Path) -> Usable:
    """Codes without those that hold NaN or infinite numbers. Raises: DataError if there are no others."""
    finite = np.asarray(np.isfinite(codes.codes).all(1), bool)
    if not finite.any():
        raise DataError(
            f"All {len(codes):,} codes of {source} hold NaN or infinite numbers: train the network again, with a lower "
            f"learning rate."
        )
    named = replace(codes, paths=codes.names())
    if finite.all():
        return Usable(named, {})
    wrong = [named.names()[i] for i in np.flatnonzero(~finite)]
    return Usable(named.take(finite), dict.fromkeys(wrong, "has a code with NaN or infinite numbers"))


def is_named(source: str | Path) -> bool:
    """Whether a source is a name of the catalogue, which comes before a file of that name."""
    return any(entry.name == str(source) for entry in CATALOG)
