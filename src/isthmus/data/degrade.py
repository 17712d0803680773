"""Damaging images on purpose, and knowing how: y = A x + noise, on the [0, 1] scale.

A is linear: the identity, a blur, a mask that hides pixels, or block averaging to a lower resolution. Each knows its
adjoint A', with <A x, y> = <x, A'y>, and a rough full-size image to begin a restoration from. The noise is Gaussian, of
a known standard deviation or one estimated from the image itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.errors import InputError

KINDS = ("noise", "mask", "blur", "lowres")
MAD = 0.6744897501960817  # median of |N(0, 1)|


def add_noise(images: Tensor, sigma: float, *, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation `sigma`, in [0, 1] units, without clipping.

    The noise is drawn on the generator's device, so that a CPU generator gives the same noise everywhere.
    Arguments: images: (B, C, H, W). Returns: the same shape.
    """
    noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
    return images + sigma * noise.to(images.device)


class Degradation(ABC):
    """A linear map A from images (B, C, H, W) to measurements (B, C, H', W')."""

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor:
        """A x: (B, C, H, W) -> (B, C, H', W')."""

    @abstractmethod
    def adjoint(self, measured: Tensor) -> Tensor:
        """A'y: (B, C, H', W') -> (B, C, H, W)."""

    @abstractmethod
    def guess(self, measured: Tensor) -> Tensor:
        """A rough image of full size for a measurement: (B, C, H', W') -> (B, C, H, W)."""

    def take(self, index: Tensor | slice) -> Degradation:
        """The degradation of some of the images: itself, unless every image has one of its own."""
        return self


@final
@dataclass(frozen=True)
class Identity(Degradation):
    """A = I: nothing but the noise."""

    def apply(self, images: Tensor) -> Tensor:
        return images

    def adjoint(self, measured: Tensor) -> Tensor:
        return measured

    def guess(self, measured: Tensor) -> Tensor:
        return measured


@final
@dataclass(frozen=True)
class Mask(Degradation):
    """Pixels that are seen, and pixels that are missing. A is its own adjoint: missing pixels are set to zero.

    Arguments: seen: (N, 1, H, W), one for each image, or (1, 1, H, W) for all; 1 where seen, 0 where missing.
    Raises: InputError if a mask hides everything.
    """

    seen: Tensor

    def __post_init__(self) -> None:
        if not bool(self.seen.flatten(1).any(1).all()):
            raise InputError("The mask hides every pixel of an image: nothing is left to restore it from; hide fewer.")

    def apply(self, images: Tensor) -> Tensor:
        return images * self.seen.to(images)

    def adjoint(self, measured: Tensor) -> Tensor:
        return measured * self.seen.to(measured)

    def guess(self, measured: Tensor) -> Tensor:
        """Missing pixels are filled with the mean of the seen ones near them, weighted by a Gaussian of 2 pixels."""
        seen = self.seen.to(measured)
        spread = blur((1, *measured.shape[2:]), 2.0)
        weight = spread.apply(seen.expand(len(measured), -1, -1, -1))
        everywhere = (measured * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
        near = spread.apply(measured * seen) / weight.clamp(min=1e-6)
        return torch.where(seen > 0, measured, torch.where(weight > 1e-3, near, everywhere))

    def take(self, index: Tensor | slice) -> Mask:
        if len(self.seen) == 1:
            return self
        return Mask(self.seen[index.to(self.seen.device) if isinstance(index, Tensor) else index])


@final
@dataclass(frozen=True)
class Separable(Degradation):
    """A x = R x C' for every channel: rows (H', H) and columns (W', W) are mixed by one matrix each."""

    rows: Tensor
    columns: Tensor

    def apply(self, images: Tensor) -> Tensor:
        return self.rows.to(images) @ images @ self.columns.to(images).T

    def adjoint(self, measured: Tensor) -> Tensor:
        return self.rows.to(measured).T @ measured @ self.columns.to(measured)

    def guess(self, measured: Tensor) -> Tensor:
        """The measurement itself, enlarged to the full size if it is smaller."""
        size = (self.rows.shape[1], self.columns.shape[1])
        if tuple(measured.shape[2:]) == size:
            return measured
        return F.interpolate(measured, size=size, mode="bilinear", align_corners=False)


def blur(image_shape: tuple[int, int, int], sigma: float) -> Separable:
    """A Gaussian blur of standard deviation `sigma` pixels; at the border its weights are made to add up to one.

    Arguments: image_shape: (C, H, W). Raises: InputError unless sigma is above 0.
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"A blur needs a standard deviation above 0 pixels, got {sigma}.")
    matrices = []
    for side in image_shape[1:]:
        places = torch.arange(side, dtype=torch.float64)
        weights = torch.exp(-0.5 * ((places[:, None] - places) / sigma).square())
        matrices.append(weights / weights.sum(1, keepdim=True))
    return Separable(*matrices)


def low_resolution(image_shape: tuple[int, int, int], factor: int) -> Separable:
    """Means over blocks of `factor` by `factor` pixels; blocks at the right and lower border may be smaller.

    Arguments: image_shape: (C, H, W). Raises: InputError unless factor is from 2 to the shorter side.
    """
    if not 2 <= factor <= min(image_shape[1:]):
        raise InputError(
            f"Blocks need a side from 2 to {min(image_shape[1:])} pixels for images of this size, got {factor}."
        )
    matrices = []
    for side in image_shape[1:]:
        block = torch.arange(side) // factor
        members = (block == torch.arange(int(block[-1]) + 1)[:, None]).double()
        matrices.append(members / members.sum(1, keepdim=True))
    return Separable(*matrices)


def random_mask(image_shape: tuple[int, int, int], share: float, *, count: int, generator: torch.Generator) -> Mask:
    """Masks for `count` images that hide each pixel with probability `share`, all channels of it.

    Arguments: image_shape: (C, H, W). Raises: InputError unless 0 < share < 1, or if an image would lose every pixel.
    """
    if not 0 < share < 1:
        hint = "a mask that hides everything leaves nothing to restore from" if share >= 1 else "it hides nothing"
        raise InputError(f"A mask needs a share of missing pixels between 0 and 1, got {share}: {hint}.")
    seen = torch.rand((count, 1, *image_shape[1:]), generator=generator, device=generator.device) >= share
    return Mask(seen.float())


@dataclass(frozen=True)
class Recipe:
    """What is to be done to images: one linear map at most, and noise. `parse_recipe` reads one.

    kind: "noise" for the identity, "mask", "blur" or "lowres", with its amount (0 for noise). sigma: of the noise that
    is added, in [0, 1] units, 0 for none.
    """

    kind: str
    amount: float
    sigma: float

    def build(self, image_shape: tuple[int, int, int], *, count: int, generator: torch.Generator) -> Degradation:
        """The linear map for `count` images (C, H, W). Raises: InputError if the amount does not fit them."""
        if self.kind == "mask":
            return random_mask(image_shape, self.amount, count=count, generator=generator)
        if self.kind == "blur":
            return blur(image_shape, self.amount)
        return low_resolution(image_shape, int(self.amount)) if self.kind == "lowres" else Identity()

    def __str__(self) -> str:
        parts = [] if self.kind == "noise" else [f"{self.kind}:{self.amount:g}"]
        return "+".join([*parts, *([f"noise:{self.sigma:g}"] if self.sigma else [])])


def parse_recipe(text: str) -> Recipe:
    """Read "noise:0.25", "mask:0.5", "blur:1.5", "lowres:2", or one of these with noise, as "mask:0.5+noise:0.1".

    Raises: InputError for another form, an amount out of range, or two maps.

    >>> parse_recipe("blur:1.5+noise:0.1")
    Recipe(kind='blur', amount=1.5, sigma=0.1)
    """
    amounts: dict[str, float] = {}
    for part in text.split("+"):
        kind, _, number = part.strip().partition(":")
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if kind not in KINDS or not math.isfinite(amount) or kind in amounts:
            raise InputError(
                f"{text!r} is not a degradation; write noise:0.25 (standard deviation), mask:0.5 (share missing), "
                f"blur:1.5 (pixels) or lowres:2 (block side), or one of these three with noise, as blur:1.5+noise:0.1."
            )
        amounts[kind] = amount
    sigma = amounts.pop("noise", 0.0)
    if "noise" in text and not sigma > 0:
        raise InputError(f"{text!r}: noise needs a standard deviation above 0, on the [0, 1] scale.")
    if len(amounts) > 1:
        raise InputError(f"{text!r} combines {' and '.join(amounts)}; give one of them, and noise if there is any.")
    kind, amount = next(iter(amounts.items()), ("noise", 0.0))
    if kind == "mask" and not 0 < amount < 1:
        hint = "hides everything, so nothing is left to restore from" if amount >= 1 else "hides nothing"
        raise InputError(f"{text!r} {hint}; give a share of missing pixels between 0 and 1.")
    if kind == "blur" and not amount > 0:
        raise InputError(f"{text!r}: a blur needs a standard deviation above 0 pixels.")
    if kind == "lowres" and amount < 2:
        raise InputError(f"{text!r}: blocks of lowres have a side of at least 2 pixels.")
    if kind == "lowres" and amount != int(amount):
        raise InputError(f"{text!r}: lowres needs a whole number of pixels, the side of a block.")
    return Recipe(kind, amount, sigma)


def estimate_noise(images: Tensor, *, seen: Tensor | None = None) -> Tensor:
    """Standard deviation of white Gaussian noise in each image, from the median of its finest diagonal details.

    d = (x[i, j] - x[i, j+1] - x[i+1, j] + x[i+1, j+1]) / 2 has the noise's standard deviation where the image is
    flat; sigma = median |d| / 0.6745 (Donoho and Johnstone 1994, section 4.2, with the Haar wavelet, undecimated).
    Images clipped to [0, 1], as 8-bit files are, give too little where their ground is black or white.
    Arguments: images: (B, C, H, W). seen: (B or 1, 1, H, W), pixels to be used. Returns: (B,), at least 0; NaN where
    no square of four pixels is seen.
    """
    if min(images.shape[2:]) < 2:
        return torch.full_like(images[:, 0, 0, 0], torch.nan)
    detail = (images[..., :-1, :-1] - images[..., :-1, 1:] - images[..., 1:, :-1] + images[..., 1:, 1:]) / 2
    if seen is not None:
        whole = F.max_pool2d(1 - seen.to(images), 2, stride=1) == 0
        detail = torch.where(whole, detail, torch.nan)
    return detail.abs().flatten(1).nanmedian(1).values / MAD
