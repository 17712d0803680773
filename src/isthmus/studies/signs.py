"""The study of hand signs: S1 the arithmetic of convolutions, S2 a classifier at four learning rates, S3 autoencoders
with codes of several sizes beside exact PCA, what a code of three numbers knows, and images drawn from codes.

Any labelled images can take the photographs' place. All trainings are one sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.errors import DivergedError, InputError
from isthmus.networks.convolution import most_halvings
from isthmus.networks.shapes import LayerRow, layer_table
from isthmus.settings import ModelSettings, TrainingSettings
from isthmus.studies import clusters, drawing, rates, sizes
from isthmus.studies.clusters import Clusters, measure_clusters
from isthmus.studies.convolution import SumsResult, run_sums
from isthmus.studies.drawing import Drawing, measure_drawing
from isthmus.studies.rates import RATES, STRONG_SEEDS, Rates, measure_rates
from isthmus.studies.sizes import CODES, Sizes, measure_sizes
from isthmus.studies.study import Plan, SignsSettings, Study, Swept, budget
from isthmus.training.job import Trained

MEANT_FOR = 1303  # training images, 70 % of the photographs at hand, that the epochs below are meant for
FEWEST = 28  # training images: 70 % of 40


@dataclass(frozen=True)
class SignsResult:
    """All of the study: what the report shows and `figures` names. shapes: the layers of the classifier of S2."""

    data: ImageSet
    parts: Split
    duplicates: int
    runs: dict[str, Trained]
    s1: SumsResult
    shapes: list[LayerRow]
    s2: Rates
    s3: Sizes
    s4: Clusters
    s5: Drawing
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def chance(self) -> float:
        """Accuracy of a guess, mean over the classes that occur."""
        return 1 / len(np.unique(self.parts.test.labels))  # type: ignore[arg-type]  # checked to be labelled


def check_images(images: ImageSet) -> None:
    """Raises: InputError for images that the study cannot be done on."""
    if images.labels is None:
        raise InputError(
            f"{images.name} has no labels, and the study of signs is about classes: put the images of each class into "
            f"a folder of its own, or do `isthmus study digits`, which can do without."
        )
    if len(np.unique(images.labels)) < 2:
        raise InputError(f"{images.name} has images of one class only, so there is nothing to tell apart: add another.")
    training = len(split(images).train)
    if training < FEWEST:
        raise InputError(
            f"{images.name} leaves {training} images to train on, and the study of signs needs at least {FEWEST} for "
            f"codes of 10 numbers: add images."
        )


def run_signs(study: Study[SignsSettings], images: ImageSet) -> SignsResult:
    """Do the exercises on images of the size the study asks for; trainings that are finished are not done again.

    Raises: DataError if the images cannot be divided; DivergedError if anything but a learning rate of S2 diverges;
    TrainingFailedError.
    """
    parts = split(images, seed=study.settings.seed)
    duplicates = parts.test.count_shared(np.sort(parts.train.image_hashes()))
    count = f"{len(parts.train):,} / {len(parts.validation):,} / {len(parts.test):,}"
    study.say(f"{images.name}: {count} images to train, validate, test")
    seed = study.settings.seed
    s1 = run_sums(generator=np.random.default_rng([seed, 11]))
    swept = study.sweep(_plans(study, parts), parts)
    study.say("measuring accuracies, errors, clusters and densities")
    tried = {rate: swept[f"rate-{rate}"] for rate in RATES}
    strong = {f"classifier-strong-{i}": _trained(swept, f"classifier-strong-{i}") for i in STRONG_SEEDS}
    conv = {name: _trained(swept, f"conv{name}") for name in CODES}
    if all(found.trained is None for found in tried.values()):
        raise InputError("The classifier diverged at every learning rate; look at the images, or choose others.")
    s2 = measure_rates(
        {rate: found.trained for rate, found in tried.items()},
        {rate: found.epochs for rate, found in tried.items()},
        strong,
        parts,
    )
    judge = s2.strong.best
    s3 = measure_sizes(conv, _trained(swept, "linear10"), parts, judge, seed=seed)
    s4 = measure_clusters(conv["3"], parts, seed=seed)
    folders = {name: swept[f"conv{name}"].run for name in drawing.SIZES}
    s5 = measure_drawing(conv, folders, parts, judge, seed=seed)
    runs = {name: found.trained for name, found in swept.items() if found.trained is not None}
    plain = runs[f"rate-{s2.best}"].network
    result = SignsResult(images, parts, duplicates, runs, s1, layer_table(plain, images.shape), s2, s3, s4, s5)
    result.figures.update(figures(result))
    return result


def figures(result: SignsResult) -> dict[str, float | None]:
    """Every number of the study by its dotted name; docs/figures.md lists them."""
    named: dict[str, float | None] = {"S1.gauss.max_error": result.s1.max_error}
    parts = (rates.figures(result.s2), sizes.figures(result.s3), clusters.figures(result.s4))
    for part in (*parts, drawing.figures(result.s5)):
        named |= part
    return named


def _plans(study: Study[SignsSettings], parts: Split) -> dict[str, Plan]:
    """Every training of the study by the name of its run."""
    seed, images = study.settings.seed, len(parts.train)

    def plan(model: ModelSettings, training: TrainingSettings, further: int = 0) -> Plan:
        fitted = budget(training, images=images, fast=study.settings.fast, meant_for=MEANT_FOR)
        return Plan(model, fitted, (seed + further) % 2**63)

    shift = round(rates.SHIFT * min(parts.train.shape[1:]))
    strong = rates.STRONG.model_copy(update={"shift": shift})
    plans = {
        f"rate-{rate}": plan(rates.PLAIN_MODEL, rates.PLAIN.model_copy(update={"learning_rate": float(rate)}))
        for rate in RATES
    }
    plans |= {f"classifier-strong-{i}": plan(rates.STRONG_MODEL, strong, i) for i in STRONG_SEEDS}
    halvings = min(sizes.CONV.halvings, most_halvings(*parts.train.shape[1:]))
    for name, size in CODES.items():
        model = sizes.CONV.model_copy(update={"latent_dim": size, "halvings": halvings})
        plans[f"conv{name}"] = plan(model, sizes.CONV_TRAINING, int(name == "10b"))
    plans["linear10"] = plan(sizes.LINEAR, sizes.LINEAR_TRAINING)
    return plans


def _trained(swept: dict[str, Swept], name: str) -> Trained:
    """Raises: DivergedError if it did."""
    found = swept[name]
    if found.trained is None:
        step, rate = int(found.run.status()["step"]), float(found.run.status()["learning_rate"])
        raise DivergedError(
            f"The training of {name} diverged at step {step} with learning rate {rate:.3g}, and the rest of the study "
            f"needs it; look at the images, or try another --seed.",
            step=step,
            learning_rate=rate,
        )
    return found.trained
