"""D7: variational autoencoders with a code of two numbers, and what the weight on the KL does.

Three weights are trained beside each other: the course's "squares + 0.01 KL" read both ways, with the sum and with the
mean of squares over pixels in [-1, 1], and sigma learnt (beta = 1, the evidence bound itself). The last begins with the
weights of the first, whose KL weighs least: the code takes its shape before the prior counts (Bowman et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.imageset import ImageSet, Split
from isthmus.latent.manifold import Grid, quantile_grid, uneven
from isthmus.latent.neighbours import NeighbourAccuracy, neighbour_accuracy
from isthmus.metrics import mse
from isthmus.networks.apply import decode, posteriors, reconstruct, to_float
from isthmus.networks.pca import principal_components
from isthmus.networks.variational import VAE, CourseWeight, active_units, importance_bound, log_importance_weights
from isthmus.settings import TrainingSettings, VAESettings
from isthmus.studies.samples import examples_of, generator_of
from isthmus.studies.study import DigitsSettings, Study, budget
from isthmus.training.job import Trained
from isthmus.training.scoring import score

LATENT_DIM = 2
KL_WEIGHT, PIXEL_RANGE = 0.01, (-1.0, 1.0)  # of the course
_TRAINING = TrainingSettings(epochs=20, batch_size=256, learning_rate=3e-3, schedule="one-cycle")
# With the mean, the KL weighs a thousand times more and leaves little to learn: half the epochs (docs/decisions.md).
TRAINING: dict[Literal["sum", "mean"], TrainingSettings] = {
    "sum": _TRAINING,
    "mean": _TRAINING.model_copy(update={"epochs": 10}),
}
ANNEALING = TrainingSettings(epochs=5, batch_size=256, learning_rate=1e-3, schedule="one-cycle")
SAMPLES = 50  # of the importance-weighted bound


@dataclass(frozen=True)
class Reading:
    """One VAE, measured on the test images.

    weight: what the course's weight means, None where sigma is learnt. per_sse: weight of the KL beside the sum of
    squares on [0, 1], for either. bound, kl: nats per image. means, stds: of q(z|x), (N, D). active: (D,).
    reconstructed: the examples from their means (K, C, H, W).
    """

    title: str
    run: Trained
    weight: CourseWeight | None
    sigma: float
    per_sse: float
    mse: float
    bound: float
    kl: float
    means: NDArray[np.float32]
    stds: NDArray[np.float32]
    active: NDArray[np.bool_]
    neighbours: NeighbourAccuracy | None
    reconstructed: Tensor

    @property
    def spread(self) -> float:
        """Standard deviation of the means, root mean square over axes."""
        return float(np.sqrt(self.means.var(0).mean()))

    @property
    def width(self) -> float:
        """Standard deviation of q(z|x), mean over images and axes."""
        return float(self.stds.mean())


@dataclass(frozen=True)
class Aggregate:
    """The aggregate posterior, one sample of q(z|x) an image, against N(0, I).

    gaussian_kl: KL to N(0, I) of the Gaussian with its mean and covariance, nats. uneven: total variation distance from
    the prior over cells of equal prior mass; floor: of as many samples of the prior itself.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    gaussian_kl: float
    uneven: float
    floor: float


@dataclass(frozen=True)
class Variational:
    """D7. `readings` by the name of the run, vae2 first; the rest is of vae2.

    originals: an image of each class (K, C, H, W). codes: a sample of q(z|x) for each training image (N, 2).
    grid, images: decoded quantiles of the prior (R, R, C, H, W). iwae: importance-weighted bound with SAMPLES samples;
    ppca: log-likelihood of the exact linear model of the same size, None where there is none; nats per test image.
    """

    readings: dict[str, Reading]
    originals: Tensor
    grid: Grid
    images: Tensor
    codes: NDArray[np.float32]
    aggregate: Aggregate
    iwae: float
    ppca: float | None

    @property
    def main(self) -> Reading:
        """The one with sigma learnt."""
        return self.readings["vae2"]


def run_variational(study: Study[DigitsSettings], parts: Split) -> Variational:
    """Train the three and measure them."""
    pixels = int(np.prod(parts.train.shape))
    model = VAESettings(latent_dim=LATENT_DIM, architecture="mlp")
    count, fast = len(parts.train), study.settings.fast
    course: dict[str, Reading] = {}
    for reduction, training in TRAINING.items():
        weight = VAE.from_course(KL_WEIGHT, reduction=reduction, pixels=pixels, pixel_range=PIXEL_RANGE)
        fixed = model.model_copy(update={"sigma": weight.sigma, "beta": weight.beta})
        run = study.train(f"vae2-{reduction}", fixed, budget(training, images=count, fast=fast), parts)
        course[f"vae2-{reduction}"] = _read(f"0.01 beside the {reduction}", run, weight, parts, study.device)
    start = ("vae2-sum", course["vae2-sum"].run.network)
    run = study.train("vae2", model, budget(ANNEALING, images=count, fast=fast), parts, start=start)
    readings = {"vae2": _read("sigma learnt", run, None, parts, study.device), **course}
    network = cast(VAE, readings["vae2"].run.network)
    codes = posteriors(network, parts.train.images).sample(generator=generator_of((study.settings.seed, 7))).numpy()
    cells = quantile_grid(codes)
    images = decode(network, cells.codes.reshape(-1, 2))
    examples = examples_of(parts.test)
    return Variational(
        readings,
        to_float(torch.from_numpy(parts.test.images[examples])),
        cells,
        images.reshape(*cells.codes.shape[:2], *images.shape[1:]),
        codes,
        _aggregate(codes, cells, seed=study.settings.seed),
        importance_of(network, parts.test, seed=study.settings.seed, samples=SAMPLES),
        linear_optimum(parts, LATENT_DIM),
    )


def importance_of(network: VAE, images: ImageSet, *, seed: int, samples: int) -> float:
    """Mean importance-weighted bound over images, nats per image."""
    device = next(network.parameters()).device
    pixels = to_float(torch.from_numpy(images.images)).to(device)
    weights = log_importance_weights(network, pixels, samples=samples, generator=generator_of((seed, 8)))
    return float(importance_bound(weights).mean())


def linear_optimum(parts: Split, latent_dim: int) -> float | None:
    """Log-likelihood of exact probabilistic PCA on the test images, nats per image; None where the training images are
    too few, or leave no variance for it."""
    if latent_dim >= min(len(parts.train) - 1, int(np.prod(parts.train.shape))):
        return None
    optimum = principal_components(parts.train, latent_dim)
    least = 1e-9 * float(optimum.variances.sum())  # below, rounding is taken for variance
    if not optimum.exact or not optimum.noise_variance > least or not bool((optimum.variances > least).all()):
        return None
    return float(optimum.log_likelihood(parts.test).mean())


def figures(found: Variational) -> dict[str, float | None]:
    """The numbers of D7 by their dotted names; the readings of the course as `D7.vae2-sum.*` and `D7.vae2-mean.*`."""
    named: dict[str, float | None] = {}
    for name, reading in found.readings.items():
        public = "vae" if name == "vae2" else name
        if reading.neighbours is not None:
            named[f"D7.{public}.1nn_mean"] = reading.neighbours.mean
        named[f"D7.{public}.test_mse"] = reading.mse
        named[f"D7.{public}.bound_nats"] = reading.bound
        named[f"D7.{public}.kl_nats"] = reading.kl
        named[f"D7.{public}.active_units"] = float(reading.active.mean())
        named[f"D7.{public}.sigma"] = reading.sigma
        named[f"D7.{public}.spread"] = reading.spread
    named["D7.vae.iwae_nats"], named["D7.ppca.nats"] = found.iwae, found.ppca
    named["D7.aggregate.gaussian_kl"] = found.aggregate.gaussian_kl
    named["D7.aggregate.uneven"], named["D7.aggregate.floor"] = found.aggregate.uneven, found.aggregate.floor
    return named


def _read(title: str, run: Trained, weight: CourseWeight | None, parts: Split, device: str) -> Reading:
    network = cast(VAE, run.network)
    test = posteriors(network, parts.test.images)
    scored = score(network, torch.from_numpy(parts.test.images).to(device), None)
    neighbours = None
    if parts.train.labels is not None and parts.test.labels is not None:
        references = posteriors(network, parts.train.images).mean.numpy()
        neighbours = neighbour_accuracy(
            references, parts.train.labels, test.mean.numpy(), parts.test.labels, classes=len(parts.test.classes)
        )
    return Reading(
        title,
        run,
        weight,
        network.sigma,
        2 * network.sigma**2 * network.beta,
        float(mse(reconstruct(network, parts.test.images), to_float(torch.from_numpy(parts.test.images))).mean()),
        -scored["reconstruction"] - scored["kl"],
        scored["kl"],
        test.mean.numpy(),
        test.std.numpy(),
        active_units(test.mean).numpy(),
        neighbours,
        reconstruct(network, parts.test.images[examples_of(parts.test)]).clamp(0, 1),
    )


def _aggregate(codes: NDArray[np.float32], cells: Grid, *, seed: int) -> Aggregate:
    mean, covariance = codes.mean(0, dtype=np.float64), np.cov(codes.T.astype(np.float64))
    divergence = 0.5 * (np.trace(covariance) + mean @ mean - len(mean) - np.linalg.slogdet(covariance)[1])
    prior = np.random.default_rng(seed).standard_normal(codes.shape)
    return Aggregate(mean, covariance, float(divergence), uneven(cells), uneven(quantile_grid(prior)))
