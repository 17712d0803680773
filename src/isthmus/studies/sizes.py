"""S3.1 to S3.3: convolutional autoencoders with codes of several sizes, beside exact PCA of every size, and a linear
autoencoder trained by the same function beside its exact optimum.

The code of 10 numbers is trained from two seeds, so that a difference between sizes can be set against the difference
between two runs of one size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from torch import Tensor, nn

from isthmus.data.imageset import ImageSet, Split
from isthmus.networks.apply import classify, decode, encode, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.networks.pca import PrincipalComponents, principal_components
from isthmus.settings import LabSettings, LinearSettings, TrainingSettings
from isthmus.studies.findings import times
from isthmus.studies.samples import examples_of, generator_of
from isthmus.training.job import Trained
from isthmus.training.scoring import score

CODES = {"3": 3, "10": 10, "10b": 10, "100": 100, "250": 250}  # by the name of the run, without "conv"
MAIN = "10"
LINEAR_DIM = 10
CONV = LabSettings(width=16, halvings=4, code_relu=False, upsample="transposed")
CONV_TRAINING = TrainingSettings(epochs=50, batch_size=32, learning_rate=1e-2, schedule="one-cycle")
LINEAR = LinearSettings(latent_dim=LINEAR_DIM)
LINEAR_TRAINING = TrainingSettings(epochs=400, batch_size=128, learning_rate=1e-2, schedule="one-cycle")
RANDOM_CODES = 256  # drawn from a Gaussian fitted to the codes, decoded, and shown to the classifier


@dataclass(frozen=True)
class Errors:
    """Mean squared error per pixel on training and test images."""

    train: float
    test: float


@dataclass(frozen=True)
class Traits:
    """What tells two kinds of autoencoders apart beside their error.

    encoding: microseconds an image, in large batches. correlation: the largest between two numbers of the code over
    the training images. ordered: whether the numbers fall in variance from first to last. confidence: mean largest
    class probability that the classifier gives to decoded random codes. samples: some of those, (K, C, H, W).
    """

    errors: Errors
    parameters: int
    training: float | None
    encoding: float
    correlation: float
    ordered: bool
    confidence: float
    samples: Tensor


@dataclass(frozen=True)
class Sizes:
    """S3.1 to S3.3.

    errors: by the names of CODES. pca: errors by number of components, from 0. examples: test images, one a class
    (K, C, H, W), of at most ten classes, whose names are `shown`; reconstructed: the same by each network. gap:
    training error of the linear autoencoder over that of exact PCA, minus 1. angles: between the two subspaces in
    degrees, smallest first. components: of PCA and learnt,
    (D, C, H, W), unit length. traits: "conv", "linear", "pca", all with 10 numbers.
    """

    runs: dict[str, Trained]
    errors: dict[str, Errors]
    linear_run: Trained
    linear: Errors
    pca: dict[str, NDArray[np.float64]]
    pca_exact: bool
    examples: Tensor
    shown: tuple[str, ...]
    reconstructed: dict[str, Tensor]
    gap: float
    angles: NDArray[np.float64]
    components: dict[str, Tensor]
    traits: dict[str, Traits]

    def optimum(self, size: int) -> float | None:
        """Test error of PCA with so many components; None where the images have fewer directions."""
        return float(self.pca["test"][size]) if size < len(self.pca["test"]) else None

    def against_pca(self, name: str) -> Literal["better", "worse", "level"] | None:
        """Test error of a network, by the names of CODES, beside that of PCA of the same size: level if they differ by
        no more than two seeds do. None where there is no such PCA."""
        optimum = self.optimum(CODES[name])
        if optimum is None:
            return None
        ratio = times(self.errors[name].test, optimum)
        return "level" if abs(ratio - 1) <= self.spread else "better" if ratio < 1 else "worse"

    @property
    def pca_name(self) -> str:
        """What to call PCA: it is exact unless images and pixels are too many."""
        return "exact PCA" if self.pca_exact else "approximate PCA"

    @property
    def spread(self) -> float:
        """How far the two runs with 10 numbers lie apart on the test images, relative to the smaller error."""
        pair = (self.errors["10"].test, self.errors["10b"].test)
        return times(max(pair), min(pair)) - 1


def measure_sizes(runs: dict[str, Trained], linear: Trained, parts: Split, judge: Classifier, *, seed: int) -> Sizes:
    """Measure what was trained. Arguments: runs: by the names of CODES."""
    largest = min(max(CODES.values()), len(parts.train) - 1, parts.train.images[0].size)
    optimum = principal_components(parts.train, largest)
    ten = principal_components(parts.train, LINEAR_DIM)
    chosen = examples_of(parts.test)
    examples = to_float(torch.from_numpy(parts.test.images[chosen]))
    networks = {name: cast(Autoencoder, run.network) for name, run in runs.items()}
    learnt = cast(Autoencoder, linear.network)
    exact = ten.autoencoder().to(next(learnt.parameters()).device)
    shown = {f"conv {name}": network for name, network in networks.items()} | {"linear 10": learnt, "PCA 10": exact}
    errors = {name: _errors(network, parts) for name, network in networks.items()}
    pca = {name: optimum.errors(part).numpy() for name, part in (("train", parts.train), ("test", parts.test))}
    angles = np.degrees(np.sort(subspace_angles(_directions(learnt).T.numpy(), ten.components.T.numpy())))
    trained = _errors(learnt, parts)
    kinds: dict[str, tuple[Autoencoder, float | None]] = {
        "conv": (networks[MAIN], runs[MAIN].seconds),
        "linear": (learnt, linear.seconds),
        "pca": (exact, None),
    }
    return Sizes(
        runs,
        errors,
        linear,
        trained,
        pca,
        optimum.exact,
        examples,
        tuple(parts.test.classes[k] for k in cast(NDArray[np.int64], parts.test.labels)[chosen]),
        {name: reconstruct(network, parts.test.images[chosen]).clamp(0, 1) for name, network in shown.items()},
        times(trained.train, float(pca["train"][LINEAR_DIM])) - 1,
        angles,
        {"PCA": _pictures(ten, ten.components), "linear": _pictures(ten, _directions(learnt))},
        {name: _traits(network, seconds, parts, judge, seed=seed) for name, (network, seconds) in kinds.items()},
    )


def figures(found: Sizes) -> dict[str, float | None]:
    """The numbers of S3.1 to S3.3 by their dotted names."""
    named: dict[str, float | None] = {}
    for name, errors in found.errors.items():
        named[f"S3.conv.test_mse.{name}"], named[f"S3.conv.train_mse.{name}"] = errors.test, errors.train
    for size in sorted(set(CODES.values())):
        named[f"S3.pca.test_mse.{size}"] = found.optimum(size)
    named[f"S3.linear.test_mse.{LINEAR_DIM}"], named["S3.linear.gap"] = found.linear.test, found.gap
    named["S3.linear.largest_angle"] = float(found.angles[-1])
    for name, traits in found.traits.items():
        named[f"S3.{name}.encode_microseconds"] = traits.encoding
        named[f"S3.{name}.code_correlation"] = traits.correlation
        named[f"S3.{name}.random_confidence"] = traits.confidence
    return named


def _errors(network: Autoencoder, parts: Split) -> Errors:
    device = next(network.parameters()).device
    each = (
        score(network, torch.from_numpy(part.images).to(device), None)["loss"] for part in (parts.train, parts.test)
    )
    return Errors(*each)


def _directions(network: Autoencoder) -> Tensor:
    """What the linear decoder draws for one unit of each number of the code: (D, P), float64."""
    layer = network.decoder[0]
    assert isinstance(layer, nn.Linear), "the linear autoencoder decodes by one layer"
    return layer.weight.detach().cpu().double().T.contiguous()


def _pictures(fitted: PrincipalComponents, directions: Tensor) -> Tensor:
    """Directions (D, P) of unit length as images (D, C, H, W)."""
    unit: Tensor = directions / directions.norm(dim=1, keepdim=True)
    return unit.reshape(-1, *fitted.image_shape).float()


def _traits(network: Autoencoder, seconds: float | None, parts: Split, judge: Classifier, *, seed: int) -> Traits:
    codes = encode(network, parts.train.images)
    with np.errstate(invalid="ignore"):  # of a number that never changes
        correlation = np.asarray(np.nan_to_num(np.corrcoef(codes.T)))
    variances = codes.var(0)
    samples = decode(network, _random_codes(codes, seed=seed))
    return Traits(
        _errors(network, parts),
        sum(p.numel() for p in network.parameters()),
        seconds,
        _encoding(network, parts.train),
        float(np.abs(correlation[~np.eye(codes.shape[1], dtype=bool)]).max()),
        bool((np.diff(variances) <= 0).all()),
        float(classify(judge, samples).amax(1).mean()),
        samples[: len(examples_of(parts.test))],
    )


def _random_codes(codes: NDArray[np.float32], *, seed: int) -> Tensor:
    """Draws of a Gaussian with the mean and covariance of codes (N, D), which may span fewer than D dimensions."""
    values, directions = np.linalg.eigh(np.cov(codes.T.astype(np.float64)))
    root = torch.from_numpy(directions * np.sqrt(np.maximum(values, 0)))
    noise = torch.randn(RANDOM_CODES, len(values), generator=generator_of((seed, 6)), dtype=torch.float64)
    return (torch.from_numpy(codes.mean(0, dtype=np.float64)) + noise @ root.T).float()


def _encoding(network: Autoencoder, images: ImageSet) -> float:
    """Microseconds an image: the least of three passes, the first of which also warms up."""
    spent = []
    for _ in range(3):
        started = time.perf_counter()
        encode(network, images.images)
        spent.append(time.perf_counter() - started)
    return 1e6 * min(spent) / len(images)
