"""`isthmus encode`: the code of every image, by a trained autoencoder, into one file or a file a shard."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import options
from isthmus.cli.classify import printable, report

if TYPE_CHECKING:
    from isthmus.cli.console import Console
    from isthmus.training.shard_engines import EncodedShards


class Engine(StrEnum):
    """Who encodes shards."""

    PROCESS = "process"
    RAY = "ray"


def encode(
    run: options.Coder,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="An image, a folder (searched below), an .npz, Parquet, IDX or CSV file, or a name. Or shards: "
            "several files of .parquet, .npy or .npz, a pattern of them in quotes, or with --engine a folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The file to write: .npz, .csv or .parquet; of shards the folder, of a .parquet each.",
            show_default=False,
        ),
    ],
    posterior: Annotated[
        bool, typer.Option("--posterior", help="Of a vae, also write the standard deviation of each number.")
    ] = False,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails",
            help="To a .parquet also write each image and its place in a plane, for Hugging Face datasets and "
            "embedding-atlas.",
        ),
    ] = False,
    engine: Annotated[
        Engine | None,
        typer.Option(
            "--engine",
            help="Encode shards: process, by workers on this machine, the default of several files; ray, on the "
            "cluster that RAY_ADDRESS names.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="Shards at a time, by default one for each thread; on Ray as many as there is room for.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file; of shards, empty the folder first.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Write the code of each of IMAGES, of a vae the mean, with its path and its class where that is known.

    Images are brought to the size and channels of the training. Each of several shards gets a file of its own; what is
    in place is not done again, so that the same command goes on where one was cut short.
    """
    from isthmus.cli.console import Console
    from isthmus.errors import FAILED, InputError
    from isthmus.training.shard_finding import is_pattern

    console = Console(quiet=quiet, progress=not no_progress)
    if engine is not None or len(images) > 1 or is_pattern(images[0]):
        if thumbnails:
            raise InputError("--thumbnails needs the codes of all images at once: name one set, without --engine.")
        place = options.choose_device(device)
        chosen = engine or Engine.PROCESS
        found = _shards(run, images, out, chosen, workers, posterior, overwrite, place, console)
        if as_json:
            facts = {"run": str(run), "out": str(out), "engine": chosen.value, **_facts(found)}
            typer.echo(json.dumps(facts))
        else:
            _print(found, out)
        failed = any(shard.left_out_count or shard.error for shard in found.shards)
    else:
        if workers is not None:
            raise InputError("--workers is for shards: give --engine process too, or leave it out.")
        place = options.choose_device(device)
        failed = _one(run, images[0], out, posterior, thumbnails, overwrite, place, console, as_json)
    if failed:
        raise SystemExit(FAILED)


def _one(
    run: Path,
    images: str,
    out: Path,
    posterior: bool,
    thumbnails: bool,
    overwrite: bool,
    device: str,
    console: Console,
    as_json: bool,
) -> bool:
    """Encode one set into one file; returns whether images were left out."""
    from isthmus.training.codes import encode_into

    with console.progress("encode") as progress:
        found = encode_into(
            out,
            run,
            images,
            posterior=posterior,
            thumbnails=thumbnails,
            overwrite=overwrite,
            device=device,
            progress=progress,
        )
    report(found.stream, console)
    count, size = found.codes.shape
    if as_json:
        facts = {"run": str(run), "out": str(out), "images": count, "code_size": size, "left_out": found.stream.bad}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"codes: {out} ({count:,} image{'s' if count > 1 else ''}, {size} numbers each)")
    return bool(found.stream.bad)


def _shards(
    run: Path,
    images: list[str],
    out: Path,
    engine: Engine,
    workers: int | None,
    posterior: bool,
    overwrite: bool,
    device: str,
    console: Console,
) -> EncodedShards:
    """Encode shards, and say on stderr what was changed, left out and failed."""
    from isthmus.training.shard_engines import encode_shards

    try:
        with console.progress("encode") as progress:
            found = encode_shards(
                run,
                images,
                out,
                engine=engine.value,
                workers=workers,
                posterior=posterior,
                overwrite=overwrite,
                device=device,
                prepare=options.prepare_process,
                progress=progress if console.bars else None,  # to count the images takes a look at every shard
            )
    except KeyboardInterrupt:
        console.say("the shards that are done are kept; the same command does the rest")
        raise
    for note in found.notes:
        console.say(note)
    for shard in found.shards:
        for name, reason in shard.left_out.items():
            print(f"left out: {printable(name)} {reason}", file=sys.stderr)
        more = shard.left_out_count - len(shard.left_out)
        if more:
            print(f"left out: {more:,} more images of {printable(str(shard.shard.source))}", file=sys.stderr)
        if shard.error:
            print(f"failed: {shard.error}", file=sys.stderr)
    return found


def _facts(found: EncodedShards) -> dict[str, object]:
    shards = [
        {
            "shard": str(each.shard.source),
            "out": None if each.error else str(each.shard.target),
            "status": each.status,
            "images": each.images,
            "left_out": each.left_out_count,
            "seconds": each.seconds,
            "error": each.error,
        }
        for each in found.shards
    ]
    return {
        "images": found.images,
        "code_size": found.code_size,
        "seconds": found.seconds,
        "images_per_second": found.images_per_second,
        "shards": shards,
        "left_out": {name: reason for each in found.shards for name, reason in each.left_out.items()},
    }


def _print(found: EncodedShards, out: Path) -> None:
    counts = {status: len(found.of(status)) for status in ("encoded", "done before", "failed")}
    said = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    count = len(found.shards)
    typer.echo(f"shards: {count:,} ({said})")
    speed = found.images_per_second
    now = "" if speed is None else f", {speed:,.0f} images a second"
    typer.echo(f"codes: {out} ({found.images:,} images, {found.code_size} numbers each{now})")
