"""`isthmus doctor`: what this installation has and where it keeps things."""

from __future__ import annotations

import json

import typer

from isthmus.cli import options


def doctor(as_json: options.Json = False) -> None:
    """Show versions, devices, threads, caches and the environment variables that matter."""
    from isthmus.machine import examine

    facts = examine()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for group, values in facts.items():
        typer.echo(group)
        for name, value in values.items():
            typer.echo(f"  {name:22} {'-' if value is None else value}")
