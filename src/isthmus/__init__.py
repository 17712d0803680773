"""Isthmus learns compact representations of images, shows what they kept, and puts them to use.

Public names are loaded when they are first used: importing the package is instant and changes nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "ImageSet": "isthmus.data.imageset",
    "split": "isthmus.data.split",
    "load": "isthmus.data.catalog",
    "Autoencoder": "isthmus.networks.autoencoder",
    "lab": "isthmus.networks.autoencoder",
    "strong": "isthmus.networks.autoencoder",
    "linear": "isthmus.networks.autoencoder",
    "classifier": "isthmus.networks.classifier",
    "VAE": "isthmus.networks.variational",
    "vae": "isthmus.networks.variational",
    "output_size": "isthmus.networks.convolution",
    "transposed_output_size": "isthmus.networks.convolution",
    "FullGaussian": "isthmus.latent.density",
    "GaussianMixture": "isthmus.latent.density",
    "Histogram": "isthmus.latent.density",
    "Kernel": "isthmus.latent.density",
    "StandardNormal": "isthmus.latent.density",
    "fit_density": "isthmus.latent.density",
    "drawn_hands": "isthmus.data.drawn_hands",
    "Mask": "isthmus.data.degrade",
    "add_noise": "isthmus.data.degrade",
    "blur": "isthmus.data.degrade",
    "low_resolution": "isthmus.data.degrade",
    "restore": "isthmus.inverse.map",
    "principal_components": "isthmus.networks.pca",
    "TrainingSettings": "isthmus.settings",
    "train": "isthmus.training.loop",
    "evaluate": "isthmus.training.evaluation",
    "Run": "isthmus.runs",
    "ConvAutoencoder": "isthmus.estimators.autoencoders",
    "LinearAutoencoder": "isthmus.estimators.autoencoders",
    "VariationalAutoencoder": "isthmus.estimators.autoencoders",
    "ImageClassifier": "isthmus.estimators.classifier",
    "Denoiser": "isthmus.estimators.denoiser",
    "load_images": "isthmus.data.catalog",
    "export_run": "isthmus.export",
}

if TYPE_CHECKING:
    from isthmus.data.catalog import load, load_images
    from isthmus.data.degrade import Mask, add_noise, blur, low_resolution
    from isthmus.data.drawn_hands import drawn_hands
    from isthmus.data.imageset import ImageSet
    from isthmus.data.split import split
    from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
    from isthmus.estimators.classifier import ImageClassifier
    from isthmus.estimators.denoiser import Denoiser
    from isthmus.export import export_run
    from isthmus.inverse.map import restore
    from isthmus.latent.density import FullGaussian, GaussianMixture, Histogram, Kernel, StandardNormal, fit_density
    from isthmus.networks.autoencoder import Autoencoder, lab, linear, strong
    from isthmus.networks.classifier import classifier
    from isthmus.networks.convolution import output_size, transposed_output_size
    from isthmus.networks.pca import principal_components
    from isthmus.networks.variational import VAE, vae
    from isthmus.runs import Run
    from isthmus.settings import TrainingSettings
    from isthmus.training.evaluation import evaluate
    from isthmus.training.loop import train

__all__ = [
    "VAE",
    "Autoencoder",
    "ConvAutoencoder",
    "Denoiser",
    "FullGaussian",
    "GaussianMixture",
    "Histogram",
    "ImageClassifier",
    "ImageSet",
    "Kernel",
    "LinearAutoencoder",
    "Mask",
    "Run",
    "StandardNormal",
    "TrainingSettings",
    "VariationalAutoencoder",
    "__version__",
    "add_noise",
    "blur",
    "classifier",
    "drawn_hands",
    "evaluate",
    "export_run",
    "fit_density",
    "lab",
    "linear",
    "load",
    "load_images",
    "low_resolution",
    "output_size",
    "principal_components",
    "restore",
    "split",
    "strong",
    "train",
    "transposed_output_size",
    "vae",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
