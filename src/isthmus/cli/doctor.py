"""`isthmus doctor`: what this installation has and where it keeps things."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from isthmus.cli import options


def doctor(
    as_json: options.Json = False,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the operators that train an autoencoder faster on a CPU.")
    ] = False,
) -> None:
    """Show versions, devices, threads, caches and the environment variables that matter."""
    from isthmus.machine import examine
    from isthmus.networks.compiled import make

    if compile_:
        make()
    facts = examine()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for group, values in facts.items():
        typer.echo(group)
        for name, value in values.items():
            typer.echo(f"  {name:22} {'-' if value is None else value}")
