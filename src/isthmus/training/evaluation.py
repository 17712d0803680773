"""A finished run on a set of images, with a warning where it was trained on them.

Without images it is measured on the test part of what it was trained on, which is loaded again and divided as it was
then: by their fingerprints all parts have to be the same to the last bit.
"""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from isthmus.data.catalog import load
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.errors import DataError, InputError, TrainedOnWarning
from isthmus.metrics import mse, psnr
from isthmus.networks.apply import ranges, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE, importance_bound, log_importance_weights
from isthmus.run_table import study_of
from isthmus.runs import Run
from isthmus.settings import DataSettings, RunSettings
from isthmus.training.feed import placed
from isthmus.training.scoring import score
from isthmus.writing import read_json

AT_ONCE = 2000  # images restored before they are compared; a multiple of BATCH, and of the 16 numbers drawn together
PARTS = {"train": "training", "validation": "validation", "test": "test"}


def prepare(run: Run, images: ImageSet | str | Path, *, skip_bad: bool = False) -> ImageSet:
    """Bring images to the size and channels the run was trained with; a name or a path is loaded first.

    Raises: InputError if the run wants colour and the images are grey, or it wants rows of numbers; DataError if the
    images cannot be read.
    """
    channels, height, width = run.image_shape()
    if not isinstance(images, ImageSet):
        images = load(images, size=(height, width), skip_bad=skip_bad)
    if images.shape[0] != channels:
        if channels == 3:
            raise InputError(f"{run.folder} was trained on colour images, {images.name} is grey; choose another run.")
        images = images.grey()
    return images.resize(height, width)


def held_out(run: Run) -> ImageSet:
    """The test part of what a run was trained on, loaded again.

    Raises: InputError if the run is not finished; what `parts_of_run` raises.
    """
    run.image_shape()  # refuses what is no finished run, or takes rows of numbers
    return parts_of_run(run).test


def parts_of_run(run: Run) -> Split:
    """What a run was trained on, loaded again and divided as it was then; in a study that may be by the study's seed.

    Raises: InputError if the run does not say what it was trained on, or that is no longer the same; DataError if the
    images cannot be loaded.
    """
    if not (run.folder / "run.json").exists():
        raise InputError(
            f"{run.folder} has no run.json, which says what it was trained on: name the images to use, as DATA."
        )
    settings, then = run.settings(), run.fingerprints()
    parts = _divide_again(run, settings, then["train"])
    changed = [name for name, value in then.items() if getattr(parts, name).fingerprint != value]
    if changed:
        raise InputError(
            f"{settings.data.name} is not what {run.folder} was trained on any more: the {PARTS[changed[0]]} part has "
            f"another fingerprint than the {then[changed[0]][:12]} of then. {_way_out(run)}"
        )
    return parts


def chosen_images(settings: DataSettings) -> ImageSet:
    """Read the images that `settings` name, in the size and colours they ask for. Raises: DataError."""
    if (settings.height is None) != (settings.width is None):
        raise InputError("data.height and data.width go together: give both or neither.")
    try:
        settings.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The path {settings.name!r} is not UTF-8, which settings files need; rename it.") from error
    size = None if settings.height is None or settings.width is None else (settings.height, settings.width)
    images = load(settings.name, size=size, skip_bad=settings.skip_bad)
    for name in images.classes:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The class {name!r} has no UTF-8 name, which reports need; rename its folder.") from error
    return images.grey() if settings.grey else images


def evaluate(
    run: Run | str | Path, images: ImageSet | str | Path | None = None, *, skip_bad: bool = False, samples: int = 0
) -> dict[str, float]:
    """Measure a run on images; `measure` says which figures there are. A denoiser gets the noise it was trained with.

    Arguments: run: the run or its folder. images: a set, or what `isthmus.load` takes; by default `held_out`, to which
    skip_bad does not apply. samples: as in `measure`.
    Warns: TrainedOnWarning, with the count, if any of the images were trained on.
    Raises: InputError if the images do not fit the run, or a classifier's images have no labels or other classes; what
    `held_out` raises.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    images = held_out(run) if images is None else prepare(run, images, skip_bad=skip_bad)
    network = run.network()
    if isinstance(network, Classifier):
        if images.labels is None:
            raise InputError(f"{images.name} has no labels to compare a classifier with.")
        known = tuple(run.config()["classes"])
        if images.classes != known:
            raise InputError(
                f"{images.name} has the classes {', '.join(images.classes)}; {run.folder} knows {', '.join(known)}."
            )
    if samples and not isinstance(network, VAE):
        raise InputError(f"Importance samples belong to the likelihood of a VAE; {run.folder} is none: leave them out.")
    _warn_if_trained_on(run, images)
    return measure(network, images, noise=float(run.config().get("noise", 0.0)), samples=samples)


def measure(
    network: Network,
    images: ImageSet,
    *,
    noise: float = 0.0,
    samples: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Figures of a network on images that fit it, means over images.

    A classifier: loss and accuracy. An autoencoder: mse and psnr (decibels) of its reconstructions. A VAE: also its
    evidence bound and the KL in it, nats per image, and with `samples` the importance-weighted bound. A denoiser: mse
    and psnr of what it makes of images with Gaussian noise of standard deviation `noise`, and the psnr of those.
    """
    if isinstance(network, Classifier):
        return score(network, *placed(images, network, device))
    generator = torch.Generator().manual_seed(0)
    if isinstance(network, Denoiser):
        return _restored(network, images, lambda clean: add_noise(clean, noise, generator=generator))
    figures = _restored(network, images, None)
    if isinstance(network, VAE):
        scored = score(network, *placed(images, network, device))
        figures |= {"bound_nats": -scored["reconstruction"] - scored["kl"], "kl_nats": scored["kl"]}
        if samples:
            weights = [
                log_importance_weights(network, to_float(part).to(device), samples=samples, generator=generator)
                for part in _pieces(images)
            ]
            figures["iwae_nats"] = float(importance_bound(torch.cat(weights)).mean())
    return figures


def _restored(
    network: Autoencoder | VAE | Denoiser, images: ImageSet, damage: Callable[[Tensor], Tensor] | None
) -> dict[str, float]:
    """How near to the images is what a network makes of them, or of what `damage` leaves of them."""
    names = ("mse", "psnr") if damage is None else ("mse", "psnr", "noisy_psnr")
    each, begin = torch.empty(len(names), len(images)), 0
    for part in _pieces(images):
        clean = to_float(part)
        given = part if damage is None else damage(clean)
        restored = reconstruct(network, given)
        found = [mse(restored, clean), psnr(restored.clamp(0, 1), clean)]
        found += [] if damage is None else [psnr(given, clean)]
        each[:, begin : begin + len(part)] = torch.stack(found)
        begin += len(part)
    return {name: float(values.mean()) for name, values in zip(names, each, strict=True)}


def _pieces(images: ImageSet) -> Iterator[Tensor]:
    """The images, some at a time, as they are."""
    return (torch.from_numpy(images.images[begin:end]) for begin, end in ranges(len(images), AT_ONCE))


def _warn_if_trained_on(run: Run, images: ImageSet) -> None:
    shared = images.count_shared(run.trained_on())
    if shared:
        warnings.warn(
            f"{shared} of the {len(images)} images of {images.name} were trained on by {run.folder}: "
            f"the figures flatter the model. Use images it has not seen.",
            TrainedOnWarning,
            stacklevel=3,
        )


def _divide_again(run: Run, settings: RunSettings, fingerprint: str) -> Split:
    """The images by the first of the seeds that gives a training part of this fingerprint; if none does, by the last.

    Raises: DataError if they cannot be loaded.
    """
    try:
        images = chosen_images(settings.data)
        for seed in _seeds(run, settings.seed):
            parts = split(images, seed=seed)
            if parts.train.fingerprint == fingerprint:
                break
        return parts
    except DataError as error:
        raise DataError(
            f"{run.folder} was trained on {settings.data.name}, which cannot be loaded again as it was ({error}). "
            f"{_way_out(run)}"
        ) from error


def _seeds(run: Run, seed: int) -> list[int]:
    """By which the images may have been divided: that of the run, and that of the study it belongs to."""
    study = study_of(run.folder)
    if study is None:
        return [seed]
    try:
        of_study = int(tomllib.loads((study / "study.toml").read_text(encoding="utf-8")).get("seed", 0))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{study}/study.toml cannot be read ({error}); name the images to use, as DATA.") from error
    return list(dict.fromkeys([seed, of_study]))


def _way_out(run: Run) -> str:
    """What to do where the images are not those of the training: they may have been named from another folder."""
    folder = read_json(run.folder / "run.json").get("named_from")
    if folder is None or folder == os.getcwd():
        return "Name the images to use, as DATA."
    return f"The path was named from {folder}: go there, or name the images to use, as DATA."
