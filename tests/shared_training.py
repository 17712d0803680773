"""Trainings that test_distributed.py starts once alone and once under torchrun: python shared_training.py FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.data.imageset import ImageSet
from isthmus.networks.autoencoder import lab, strong
from isthmus.networks.classifier import classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import vae
from isthmus.settings import TrainingSettings
from isthmus.training.distributed import current, joined
from isthmus.training.loop import train

SHAPE = (1, 16, 16)
# How a network is built, and trained on 40 images. Of batches of 13 one image is left, which joins the batch before; of
# batches of 19 two are left, fewer than three processes.
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "lab": (lab, {}, {"batch_size": 19}),
    "frozen": (lab, {}, {"batch_size": 13, "frozen": "decoder"}),
    "strong": (strong, {"hidden": (20, 10)}, {"batch_size": 8, "schedule": "one-cycle", "patience": 1}),
    "vae": (vae, {"latent_dim": 3, "units": 8, "width": 4, "kl_warmup": 5}, {"batch_size": 9}),
    "vae of rows": (
        vae,
        {"architecture": "mlp", "hidden": (20,), "free_bits": 0.05, "sigma": "learned", "latent_dim": 3},
        {"batch_size": 19},
    ),
    "denoiser": (Denoiser, {"width": 4}, {"batch_size": 13, "noise": 0.2}),
    "classifier": (
        classifier,
        {"classes": 3, "width": 4, "blocks": 2, "hidden": 8, "dropout": 0.3, "label_smoothing": 0.1},
        {"batch_size": 19, "shift": 1, "rotation": 10.0, "noise": 0.1},
    ),
}


def images(count: int, seed: int, dtype: type) -> ImageSet:
    """Noise of three brightnesses, the classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = generator.random((count, *SHAPE)) * np.linspace(0.3, 1, 3)[labels][:, None, None, None]
    return ImageSet(pixels.astype(dtype), labels, ("a", "b", "c"))


def trained(case: str, dtype: type) -> dict[str, Any]:
    """What a training gives, for a file. In double precision a wrong formula shows, and rounding does not."""
    build, options, training = CASES[case]
    torch.manual_seed(0)
    network = build(SHAPE, **options)
    if dtype is np.float64:
        network.double()
    settings = TrainingSettings(epochs=2, **training)
    history = train(network, images(40, 0, dtype), images(7, 1, dtype), settings, seed=3)
    return {"weights": network.state_dict(), "epochs": history.epochs, "best": history.best_epoch}


def main(folder: Path) -> None:
    with joined("cpu"):
        group = current()
        found = {case: trained(case, np.float64) for case in CASES}
        found |= {f"{case}, single": trained(case, np.float32) for case in ("lab", "vae", "classifier")}
        torch.save(found, folder / f"{group.rank if group else 'alone'}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
