"""Codes in several files as one set: a folder that `isthmus encode` wrote of shards, or a pattern of files.

The set is held whole: about 150 bytes an image beside its numbers, most of them for its name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.data.arrays import class_order
from isthmus.errors import InputError
from isthmus.training.codes import CodesFile, holds_codes, read_codes
from isthmus.training.shard_finding import CODES, MARKER, is_pattern
from isthmus.writing import read_json


def holds_joined_codes(source: Path) -> bool:
    """Whether a source is a file of codes, a folder of such files, or a pattern of them."""
    if source.is_dir():
        return (source / MARKER).exists()
    if is_pattern(str(source)):
        return any(holds_codes(path) for path in _matching(source)[:1])
    return holds_codes(source)


def read_joined_codes(source: Path) -> CodesFile:
    """Read codes as `read_codes` does, of a folder or a pattern those of all files together, in the order of names.

    Classes are kept if every image has one.
    Raises: InputError for a folder that is not complete or holds none, files that do not go together, and for whatever
    `read_codes` refuses.
    """
    if source.is_dir():
        return _joined(_below(source))
    if is_pattern(str(source)):
        paths = _matching(source)
        if not paths:
            raise InputError(f"{source} matches no file; name files of codes.")
        return _joined(paths)
    return read_codes(source)


def _below(folder: Path) -> list[Path]:
    """The files of codes in a folder that `isthmus encode` wrote."""
    if not (folder / MARKER).exists():
        raise InputError(
            f"{folder} is a folder that no `isthmus encode` wrote (there is no {MARKER} in it); name a file of codes, "
            f"or several by a pattern in quotes."
        )
    if read_json(folder / MARKER).get("state") != "finished":
        raise InputError(
            f"{folder} is not complete: its encoding was cut short, or goes on. Give the same `isthmus encode` again, "
            f"or name the files that are there by a pattern in quotes."
        )
    paths = sorted(path for path in folder.rglob(f"*{CODES}") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} holds no codes: every shard failed; see `failed` in {folder / MARKER}.")
    return paths


def _matching(pattern: Path) -> list[Path]:
    return sorted(Path(name) for name in glob.iglob(os.fspath(pattern), recursive=True) if os.path.isfile(name))


def _joined(paths: Sequence[Path]) -> CodesFile:
    parts = [read_codes(path) for path in paths]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        _check_alike(paths[0], parts[0], path, part)
    labelled = all(part.labels is not None for part in parts)
    classes = class_order(name for part in parts for name in part.classes) if labelled else []
    number = {name: place for place, name in enumerate(classes)}
    labels = [
        np.array([number[name] for name in part.classes], np.int64)[part.labels]
        for part in parts
        if labelled and part.labels is not None
    ]
    digits = len(str(len(paths) - 1))
    called = [part.paths or tuple(f"{i:0{digits}d}-{name}" for name in part.names()) for i, part in enumerate(parts)]
    std = [part.std for part in parts if part.std is not None]
    return CodesFile(
        np.concatenate([part.codes for part in parts]),
        tuple(name for names in called for name in names),
        np.concatenate(labels) if labelled else None,
        tuple(classes),
        np.concatenate(std) if std else None,
        parts[0].run,
    )


def _check_alike(first: Path, one: CodesFile, path: Path, other: CodesFile) -> None:
    sizes = [codes.codes.shape[1] for codes in (one, other)]
    if sizes[0] != sizes[1]:
        raise InputError(f"{first} holds codes of {sizes[0]} numbers, {path} of {sizes[1]}: they make no set.")
    if one.run != other.run:
        raise InputError(
            f"{first} and {path} were written by different models, whose codes do not compare: name the files of one."
        )
    if (one.std is None) != (other.std is None):
        has, lacks = (first, path) if other.std is None else (path, first)
        raise InputError(f"{has} holds standard deviations and {lacks} none: they make no set; name the files of one.")
