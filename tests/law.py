"""What pages say of the program, held against the program: its commands, names, settings, files.

`complaints` reads a page and says what it names that does not exist. Nothing here is a list of what there is: all of it
is asked of the program, so that a new command or setting needs no change.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer.main

from isthmus.cli.main import app
from isthmus.data.catalog import entries
from isthmus.settings import MODELS, RunSettings, merge, parse_assignments, problems
from isthmus.studies.study import DigitsSettings, SignsSettings
from isthmus.studies.study_file import CustomSettings
from isthmus.studies.study_text import keys
from law_python import PACKAGE, ROOT, code_of, dotted, name_in, near, python, resolved, source_of
from pages import blocks, inline

# Folders of the repository by which a path on a page is known to be one of its own.
FOLDERS = ("docs", "src", "tests", "examples", "benchmarks", ".ci")
ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "<", "&"}  # tokens at which a command ends


def complaints(text: str) -> list[str]:
    """What a page names that does not exist."""
    found: list[str] = []
    for block in blocks(text):
        if block.language in ("", "sh", "console"):
            for line in re.sub(r"\\\n\s*", " ", block.body).splitlines():
                found += _line(line, whole=True)
        if block.language == "toml" or (not block.language and re.search(r"(?m)^\[networks\.", block.body)):
            found += _toml(block.body)
        source = source_of(block.language, block.body)
        found += python(source)
        if block.language != "text":
            found += dotted(re.sub(r"(?m)^(>>> )?(from|import) .*$", "", block.body) if source else block.body)
    for code in inline(text):
        found += [*_line(code, whole=False), *dotted(code), *_flag(code), *_key(code), *_path(code), *name_in(code)]
    return [*found, *_variables(text), *_extras(text)]


# -- commands


@cache
def leaves() -> dict[str, Any]:
    """Every command by its words."""

    def walk(node: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in node.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, (*words, name))
            else:
                yield " ".join((*words, name)), command

    return dict(walk(typer.main.get_command(app), ()))


@cache
def options() -> dict[str, list[Any]]:
    """Every flag, and the options of all commands that have it."""
    found: dict[str, list[Any]] = {"--help": [], "-h": [], "--version": []}
    for command in leaves().values():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                for flag in (*parameter.opts, *parameter.secondary_opts):
                    found.setdefault(flag, []).append(parameter)
    return found


def used(text: str) -> set[str]:
    """The commands that a page names, by their words."""
    lines = [line for block in blocks(text) if block.language in ("", "sh") for line in block.body.splitlines()]
    return {
        words
        for code in (*lines, *inline(text))
        for words in leaves()
        if re.match(rf"\s*isthmus {words}(?![\w-])", code)
    }


def _line(line: str, *, whole: bool) -> list[str]:
    """A line of a shell; only a `whole` one must name all that a command needs."""
    line = re.sub(r"\$\{?\w+\}?", "1", line.strip().removeprefix("$ "))
    if line.startswith("make "):
        words = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
        return [f"there is no make {word}" for word in words[:1] if word not in targets()]
    if not re.match(r"(?:\w+=\S+ )*(?:python -m )?isthmus(?:\s|$)", line):
        return []
    tokens = shlex.split(line, comments=True)
    tokens = tokens[tokens.index("isthmus") + 1 :]
    end = next((i for i, token in enumerate(tokens) if token in ENDS or token.endswith(";")), len(tokens))
    last = [tokens[end].rstrip(";")] if end < len(tokens) and tokens[end].strip(";") not in {*ENDS, ""} else []
    return _command([*tokens[:end], *last], whole=whole)


def _command(tokens: list[str], *, whole: bool) -> list[str]:
    node, words = typer.main.get_command(app), ["isthmus"]
    while hasattr(node, "commands"):
        if not tokens or tokens[0].startswith("-"):
            return [f"isthmus has no {token}" for token in tokens[:1] if token not in ("--version", "--help", "-h")]
        token, *tokens = tokens
        if token.isupper() or token == "...":
            return []
        missing = [name for name in token.split("|") if name not in node.commands]
        if missing:
            return [f"there is no command {' '.join([*words, missing[0]])}{near(missing[0], node.commands)}"]
        if "|" in token:
            return []
        words.append(token)
        node = node.commands[token]
    return _arguments(node, " ".join(words), tokens, whole=whole)


def _arguments(command: Any, words: str, tokens: list[str], *, whole: bool) -> list[str]:
    if {"--help", "-h"} & set(tokens):
        return []
    try:
        given = command.make_context(words, list(tokens)).params
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "MissingParameter" and not whole:
            return []
        return [f"{words}: {error.format_message()}"]
    return [*_settings(words, given), *_images(words, given)]


def _settings(words: str, given: dict[str, Any]) -> list[str]:
    """What is wrong with the --set of a command."""
    tree = parse_assignments(given.get("changes") or ())
    if not tree:
        return []
    name = str(given.get("name") or given.get("network"))
    if words == "isthmus study" and name not in ("digits", "signs"):
        return [message for path in _paths(tree) for message in _key(path)]
    kind: Any = RunSettings
    start: dict[str, Any] = {"data": {"name": "mnist-5k"}, "model": {"name": name}}
    if words == "isthmus study":
        kind, start = {"digits": DigitsSettings, "signs": SignsSettings}[name], {"data": {"name": "mnist-5k"}}
    elif name not in MODELS:
        return [f"{words}: there is no network {name}"]
    return [f"{words} --set {path}: {what}" for path, what in problems(kind, merge(start, tree)).items()]


def _images(words: str, given: dict[str, Any]) -> list[str]:
    """A name of images that is no path and not in the catalogue."""
    known = {row.name for row in entries()}
    named = [value for key in ("data", "images") if isinstance(value := given.get(key), str)]
    wrong = [v for v in named if v not in known and not re.search(r"[/.]", v) and not v.strip("[]").isupper()]
    return [f"{words}: {value} is neither a set that is known nor a path" for value in wrong]


def _flag(code: str) -> list[str]:
    """An option by itself, as `--by density`."""
    match = re.fullmatch(r"(--?[a-zA-Z][\w-]*)(?:[ =](\S+))?.*", code)
    if not match:
        return []
    flag, value = match.groups()
    if flag not in options():
        return [f"no command has {flag}{near(flag, options())}"]
    choices = [choice for option in options()[flag] for choice in _choices(option)]
    if value and choices and value not in choices and not value.isupper() and "|" not in value:
        return [f"{flag} takes no {value}{near(value, choices)}"]
    return _key(value.partition("=")[0]) if flag == "--set" and value and "." in value else []


def _choices(option: Any) -> list[str]:
    kind = option.type_descriptor.annotation if hasattr(option, "type_descriptor") else None
    members = getattr(kind, "__members__", None)
    return [str(member.value) for member in members.values()] if members else []


# -- settings


@cache
def known_keys() -> set[str]:
    """Every key of a run or of a study file; `networks.NAME` stands for a network's own."""
    found = {f"{k.table}.{k.path}" if k.table else k.path for k in keys() if "," not in k.table}
    inner = {k.path for k in keys() if k.table.startswith("networks.NAME,")}
    found |= inner | {f"networks.NAME.{path}" for path in inner} | set(DigitsSettings.model_fields)
    found |= {
        f"{place}sweep.{path}"
        for place in ("", "networks.NAME.")
        for path in inner
        if path.startswith(("model.", "training."))
    }
    return found | {".".join(key.split(".")[:n]) for key in found for n in range(1, key.count(".") + 1)}


def _key(code: str) -> list[str]:
    """A dotted key, as `training.epochs` or `start = "vae"`."""
    match = re.fullmatch(r"((?:data|model|training|networks|sweep)(?:\.[\w-]+)+)(?:\s*=.*)?", code)
    if not match:
        return []
    key = re.sub(r"^networks\.[\w-]+", "networks.NAME", match[1])
    if resolved(f"isthmus.{match[1]}") is not None:  # a module, as data.degrade
        return []
    return [] if key in known_keys() else [f"there is no setting {match[1]}{near(key, known_keys())}"]


def _paths(tree: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield from _paths(value, f"{before}{key}.") if isinstance(value, dict) else [f"{before}{key}"]


def _toml(body: str) -> list[str]:
    tree = tomllib.loads(body)
    if "networks" in tree:
        return [f"study file: {path}: {what}" for path, what in problems(CustomSettings, tree).items()]
    return [message for path in _paths(tree) for message in _key(path)]


# -- files and surroundings


@cache
def targets() -> set[str]:
    """What make knows."""
    return set(re.findall(r"(?m)^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8")))


@cache
def extras() -> set[str]:
    """The extras of the package."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])


def _extras(text: str) -> list[str]:
    lists = re.findall(r"(?:pip install \"?(?:\.|isthmus)|\bisthmus)\[([\w,-]+)\]", text)
    named = [name for each in lists for name in each.split(",")] + re.findall(r"\bextras?\s+`([\w-]+)`", text)
    for table in re.findall(r"(?m)^\| extra \|.*\n\|[-|]+\n((?:\|.*\n?)*)", text):
        named += re.findall(r"(?m)^\| `([\w-]+)`", table)
    return [f"there is no extra {name}{near(name, extras())}" for name in named if name not in extras()]


def _path(code: str) -> list[str]:
    """A file or folder of the repository."""
    if not re.fullmatch(r"[\w./*-]+", code):
        return []
    first = code.split("/")[0]
    places = (
        [ROOT, PACKAGE, ROOT / "src"] if first in FOLDERS or first == "isthmus" or (PACKAGE / first).is_dir() else []
    )
    if "/" in code and places:
        return [] if any(any(place.glob(code.rstrip("/"))) for place in places) else [f"there is no file {code}"]
    if re.fullmatch(r"\w+\.py", code) and not any(any((ROOT / folder).rglob(code)) for folder in ("src", *FOLDERS)):
        return [f"there is no file {code}"]
    return []


def _variables(text: str) -> list[str]:
    known = set(re.findall(r"ISTHMUS_[A-Z_]+", code_of("src", "tests")))
    return [f"no code reads {name}" for name in sorted(set(re.findall(r"ISTHMUS_[A-Z_]+", text)) - known)]
