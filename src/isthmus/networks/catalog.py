"""Every network by name: how it is built, and how it is trained unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from isthmus.errors import InputError
from isthmus.networks.autoencoder import Autoencoder, ImageShape, lab, linear, strong
from isthmus.networks.classifier import Classifier, classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE, vae
from isthmus.settings import ModelSettings, TrainingSettings

Network = Autoencoder | VAE | Denoiser | Classifier


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue."""

    build: Callable[..., Network]
    training: TrainingSettings
    summary: str


NETWORKS = {
    "lab": Entry(
        lab,
        TrainingSettings(epochs=4, batch_size=64, learning_rate=1e-2, schedule="one-cycle"),
        "convolutional autoencoder of the lab, 2 numbers behind a ReLU",
    ),
    "strong": Entry(
        strong,
        TrainingSettings(epochs=20, batch_size=256, learning_rate=4e-3, schedule="one-cycle"),
        "autoencoder from a wide multilayer perceptron, 1000-500-250-code",
    ),
    "linear": Entry(
        linear,
        TrainingSettings(epochs=10, batch_size=256, learning_rate=1e-2, schedule="one-cycle"),
        "linear autoencoder, whose optimum is PCA",
    ),
    "vae": Entry(
        vae,
        TrainingSettings(epochs=8, batch_size=128, learning_rate=5e-3, schedule="one-cycle"),
        "variational autoencoder, convolutional or a perceptron, with the noise of its decoder learnt",
    ),
    "denoiser": Entry(
        Denoiser,
        TrainingSettings(epochs=4, batch_size=64, learning_rate=3e-3, schedule="one-cycle", noise=0.25),
        "U-net, or a perceptron, trained from noisy to clean images; training.noise says how noisy",
    ),
    "classifier": Entry(
        classifier,
        TrainingSettings(
            epochs=3,
            batch_size=256,
            learning_rate=1e-2,
            optimizer="adamw",
            weight_decay=1e-2,
            schedule="one-cycle",
        ),
        "classifier, convolutional of three blocks or a perceptron",
    ),
}


def build(settings: ModelSettings, image_shape: ImageShape, *, classes: int = 0, seed: int = 0) -> Network:
    """Build the network that `settings` describe, with weights that depend on `seed` alone.

    The global random state of torch is left as it was.
    Raises: InputError if the images do not fit, or a classifier is asked for without at least two classes.
    """
    options = settings.model_dump(exclude={"name"})
    if settings.name == "classifier":
        if classes < 2:
            found = "one class only" if classes else "no labels to learn from"
            raise InputError(
                f"A classifier needs images of at least two classes; these have {found}. "
                f"Put the images of each class into a folder of its own."
            )
        options["classes"] = classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[settings.name].build(image_shape, **options)
