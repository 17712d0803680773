"""One network on one set of images, from a name or a path to a finished run and its test figures."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.errors import InputError
from isthmus.networks.apply import dead_axes
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import NETWORKS, Network, build
from isthmus.networks.pca import principal_components
from isthmus.networks.variational import VAE
from isthmus.runs import Run, claim
from isthmus.settings import (
    RunSettings,
    differences,
    merge,
    nearest,
    parse_assignments,
    validate,
    validate_model,
)
from isthmus.studies.study import Reporter, Silent
from isthmus.training.distributed import leader_first, leads
from isthmus.training.evaluation import chosen_images, measure
from isthmus.training.job import train_run


def train_one(
    network: str,
    data: str,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    skip_bad: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, float]:
    """Train `network` on 70 % or the published part of the images, choose by validation, measure on the test part.

    Arguments: changes: "key=value" settings as `train --set` takes them. Of several processes that train together
    (training/distributed.py) the first writes and measures; the others return nothing.
    Returns: test figures by name; for an autoencoder also those of the exact PCA of the same code size.
    Raises: InputError for unknown names, settings or images; DivergedError; StorageError.
    """
    if network not in NETWORKS:
        raise InputError(f"There is no network {network!r}; {nearest(network, NETWORKS)}")
    tree: dict[str, Any] = {
        "data": {"name": data, "skip_bad": skip_bad},
        "model": {"name": network},
        "training": NETWORKS[network].training.model_dump(),
        "seed": seed,
    }
    settings = validate(RunSettings, merge(tree, parse_assignments(changes)))
    if settings.model.name != network:
        raise InputError(f"--set model.name={settings.model.name} contradicts `train {network}`; name one network.")
    reporter = reporter or Silent()
    with leader_first():
        images = chosen_images(settings.data)
    for note in images.notes:
        reporter.say(note)
    parts = split(images, seed=settings.seed, copy=False)
    start = None
    if settings.start is not None:
        begun = Run(Path(settings.start))
        start = begun.network()
        changed = differences(validate_model(begun.config()["model"]), settings.model)
        if changed:
            raise InputError(f"{begun.folder} has another network ({changed}); give the same model.* settings.")
    elif settings.training.frozen != "none":
        raise InputError("training.frozen=decoder keeps the decoder of another run: name that run, --set start=RUN.")
    # What cannot be built is refused before a folder is made.
    build(settings.model, images.shape, classes=len(images.classes))
    claimed = claim(folder, marker="run.json", resume=resume, overwrite=overwrite)
    with claimed if leads() else contextlib.nullcontext():
        run = Run(folder)
        if leads() and run.finished:
            reporter.say(f"{folder}: finished before, taken as it is")
        with reporter.progress(network) as progress:
            try:
                trained = train_run(run, settings, parts, device=device, start=start, progress=progress)
            except KeyboardInterrupt:
                if run.checkpoint.exists():
                    reporter.say(f"the best weights so far are kept in {run.checkpoint}")
                raise
        if not leads():
            return {}
        noise = settings.training.noise
        figures = _test(trained.network, parts.test, device, noise)
        if isinstance(trained.network, Autoencoder | VAE):
            for axis in dead_axes(trained.network, parts.train.images):
                reporter.say(f"axis {axis + 1} of the code is dead: it is the same for every image")
            if trained.network.latent_dim < min(len(parts.train), parts.train.images[0].size):
                found = principal_components(parts.train, trained.network.latent_dim)
                if not found.exact:
                    reporter.say("PCA is approximate here: a randomised solver, for so many images of so many pixels")
                figures["pca.test_mse"] = _test(found.autoencoder(), parts.test, "cpu")["test_mse"]
        run.add_figures(figures)
    return {**figures, "train_seconds": trained.seconds}


def _test(network: Network, test: ImageSet, device: str, noise: float = 0.0) -> dict[str, float]:
    return {f"test_{name}": value for name, value in measure(network, test, noise=noise, device=device).items()}
