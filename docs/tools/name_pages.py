"""The pages on the public names of the package, which mkdocstrings fills with their docstrings, and on its modules."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

import isthmus
from markdown_text import cell, summary

PACKAGE = Path(isthmus.__file__).parent
# What a public name is about, by the part of the package that it lies in, in the order of the navigation.
TOPICS = {
    "estimators": "Estimators",
    "data": "Images",
    "networks": "Networks",
    "settings": "Settings",
    "training": "Training",
    "runs": "Runs",
    "latent": "Densities of codes",
    "inverse": "Restoring",
    "export": "Export",
}


@cache
def topics() -> dict[str, dict[str, Any]]:
    """Public names and what they stand for, by topic."""
    found: dict[str, dict[str, Any]] = {topic: {} for topic in TOPICS}
    for name in isthmus.__all__:
        value = getattr(isthmus, name)
        if not isinstance(value, str):
            found.setdefault(value.__module__.split(".")[1], {})[name] = value
    return {topic: names for topic, names in found.items() if names}


def _title(topic: str) -> str:
    return TOPICS.get(topic, topic.replace("_", " ").capitalize())


def list_of_names() -> str:
    parts = [
        "# Python\n",
        "These names are imported from `isthmus` itself, and load when they are first used: `import isthmus` is "
        "instant and changes nothing. The pages are made from the docstrings. All other modules can be used too; "
        "[what each is about](modules.md) is said at its head, and only these names are meant to stay.\n",
    ]
    for topic, names in topics().items():
        parts += [f"\n## [{_title(topic)}]({topic}.md)\n", "| name | |\n|---|---|"]
        parts += [
            f"| [`{name}`]({topic}.md#{_path(value)}) | {cell(_first_line(value))} |" for name, value in names.items()
        ]
    return "\n".join(parts)


def names_page(topic: str) -> str:
    parts = [
        f"# {_title(topic)}\n",
        f"All of this is imported from `isthmus`: `from isthmus import {next(iter(topics()[topic]))}`.\n",
    ]
    classes_first = sorted(topics()[topic].values(), key=inspect.isfunction)
    return "\n".join([*parts, *(f"::: {_path(value)}\n" for value in classes_first)])


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _first_line(value: Any) -> str:
    return summary(inspect.getdoc(value) or "")


def list_of_modules() -> str:
    parts = ["# Every module\n", "Each begins with the idea it holds and the notation it uses.\n"]
    folder = None
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda p: (p.parent.as_posix(), p.name)):
        if path.name.startswith("_"):
            continue
        if path.parent != folder:
            folder = path.parent
            inner = ".".join(("isthmus", *folder.relative_to(PACKAGE).parts))
            parts += [
                f"\n## `{inner}`\n",
                f"{cell(summary(importlib.import_module(inner).__doc__ or ''))}\n",
                "| module | |\n|---|---|",
            ]
        text = path.read_text(encoding="utf-8")
        parts.append(f"| `{path.stem}` | {cell(summary(text.split(chr(34) * 3)[1]))} |")
    return "\n".join(parts)
