"""The points of the map: images a run has not seen, and their codes.

They come in a random order, always the same: whoever draws them one after the other draws no class over another, and
the first so many are a fair part of all. Notation: codes (N, D).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError
from isthmus.networks.apply import Coder, encode
from isthmus.runs import Run
from isthmus.training.evaluation import held_out, prepare
from isthmus.training.loop import Progress

MOST = 200_000  # points
AT_ONCE = 5000  # images that are encoded between two lines of progress
AXES = 3  # principal axes, at most
TAILS = (0.01, 0.99)  # quantiles that a slider spans


@dataclass(frozen=True)
class Principal:
    """Where codes vary most. mean: (D,). axes: (up to 3, D), orthonormal, the largest entry of each positive.
    variances: (D,), of each number of the code. explained: the share of the whole variance along each axis."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    variances: NDArray[np.float64]
    explained: NDArray[np.float64]


def read_images(run: Run, data: str | Path | None) -> tuple[ImageSet, str, tuple[str, ...]]:
    """The images of the map in their random order, what they are, and sentences a user should read.

    Arguments: data: a name or a path; by default the test part of what the run was trained on.
    Raises: what `held_out` and `prepare` raise.
    """
    images = held_out(run) if data is None else prepare(run, data)
    name = f"{images.name} (test part)" if data is None else images.name
    order = np.random.default_rng(0).permutation(len(images))[:MOST]
    left = len(images) - len(order)
    notes = (f"of {len(images):,} images {MOST:,} are shown, drawn at random",) if left else ()
    return images.take(order), name, notes


def encode_points(
    network: Coder, images: ImageSet, progress: Progress | None = None
) -> tuple[ImageSet, NDArray[np.float32], tuple[str, ...]]:
    """The images whose codes are finite, their codes (N, D), of a VAE the means, and sentences a user should read.

    Raises: DataError if no code is finite.
    """
    parts = []
    for begin in range(0, len(images), AT_ONCE):
        parts.append(encode(network, images.images[begin : begin + AT_ONCE]))
        if progress is not None:
            done = min(begin + AT_ONCE, len(images))
            progress(done, len(images), f"{done:,} of {len(images):,} images")
    codes = np.concatenate(parts)
    finite = np.isfinite(codes).all(1)
    if finite.all():
        return images, codes, ()
    if not finite.any():
        raise DataError(
            f"All {len(codes):,} codes of {images.name} hold NaN or infinite numbers: train the network again, with a "
            f"lower learning rate."
        )
    wrong = f"{int((~finite).sum()):,} images are left out: their codes hold NaN or infinite numbers"
    return images.take(finite), codes[finite], (wrong,)


def principal(codes: NDArray[np.float32]) -> Principal:
    """The axes of largest variance of codes (N, D).

    >>> principal(np.array([[0, -2], [0, 2]], np.float32)).axes[0].tolist()
    [0.0, 1.0]
    """
    mean = codes.mean(0, dtype=np.float64)
    centred = codes - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(codes))
    axes = vectors[:, ::-1].T[:AXES]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    total = max(float(values.sum()), np.finfo(np.float64).tiny)
    explained = values[::-1][:AXES].clip(0) / total
    return Principal(mean, axes + 0.0, centred.var(0), explained)  # + 0.0: no minus zero


def ranges(codes: NDArray[np.float32]) -> list[list[float]]:
    """What a slider spans, for each number of the code: its quantiles at 1 % and 99 %."""
    low, high = np.quantile(codes.astype(np.float64), TAILS, axis=0)
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
