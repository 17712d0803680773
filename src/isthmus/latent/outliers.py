"""Images unlike those a run was trained on: badly reconstructed, or with an unlikely code.

    error     e(x) = |x - D(E(x))|^2 / P       P numbers in an image
    surprise  s(x) = -log p(E(x))              p a density of the codes, nats

The larger, the stranger. How well a score finds outliers that are known as such is the area under its ROC curve: the
probability that an outlier scores higher than another image (Hanley and McNeil 1982).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from isthmus.data.arrays import class_order
from isthmus.data.batches import Batch, Stream, open_images
from isthmus.data.imageset import hashes_of
from isthmus.errors import DataError, InputError, TrainedOnWarning
from isthmus.latent.density import Density, load_densities
from isthmus.latent.sampling import density_of, keep_or_note
from isthmus.latent.stored import stored_codes
from isthmus.metrics import mse
from isthmus.networks.apply import Coder, decode, encode, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.runs import Run
from isthmus.settings import nearest
from isthmus.training.codes import CodesFile
from isthmus.training.loop import Progress
from isthmus.training.redraw import coder_of

USUAL = "mixture"  # of the densities: the prior of a VAE is wider than where its codes lie
MOST = 500  # images that can be shown


@dataclass(frozen=True)
class Strangeness:
    """How strange N images are to a run.

    run: that they are strange to. names: N. labels: the class of each by name, None where it has none. errors: (N,)
    mean squared error per pixel, None of a file of codes. surprise: (N,) minus log p of the codes in nats, by the
    density of this name, or None. order: (N,) places, strangest first. pictures: (S, K, C, H, W), not clipped, of the S
    strangest the image and its reconstruction, or of a code its decoding alone. outliers: how many are of the class
    held to be outliers, and auroc, how well the score finds them, or None. left_out: what could not be used, name ->
    reason. notes: sentences that a user should read.
    """

    run: Run
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    errors: NDArray[np.float64] | None
    surprise: NDArray[np.float64] | None
    density: str | None
    order: NDArray[np.int64]
    pictures: Tensor
    outliers: int
    auroc: float | None
    left_out: dict[str, str]
    notes: tuple[str, ...]

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,), by which they are ordered: the surprise where it was asked for, else the error."""
        found = self.errors if self.surprise is None else self.surprise
        assert found is not None
        return found


def auroc(scores: NDArray[np.floating], outliers: NDArray[np.bool_]) -> float:
    """Probability that an outlier scores above another image, ties counting half.

        (R - n (n + 1) / 2) / (n m)   R the sum of the ranks of n outliers among n + m images

    Arguments: (N,) twice. Returns: from 0 to 1, 0.5 by chance. Raises: ValueError unless there are some of both.

    >>> auroc(np.array([1.0, 2.0, 3.0]), np.array([False, False, True]))
    1.0
    """
    n = int(outliers.sum())
    m = len(outliers) - n
    if not n or not m or len(scores) != len(outliers):
        raise ValueError(f"auroc needs outliers and others, and a score of each; got {n}, {m} and {len(scores)}.")
    return float((rankdata(scores)[outliers].sum() - n * (n + 1) / 2) / (n * m))


def find_outliers(
    folder: Path,
    source: str | Path,
    *,
    by_density: bool | None = None,
    density: str | None = None,
    outlier_class: str | None = None,
    shown: int = 30,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Strangeness:
    """Score images by a run, which `find_run` finds in `folder`.

    Arguments: source: what `open_images` takes, or a file of codes that `encode` wrote. by_density: score by the
    surprise instead of the error; by default of a file of codes, which leaves no choice. density: under this one, a
    name of `DENSITIES`; by default what is kept with the run, a mixture first, or a mixture that is fitted now.
    outlier_class: name of the class of images that count as outliers. shown: so many of the strangest come with
    pictures. progress: called with (images done, images in all, a line).
    Warns: TrainedOnWarning, with the count, if a score is measured on images that were trained on.
    Raises: InputError if the run has no codes, or those of a file are not its own, there is no such density or class,
    or nothing but outliers; DataError if no image can be used.
    """
    if not 1 <= shown <= MOST:
        raise InputError(f"-n is the number of images to show, from 1 to {MOST}; got {shown}.")
    run, network = coder_of(folder, device)
    stored = stored_codes(source, run)
    by_density = stored is not None if by_density is None else by_density
    if density is not None and not by_density:
        raise InputError(f"--density {density} says more of --by density: give that too, or leave it out.")
    if stored is not None and not by_density:
        raise InputError(
            f"{source} holds codes, and without the images there is no error of their reconstruction: take --by "
            f"density, or name the images."
        )
    stream = None if stored is not None else open_images(source, run.image_shape())
    name = (density or _usual(run)) if by_density else None
    chosen, notes = (None, []) if name is None else _density(run, network, name)
    scored = _Scored(network, chosen, shown, run.trained_on())
    if stream is not None:
        _add_all(scored, stream, progress)
        notes = [*stream.notes(), *notes]
    elif stored is not None:
        scored.add_codes(stored.codes)
        notes += stored.notes
        scored.left_out = stored.left_out
    scores = np.concatenate(scored.scores)
    known = None if outlier_class is None else _of_class(scored.labels, outlier_class, source)
    if known is not None and scored.seen:
        warnings.warn(_trained_on(run, source, scored), TrainedOnWarning, stacklevel=2)
    return Strangeness(
        run=run,
        names=tuple(scored.names),
        labels=tuple(scored.labels),
        errors=np.concatenate(scored.errors) if scored.errors else None,
        surprise=scores if by_density else None,
        density=name,
        order=np.argsort(-scores, kind="stable"),
        pictures=scored.pictures,
        outliers=0 if known is None else int(known.sum()),
        auroc=None if known is None else auroc(scores, known),
        left_out=scored.left_out,
        notes=tuple(notes),
    )


class _Scored:
    """Scores of all batches so far, and pictures of the strangest, strangest first."""

    def __init__(self, network: Coder, density: Density | None, shown: int, trained_on: NDArray[np.uint64]):
        self.network, self.density, self.shown, self.trained_on = network, density, shown, trained_on
        self.names: list[str] = []
        self.labels: list[str | None] = []
        self.errors: list[NDArray[np.float64]] = []
        self.scores: list[NDArray[np.float64]] = []
        self.left_out: dict[str, str] = {}
        self.seen = 0
        self.pictures = torch.empty(0)
        self._kept = np.empty(0)

    def add(self, batch: Batch) -> None:
        """Score a batch of images."""
        images = to_float(torch.from_numpy(batch.images))
        redrawn = reconstruct(self.network, images)
        errors = mse(redrawn, images).double().numpy()
        scores = errors if self.density is None else _surprise(self.density, encode(self.network, images))
        sound = ~(np.isnan(errors) | np.isnan(scores))
        self.left_out |= {batch.names[i]: "has a reconstruction or a code with NaN" for i in np.flatnonzero(~sound)}
        self.names += [batch.names[i] for i in np.flatnonzero(sound)]
        self.labels += [batch.labels[i] for i in np.flatnonzero(sound)]
        self.seen += int(np.isin(hashes_of(batch.images), self.trained_on)[sound].sum())
        self.errors.append(errors[sound])
        self._score(scores[sound], torch.stack([images, redrawn], 1)[torch.from_numpy(sound)])

    def add_codes(self, codes: CodesFile) -> None:
        """Score codes; pictures of the strangest are decoded."""
        assert self.density is not None
        self.names += codes.names()
        self.labels += [codes.label(i) for i in range(len(codes))]
        scores = _surprise(self.density, codes.codes)
        strangest = np.argsort(-scores, kind="stable")[: self.shown]
        self.scores.append(scores)
        self.pictures = decode(self.network, codes.codes[strangest])[:, None]

    def _score(self, scores: NDArray[np.float64], pictures: Tensor) -> None:
        self.scores.append(scores)
        joined = np.concatenate([self._kept, scores])
        order = np.argsort(-joined, kind="stable")[: self.shown]
        self._kept = joined[order]
        self.pictures = torch.cat([self.pictures, pictures] if len(self.pictures) else [pictures])[
            torch.from_numpy(order)
        ]


@torch.no_grad()
def _surprise(density: Density, codes: NDArray[np.float32]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = -density.log_prob(torch.from_numpy(codes).double()).numpy()
    return found


def _add_all(scored: _Scored, stream: Stream, progress: Progress | None) -> None:
    for batch in stream.batches:
        scored.add(batch)
        done = len(scored.names) + len(scored.left_out) + len(stream.bad)
        if progress is not None:
            progress(done, stream.count, f"{done:,} of {stream.count:,} images")
    scored.left_out |= stream.bad
    if not scored.names:
        reasons = ", ".join(f"{name} {reason}" for name, reason in list(scored.left_out.items())[:3])
        more = f" and {len(scored.left_out) - 3} more" if len(scored.left_out) > 3 else ""
        raise DataError(f"None of the {stream.count} image(s) of {stream.source} can be used: {reasons}{more}.")


def _usual(run: Run) -> str:
    """The density to take of those kept with a run."""
    run.check_densities()
    kept = list(load_densities(run.densities)) if run.densities.exists() else []
    return USUAL if USUAL in kept or not kept else kept[0]


def _density(run: Run, network: Coder, name: str) -> tuple[Density, list[str]]:
    """The density of this name, kept with the run if it was fitted now, and what there is to say of it."""
    density, fitted = density_of(run, network, name)
    notes = keep_or_note(run, name, density) if fitted else []
    if name == "normal" and isinstance(network, Autoencoder):
        notes.append("nothing made the codes of an autoencoder standard normal: a mixture knows where they lie")
    return density, notes


def _of_class(labels: list[str | None], name: str, source: str | Path) -> NDArray[np.bool_]:
    """Which images are outliers, (N,)."""
    known = class_order(label for label in labels if label is not None)
    if not known:
        raise InputError(
            f"--outlier-class {name}: the images of {source} have no classes; put those of each class into a folder of "
            f"its own, or leave it out."
        )
    if name not in known:
        raise InputError(f"--outlier-class {name!r} is no class of {source}; {nearest(name, known)}")
    found = np.array([label == name for label in labels])
    if found.all():
        raise InputError(
            f"--outlier-class {name}: all {len(found):,} images of {source} are of it, and there have to be others too."
        )
    return found


def _trained_on(run: Run, source: str | Path, scored: _Scored) -> str:
    return (
        f"{scored.seen} of the {len(scored.names)} images of {source} were trained on by {run.folder}: they score "
        f"lower than images it has not seen, so the AUROC is not that of such."
    )
