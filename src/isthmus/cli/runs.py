"""`isthmus runs`: which runs there are, what is in one, how several differ, and removing one."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isthmus.run_table import Comparison, Details, Epoch, Row

app = typer.Typer(help="Runs on disk: list, show, compare, remove.", no_args_is_help=True, rich_markup_mode=None)
GAP = 2  # spaces between columns
FIRM = "\u00a0"  # a space at which no line is broken
LESS = ("seconds", "train_loss")  # columns of a history that narrow terminals do without
Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A folder that `isthmus train` or a study wrote.", show_default=False),
]


@app.command("list")
def list_runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to look, in all folders below.", show_default=False)
    ] = Path(),
    as_json: options.Json = False,
) -> None:
    """List the runs below DIR, by default below this folder, those of studies too; damaged ones as damaged.

    Loss and accuracy are those of the validation images at the best epoch.
    """
    from isthmus.run_table import find_runs, read_row

    found, closed = find_runs(folder)
    rows = [read_row(path) for path in found]
    for line in closed:
        print(f"not looked into: {line}", file=sys.stderr)
    if as_json:
        _echo(json.dumps([_plain(row) for row in rows]))
    elif rows:
        _echo(_draw_rows(rows, _width()))
    else:
        _echo(f"no runs below {folder}")


@app.command()
def show(run: Run, as_json: options.Json = False) -> None:
    """Show what RUN was trained with and on, its epochs, its figures and its files."""
    from isthmus.run_table import describe

    details = describe(run)
    if as_json:
        _echo(json.dumps({**_plain(details), "row": _plain(details.row)}))
    else:
        _echo(_draw_details(details, _width()))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two runs or more.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Put runs side by side: the settings in which they differ, and their figures."""
    from isthmus.run_table import compare as side_by_side

    found = side_by_side(runs)
    if as_json:
        _echo(json.dumps(_plain(found)))
    else:
        _echo(_draw_comparison(found, _width()))


@app.command()
def rm(
    run: Run,
    study: Annotated[bool, typer.Option("--study", help="RUN is a whole study: remove it with all its runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Remove RUN, or a folder with a model alone, after asking.

    A run that is being trained, a link, and what holds anything that Isthmus did not write are left as they are.
    """
    from isthmus.errors import FAILED, InputError
    from isthmus.removal import examine, remove

    found = examine(run, study=study)
    size = f"{len(found.files)} files, {_size(found.bytes)}"
    part = f", a part of the study {found.study}" if found.study else ""
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("isthmus runs rm asks before it removes anything, and nobody can answer here: add --yes.")
        if not typer.confirm(f"Remove the {found.kind} {run} ({size}){part}?", err=True):
            print(f"kept: {run}", file=sys.stderr)
            raise SystemExit(FAILED)
    removed = remove(run, study=study)
    if as_json:
        facts = {"removed": str(run), "kind": removed.kind, "files": len(removed.files), "bytes": removed.bytes}
        _echo(json.dumps(facts))
    else:
        _echo(f"removed: {run} ({size})")


def _echo(text: str) -> None:
    r"""Print, with the bytes of names that are no text as \udcff."""
    typer.echo(text.encode("utf-8", "backslashreplace").decode())


def _plain(thing: Any) -> dict[str, Any]:
    """A result as JSON takes it: what is not finite, as a loss that diverged, is null."""
    return {name: _value(value) for name, value in asdict(thing).items()}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _width() -> int | None:
    """Of the terminal; None where the text goes to a file or another program, which need one line a run."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _draw_rows(rows: Sequence[Row], width: int | None) -> str:
    titles = ("run", "network", "code", "data", "state", "epochs", "loss", "accuracy", "seconds", "when")
    table = [titles, *(_cells(row) for row in rows)]
    text = _table(table, left=(0, 1, 3, 4, 9))
    if width is None or max(map(len, text.splitlines())) <= width:
        problems = [f"{row.folder}: {row.problem}" for row in rows if row.problem]
        return "\n".join([text, *(["", *(_fold(line, width) for line in problems)] if problems else [])])
    return "\n".join(_block(row, cells, titles, width) for row, cells in zip(rows, table[1:], strict=True))


def _cells(row: Row) -> tuple[str, ...]:
    epochs = "-" if row.epochs is None else str(row.epochs) if row.of is None else f"{row.epochs}/{row.of}"
    code = "-" if row.code_size is None else str(row.code_size)
    seconds = "-" if row.seconds is None else f"{row.seconds:.0f}"
    when = "-" if row.when is None else row.when[:16].replace("T", " ")
    measured = [_number(value) for value in (row.loss, row.accuracy)]
    return (str(row.folder), row.network or "-", code, row.data or "-", row.state, epochs, *measured, seconds, when)


def _block(row: Row, cells: Sequence[str], titles: Sequence[str], width: int) -> str:
    """A run on a few short lines, for a terminal too narrow for the table."""
    facts = [row.state, *(cell for cell, title in zip(cells, titles, strict=True) if title in ("network", "data"))]
    named = [
        f"{title} {cell}" for title, cell in zip(titles, cells, strict=True) if title in titles[5:9] or title == "code"
    ]
    words = [fact.replace(" ", FIRM) for fact in (*facts, *named, cells[-1]) if not fact.endswith("-")]
    lines = [str(row.folder), _fold(", ".join(words), width, "  ").replace(FIRM, " ")]
    return "\n".join([*lines, *([_fold(row.problem, width, "  ")] if row.problem else [])])


def _draw_details(details: Details, width: int | None) -> str:
    row, data = details.row, dict(details.data)
    if "shape" in data:
        data["shape"] = " x ".join(map(str, data["shape"]))
    head: dict[str, Any] = {"run": row.folder, "state": row.state, "problem": row.problem, "when": row.when}
    head |= {"network": row.network, "code size": row.code_size}
    sections: dict[str, dict[str, Any]] = {"": {name: value for name, value in head.items() if value is not None}}
    sections |= {"data": data, "settings": details.settings, "versions": details.versions, "figures": details.figures}
    parts = [_section(title, facts, width) for title, facts in sections.items() if facts]
    if details.history:
        parts.append("history\n" + _draw_history(short_history(details.history, details.best), details.best, width))
    files = {name: _size(count) for name, count in details.files.items()}
    return "\n\n".join([*parts, _section("files", files, width)])


def short_history(history: Sequence[Epoch], best: int | None, *, most: int = 8) -> list[Epoch]:
    """The first, the last and the best epoch, and some between, evenly.

    >>> [epoch["epoch"] for epoch in short_history([{"epoch": i} for i in range(1, 101)], 42, most=4)]
    [1, 34, 42, 67, 100]
    """
    count = len(history)
    if count <= most:
        return list(history)
    chosen = {round(i * (count - 1) / (most - 1)) for i in range(most)}
    return [record for i, record in enumerate(history) if i in chosen or record["epoch"] == best]


def _draw_history(
    epochs: Sequence[Mapping[str, float]], best: int | None, width: int | None, *, less: Sequence[str] = ()
) -> str:
    """A line an epoch, of which `best` is marked; columns in `less` are left out, on narrow terminals more of them."""
    wanted = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "seconds")
    names = [name for name in wanted if name in epochs[0] and name not in less]
    rows = [
        [
            *(f"{record[n]:.0f}" if n == "epoch" else _number(record[n]) for n in names),
            "best" * (record["epoch"] == best),
        ]
        for record in epochs
    ]
    titles = [name.replace("validation_", "val. ").replace("_", " ") for name in names]
    text = textwrap.indent(_table([[*titles, ""], *rows], left=(len(names),)), "  ")
    if width is None or less == LESS or max(map(len, text.splitlines())) <= width:
        return text
    return _draw_history(epochs, best, width, less=LESS[: len(less) + 1])


def _section(title: str, facts: Mapping[str, Any], width: int | None) -> str:
    indent = "  " if title else ""
    room = min(max(map(len, facts)), 28 if width is None else max(width * 5 // 8, 8)) + GAP
    lines = []
    for name, value in facts.items():
        text = _number(value) if isinstance(value, float) else _text(value)
        lines.append(_fold(f"{name:{room - GAP}}{' ' * GAP}{text}", width, indent, " " * (len(indent) + room)))
    return "\n".join([*([title] if title else []), *lines])


def _draw_comparison(found: Comparison, width: int | None) -> str:
    titles = ["", *map(str, found.runs)]
    groups = {"settings": found.settings, "figures": found.figures}
    rows = [
        [name, *(_number(v) if isinstance(v, float) else _text(v) for v in values)]
        for group in groups.values()
        for name, values in group.items()
    ]
    if not found.settings:
        rows.insert(0, ["settings", *["the same"] * len(found.runs)])
    text = _table([titles, *rows], left=tuple(range(len(titles))))
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    blocks = [
        "\n".join(
            [
                name,
                *(_fold(f"{run}: {value}", width, "  ", "    ") for run, value in zip(titles[1:], values, strict=True)),
            ]
        )
        for name, *values in rows
    ]
    return "\n".join(blocks)


def _table(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> str:
    """Columns two spaces apart, numbers to the right; those of the positions in `left` to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        (" " * GAP).join(f"{cell:{'<' if i in left else '>'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _fold(text: str, width: int | None, indent: str = "", more: str | None = None) -> str:
    if width is None:
        return indent + text
    more = indent if more is None else more
    return textwrap.fill(text, max(width, 20), initial_indent=indent, subsequent_indent=more, break_on_hyphens=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return {None: "-", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def _size(count: int) -> str:
    return f"{count} bytes" if count < 1000 else f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"
