"""A study file read and checked: its settings with all defaults filled in, or every mistake in it at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.errors import InputError, SettingsError
from isthmus.settings import refusal, validate
from isthmus.studies.study_file import ANALYSES, NEEDS, CustomSettings, families
from isthmus.studies.study_mistakes import kind_of, mistakes, tables_of, with_defaults

DEEPEST = 20  # tables in tables


def read_study_file(path: Path) -> dict[str, Any]:
    """What stands in a study file, unchecked. Raises: InputError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; `isthmus study --init {path}` writes a study file to start from."
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name the study file itself.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}), as TOML has to be; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read as a study file ({error.strerror or error}).") from error
    except RecursionError as error:
        raise InputError(f"{path} is not a study file: its lists lie too deep in each other.") from error
    except ValueError as error:  # also of a number with thousands of digits
        said = str(error).partition(";")[0]
        raise InputError(f"{path} is not TOML: {said}. {_hint(said)}") from error


def study_settings(tree: Mapping[str, Any]) -> CustomSettings:
    """The settings of a study file with all defaults filled in.

    Raises: SettingsError with every mistake, by dotted path, with the nearest known name for an unknown one.
    """
    if _deeper_than(DEEPEST, tree):
        raise SettingsError("This is no study file: its tables lie too deep in each other; those of a study go 4 deep.")
    filled = _with_defaults(tree)
    found, runs = mistakes(filled)
    if found:
        raise SettingsError(refusal(found))
    settings = validate(CustomSettings, filled)
    if "analyses" not in tree and families(runs):
        settings = settings.model_copy(update={"analyses": (*settings.analyses, "code-size")})
    return settings


def _with_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Each network's training on top of its own defaults, and the analyses that suit any networks of these kinds."""
    networks = {name: with_defaults(network) for name, network in tables_of(tree.get("networks"))}
    kinds = {kind_of(network) for network in networks.values()}
    suited = [name for name in ANALYSES if kinds & NEEDS[name][0] and name != "code-size"]
    return {"analyses": suited, **tree, **({"networks": networks} if networks else {})}


def _hint(error: str) -> str:
    """What is most often meant where TOML says this."""
    if "hex value" in error or "Unescaped" in error:
        return r"A path with \ stands in single quotes: 'C:\images'."
    if "twice" in error or "overwrite" in error:
        return "Each table and each key stands once: give another name to the second, or put both into one."
    return "Texts stand in quotes, tables begin with [NAME]."


def _deeper_than(depth: int, tree: Mapping[str, Any]) -> bool:
    level = [tree]
    for _ in range(depth):
        level = [value for table in level for value in table.values() if isinstance(value, Mapping)]
    return bool(level)
