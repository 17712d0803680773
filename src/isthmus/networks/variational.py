"""Variational autoencoders: p(x) = integral of p(x|z) p(z) dz, learnt through a bound (Kingma and Welling 2014).

The encoder returns a Gaussian q(z|x) = N(mu(x), diag sigma_z(x)^2), the prior is p(z) = N(0, I), and

    log p(x)  >=  E_q[log p(x|z)] - KL(q(z|x) || p(z))          the evidence bound, in nats per image

The likelihood p(x|z) is N(D(z), sigma^2 I) on the [0, 1] scale, or Bernoulli for binary images. With beta = 1 the
training objective is minus this bound and nothing else; every other weight is another sigma, or not a bound.
Notation: x images (B, C, H, W) of P pixels, z codes (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.metrics import mse
from isthmus.networks.autoencoder import ImageShape, perceptron
from isthmus.networks.convolution import Crop, Pad, most_halvings
from isthmus.networks.sharing import batch_mean, drawn

LOG_2PI = math.log(2 * math.pi)
FOLLOW = 0.05  # how fast the stored sigma follows the optimum of each batch
ACTIVE = 0.01  # variance of a mean from which its axis counts as active (Burda et al. 2016)


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions. mean, log_variance: (B, D)."""

    mean: Tensor
    log_variance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviations, (B, D)."""
        return (0.5 * self.log_variance).exp()

    def sample(self, *, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """mean + std * noise: (B, D), differentiable in both; noise is drawn unless it is given."""
        if noise is None:
            place = self.mean.device if generator is None else generator.device
            noise = drawn(
                self.mean.shape,
                lambda shape: torch.randn(shape, generator=generator, device=place, dtype=self.mean.dtype),
            )
        return self.mean + self.std * noise.to(self.mean.device)

    def log_prob(self, codes: Tensor) -> Tensor:
        """log q(z) in nats: (..., B, D) -> (..., B)."""
        distance = (codes - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (distance + self.log_variance + LOG_2PI).sum(-1)

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in nats, axis by axis: (B, D) (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


@dataclass(frozen=True)
class Bound:
    """Both halves of the evidence bound: log_likelihood (B,), kl (B, D), in nats."""

    log_likelihood: Tensor
    kl: Tensor

    @property
    def nats(self) -> Tensor:
        """The bound itself, (B,)."""
        return self.log_likelihood - self.kl.sum(1)


@dataclass(frozen=True)
class CourseWeight:
    """What a weight on the KL means on the likelihood's scale: the same optimum as `beta` and `sigma` here.

    per_sse: the weight beside the sum of squares on [0, 1]. meaning: the same in a sentence.
    """

    beta: float
    sigma: float
    per_sse: float
    meaning: str


@final
class VAE(nn.Module):
    """An encoder to a Gaussian over codes, a decoder to a likelihood over images, and the bound between them.

    Arguments:
        encoder: (B, C, H, W) -> (B, 2 D), means and log-variances. decoder: (B, D) -> (B, C, H, W), the mean of a
        Gaussian likelihood, or the logits of a Bernoulli one.
        sigma: of the Gaussian likelihood in [0, 1] units: a number; "learned" by gradient; or "optimal", the root mean
        squared error of each batch, which maximises the likelihood in closed form (Rybkin, Daniilidis and Levine
        2021, eq. 7), and followed by a running mean for use after training.
        beta: weight of the KL in the loss. free_bits: nats of KL per axis that cost nothing (Kingma et al. 2016).
        kl_warmup: updates over which beta rises from 0.
    """

    target: ClassVar[Literal["images"]] = "images"

    def __init__(
        self,
        encoder: nn.Sequential,
        decoder: nn.Sequential,
        *,
        latent_dim: int,
        image_shape: ImageShape,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        sigma: float | Literal["learned", "optimal"] = "optimal",
        beta: float = 1.0,
        free_bits: float = 0.0,
        kl_warmup: int = 0,
    ):
        super().__init__()
        if not isinstance(sigma, str) and not sigma > 0:
            raise InputError(f"The decoder's sigma is a standard deviation above 0, in [0, 1] units; got {sigma}.")
        if likelihood not in ("gaussian", "bernoulli") or (
            isinstance(sigma, str) and sigma not in ("learned", "optimal")
        ):
            raise InputError(
                f"likelihood is gaussian or bernoulli, sigma a number, learned or optimal; got {likelihood}, {sigma}."
            )
        if min(beta, free_bits, kl_warmup) < 0:
            raise InputError(f"beta, free_bits and kl_warmup are at least 0; got {beta}, {free_bits} and {kl_warmup}.")
        self.encoder, self.decoder = encoder, decoder
        self.latent_dim, self.image_shape, self.likelihood = latent_dim, image_shape, likelihood
        self.beta, self.free_bits, self.kl_warmup = beta, free_bits, kl_warmup
        self.optimal = likelihood == "gaussian" and sigma == "optimal"
        start = torch.tensor(math.log(0.25 if isinstance(sigma, str) else sigma))
        if likelihood == "gaussian" and sigma == "learned":
            self.log_sigma: Tensor = nn.Parameter(start)
        else:
            self.register_buffer("log_sigma", start)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.updates: Tensor

    @property
    def sigma(self) -> float:
        """Standard deviation of the Gaussian likelihood, in [0, 1] units."""
        return float(self.log_sigma.detach().exp())

    def encode(self, images: Tensor) -> Gaussian:
        """q(z|x) of images (B, C, H, W). Raises: ValueError if the images are not of the network's shape."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"This network takes images {self.image_shape}, got {tuple(images.shape[1:])}: resize them."
            )
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-20, 20))  # beyond, exp() is of no use in float32

    def decode(self, codes: Tensor) -> Tensor:
        """The mean image of p(x|z): (B, D) -> (B, C, H, W). Raises: ValueError if D is not the network's code size."""
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise ValueError(f"This network takes codes (B, {self.latent_dim}), got {tuple(codes.shape)}.")
        drawn: Tensor = self.decoder(codes)
        return drawn.sigmoid() if self.likelihood == "bernoulli" else drawn

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct from the mean of q(z|x), of the same shape as x."""
        return self.decode(self.encode(images).mean)

    def log_likelihood(self, images: Tensor, codes: Tensor, *, log_sigma: Tensor | None = None) -> Tensor:
        """log p(x|z) in nats per image, (B,): a density over the [0, 1] scale, or a probability if Bernoulli.

        Arguments: images: (B, C, H, W). codes: (B, D). log_sigma: another one than the network's.
        """
        drawn = self.decoder(codes)
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(drawn, images, reduction="none").flatten(1).sum(1)
        return self._gaussian(mse(drawn, images), self.log_sigma if log_sigma is None else log_sigma)

    def bound(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Bound:
        """The evidence bound of `targets` under q(z|images), with one sample of each code.

        Arguments: targets: the images themselves by default. noise: (B, D), instead of a draw.
        """
        targets = images if targets is None else targets
        posterior = self.encode(images)
        codes = posterior.sample(generator=generator, noise=noise)
        if self.optimal and self.decoder.training:
            errors = mse(self.decoder(codes), targets)
            log_sigma = 0.5 * batch_mean(errors.detach()).clamp(min=1e-8).log()
            with torch.no_grad():
                self.log_sigma.lerp_(log_sigma, (1 / (self.updates + 1.0)).clamp(min=FOLLOW).to(self.log_sigma))
            return Bound(self._gaussian(errors, log_sigma), posterior.kl())
        return Bound(self.log_likelihood(targets, codes), posterior.kl())

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Minus the bound, mean over images, with beta, free bits and warm-up where they are set; a scalar."""
        found = self.bound(images, targets)
        kl = batch_mean(found.kl)
        if self.free_bits:
            kl = kl.clamp(min=self.free_bits)
        rise = (self.updates + 1).clamp(max=self.kl_warmup) / self.kl_warmup if self.kl_warmup else 1.0
        if self.training:
            self.updates += 1
        return self.beta * rise * kl.sum() - found.log_likelihood.mean()

    def score(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One value an image, (B,): loss with the full beta, reconstruction (minus log p(x|z)) and kl, in nats."""
        # The same draws each time, so that epochs compare.
        found = self.bound(images, targets, generator=torch.Generator().manual_seed(0))
        kl = found.kl.sum(1)
        loss = self.beta * kl - found.log_likelihood
        return {"loss": loss, "reconstruction": -found.log_likelihood, "kl": kl}

    @staticmethod
    def from_course(
        kl_weight: float = 0.01,
        *,
        reduction: Literal["sum", "mean"],
        pixels: int,
        pixel_range: tuple[float, float],
    ) -> CourseWeight:
        """Convert the folk loss "squares + kl_weight * KL" into the (beta, sigma) it means.

        With pixels in a range of width r, the squares are r^2 times those on [0, 1], and 1/P of that if their mean is
        taken. Divided by kl_weight the loss is SSE / (2 sigma^2) + KL with

            sigma^2 = kl_weight P^[mean] / (2 r^2)

        which is minus the evidence bound (beta = 1) of a Gaussian likelihood of this fixed sigma, up to a constant.
        Arguments: reduction: over the pixels of an image. pixels: P = C H W. pixel_range: (least, most).
        Raises: InputError for a weight, a number of pixels or a range that is not positive.

        >>> VAE.from_course(0.01, reduction="mean", pixels=1024, pixel_range=(-1, 1)).per_sse
        2.56
        """
        low, high = pixel_range
        if not (kl_weight > 0 and pixels > 0 and high > low) or reduction not in ("sum", "mean"):
            raise InputError(
                f"from_course needs a positive weight, pixels and range, and sum or mean; got {kl_weight}, {pixels}, "
                f"{pixel_range} and {reduction}."
            )
        per_sse = kl_weight * (pixels if reduction == "mean" else 1) / (high - low) ** 2
        sigma = math.sqrt(per_sse / 2)
        meaning = (
            f"{kl_weight:g} KL beside the {reduction} of squares over {pixels} pixels on [{low:g}, {high:g}] is "
            f"{per_sse:.3g} KL beside the sum of squares on [0, 1]: the evidence bound of a decoder with a fixed "
            f"standard deviation of {sigma:.3g} a pixel"
        )
        return CourseWeight(1.0, sigma, round(per_sse, 12), meaning)

    def _gaussian(self, errors: Tensor, log_sigma: Tensor) -> Tensor:
        """log N(x; D(z), sigma^2) from the mean squared error of each image, (B,)."""
        return -0.5 * math.prod(self.image_shape) * (errors * (-2 * log_sigma).exp() + 2 * log_sigma + LOG_2PI)


def vae(
    image_shape: ImageShape,
    *,
    latent_dim: int = 16,
    architecture: Literal["convolutional", "mlp"] = "convolutional",
    width: int = 16,
    units: int = 256,
    hidden: Sequence[int] = (1000, 500, 250),
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    sigma: float | Literal["learned", "optimal"] = "optimal",
    beta: float = 1.0,
    free_bits: float = 0.0,
    kl_warmup: int = 0,
) -> VAE:
    """A VAE with encoder and decoder of one kind.

    "convolutional": 4x4 convolutions of stride 2 with `width`, 2 `width` and from then on 4 `width` channels until 4
    to 6 pixels remain, a linear layer of `units`, and the same way back; SiLU throughout and no batch norm, whose
    noise costs the decoder a third of its accuracy (docs/decisions.md). "mlp": `hidden` units with batch norm and
    ReLU, as in `strong`, for images of any size.
    The other arguments are those of `VAE`. Raises: InputError if convolutions meet sides outside 16 to 256, or sigma is
    not above 0.
    """
    if architecture == "convolutional":
        layers = _convolutions(image_shape, latent_dim, width, units)
    else:
        layers = _perceptrons(image_shape, latent_dim, hidden)
    return VAE(
        *layers,
        latent_dim=latent_dim,
        image_shape=image_shape,
        likelihood=likelihood,
        sigma=sigma,
        beta=beta,
        free_bits=free_bits,
        kl_warmup=kl_warmup,
    )


def _convolutions(
    image_shape: ImageShape, latent_dim: int, width: int, units: int
) -> tuple[nn.Sequential, nn.Sequential]:
    channels, height, width_px = image_shape
    count = most_halvings(height, width_px) - 1
    rows, columns = -(-height // 2**count), -(-width_px // 2**count)
    padded = (rows * 2**count, columns * 2**count)
    sizes = [channels, *(width * min(2**i, 4) for i in range(count))]
    features = sizes[-1] * rows * columns

    down: list[nn.Module] = [] if padded == (height, width_px) else [Pad(*padded)]
    for before, after in pairwise(sizes):
        down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
    down += [nn.Flatten(), nn.Linear(features, units), nn.SiLU(), nn.Linear(units, 2 * latent_dim)]

    up: list[nn.Module] = [nn.Linear(latent_dim, units), nn.SiLU(), nn.Linear(units, features)]
    up.append(nn.Unflatten(1, (sizes[-1], rows, columns)))
    for before, after in pairwise(reversed(sizes)):
        up += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    if padded != (height, width_px):
        up.append(Crop(height, width_px))
    return nn.Sequential(*down), nn.Sequential(*up)


def _perceptrons(
    image_shape: ImageShape, latent_dim: int, hidden: Sequence[int]
) -> tuple[nn.Sequential, nn.Sequential]:
    pixels = math.prod(image_shape)
    encoder = nn.Sequential(nn.Flatten(), *perceptron([pixels, *hidden]), nn.Linear(hidden[-1], 2 * latent_dim))
    up = perceptron([latent_dim, *reversed(hidden)])
    return encoder, nn.Sequential(*up, nn.Linear(hidden[0], pixels), nn.Unflatten(1, image_shape))


@torch.inference_mode()
def log_importance_weights(
    network: VAE, images: Tensor, *, samples: int, generator: torch.Generator, at_once: int = 2000
) -> Tensor:
    """log p(x, z_k) - log q(z_k|x) in nats, for codes z_k drawn from q(z|x): (N, samples).

    Arguments: images: (N, C, H, W) in [0, 1], on the network's device. at_once: codes decoded in one pass, so that
    memory does not grow with the samples.
    """
    network.eval()
    parts = []
    for begin in range(0, len(images), at_once):
        batch = images[begin : begin + at_once]
        posterior = network.encode(batch)
        columns = []
        for _ in range(samples):
            codes = posterior.sample(generator=generator)
            prior = -0.5 * (codes.square() + LOG_2PI).sum(1)
            columns.append(network.log_likelihood(batch, codes) + prior - posterior.log_prob(codes))
        parts.append(torch.stack(columns, 1))
    return torch.cat(parts)


def importance_bound(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x), in nats: log mean_k w_k of (N, K) log-weights, (N,).

    It is the evidence bound for K = 1, rises with K in expectation, and tends to log p(x) (Burda, Grosse and
    Salakhutdinov 2016, theorem 1).
    """
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def active_units(means: Tensor) -> Tensor:
    """Which axes of the code say something: variance of mu(x) over images above 0.01: (N, D) -> (D,)."""
    return means.var(0) > ACTIVE
