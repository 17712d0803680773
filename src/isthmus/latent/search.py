"""Images like an image: those whose codes are nearest to its code.

    d(q, z) = |q - z|   over codes of D numbers

Every code is compared, in float32 and without the expansion of the square, so that what is found is exact: a million
codes of 16 numbers take a few hundredths of a second.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.arrays import Pixels
from isthmus.data.batches import Shape, Stream, open_images
from isthmus.errors import DataError, InputError
from isthmus.latent.stored import Usable, is_named, stored_codes, usable
from isthmus.networks.apply import decode, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.codes import CodesFile, codes_file
from isthmus.training.loop import Progress
from isthmus.training.predict import encode_images, find_run
from isthmus.writing import read_json

AT_ONCE = 256  # queries compared together
CHUNK_VALUES = 2**22  # distances held at once
MOST = 1000  # neighbours of an image that can be asked for


@dataclass(frozen=True)
class Neighbours:
    """index: (M, K) places of the nearest codes, nearest first. distances: (M, K) to them."""

    index: NDArray[np.int64]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What is near M images among N others.

    run: whose codes were compared. queries: the M asked about. among: the N that were searched. nearest: of each query.
    query_source, source: where the M and the N are from, None of a file of codes, which has no pictures. left_out,
    queries_left_out: images that could not be used, name -> reason. notes: sentences that a user should read.
    """

    run: Run
    queries: CodesFile
    among: CodesFile
    nearest: Neighbours
    query_source: str | None
    source: str | None
    left_out: dict[str, str]
    queries_left_out: dict[str, str]
    notes: tuple[str, ...]


def nearest_codes(references: Tensor, queries: Tensor, *, count: int) -> Neighbours:
    """The `count` references nearest to each query, or all of them if there are fewer.

    Arguments: references: (N, D). queries: (M, D), of the same type and on the same device.
    Raises: ValueError if the sizes do not fit.

    >>> nearest_codes(torch.tensor([[0.0], [10.0], [4.0]]), torch.tensor([[7.0]]), count=2).index
    array([[1, 2]])
    """
    if references.ndim != 2 or queries.ndim != 2 or references.shape[1] != queries.shape[1] or not len(references):
        raise ValueError(f"Codes {tuple(queries.shape)} have no neighbours among {tuple(references.shape)}.")
    parts = [_nearest(references, part, min(count, len(references))) for part in torch.split(queries, AT_ONCE)]
    distances, index = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    order = np.lexsort((index, distances))  # equal distances in the order of the references
    return Neighbours(np.take_along_axis(index, order, 1), np.take_along_axis(distances, order, 1))


def search(
    folder: Path,
    query: str,
    data: str | None = None,
    *,
    count: int = 10,
    resize: bool = False,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Found:
    """The images nearest to each of QUERY in the code space of a run, which `find_run` finds in `folder`.

    Arguments: query, data: what `open_images` takes, or a file of codes that `encode` wrote; data is by default what
    the run was trained on. count: neighbours of each. resize: whether images of QUERY may have another size than those
    of the training; those of DATA may. progress: called with (images done, images in all, a line).
    Raises: InputError if the run has no codes, those of a file are not its own, or a query has another size; DataError
    if no image can be used.
    """
    if not 1 <= count <= MOST:
        raise InputError(f"-n is the number of images to find, from 1 to {MOST}; got {count}.")
    run = find_run(folder, (Autoencoder, VAE))
    asked, notes = _taken(run, query, device), []
    _check_size(run, asked, resize)
    if data is None:
        data = _trained_on(run)
        notes.append(f"searched among {data}, which {run.folder} was trained on")
    there = _taken(run, data, device, progress)
    references, codes = (torch.from_numpy(part.usable.codes.codes).to(device) for part in (there, asked))
    return Found(
        run=run,
        queries=asked.usable.codes,
        among=there.usable.codes,
        nearest=nearest_codes(references, codes, count=count),
        query_source=asked.source,
        source=there.source,
        left_out=there.left_out,
        queries_left_out=asked.left_out,
        notes=(*_changes(asked, there), *notes, *dict.fromkeys((*asked.usable.notes, *there.usable.notes))),
    )


def pictures(found: Found, queries: Sequence[int], ranks: int) -> tuple[Tensor, Tensor]:
    """Pictures of some queries, (Q, C, H, W), and of the first `ranks` found for each, (Q, R, C, H, W), in [0, 1].

    Of a file of codes they are what the run decodes.
    """
    places = found.nearest.index[list(queries), :ranks]
    asked = _drawn(found.run, found.queries, found.query_source, list(queries))
    drawn = _drawn(found.run, found.among, found.source, places.ravel().tolist())
    return asked, drawn.reshape(*places.shape, *asked.shape[1:])


def images_by_name(source: str, shape: Shape, names: Sequence[str]) -> Tensor:
    """Some images of a source again, in the order of their names, as `open_images` brings them: (N, C, H, W) floats.

    Of a folder only these files are decoded. Raises: DataError if one has gone, or cannot be read any more.
    """
    path = Path(os.path.expanduser(source))
    if not is_named(source) and path.is_dir() and all((path / name).is_file() for name in names):
        found = {name: image for name in dict.fromkeys(names) for image in _all(str(path / name), shape).values()}
    else:
        found = _all(source, shape, set(names))
    lost = [name for name in names if name not in found]
    if lost:
        raise DataError(f"{lost[0]} of {source} was there a moment ago and cannot be read now; run the command again.")
    return to_float(torch.from_numpy(np.stack([found[name] for name in names])))


@dataclass(frozen=True)
class _Taken:
    """What is searched, or asked about. source, stream: of images, None of a file of codes."""

    usable: Usable
    source: str | None
    stream: Stream | None

    @property
    def left_out(self) -> dict[str, str]:
        """What could not be used, name -> reason."""
        return {**(self.stream.bad if self.stream else {}), **self.usable.left_out}


def _taken(run: Run, source: str, device: str | torch.device, progress: Progress | None = None) -> _Taken:
    stored = stored_codes(source, run)
    if stored is not None:
        return _Taken(stored, None, None)
    encoded = encode_images(run.folder, source, device=device, progress=progress)
    return _Taken(usable(codes_file(encoded, run), source), encoded.stream.source, encoded.stream)


def _check_size(run: Run, asked: _Taken, resize: bool) -> None:
    """Raises: InputError if a query has another size than the network's, and nobody said that it is to be scaled."""
    if asked.stream is None or asked.stream.other_size is None or resize or _scales(run):
        return
    height, width = asked.stream.shape[1:]
    raise InputError(
        f"QUERY: {asked.stream.other_size}, and {run.folder} was trained on images of {height} x {width}, none "
        f"of which it scaled: add --resize to bring QUERY to that size, or give an image of that size."
    )


def _scales(run: Run) -> bool:
    """Whether the training was told to scale its images."""
    return (run.folder / "run.json").exists() and run.settings().data.height is not None


def _changes(*parts: _Taken) -> list[str]:
    """A sentence on each kind of change made to images, of all parts together."""
    streams = [part.stream for part in parts if part.stream is not None]
    changes = sum((stream.changes for stream in streams), Counter[str]())
    return replace(streams[0], changes=changes).notes() if streams else []


def _drawn(run: Run, codes: CodesFile, source: str | None, places: Sequence[int]) -> Tensor:
    """The images at some places, (N, C, H, W); where there are none, what the run decodes."""
    if source is not None:
        return images_by_name(source, run.image_shape(), [codes.names()[i] for i in places])
    network = run.network()
    assert isinstance(network, Autoencoder | VAE)
    return decode(network, codes.codes[list(places)])


def _nearest(references: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances (M, K) and places (M, K) of the nearest, in chunks of the references."""
    least = queries.new_full((len(queries), 0), torch.inf)
    index = torch.empty(least.shape, dtype=torch.int64, device=queries.device)
    step = max(count, CHUNK_VALUES // len(queries))
    for begin in range(0, len(references), step):
        chunk = references[begin : begin + step]
        distances = torch.cdist(queries, chunk, compute_mode="donot_use_mm_for_euclid_dist")
        values, places = distances.topk(min(count, len(chunk)), largest=False)
        least, index = torch.cat([least, values], 1), torch.cat([index, places + begin], 1)
        least, kept = least.topk(min(count, least.shape[1]), largest=False)
        index = index.gather(1, kept)
    return least, index


def _all(source: str, shape: Shape, wanted: set[str] | None = None) -> dict[str, Pixels]:
    """Images of a source by name, all of them or those that are wanted."""
    found: dict[str, Pixels] = {}
    for batch in open_images(source, shape).batches:
        found |= {
            name: image
            for name, image in zip(batch.names, batch.images, strict=True)
            if wanted is None or name in wanted
        }
        if wanted is not None and len(found) == len(wanted):
            break
    return found


def _trained_on(run: Run) -> str:
    if not (run.folder / "run.json").exists():
        raise InputError(
            f"{run.folder} has no run.json, which says what it was trained on: name the images to search, as DATA."
        )
    name, begun = run.settings().data.name, read_json(run.folder / "run.json").get("named_from")
    return name if begun is None or begun == os.getcwd() else os.path.join(begun, name)
