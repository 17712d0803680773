"""The built-in studies in the terms of a study file: the same networks, trained alike, to start one's own from.

What a built-in study asks in its own way, as the exercises of its course, no file can say; the analyses named here come
nearest. The classifier of `digits` may be trained a second time, with the remedy its curves call for: that depends on
the first training, and is left to who reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.catalog import NETWORKS
from isthmus.networks.convolution import most_halvings
from isthmus.networks.variational import VAE
from isthmus.settings import (
    ClassifierSettings,
    DenoiserSettings,
    LabSettings,
    ModelSettings,
    StrongSettings,
    TrainingSettings,
    VAESettings,
)
from isthmus.studies import rates, restoration, sizes, variational
from isthmus.studies.signs import MEANT_FOR
from isthmus.studies.study import LAB_TRAINING, MNIST_TRAINING_IMAGES, DigitsSettings, SignsSettings, StudySettings
from isthmus.studies.study_file import CustomSettings
from isthmus.studies.study_reading import study_settings


def in_file_terms(settings: StudySettings, shape: ImageShape) -> CustomSettings:
    """A built-in study on images of this shape (C, H, W), as a study of one's own.

    >>> from isthmus.settings import DataSettings
    >>> found = in_file_terms(DigitsSettings(data=DataSettings(name="mnist-5k")), (1, 32, 32))
    >>> list(found.networks)[:3]
    ['classifier', 'lab', 'strong']
    """
    if isinstance(settings, CustomSettings):
        return settings
    make = {"digits": _digits, "signs": _signs}[settings.study]
    tree = make(settings, shape)  # type: ignore[operator]  # each is given its own settings
    common = settings.model_dump(mode="json", exclude_none=True, include={"data", "seed", "fast"})
    return study_settings({**common, **tree})


def _digits(settings: DigitsSettings, shape: ImageShape) -> dict[str, Any]:
    noise = settings.noise
    networks = {
        "classifier": _network(ClassifierSettings(), NETWORKS["classifier"].training),
        "lab": _network(LabSettings(), LAB_TRAINING),
        "strong": _network(StrongSettings(), NETWORKS["strong"].training),
        **_vaes_of_two(shape),
    }
    for size in restoration.SIZES:
        model, training = VAESettings(latent_dim=size), NETWORKS["vae"].training
        if size != restoration.MAIN:
            training = training.model_copy(update={"epochs": restoration.LARGER_EPOCHS})
        tuning = restoration.FINE_TUNING.model_copy(update={"noise": noise})
        networks[f"vae{size}"] = _network(model, training)
        networks[f"vae{size}-noisy"] = _network(model, tuning, start=f"vae{size}")
    training = NETWORKS["denoiser"].training.model_copy(update={"noise": noise})
    networks["denoiser"] = _network(DenoiserSettings(), training)
    return {
        "title": "What two numbers keep of an image",
        "analyses": ["reconstruction", "codes", "neighbours", "accuracy", "restoration"],
        "degradations": [f"noise:{noise:g}", *restoration.OTHERS],
        "networks": networks,
    }


def _vaes_of_two(shape: ImageShape) -> dict[str, Any]:
    """D7: the course's weight read both ways, and sigma learnt, which begins with the weights of the first."""
    model = VAESettings(latent_dim=variational.LATENT_DIM, architecture="mlp")
    found = {}
    for reduction, training in variational.TRAINING.items():
        weight = VAE.from_course(
            variational.KL_WEIGHT,
            reduction=reduction,
            pixels=int(np.prod(shape)),
            pixel_range=variational.PIXEL_RANGE,
        )
        fixed = model.model_copy(update={"sigma": weight.sigma, "beta": weight.beta})
        found[f"vae2-{reduction}"] = _network(fixed, training)
    return {**found, "vae2": _network(model, variational.ANNEALING, start="vae2-sum")}


def _signs(settings: SignsSettings, shape: ImageShape) -> dict[str, Any]:
    halvings = min(sizes.CONV.halvings, most_halvings(*shape[1:]))
    conv = sizes.CONV.model_copy(update={"halvings": halvings})
    shift = round(rates.SHIFT * min(shape[1:]))
    strong = rates.STRONG.model_copy(update={"shift": shift})
    learning_rates = {"training": {"learning_rate": [float(rate) for rate in rates.RATES]}}
    codes = {"model": {"latent_dim": sorted(set(sizes.CODES.values()))}}
    again = conv.model_copy(update={"latent_dim": sizes.CODES[sizes.MAIN]})
    networks = {
        "rate": _network(rates.PLAIN_MODEL, rates.PLAIN, MEANT_FOR, sweep=learning_rates),
        "classifier-strong": _network(rates.STRONG_MODEL, strong, MEANT_FOR, sweep={"seed": list(rates.STRONG_SEEDS)}),
        "conv": _network(conv, sizes.CONV_TRAINING, MEANT_FOR, sweep=codes),
        "conv10b": _network(again, sizes.CONV_TRAINING, MEANT_FOR, seed=1),
        "linear10": _network(sizes.LINEAR, sizes.LINEAR_TRAINING, MEANT_FOR),
    }
    return {
        "title": "What a few numbers keep of a hand sign",
        "analyses": ["accuracy", "code-size", "reconstruction", "codes", "neighbours", "generation"],
        "densities": ["gaussian", "mixture", "kernel", "histogram"],
        "networks": networks,
    }


def _network(
    model: ModelSettings, training: TrainingSettings, meant_for: int = MNIST_TRAINING_IMAGES, **more: Any
) -> Mapping[str, Any]:
    plain = {"model": model.model_dump(mode="json"), "training": training.model_dump(mode="json", exclude_none=True)}
    return {**plain, "meant_for": meant_for, **more}
