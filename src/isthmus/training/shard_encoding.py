"""The codes of one shard of images, as a worker makes them: read a batch, encode it, write it, read the next.

    Job, Coder -> encode_shard(job, coder, progress) -> {"images": ..., "left_out": ..., "seconds": ...}

A worker may be on another machine: it is sent the weights, and finds the files under the paths that it is told. What it
returns is small, whatever the shard holds.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from isthmus.data.batches import Batch, Shape
from isthmus.errors import DataError, IsthmusError
from isthmus.networks.apply import Coder as Network
from isthmus.networks.apply import encode, posteriors
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import build
from isthmus.networks.variational import VAE
from isthmus.settings import ModelSettings
from isthmus.training.loop import Progress
from isthmus.training.shard_finding import content_mark
from isthmus.training.shard_reading import ShardStream, open_shard
from isthmus.training.shard_writing import ShardWriter
from isthmus.writing import written


@dataclass(frozen=True)
class Job:
    """source, target: absolute paths of the shard and of its codes. name: by which its images are called."""

    source: str
    target: str
    name: str


@dataclass(frozen=True)
class Coder:
    """A network with codes, as it is sent to workers.

    settings, image_shape: by which it is built. weights: the content of a safetensors file; fingerprint: the sha256 by
    which its codes are known. posterior: whether standard deviations are asked for. device: where it runs.
    """

    settings: ModelSettings
    image_shape: Shape
    weights: bytes
    fingerprint: str
    size: int
    posterior: bool = False
    device: str = "cpu"

    def network(self) -> Network:
        """The network, ready to encode."""
        network = build(self.settings, self.image_shape)
        assert isinstance(network, Autoencoder | VAE)
        network.load_state_dict(load_tensors(self.weights))
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training
        return network.eval()

    def codes(self, network: Network, batch: Batch) -> tuple[NDArray[np.float32], ...]:
        """Codes (B, D), and their standard deviations if those are asked for."""
        if self.posterior and isinstance(network, VAE):
            found = posteriors(network, batch.images)
            return found.mean.numpy(), found.std.numpy()
        return (encode(network, batch.images),)

    def writer(self, file: BinaryIO, *, labelled: bool) -> ShardWriter:
        """Writes what `codes` gives to a file."""
        return ShardWriter(file, self.size, labelled=labelled, posterior=self.posterior, model=self.fingerprint)

    def note(self, mark: dict[str, Any]) -> dict[str, Any]:
        """By what codes of this network, from a file with this `content_mark`, are known again."""
        return {"model": self.fingerprint, "posterior": self.posterior, "source": mark}


def encode_shard(job: Job, coder: Coder, progress: Progress) -> dict[str, Any]:
    """Encode one shard into its file, whole or not at all.

    Returns: {"error": why it was not done}, or the note of the file with "seconds", of reading and decoding, of the
    network and of writing, and "changes", what was done to how many images to bring them to the shape of the training.
    """
    try:
        return _encode(job, coder, progress)
    except IsthmusError as error:
        return {"error": str(error)}
    except Exception:  # a mistake of ours, or no memory left: it must not end the other shards
        return {"error": traceback.format_exc().rstrip()}


def _encode(job: Job, coder: Coder, progress: Progress) -> dict[str, Any]:
    source, seconds = Path(job.source), {"reading": 0.0, "network": 0.0, "writing": 0.0}
    with _timed(seconds, "reading"):
        stream, mark = open_shard(source, job.name, coder.image_shape), _mark(source)
    network, batches = coder.network(), iter(stream.batches)
    with written(Path(job.target)) as file, coder.writer(file, labelled=stream.labelled) as writer:
        while True:
            with _timed(seconds, "reading"):
                batch = next(batches, None)
            if batch is None:
                break
            with _timed(seconds, "network"):
                numbers = coder.codes(network, batch)
            with _timed(seconds, "writing"):
                writer.add(batch.names, batch.labels, *numbers)
            done = writer.rows + stream.bad_count
            progress(done, stream.count, f"{done:,} of {stream.count:,} images")
        _check_sound(stream, writer.rows)
        if _mark(source) != mark:
            raise DataError(f"{source} was changed while it was encoded; run the command again")
        counts = {"images": writer.rows, "left_out": stream.bad, "left_out_count": stream.bad_count}
        note = coder.note(mark) | {"shard": job.source} | counts
        with _timed(seconds, "writing"):
            writer.finish(note)
    return {**note, "seconds": seconds, "changes": dict(stream.changes)}


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - started


def _mark(path: Path) -> dict[str, Any]:
    try:
        return content_mark(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error


def _check_sound(stream: ShardStream, rows: int) -> None:
    if not rows:
        reasons = ", ".join(f"{name} {reason}" for name, reason in list(stream.bad.items())[:3])
        more = f" and {stream.bad_count - 3} more" if stream.bad_count > 3 else ""
        raise DataError(f"None of the {stream.count} image(s) of {stream.source} can be used: {reasons}{more}.")
