"""Between two images: codes on a way from one code to the other, and what the decoder makes of them.

    straight   z(t) = (1 - t) a + t b
    spherical  z(t) = r(t) (sin((1 - t) w) a / |a| + sin(t w) b / |b|) / sin w,   r(t) = (1 - t) |a| + t |b|

w is the angle between a and b, and t goes from 0 at a to 1 at b. Codes drawn from the prior of a VAE lie near a sphere
about the origin: the straight way cuts through its inside, where there are hardly any, and the spherical one stays on
it (Shoemake 1985; White 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.batches import open_images
from isthmus.errors import InputError
from isthmus.latent.manifold import walk
from isthmus.latent.search import images_by_name
from isthmus.latent.stored import usable
from isthmus.networks.apply import decode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.codes import CodesFile, codes_file, weights_fingerprint
from isthmus.training.predict import Encoded, encode_images, find_run

LEAST, MOST = 3, 50  # steps
FLAT = 1e-6  # radians from 0, where the way is straight, and from pi, where there are many circles


@dataclass(frozen=True)
class Interpolation:
    """Two images and what lies between them.

    run: of the codes. names: of the two images. ends: (2, C, H, W), as the run takes them. shares: (T,), t from 0 to 1.
    codes, pictures: of each way, straight first, (T, D) and (T, C, H, W), these in [0, 1]. notes: sentences that a user
    should read.
    """

    run: Run
    names: tuple[str, str]
    ends: Tensor
    shares: NDArray[np.float64]
    codes: dict[str, NDArray[np.float32]]
    pictures: dict[str, Tensor]
    notes: tuple[str, ...]

    def codes_file(self) -> CodesFile:
        """All codes as a file holds them, called by their way and t."""
        names = tuple(f"{way}-{share:.3f}" for way in self.codes for share in self.shares)
        return CodesFile(np.concatenate(list(self.codes.values())), names, run=weights_fingerprint(self.run))


def spherical(start: NDArray[np.floating], end: NDArray[np.floating], *, steps: int) -> NDArray[np.float32] | None:
    """Codes at equal angles on the great circle, their lengths changing evenly: (D,), (D,) -> (steps, D).

    None where there is no such circle, or more than one: a code is zero, or they are opposite. Codes in one direction
    are joined by a straight line.

    >>> spherical(np.array([1.0, 0.0]), np.array([0.0, 1.0]), steps=3)[1]
    array([0.70710677, 0.70710677], dtype=float32)
    """
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0 in lengths:
        return None
    a, b = a / lengths[0], b / lengths[1]
    # Exact near 0 and near pi, where the cosine alone is flat.
    angle = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    if angle > np.pi - FLAT:
        return None
    if angle < FLAT:
        return walk(start, end, steps=steps)
    share = np.linspace(0, 1, steps)[:, None]
    directions = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    codes: NDArray[np.float32] = (((1 - share) * lengths[0] + share * lengths[1]) * directions).astype(np.float32)
    return codes


def interpolate(
    folder: Path, first: str, second: str, *, steps: int = 9, device: str | torch.device = "cpu"
) -> Interpolation:
    """Go from one image to another in the code space of a run, which `find_run` finds in `folder`.

    Arguments: first, second: image files. steps: pictures on each way, both ends included.
    Raises: InputError if the run has no codes, or a name is not that of a single image; DataError if one cannot be
    read, or its code holds NaN.
    """
    if not LEAST <= steps <= MOST:
        raise InputError(f"--steps is the number of pictures on a way, from {LEAST} to {MOST}; got {steps}.")
    run = find_run(folder, (Autoencoder, VAE))
    shape = run.image_shape()
    a, b = (_encode_one(run, source, device) for source in (first, second))
    ends = [images_by_name(source, shape, each.names) for source, each in ((first, a), (second, b))]
    codes = {"straight": walk(a.codes[0], b.codes[0], steps=steps)}
    arc = spherical(a.codes[0], b.codes[0], steps=steps)
    notes = replace(a.stream, changes=a.stream.changes + b.stream.changes).notes()
    if arc is None:
        notes.append("the codes are opposite, or one is zero: no single great circle joins them, and the spherical way "
                     "is left out")  # fmt: skip
    else:
        codes["spherical"] = arc
    network = run.network().to(device)
    assert isinstance(network, Autoencoder | VAE)
    drawn = {way: decode(network, part) for way, part in codes.items()}
    names = (a.names[0], b.names[0])
    return Interpolation(run, names, torch.cat(ends), np.linspace(0, 1, steps), codes, drawn, tuple(notes))


def _encode_one(run: Run, source: str, device: str | torch.device) -> Encoded:
    count = open_images(source, run.image_shape()).count
    if count != 1:
        raise InputError(f"{source} holds {count:,} images, and one is needed at each end: name an image file.")
    found = encode_images(run.folder, source, device=device)
    usable(codes_file(found, run), source)  # refuses one that holds NaN
    return found
