"""A network trained to denoise: x_hat = y - N(y), a small U-net (Ronneberger, Fischer and Brox 2015).

Three halvings and three doublings with skip connections, all in strided convolutions, so that nothing runs at full size
but the first and last; it predicts the noise, which is subtracted (Zhang et al. 2017). For images of any size, and rows
of numbers, N is a perceptron. It has to know the damage in advance: that is what it is compared with other methods for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.metrics import mse
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.convolution import Crop, Pad, check_size

MULTIPLE = 8  # sides are padded to a multiple of this


@final
class Denoiser(nn.Module):
    """From a degraded image to a clean one of the same shape.

    Arguments: image_shape: (C, H, W). architecture: "convolutional", a U-net whose first level has `width` channels, or
    "mlp", a perceptron of `hidden` units.
    Raises: InputError if convolutions meet sides outside 16 to 256.
    """

    target: ClassVar[Literal["images"]] = "images"

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        architecture: Literal["convolutional", "mlp"] = "convolutional",
        width: int = 16,
        hidden: Sequence[int] = (256, 256),
    ):
        super().__init__()
        self.image_shape, self.architecture = image_shape, architecture
        if architecture == "convolutional":
            self._add_convolutions(width)
        else:
            self.layers = _perceptron(image_shape, hidden)

    def _add_convolutions(self, width: int) -> None:
        channels, height, width_px = self.image_shape
        check_size(height, width_px)
        self.pad = Pad(*(-(-side // MULTIPLE) * MULTIPLE for side in (height, width_px)))
        self.crop = Crop(height, width_px)
        sizes = [channels, width, 2 * width, 4 * width]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(sizes))
        grown = list(pairwise(reversed(sizes)))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in grown)
        self.join = nn.ModuleList(nn.Conv2d(2 * b, b, 3, padding=1) for _, b in grown[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Restore: (B, C, H, W) -> the same shape, not clipped. Raises: ValueError for another shape."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"This network takes images {self.image_shape}, got {tuple(images.shape[1:])}: resize them."
            )
        noise: Tensor = self.layers(images) if self.architecture == "mlp" else self._noise(images)
        return images - noise

    def _noise(self, images: Tensor) -> Tensor:
        """What the U-net takes for noise: (B, C, H, W) -> the same shape."""
        x = self.pad(images)
        passed = []
        for down in self.down:
            x = F.silu(down(x))
            passed.append(x)
        passed.pop()
        for grow, join in zip(self.grow, self.join, strict=False):
            x = F.silu(join(torch.cat([F.silu(grow(x)), passed.pop()], 1)))
        noise: Tensor = self.crop(self.grow[-1](x))
        return noise

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error per pixel; a scalar."""
        return F.mse_loss(self(images), targets)

    def score(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One value an image, (B,): the loss alone."""
        return {"loss": mse(self(images), targets)}


def _perceptron(image_shape: ImageShape, hidden: Sequence[int]) -> nn.Sequential:
    """(B, C, H, W) -> the same shape, through `hidden` units with SiLU."""
    pixels = math.prod(image_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([pixels, *hidden]):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], pixels), nn.Unflatten(1, image_shape))
