"""A finished run on a person's own images: their classes, or their codes.

Unlike `evaluate`, which measures a run on a labelled set, this answers for every image by name; what cannot be read is
named too, and the others are still done.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.arrays import class_order
from isthmus.data.batches import Batch, Stream, open_images
from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError, InputError, TrainedOnWarning
from isthmus.model_files import CONFIG
from isthmus.networks.apply import Coder, classify, encode, posteriors
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.loop import Progress

COMMANDS = {Classifier: "classify", Autoencoder: "encode", VAE: "encode", Denoiser: "denoise"}


@dataclass(frozen=True)
class Classified:
    """What a classifier says of N images.

    names: N. probabilities: (N, K) float32. classes: K names. labels: the class each image is known to have, None where
    that is not known or not among the K. seen: (N,), whether an image with such a label was trained on. stream: what
    was read, with the images left out and the notes.
    """

    names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    labels: tuple[str | None, ...]
    seen: NDArray[np.bool_]
    stream: Stream

    @property
    def predicted(self) -> list[str]:
        """The most probable class of each image."""
        return [self.classes[k] for k in self.probabilities.argmax(1)]

    def right(self) -> tuple[int, int]:
        """How many images are classified right, and of how many: those with a label that were not trained on."""
        new = [i for i, label in enumerate(self.labels) if label is not None and not self.seen[i]]
        predicted = self.predicted
        return sum(predicted[i] == self.labels[i] for i in new), len(new)


@dataclass(frozen=True)
class Encoded:
    """The codes of N images.

    names: N. codes: (N, D) float32, of a VAE the means. std: (N, D), the standard deviations of a VAE's posterior, or
    None. labels: (N,) class numbers and the K names they stand for, or None if not every image has a class. stream:
    what was read, with the images left out and the notes.
    """

    names: tuple[str, ...]
    codes: NDArray[np.float32]
    std: NDArray[np.float32] | None
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    stream: Stream


def classify_images(
    folder: Path, source: str | Path, *, device: str | torch.device = "cpu", progress: Progress | None = None
) -> Classified:
    """Class probabilities of images by a run, which `find_run` finds in `folder`.

    Arguments: source: what `open_images` takes. progress: called with (images done, images in all, a line).
    Warns: TrainedOnWarning, with the count, if images that carry labels were trained on.
    Raises: InputError if the run is no classifier; DataError if no image can be used.
    """
    run = find_run(folder, (Classifier,))
    network = run.network().to(device)
    if not isinstance(network, Classifier):
        raise InputError(f"{_misfit(run, network, 'classes')}, or a run of `isthmus train classifier`.")
    classes = tuple(run.config()["classes"])
    stream = open_images(source, run.image_shape())
    names: list[str] = []
    labels: list[str | None] = []
    parts, seen = [], []
    for batch in _follow(stream, progress):
        known = [label if label in classes else None for label in batch.labels]
        names += batch.names
        labels += known
        parts.append(classify(network, batch.images).numpy())
        seen.append(_seen(run, batch, known))
    trained_on = np.concatenate(seen)
    if trained_on.any():
        warnings.warn(
            f"{trained_on.sum()} of the {len(names)} images of {source} were trained on by {run.folder}: "
            f"they do not count as right or wrong.",
            TrainedOnWarning,
            stacklevel=2,
        )
    return Classified(tuple(names), np.concatenate(parts), classes, tuple(labels), trained_on, stream)


def encode_images(
    folder: Path,
    source: str | Path,
    *,
    posterior: bool = False,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Encoded:
    """Codes of images by a run, which `find_run` finds in `folder`.

    Arguments: source: what `open_images` takes. posterior: also the standard deviations, of a VAE. progress: called
    with (images done, images in all, a line).
    Raises: InputError if the run has no codes, or no posterior; DataError if no image can be used.
    """
    run = find_run(folder, (Autoencoder, VAE))
    network = run.network().to(device)
    if not isinstance(network, Autoencoder | VAE):
        raise InputError(f"{_misfit(run, network, 'codes')}, or a run of an autoencoder, as of `isthmus train vae`.")
    if posterior and not isinstance(network, VAE):
        raise InputError(f"{run.folder} is not a VAE, so its codes have no standard deviation: leave out --posterior.")
    stream = open_images(source, run.image_shape())
    names: list[str] = []
    labels: list[str | None] = []
    parts = []
    for batch in _follow(stream, progress):
        names += batch.names
        labels += batch.labels
        parts.append(_codes(network, batch, posterior))
    codes, std = (np.concatenate(part) for part in zip(*parts, strict=True))
    numbers, classes = _numbered(labels)
    return Encoded(tuple(names), codes, std if posterior else None, numbers, classes, stream)


def find_run(folder: Path, kinds: tuple[type[Network], ...]) -> Run:
    """The run in `folder`; if that is a study, its one finished run whose network is of these kinds.

    Raises: InputError naming the runs of a study where there is not just one such.
    """
    inner = folder / "runs"
    if (Run(folder).model / CONFIG).exists() or not inner.is_dir():
        return Run(folder)
    finished = [run for run in map(Run, sorted(inner.iterdir())) if run.finished]
    fitting = [run for run in finished if isinstance(run.network(), kinds)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(str(run.folder) for run in fitting or finished) or "none"
    if fitting:
        raise InputError(f"{folder} is a study of which {len(fitting)} runs fit; name one of them: {names}.")
    raise InputError(f"{folder} is a study without a run that fits; its finished runs: {names}.")


def _misfit(run: Run, network: Network, needed: str) -> str:
    kind = run.config()["model"]["name"]
    return f"{run.folder} is a run of `{kind}`, which has no {needed}; use `isthmus {COMMANDS[type(network)]}` for it"


def _follow(stream: Stream, progress: Progress | None) -> Iterator[Batch]:
    """The batches of a stream. Raises: DataError, with the reasons, if there was nothing in it that can be used."""
    done = 0
    for batch in stream.batches:
        yield batch
        done += len(batch.names)
        if progress is not None:
            progress(done + len(stream.bad), stream.count, f"{done + len(stream.bad):,} of {stream.count:,} images")
    if not done:
        reasons = ", ".join(f"{name} {reason}" for name, reason in list(stream.bad.items())[:3])
        more = f" and {len(stream.bad) - 3} more" if len(stream.bad) > 3 else ""
        raise DataError(f"None of the {stream.count} image(s) of {stream.source} can be used: {reasons}{more}.")


def _seen(run: Run, batch: Batch, labels: Sequence[str | None]) -> NDArray[np.bool_]:
    """Whether each image that has a label was trained on."""
    labelled = np.array([label is not None for label in labels])
    if not labelled.any():
        return labelled
    pixels = batch.images if batch.images.dtype == np.uint8 else batch.images.clip(0, 1)
    return labelled & np.isin(ImageSet(pixels, None).image_hashes(), run.trained_on())


def _codes(network: Coder, batch: Batch, posterior: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Codes and their standard deviations, (B, D) each; the latter without columns unless asked for."""
    if posterior and isinstance(network, VAE):
        found = posteriors(network, batch.images)
        return found.mean.numpy(), found.std.numpy()
    codes = encode(network, batch.images)
    return codes, np.empty((len(codes), 0), np.float32)


def _numbered(labels: Sequence[str | None]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    known = [label for label in labels if label is not None]
    if not known or len(known) < len(labels):
        return None, ()
    classes = class_order(known)
    number = {name: position for position, name in enumerate(classes)}
    return np.array([number[label] for label in known], np.int64), tuple(classes)
