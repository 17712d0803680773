"""S3.note: densities fitted to codes, images decoded from their samples, and how good those are.

Densities are fitted to the training codes of two autoencoders: the one with 3 numbers, where a histogram is possible,
and the one with 10, where it is refused. All are kept with the run they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from isthmus.data.imageset import Split
from isthmus.errors import InputError
from isthmus.latent.density import DENSITIES, Density, fit_density, save_densities
from isthmus.latent.generation import Judged, Yardstick, judge_density, yardstick
from isthmus.networks.apply import encode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.runs import Run
from isthmus.studies.samples import generator_of
from isthmus.training.job import Trained

FITTED = tuple(name for name in DENSITIES if name != "normal")  # what is not fitted knows nothing of these codes
SIZES = ("3", "10")


@dataclass(frozen=True)
class Drawn:
    """What was drawn from the densities of one code. refused: by name, why a density could not be fitted."""

    size: int
    yardstick: Yardstick
    judged: dict[str, Judged]
    refused: dict[str, str]


@dataclass(frozen=True)
class Drawing:
    """S3.note, by the names in SIZES. floor: Fréchet distance of real images to real ones."""

    codes: dict[str, Drawn]

    @property
    def floor(self) -> float:
        """Of two halves of the images that were not trained on; it does not depend on the code."""
        return self.codes[SIZES[0]].yardstick.floor


def measure_drawing(
    runs: dict[str, Trained], folders: dict[str, Run], parts: Split, judge: Classifier, *, seed: int
) -> Drawing:
    """Fit, keep, draw and judge. Arguments: runs, folders: by the names in SIZES."""
    real = np.concatenate([parts.validation.images, parts.test.images])
    found = {}
    for name in SIZES:
        network = cast(Autoencoder, runs[name].network)
        codes = torch.from_numpy(encode(network, parts.train.images))
        unseen = torch.from_numpy(encode(network, real))
        densities, refused = _fit(codes, seed=seed)
        save_densities(folders[name].densities, densities)
        against = yardstick(judge, network, real, parts.train.images, generator=generator_of((seed, 9)))
        judged = {
            kind: judge_density(
                density, network, judge, against, parts.train.images, unseen, generator=generator_of((seed, 10))
            )
            for kind, density in densities.items()
        }
        found[name] = Drawn(network.latent_dim, against, judged, refused)
    return Drawing(found)


def figures(found: Drawing) -> dict[str, float | None]:
    """The numbers of S3.note by their dotted names: without a size, those of the code of 3 numbers."""
    named: dict[str, float | None] = {"S3.density.real_floor": found.floor}
    for size, drawn in found.codes.items():
        prefix = "S3.density" if size == SIZES[0] else f"S3.density{size}"
        for name in FITTED:
            judged = drawn.judged.get(name)
            named[f"{prefix}.{name}.frechet"] = None if judged is None else judged.frechet
            named[f"{prefix}.{name}.heldout_nats"] = None if judged is None else judged.heldout_nats
            named[f"{prefix}.{name}.copied"] = None if judged is None else judged.copied
    return named


def _fit(codes: torch.Tensor, *, seed: int) -> tuple[dict[str, Density], dict[str, str]]:
    densities, refused = {}, {}
    for name in FITTED:
        try:
            densities[name] = fit_density(name, codes, generator=generator_of((seed, 8)))
        except InputError as error:
            refused[name] = str(error)
    return densities, refused
