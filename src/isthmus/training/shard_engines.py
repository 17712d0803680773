"""Many shards of images, each to a file of codes: by processes of this machine, or on a Ray cluster.

    shards -> those whose codes are missing or of an older shard -> workers -> DIR/<name>.parquet, one each

A worker takes one shard after another, with one thread: networks of this size gain more from a second shard than from a
second thread, and more workers give the same bits. A shard whose worker is killed is given to another, up to `TRIES`
times. One that fails is named, and the others are done. What is in place stays when a run is cut short, and is not done
again by the next.

    DIR/encoded.json   which model the codes are of, how many shards and images, and which shards failed
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.errors import InputError, RunExistsError
from isthmus.model_files import read_config, to_bytes
from isthmus.networks.variational import VAE
from isthmus.runs import Run, claim
from isthmus.training.cluster import on_cluster
from isthmus.training.codes import weights_fingerprint
from isthmus.training.loop import Progress
from isthmus.training.redraw import coder_of
from isthmus.training.shard_encoding import Coder, Job, encode_shard
from isthmus.training.shard_finding import MARKER, Shard, check_folder, content_mark, find_shards
from isthmus.training.shard_reading import count_images
from isthmus.training.shard_writing import read_note, remove_unfinished
from isthmus.training.workers import Died, Orders, Prepare, in_processes, own_processors
from isthmus.writing import read_json, write_json

TRIES = 3  # times that a shard is begun whose worker dies

Engine = Literal["process", "ray"]


@dataclass(frozen=True)
class EncodedShard:
    """What became of a shard.

    images: whose codes are in its file. left_out: name -> reason of images that could not be used; of very many only
    the first, left_out_count says how many. seconds: of reading, network and writing, {} if nothing was done now.
    error: why there is no file.
    """

    shard: Shard
    status: Literal["encoded", "done before", "failed"]
    images: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    left_out_count: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class EncodedShards:
    """The shards in their order; seconds: that encoding took, starting the workers included; notes: for the user."""

    shards: tuple[EncodedShard, ...]
    code_size: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        """Images with codes in DIR, those done before included."""
        return sum(shard.images for shard in self.shards)

    @property
    def images_per_second(self) -> float | None:
        """Of those encoded now; None if none were."""
        now = sum(shard.images for shard in self.shards if shard.status == "encoded")
        return now / self.seconds if now else None

    def of(self, status: str) -> list[EncodedShard]:
        """The shards of this status."""
        return [shard for shard in self.shards if shard.status == status]


def encode_shards(
    folder: Path,
    sources: Sequence[str],
    out: Path,
    *,
    engine: Engine = "process",
    workers: int | None = None,
    posterior: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    prepare: Prepare | None = None,
    progress: Progress | None = None,
) -> EncodedShards:
    """Encode shards of images by a run, each into a file of its own in `out`; see the head of this file.

    Arguments: folder: what `find_run` takes. sources: what `find_shards` takes. engine: process, workers on this
    machine; ray, on the cluster that RAY_ADDRESS names, whose machines see shards and `out` under the same paths.
    workers: at a time; by default one a thread of this process, on a device other than the CPU one, on Ray as many as
    there is room for. posterior: also the standard deviations, of a VAE. overwrite: empty `out` first. prepare: called
    first in every worker. progress: called with (images done, images in all, a line).
    Raises: InputError for a run without codes, sources without shards, or workers that cannot be; RunExistsError if
    `out` holds other files, codes of another model or of other shards, or is in use; StorageError.
    """
    check_folder(out)
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError("The codes of shards are written as Parquet, which needs a package: `pip install pyarrow`.")
    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}; at least 1 is needed.")
    run, coder = _coder(folder, posterior, device)
    shards = find_shards(sources, out)
    with claim(out, marker=MARKER, resume=not overwrite, overwrite=overwrite):
        _check_folder_is_of(out, coder)
        facts: dict[str, Any] = {"run": str(run.folder), "model": coder.fingerprint, "posterior": posterior}
        found, left = _done_before(shards, coder)
        write_json(out / MARKER, {**facts, "state": "running"})
        started = time.perf_counter()
        board = _Board(left, progress)
        found |= _encode(left, coder, engine, workers, prepare, board)
        encoded = tuple(found[shard] for shard in shards)
        result = EncodedShards(encoded, coder.size, time.perf_counter() - started, board.notes())
        failed = {shard.shard.name: shard.error for shard in result.of("failed")}
        counts = {"shards": len(shards) - len(failed), "images": result.images, "failed": failed}
        write_json(out / MARKER, {**facts, "state": "finished", **counts})
    return result


def _coder(folder: Path, posterior: bool, device: str) -> tuple[Run, Coder]:
    run, network = coder_of(folder)
    if posterior and not isinstance(network, VAE):
        raise InputError(f"{run.folder} is not a VAE, so its codes have no standard deviation: leave out --posterior.")
    config = read_config(run.model)
    coder = Coder(
        settings=config.model,
        image_shape=config.image_shape,
        weights=to_bytes(network.state_dict()),
        fingerprint=weights_fingerprint(run),
        size=run.config()["model"]["latent_dim"],
        posterior=posterior,
        device=device,
    )
    return run, coder


def _check_folder_is_of(out: Path, coder: Coder) -> None:
    """Raises: RunExistsError if the codes there are of another model, or of another kind."""
    if not (out / MARKER).exists():
        return
    before = read_json(out / MARKER)
    if before.get("model") != coder.fingerprint:
        raise RunExistsError(
            f"{out} holds codes by another model (its weights are {str(before.get('model'))[:12]}..., those of the run "
            f"{coder.fingerprint[:12]}...): choose another --out, or empty it with --overwrite."
        )
    if before.get("posterior") != coder.posterior:
        has = "with" if before.get("posterior") else "without"
        raise RunExistsError(
            f"{out} holds codes {has} standard deviations: give --posterior as then, choose another --out, or empty it "
            f"with --overwrite."
        )


def _done_before(shards: Sequence[Shard], coder: Coder) -> tuple[dict[Shard, EncodedShard], list[Shard]]:
    """The shards whose codes are in place, and those that are left to do.

    Raises: RunExistsError where the codes of another shard have that place.
    """
    found: dict[Shard, EncodedShard] = {}
    left = []
    for shard in shards:
        note = read_note(shard.target)
        if note and _expected(shard, coder).items() <= note.items():
            found[shard] = _outcome(shard, "done before", note)
        elif note and note["shard"] != str(shard.source.absolute()):
            raise RunExistsError(
                f"{shard.target} holds the codes of {note['shard']}, and {shard.source} is another shard of that name: "
                f"choose another --out, or empty it with --overwrite."
            )
        else:
            left.append(shard)
    return found, left


def _expected(shard: Shard, coder: Coder) -> dict[str, Any]:
    try:
        return coder.note(content_mark(shard.source))
    except OSError:  # the worker that is to encode it says why
        return coder.note({})


def _outcome(shard: Shard, status: Literal["encoded", "done before"], note: dict[str, Any]) -> EncodedShard:
    return EncodedShard(
        shard,
        status,
        images=note["images"],
        left_out=note["left_out"],
        left_out_count=note["left_out_count"],
        seconds=note.get("seconds", {}),
    )


class _Board:
    """How far all shards are together, and what was done to their images."""

    def __init__(self, shards: Sequence[Shard], progress: Progress | None):
        self.progress = progress
        self.counts = {shard: 0 if progress is None else count_images(shard.source) for shard in shards}
        self.total = sum(self.counts.values())
        self.done: dict[Shard, int] = {}
        self.changes: Counter[str] = Counter()
        self.ended = 0

    def follow(self, shard: Shard, done: int) -> None:
        self.done[shard] = done
        if self.progress is not None:
            reached = sum(self.done.values())
            line = f"{reached:,} of {self.total:,} images, {self.ended:,} of {len(self.counts):,} shards"
            self.progress(reached, self.total, line)

    def end(self, shard: Shard) -> None:
        self.ended += 1
        self.follow(shard, self.counts[shard])

    def notes(self) -> tuple[str, ...]:
        return tuple(f"{count:,} image{'s' if count > 1 else ''} {what}." for what, count in self.changes.items())


def _encode(
    shards: Sequence[Shard],
    coder: Coder,
    engine: Engine,
    workers: int | None,
    prepare: Prepare | None,
    board: _Board,
) -> dict[Shard, EncodedShard]:
    """Encode shards, those again whose worker died."""
    found: dict[Shard, EncodedShard] = {}
    tries = TRIES if engine == "process" else 1  # the cluster gives them to another worker by itself
    left = list(shards)
    for trial in range(1, tries + 1):
        dead: list[Shard] = []
        with contextlib.closing(_results(left, coder, engine, workers, prepare, board)) as results:
            for shard, result in results:
                if isinstance(result, Died):
                    remove_unfinished(shard.target)
                    dead.append(shard)
                    found[shard] = EncodedShard(shard, "failed", error=f"{shard.source}: {result.reason}")
                else:
                    found[shard] = _read(shard, result, board)
                if trial == tries or not isinstance(result, Died):
                    board.end(shard)
        left = dead
    return found


def _results(
    shards: Sequence[Shard], coder: Coder, engine: Engine, workers: int | None, prepare: Prepare | None, board: _Board
) -> Generator[tuple[Shard, Any], None, None]:
    """What workers make of shards, as it comes; none are started where there are none."""
    if not shards:
        return
    jobs = [Job(str(shard.source.absolute()), str(shard.target.absolute()), shard.name) for shard in shards]

    def follow(number: int, done: int, total: int, text: str) -> None:
        board.follow(shards[number], done)

    on_cpu = coder.device == "cpu"
    if engine == "ray":
        orders = Orders(encode_shard, 1, prepare)
        found = on_cluster(orders, jobs, coder, workers=workers, follow=follow, gpu=not on_cpu)
    else:
        count = min(workers or (torch.get_num_threads() if on_cpu else 1), len(shards))
        orders = Orders(encode_shard, 1, prepare, own_processors(count, 1) if on_cpu else [])
        found = in_processes(orders, jobs, coder, workers=count, follow=follow)
    with contextlib.closing(found):
        for number, result in found:
            yield shards[number], result


def _read(shard: Shard, result: dict[str, Any], board: _Board) -> EncodedShard:
    """What a worker says of a shard."""
    if "error" in result:
        error = str(result["error"]).replace(str(shard.source.absolute()), str(shard.source))
        named = error if str(shard.source) in error else f"{shard.source}: {error}"
        return EncodedShard(shard, "failed", error=named)
    if not shard.target.exists():
        error = f"{shard.source} was encoded into {shard.target} on another machine, and is not there on this one"
        return EncodedShard(shard, "failed", error=f"{error}: choose an --out that all machines share.")
    board.changes.update(result["changes"])
    return _outcome(shard, "encoded", result)
