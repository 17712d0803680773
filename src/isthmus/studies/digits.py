"""The study of digits: D1 to D6 here, an autoencoder with a code of two numbers, what its code knows, and what the
bottleneck does to noise, beside a stronger autoencoder, exact PCA and a classifier; D7 and D8 in files of their own.

Any images can take the digits' place. Without labels, whatever needs them is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.inverse.bottleneck import Quality, quality, restore
from isthmus.latent.manifold import Grid, grid, middle, walk
from isthmus.latent.neighbours import NeighbourAccuracy, neighbour_accuracy
from isthmus.latent.separability import Clipping, clipping, pairwise_overlap
from isthmus.metrics import accuracy_per_class, wilson_interval
from isthmus.networks.apply import classify, decode, encode, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import NETWORKS
from isthmus.networks.classifier import Classifier
from isthmus.networks.pca import principal_components
from isthmus.settings import ClassifierSettings, LabSettings, StrongSettings, TrainingSettings
from isthmus.studies import restoration, variational
from isthmus.studies.restoration import Restoration, run_restoration
from isthmus.studies.samples import add_noise_to, confusion_of, examples_of
from isthmus.studies.study import LAB_TRAINING, DigitsSettings, Study, budget
from isthmus.studies.variational import Variational, run_variational
from isthmus.training.diagnosis import Diagnosis, diagnose
from isthmus.training.job import Trained
from isthmus.training.scoring import score, scored_images

LATENT_DIM = 2
DIGITS = tuple("0123456789")
PUBLISHED_ON = ("mnist", "mnist-5k")  # the sets that the published figures may stand beside
# Answers of the lab 5LSL0 (TU Eindhoven, 2023), exercises 3 and 4: accuracy of each digit as a share.
PUBLISHED_1NN = (0.702, 0.934, 0.274, 0.221, 0.229, 0.149, 0.284, 0.282, 0.224, 0.241)
PUBLISHED_CLASSIFIER = (0.987, 0.991, 0.965, 0.974, 0.963, 0.974, 0.971, 0.966, 0.966, 0.955)

AUTOENCODERS = ("pca", "lab", "strong")
REGULARISED = {"shift": 2}  # training.*: random shifts of up to two pixels


@dataclass(frozen=True)
class Reconstructions:
    """D1. One test image a class and its reconstruction by each autoencoder (K, C, H, W); test error per pixel;
    kept: share of all reconstructed test images to which the classifier of D4 gives the true class, (K,) each."""

    originals: Tensor
    reconstructed: dict[str, Tensor]
    test_mse: dict[str, float]
    kept: dict[str, NDArray[np.float64]] | None


@dataclass(frozen=True)
class Codes:
    """D2. Codes of the test images (N, 2) by network, overlap of classes (K, K), clipped axes of lab."""

    test: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64] | None
    overlap: NDArray[np.float64] | None
    clipping: Clipping


@dataclass(frozen=True)
class Classification:
    """D4. The plain classifier, its diagnosis, the remedy where one was called for, and the test of the better one.

    chosen is "classifier" or "classifier-remedy", by validation accuracy; the rest is measured on the test images.
    """

    runs: dict[str, Trained]
    diagnosis: Diagnosis
    remedy: str | None
    chosen: str
    validation_accuracy: dict[str, float]
    per_class: NDArray[np.float64]
    mean: float
    interval: tuple[float, float]
    confusion: NDArray[np.int64]

    @property
    def network(self) -> Classifier:
        """The chosen classifier."""
        return cast(Classifier, self.runs[self.chosen].network)


@dataclass(frozen=True)
class Manifold:
    """D5. What the decoder draws on a grid of codes (R, R, C, H, W), and on the way between two classes.

    confidence: mean largest class probability the classifier gives to grid images, (where data lie, where none do).
    ends: the classes the strip joins. passes: the class each of its pictures is read as.
    """

    grid: Grid
    images: Tensor
    confidence: tuple[float, float] | None
    ends: tuple[str, str] | None
    strip: Tensor | None
    strip_codes: NDArray[np.float32] | None
    passes: tuple[str, ...]


@dataclass(frozen=True)
class Denoising:
    """D6. Noisy test images and what each bottleneck makes of them: examples (K, C, H, W), means over all images.

    kept: share of images to which the classifier gives the true class, mean over classes.
    """

    sigma: float
    clean: Tensor
    noisy: Tensor
    restored: dict[str, Tensor]
    quality: dict[str, Quality]
    kept: dict[str, float] | None


@dataclass(frozen=True)
class DigitsResult:
    """All of the study: what the report shows and `figures` names."""

    data: ImageSet
    parts: Split
    duplicates: int
    pca_exact: bool
    runs: dict[str, Trained]
    d1: Reconstructions
    d2: Codes
    d3: dict[str, NeighbourAccuracy] | None
    d4: Classification | None
    d5: Manifold
    d6: Denoising
    d7: Variational
    d8: Restoration
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def are_digits(self) -> bool:
        """Whether these are MNIST's digits, so that the published figures apply; other sets have ten classes too."""
        return self.data.name in PUBLISHED_ON and self.data.classes == DIGITS

    @property
    def pca_name(self) -> str:
        """What to call PCA: it is exact unless images and pixels are too many."""
        return "exact PCA" if self.pca_exact else "approximate PCA"

    @property
    def chance(self) -> float:
        """Accuracy of a guess, mean over the classes that occur."""
        labels = self.parts.test.labels
        return float("nan") if labels is None else 1 / len(np.unique(labels))


def run_digits(study: Study[DigitsSettings], images: ImageSet) -> DigitsResult:
    """Do the exercises on images of the size the study asks for; trainings that are finished are not done again.

    Raises: DataError if the images cannot be divided; DivergedError if a training fails.
    """
    parts = split(images, seed=study.settings.seed)
    duplicates = parts.test.count_shared(np.sort(parts.train.image_hashes()))
    count = f"{len(parts.train):,} / {len(parts.validation):,} / {len(parts.test):,}"
    study.say(f"{images.name}: {count} images to train, validate, test")

    d4 = _classification(study, parts) if images.labels is not None else None
    runs = {} if d4 is None else dict(d4.runs)
    runs["lab"] = _train(study, "lab", LabSettings(), parts)
    runs["strong"] = _train(study, "strong", StrongSettings(), parts)
    networks = {name: cast(Autoencoder, runs[name].network) for name in ("lab", "strong")}
    optimum = principal_components(parts.train, LATENT_DIM)
    networks["pca"] = optimum.autoencoder().to(study.device)

    study.say("measuring codes, neighbours and restorations")
    judge = None if d4 is None else d4.network
    d1 = _reconstructions(networks, parts.test, judge)
    train_codes = {name: encode(network, parts.train.images) for name, network in networks.items()}
    test_codes = {name: encode(network, parts.test.images) for name, network in networks.items()}
    d2 = _codes(train_codes, test_codes, parts)
    d3 = _neighbours(networks, train_codes, test_codes, parts, sigma=study.settings.noise, seed=study.settings.seed)
    d5 = _manifold(networks["lab"], train_codes["lab"], parts.train, judge)
    d6 = _denoising(networks, parts.test, judge, sigma=study.settings.noise, seed=study.settings.seed)
    d7 = run_variational(study, parts)
    d8 = run_restoration(study, parts, judge)
    runs |= {name: reading.run for name, reading in d7.readings.items()} | d8.runs
    result = DigitsResult(images, parts, duplicates, optimum.exact, runs, d1, d2, d3, d4, d5, d6, d7, d8)
    result.figures.update(figures(result))
    return result


def figures(result: DigitsResult) -> dict[str, float | None]:
    """Every number of the study by its dotted name: shares in [0, 1], decibels, seconds. docs/figures.md lists them."""
    named: dict[str, float | None] = {}
    for name, value in result.d1.test_mse.items():
        named[f"D1.{name}.test_mse"] = value
    for axis, share in enumerate(result.d2.clipping.share):
        named[f"D2.lab.clipped.{axis}"] = float(share)
    classes = result.data.classes
    for name, neighbours in (result.d3 or {}).items():
        named[f"D3.{name}.1nn_mean"] = neighbours.mean
        for label, share in zip(classes, neighbours.per_class, strict=True):
            named[f"D3.{name}.1nn.{label}"] = float(share)
    if result.d4 is not None:
        named["D4.accuracy_mean"] = result.d4.mean
        for label, share in zip(classes, result.d4.per_class, strict=True):
            named[f"D4.accuracy.{label}"] = float(share)
        named["D4.train_seconds"] = sum(run.seconds for run in result.d4.runs.values())
        for name, share in result.d4.validation_accuracy.items():
            named[f"D4.{name}.validation_accuracy"] = share
    if result.d5.confidence is not None:
        named["D5.confidence.with_data"], named["D5.confidence.without_data"] = result.d5.confidence
    named["D5.cells_with_data"] = float(result.d5.grid.occupied.mean())
    for name, measured in result.d6.quality.items():
        public = {"lab": "bottleneck"}.get(name, name)
        named[f"D6.{public}.psnr"], named[f"D6.{public}.ssim"] = measured.psnr, measured.ssim
        if result.d6.kept is not None:
            named[f"D6.{public}.class_kept"] = result.d6.kept[name]
    return named | variational.figures(result.d7) | restoration.figures(result.d8)


def _train(study: Study[DigitsSettings], name: str, model: LabSettings | StrongSettings, parts: Split) -> Trained:
    usual = LAB_TRAINING if model.name == "lab" else NETWORKS[model.name].training
    training = budget(usual, images=len(parts.train), fast=study.settings.fast)
    return study.train(name, model, training, parts)


def _classification(study: Study[DigitsSettings], parts: Split) -> Classification:
    """D4: train, judge the capacity by the curves, apply the remedy they call for, test the better of the two."""
    model = ClassifierSettings()
    training = budget(NETWORKS["classifier"].training, images=len(parts.train), fast=study.settings.fast)
    runs = {"classifier": study.train("classifier", model, training, parts)}
    sample = scored_images(parts.train, parts.validation)
    verdict = diagnose(runs["classifier"].epochs, train_images=sample, validation_images=len(parts.validation))
    remedy = None
    if verdict.verdict in ("overfits", "underfits"):
        remedy, model, training = _remedy(verdict, model, training)
        runs["classifier-remedy"] = study.train("classifier-remedy", model, training, parts)
    validation = {name: run.epochs[run.best_epoch - 1]["validation_accuracy"] for name, run in runs.items()}
    chosen = max(validation, key=lambda name: validation[name])
    counts = confusion_of(cast(Classifier, runs[chosen].network), parts.test.images, parts.test)
    per_class = accuracy_per_class(counts).numpy()
    right, total = int(counts.trace()), int(counts.sum())
    return Classification(
        runs,
        verdict,
        remedy,
        chosen,
        validation,
        per_class,
        float(np.nanmean(per_class)),
        wilson_interval(right, total),
        counts.numpy(),
    )


def _remedy(
    verdict: Diagnosis, model: ClassifierSettings, training: TrainingSettings
) -> tuple[str, ClassifierSettings, TrainingSettings]:
    if verdict.verdict == "underfits":
        return "twice the channels", model.model_copy(update={"width": 2 * model.width}), training
    smoothed = model.model_copy(update={"label_smoothing": 0.1})
    return "shifts of up to 2 pixels and label smoothing", smoothed, training.model_copy(update=REGULARISED)


def _reconstructions(networks: dict[str, Autoencoder], test: ImageSet, judge: Classifier | None) -> Reconstructions:
    examples = examples_of(test)
    pixels = torch.from_numpy(test.images)
    reconstructed, errors, kept = {}, {}, {}
    for name in AUTOENCODERS:
        network = networks[name]
        reconstructed[name] = reconstruct(network, test.images[examples]).clamp(0, 1)
        errors[name] = score(network, pixels.to(next(network.parameters()).device), None)["loss"]
        if judge is not None:
            restored = reconstruct(network, test.images).clamp(0, 1)
            kept[name] = accuracy_per_class(confusion_of(judge, restored, test)).numpy()
    return Reconstructions(to_float(pixels[examples]), reconstructed, errors, kept or None)


def _codes(train: dict[str, NDArray[np.float32]], test: dict[str, NDArray[np.float32]], parts: Split) -> Codes:
    overlap = None
    labels, train_labels = parts.test.labels, parts.train.labels
    if labels is not None and train_labels is not None:
        classes = len(parts.test.classes)
        overlap = pairwise_overlap(train["lab"], train_labels, test["lab"], labels, classes=classes)
    return Codes(test, labels, overlap, clipping(np.concatenate([train["lab"], test["lab"]])))


def _neighbours(
    networks: dict[str, Autoencoder],
    train_codes: dict[str, NDArray[np.float32]],
    test_codes: dict[str, NDArray[np.float32]],
    parts: Split,
    *,
    sigma: float,
    seed: int,
) -> dict[str, NeighbourAccuracy] | None:
    """D3, by "<network>.clean" and "<network>.noisy": networks trained on clean images; noisy has noise on both the
    references and the queries."""
    train_labels, labels = parts.train.labels, parts.test.labels
    if train_labels is None or labels is None:
        return None
    classes = len(parts.test.classes)
    noisy_train = add_noise_to(parts.train, sigma, seed=(seed, 1))
    noisy_test = add_noise_to(parts.test, sigma, seed=(seed, 2))
    measured = {}
    for name in AUTOENCODERS:
        clean = (train_codes[name], test_codes[name])
        noisy = (encode(networks[name], noisy_train), encode(networks[name], noisy_test))
        for kind, (references, queries) in {"clean": clean, "noisy": noisy}.items():
            measured[f"{name}.{kind}"] = neighbour_accuracy(references, train_labels, queries, labels, classes=classes)
    return measured


def _manifold(network: Autoencoder, codes: NDArray[np.float32], train: ImageSet, judge: Classifier | None) -> Manifold:
    cells = grid(codes)
    images = decode(network, cells.codes.reshape(-1, 2))
    shape = (*cells.codes.shape[:2], *images.shape[1:])
    if judge is None or train.labels is None:
        return Manifold(cells, images.reshape(shape), None, None, None, None, ())
    sure = classify(judge, images).amax(1).reshape(cells.counts.shape).numpy()
    inside = cells.occupied
    outside = float(sure[~inside].mean()) if (~inside).any() else float("nan")
    first, second = np.unique(train.labels)[:2]  # a class may have no images, as 0 where labels count from 1
    start, end = (middle(codes[train.labels == k]) for k in (first, second))
    line = walk(start, end, steps=12)
    strip = decode(network, line)
    passes = tuple(train.classes[int(k)] for k in classify(judge, strip).argmax(1))
    ends = (train.classes[first], train.classes[second])
    return Manifold(cells, images.reshape(shape), (float(sure[inside].mean()), outside), ends, strip, line, passes)


def _denoising(
    networks: dict[str, Autoencoder], test: ImageSet, judge: Classifier | None, *, sigma: float, seed: int
) -> Denoising:
    examples = examples_of(test)
    clean = to_float(torch.from_numpy(test.images))
    noisy = add_noise_to(test, sigma, seed=(seed, 2))
    images = {"noisy": noisy, **{name: restore(networks[name], noisy) for name in AUTOENCODERS}}
    kept = None
    if judge is not None:
        shares = {name: confusion_of(judge, x, test) for name, x in images.items()}
        kept = {name: float(accuracy_per_class(counts).nanmean()) for name, counts in shares.items()}
    return Denoising(
        sigma,
        clean[examples],
        noisy[examples],
        {name: images[name][examples] for name in AUTOENCODERS},
        {name: quality(x, clean) for name, x in images.items()},
        kept,
    )
