"""Makes the model files of format version 1 that every later Isthmus must read; README.md says how and when.

    python tests/data/make_models.py FOLDER

Each network is small and trained for a few steps on made-up images, so that its weights are not those it began with.
`expected.npz` holds what each of them says about four images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.latent.density import fit_density, save_densities
from isthmus.model_files import DENSITIES, DataFacts, EstimatorFacts, ModelConfig, Scaling, write_model
from isthmus.networks.apply import classify, encode, posteriors, reconstruct
from isthmus.networks.catalog import Network, build
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.settings import (
    ClassifierSettings,
    DenoiserSettings,
    LabSettings,
    LinearSettings,
    ModelSettings,
    StrongSettings,
    TrainingSettings,
    VAESettings,
)
from isthmus.training.loop import train

MODELS: dict[str, ModelSettings] = {
    "lab": LabSettings(width=2, code_relu=False),
    "strong": StrongSettings(hidden=(8, 4)),
    "linear": LinearSettings(latent_dim=3),
    "vae": VAESettings(latent_dim=2, width=2, units=8),
    "vae-mlp": VAESettings(latent_dim=2, architecture="mlp", hidden=(8,), sigma="learned"),
    "classifier": ClassifierSettings(width=2, blocks=2, hidden=4, standardise=True),
    "classifier-mlp": ClassifierSettings(architecture="mlp", hidden=(8, 4)),
    "denoiser": DenoiserSettings(width=2),
    "denoiser-mlp": DenoiserSettings(architecture="mlp", hidden=(8,)),
}


def bars(count: int = 60, classes: int = 3) -> ImageSet:
    """Grey images of 16 x 16 with a bar at a height that tells the class, and noise."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = generator.integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += np.uint8(150)
    return ImageSet(images, labels.astype(np.int64), ("low", "middle", "high ü"), "bars")


def answers(name: str, network: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a network says about images: probabilities, restored images, or codes; of a VAE also their spread."""
    if isinstance(network, Classifier):
        return {f"{name}.probabilities": classify(network, images).numpy()}
    if isinstance(network, Denoiser):
        return {f"{name}.images": reconstruct(network, images).numpy()}
    found = {f"{name}.codes": encode(network, images), f"{name}.images": reconstruct(network, images).numpy()}
    if isinstance(network, VAE):
        found[f"{name}.std"] = posteriors(network, images).std.numpy()
    return found


def make(folder: Path) -> None:
    """Write every model, and what they say."""
    parts = split(bars())
    images = parts.test.images[:4]
    expected = {"images": images}
    data = DataFacts(name=parts.train.name, fingerprint=parts.train.fingerprint, images=len(parts.train))
    for name, settings in MODELS.items():
        network = build(settings, parts.train.shape, classes=3)
        noise = 0.25 if settings.name == "denoiser" else 0.0
        training = TrainingSettings(epochs=20, batch_size=8, learning_rate=1e-2, noise=noise)
        history = train(network, parts.train, parts.validation, training)
        best = history.epochs[history.best_epoch - 1]
        config = ModelConfig(
            model=settings,
            image_shape=parts.train.shape,
            classes=parts.train.classes,
            noise=noise,
            data=data,
            figures={key: value for key, value in best.items() if key.startswith("validation_")},
        )
        if name == "lab":
            codes = torch.from_numpy(encode(network, parts.train.images))
            densities = {kind: fit_density(kind, codes) for kind in ("gaussian", "kernel")}
            save_densities(folder / name / DENSITIES, densities)
            for kind, density in densities.items():
                expected[f"lab.{kind}"] = density.log_prob(codes[:4].double()).numpy()
            expected["lab.given"] = codes[:4].numpy()
        write_model(folder / name, network, config, trained_on=parts.train.image_hashes())
        expected |= answers(name, network, images)
    expected |= rows(folder / "rows", parts.train, data)
    np.savez_compressed(folder / "expected.npz", **expected)


def rows(folder: Path, training: ImageSet, data: DataFacts) -> dict[str, np.ndarray]:
    """Write a model of rows of 6 numbers, in float64; returns what it says about four rows in [0, 1]."""
    settings = VAESettings(latent_dim=2, architecture="mlp", hidden=(8,))
    network = build(settings, (1, 1, 6)).double().eval()
    config = ModelConfig(
        model=settings,
        image_shape=(1, 1, 6),
        data=data,
        scaling=Scaling(minimum=(-1.5, 0.1, 0, 0, -1e-3, 0), maximum=(2.5, 0.3, 1, 7, 1e6, 0)),
        estimator=EstimatorFacts(name="VariationalAutoencoder", parameters={"latent_dim": 2}, layout="ND"),
    )
    write_model(folder, network, config, trained_on=training.image_hashes())
    given = np.random.default_rng(1).random((4, 1, 1, 6))
    return {"rows.given": given, "rows.codes": encode(network, given)}


if __name__ == "__main__":
    make(Path(sys.argv[1]))
