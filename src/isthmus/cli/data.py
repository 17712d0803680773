"""`isthmus data`: which sets there are, and what is in one."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from isthmus.cli import options
from isthmus.cli.reading import reading

app = typer.Typer(help="Named image sets, and what a set or a path holds.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_sets(as_json: options.Json = False) -> None:
    """List the sets known by name, and where each would come from."""
    from isthmus.data.catalog import entries

    rows = entries()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        size = " x ".join(map(str, row.shape[1:]))
        typer.echo(f"{row.name:12} {row.count:>7,} images {size:9} {row.origin:13} {row.description}")


@app.command()
def info(
    data: options.Data,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Read a set and say what is in it."""
    from isthmus.cli.console import Console
    from isthmus.data.catalog import load

    with reading(Console(progress=not no_progress)):
        facts = load(data, skip_bad=skip_bad).summary()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} ({count:,})" for key, count in value.items()) or "none"
        elif isinstance(value, list):
            value = " x ".join(map(str, value)) if name == "shape" else " ".join(value) or "none"
        typer.echo(f"{name:16} {value}")
