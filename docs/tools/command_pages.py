"""The pages on the commands, from the program's own description of them: what `--help` prints, in full and linked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from isthmus import errors
from isthmus.cli.main import app
from markdown_text import cards, cell, prose, summary

DOCS = Path(__file__).parents[1]
WRITTEN = re.compile(r"^# (.+)$", re.M)


@cache
def commands() -> dict[str, Any]:
    """Every command by its words, as `runs list`, in the order of `isthmus --help`."""
    return dict(_leaves(typer.main.get_command(app), ()))


def _leaves(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*words, name))
        elif not command.hidden:
            yield " ".join((*words, name)), command


def list_of_commands() -> str:
    rows = [
        f"| [`isthmus {words}`]({_page_of(words)}) | {cell(summary(command.help or ''))} |"
        for words, command in commands().items()
    ]
    ends = {errors.DONE: "done", errors.FAILED: "failed while running, or some of the images could not be used"}
    ends |= {
        errors.USAGE: "wrong usage, settings or input",
        errors.INTERRUPTED: "interrupted",
        errors.TERMINATED: "terminated",
    }
    codes = [f"| {number} | {meaning} |" for number, meaning in ends.items()]
    return "\n".join(
        [
            "# Commands\n",
            "What each takes is what `isthmus COMMAND --help` prints; these pages are made from the program itself. In "
            "them RUN is a folder that `isthmus train` wrote, or one of those in the `runs/` of a study, or a model "
            "alone; DATA and IMAGES are [images from anywhere](../howto/own-folder.md).\n",
            "| command | what it does |\n|---|---|",
            *rows,
            "\n`isthmus --version` prints the version. `python -m isthmus` is the same program.\n",
            "## Exit codes\n",
            "| code | meaning |\n|---|---|",
            *codes,
            "\nWith `--json` the result goes to standard output as JSON, and everything else to standard error.",
        ]
    )


def _page_of(words: str) -> str:
    name, _, inner = words.partition(" ")
    return f"{name}.md#{name}-{inner}" if inner else f"{name}.md"


def commands_page(name: str) -> str:
    """The page of a command, or of all commands of a group."""
    mine = {words: command for words, command in commands().items() if words.split()[0] == name}
    if list(mine) == [name]:
        return f"# isthmus {name}\n\n{_described(name, mine[name], '##')}"
    group = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    parts = [f"# isthmus {name}\n\n{prose(group.help)}"]
    for words, command in mine.items():
        parts.append(f"## isthmus {words} {{ #{words.replace(' ', '-')} }}\n\n{_described(words, command, '###')}")
    return "\n\n".join(parts)


def _described(words: str, command: Any, heading: str) -> str:
    context = command.context_class(command, info_name=f"isthmus {words}")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(
        ["isthmus", words, "[OPTIONS]", *(_called(p) if p.required else f"[{_called(p)}]" for p in arguments)]
    )
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    parts = [f"```text\n{usage}\n```", prose(command.help)]
    if arguments:
        rows = [f"| `{_called(p)}` | {cell(p.help)} |" for p in arguments]
        parts.append(f"{heading} Arguments\n\n| argument | what it is |\n|---|---|\n" + "\n".join(rows))
    rows = [_option(p, context) for p in options]
    rows.append("| `--help`, `-h` | | | Print this, shortened, and stop. |")
    parts.append(f"{heading} Options\n\n" + cards("| option | takes | unless given | what it does |", rows))
    where = mentions(words)
    if where:
        parts.append(f"Used in: {', '.join(f'[{title}](../{place})' for place, title in where.items())}.")
    return "\n\n".join(parts)


def _called(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]")


def _option(option: Any, context: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    takes = "" if option.is_flag else _taken(option, context)
    what = cell(option.help)
    if option.envvar:
        what += f" Else `{option.envvar}`, where that is set."
    return f"| {flags} | {takes} | {_default(option)} | {what} |"


def _taken(option: Any, context: Any) -> str:
    if option.metavar:
        return " or ".join(f"`{part}`" for part in option.metavar.split("|"))
    kind = option.display_type(context).strip("<>[]")
    known = {"int": "a whole number", "float": "a number", "str": "text", "path": "a path"}
    return known.get(kind, " or ".join(f"`{choice}`" for choice in kind.split("|")))


def _default(option: Any) -> str:
    value = getattr(option.default, "value", option.default)
    return "" if option.is_flag or not option.show_default or value in (None, [], ()) else f"`{value}`"


def mentions(words: str) -> dict[str, str]:
    """The written pages that use a command, place -> title."""
    found = {}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = WRITTEN.search(text)
        if title and path.name != "decisions.md" and re.search(rf"\bisthmus {words}\b", text):
            found[path.relative_to(DOCS).as_posix()] = title[1]
    return found
