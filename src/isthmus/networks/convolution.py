"""The layers that the convolutional networks share, and the halving of image sizes.

Two of them are rewritten without changing what they compute:

1. Nearest upsampling by 2 followed by a 3x3 convolution is one 4x4 transposed convolution of stride 2. An output
   pixel p sees x[i] through every tap k with 2i + a = p + k - 1, a in {0, 1}; collected by q = p - 2i + 1 this
   is K[q] = w[2 - q] + w[3 - q]: the reversed 3x3 kernel convolved with 2x2 ones. The four times larger image
   in between is never made.
2. Max-pooling commutes with ReLU, which is monotone: pooling first leaves a quarter of the work to ReLU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError

SMALLEST, LARGEST = 16, 256
# K = S w S': row q of S picks w[2 - q] and w[3 - q].
SPREAD = [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


class UpsampleConv2d(nn.Module):
    """Nearest upsampling by 2, then a 3x3 convolution of padding 1, as one transposed convolution.

    The parameters are those of `nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)`, initialised alike.
    Arguments of forward: (B, in_channels, H, W). Returns: (B, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True):
        super().__init__()
        plain = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.weight, self.bias = plain.weight, plain.bias
        self.register_buffer("spread", torch.tensor(SPREAD), persistent=False)
        self.spread: Tensor

    def kernel(self) -> Tensor:
        """Of the transposed convolution: (in_channels, out_channels, 4, 4)."""
        return (self.spread @ self.weight @ self.spread.T).transpose(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        return F.conv_transpose2d(images, self.kernel(), self.bias, stride=2, padding=1)


class Pad(nn.Module):
    """Grow images to (height, width) by repeating their edges, evenly on both sides."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.height - images.shape[-2], self.width - images.shape[-1]
        edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return F.pad(images, edges, mode="replicate")


class Crop(nn.Module):
    """Cut the middle (height, width) out of images: undoes `Pad`."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        top, left = (images.shape[-2] - self.height) // 2, (images.shape[-1] - self.width) // 2
        return images[..., top : top + self.height, left : left + self.width]


def down_block(in_channels: int, out_channels: int) -> list[nn.Module]:
    """[conv 3x3, batch norm, ReLU, max-pool 2], with the last two exchanged: (B, C, H, W) -> (B, C', H/2, W/2).

    The convolution has no bias: batch norm would subtract it again.
    """
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.MaxPool2d(2), nn.ReLU()]


def up_block(in_channels: int, out_channels: int, *, upsample: str, last: bool) -> list[nn.Module]:
    """Double the size, then batch norm and ReLU unless it is the `last` block.

    `upsample` is "nearest" (upsampling and convolution) or "transposed" (4x4 transposed convolution, stride 2).
    """
    if upsample == "nearest":
        grow: nn.Module = UpsampleConv2d(in_channels, out_channels, bias=last)
    else:
        grow = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=last)
    return [grow] if last else [grow, nn.BatchNorm2d(out_channels), nn.ReLU()]


def check_size(height: int, width: int) -> None:
    """Raises: InputError unless both sides are from 16 to 256 pixels."""
    if min(height, width) < SMALLEST:
        raise InputError(
            f"Images of {height} x {width} cannot be halved enough: both sides must be at least {SMALLEST} pixels. "
            f"Enlarge them, for example with --set data.height=32 --set data.width=32."
        )
    if max(height, width) > LARGEST:
        raise InputError(
            f"Images of {height} x {width} are too large: both sides may have at most {LARGEST} pixels. "
            f"Shrink them, for example with --set data.height=128 --set data.width=128."
        )


def halvings(height: int, width: int) -> int:
    """How often an image is halved until its shorter side is 2 or 3 pixels.

    >>> [halvings(n, n) for n in (16, 28, 32, 48, 256)]
    [3, 4, 4, 4, 7]
    """
    check_size(height, width)
    count = 0
    while math.ceil(min(height, width) / 2**count) > 3:
        count += 1
    return count
