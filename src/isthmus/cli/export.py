"""`isthmus export`: a trained network as files that other programs run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import options


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run, or a study with a single one.", show_default=False)
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX files; the only format there is.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="The folder to write; by default RUN/onnx.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help="Images to check the files with; by default the test part of what RUN was trained on, or the embedded "
            "digits where that cannot be loaded.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the network of RUN as ONNX: encoder and decoder, classifier or denoiser, a file each.

    The size of a batch is free. Each file is first compared with PyTorch on real images; what images must look like
    stands in its metadata.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import InputError
    from isthmus.export import export_run

    if not onnx:
        raise InputError("Say which format to write; there is one: --onnx.")
    done = export_run(run, out, data=data, overwrite=overwrite)
    for note in done.notes:
        Console(quiet=quiet).say(note)
    if as_json:
        files = [{**asdict(file), "path": str(file.path)} for file in done.files]
        typer.echo(json.dumps({"run": str(done.run), "checked_on": done.checked_on, "files": files}))
        return
    for file in done.files:
        typer.echo(f"{file.part}: {file.path} ({file.input} -> {', '.join(file.outputs)}; {file.bytes / 1e3:,.0f} kB)")
    worst = max(file.error for file in done.files)
    typer.echo(f"checked on {done.checked_on}: within {worst:.1e} of PyTorch, relative to each number's size")
