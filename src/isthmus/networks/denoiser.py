"""A network trained to denoise: x_hat = y - N(y), a small U-net (Ronneberger, Fischer and Brox 2015).

Two halvings and two doublings with skip connections; it predicts the noise, which is subtracted (Zhang et al. 2017).
It needs the degradation in advance, which is what it is compared with other methods for.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.metrics import mse
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.convolution import Crop, Pad, UpsampleConv2d, check_size

MULTIPLE = 4  # sides are padded to a multiple of this


@final
class Denoiser(nn.Module):
    """A U-net from a degraded image to a clean one of the same shape. Arguments: image_shape: (C, H, W)."""

    target: ClassVar[Literal["images"]] = "images"

    def __init__(self, image_shape: ImageShape, *, width: int = 16):
        super().__init__()
        channels, height, width_px = image_shape
        check_size(height, width_px)
        self.image_shape = image_shape
        self.pad = Pad(*(-(-side // MULTIPLE) * MULTIPLE for side in (height, width_px)))
        self.crop = Crop(height, width_px)
        self.enter = _twice(channels, width)
        self.down = nn.ModuleList([_twice(width, 2 * width), _twice(2 * width, 4 * width)])
        self.grow = nn.ModuleList([UpsampleConv2d(4 * width, 2 * width), UpsampleConv2d(2 * width, width)])
        self.up = nn.ModuleList([_twice(4 * width, 2 * width), _twice(2 * width, width)])
        self.leave = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Restore: (B, C, H, W) -> the same shape, not clipped. Raises: ValueError for another shape."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"This network takes images {self.image_shape}, got {tuple(images.shape[1:])}: resize them."
            )
        x = self.enter(self.pad(images))
        passed = []
        for down in self.down:
            passed.append(x)
            x = down(F.max_pool2d(x, 2))
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([grow(x), passed.pop()], 1))
        noise: Tensor = self.crop(self.leave(x))
        return images - noise

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error per pixel; a scalar."""
        return F.mse_loss(self(images), targets)

    def score(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One value an image, (B,): the loss alone."""
        return {"loss": mse(self(images), targets)}


def _twice(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        convolution = nn.Conv2d(channels, after, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
