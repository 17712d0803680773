"""Autoencoders: z = E(x), x_hat = D(z), trained by the mean squared error per pixel.

`lab` is the convolutional network of the lab, `strong` a wide multilayer perceptron, `linear` the network whose
optimum is PCA. All three are one class, `Autoencoder`, around two `nn.Sequential`.
Notation: x images (B, C, H, W) in [0, 1], z codes (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.metrics import mse
from isthmus.networks.compiled import through
from isthmus.networks.convolution import Crop, Pad, down_block, most_halvings, up_block

ImageShape = tuple[int, int, int]

# Where a code behind a ReLU begins. From a bias around zero every fourth axis starts with no positive value at all, and
# a ReLU that passes nothing learns nothing.
CODE_BIAS = 1.0


@final
class Autoencoder(nn.Module):
    """An encoder and a decoder with a code of `latent_dim` numbers between them.

    Arguments: encoder: (B, C, H, W) -> (B, D). decoder: (B, D) -> (B, C, H, W). image_shape: (C, H, W).
    """

    target: ClassVar[Literal["images"]] = "images"

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential, *, latent_dim: int, image_shape: ImageShape):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_dim, self.image_shape = latent_dim, image_shape

    def encode(self, images: Tensor) -> Tensor:
        """Encode images to codes, z = E(x): (B, C, H, W) -> (B, D).

        Raises: ValueError if the images are not of the network's shape.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"This network takes images {self.image_shape}, got {tuple(images.shape[1:])}: resize them."
            )
        return through(self.encoder, images)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to images, x = D(z): (B, D) -> (B, C, H, W), not clipped to [0, 1].

        Raises: ValueError if D is not the network's code size.
        """
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise ValueError(f"This network takes codes (B, {self.latent_dim}), got {tuple(codes.shape)}.")
        return through(self.decoder, codes)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct: D(E(x)), of the same shape as x."""
        return self.decode(self.encode(images))

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error per pixel between D(E(images)) and `targets`; a scalar."""
        return F.mse_loss(self(images), targets)

    def score(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One value an image, (B,), of everything worth following: the loss alone."""
        return {"loss": mse(self(images), targets)}


def lab(
    image_shape: ImageShape,
    *,
    latent_dim: int = 2,
    width: int = 16,
    code_relu: bool = True,
    upsample: Literal["nearest", "transposed"] = "nearest",
    halvings: int = 0,
) -> Autoencoder:
    """The lab's network: blocks of [conv 3x3, batch norm, ReLU, max-pool] down to 2 or 3 pixels, then a linear layer.

    The decoder goes the same way back. A ReLU on the code (`code_relu`) is what the lab had; it clips negative
    codes to zero. Sides from 16 to 256 pixels, in any proportion: the input is padded to a multiple of the
    halvings, and the output cropped. `halvings` below that leaves more pixels before the linear layer, as a code of
    many numbers needs: 16 channels of 2 x 2 pixels are 64 numbers, which no code can exceed.
    Raises: InputError if the sides are outside 16 to 256, or are halved too often.
    """
    channels, height, width_px = image_shape
    most = most_halvings(height, width_px)
    if halvings > most:
        raise InputError(f"Images of {height} x {width_px} can be halved {most} times, not {halvings}: lower halvings.")
    count = halvings or most
    rows, columns = -(-height // 2**count), -(-width_px // 2**count)
    padded = (rows * 2**count, columns * 2**count)
    features = width * rows * columns

    down: list[nn.Module] = [] if padded == (height, width_px) else [Pad(*padded)]
    for i in range(count):
        down += down_block(channels if i == 0 else width, width)
    code = nn.Linear(features, latent_dim)
    down += [nn.Flatten(), code]
    if code_relu:
        nn.init.constant_(code.bias, CODE_BIAS)
        down.append(nn.ReLU())

    up: list[nn.Module] = [nn.Linear(latent_dim, features), nn.Unflatten(1, (width, rows, columns))]
    up += [nn.BatchNorm2d(width), nn.ReLU()]
    for i in range(count):
        last = i == count - 1
        up += up_block(width, channels if last else width, upsample=upsample, last=last)
    if padded != (height, width_px):
        up.append(Crop(height, width_px))
    return Autoencoder(nn.Sequential(*down), nn.Sequential(*up), latent_dim=latent_dim, image_shape=image_shape)


def strong(image_shape: ImageShape, *, latent_dim: int = 2, hidden: Sequence[int] = (1000, 500, 250)) -> Autoencoder:
    """A multilayer perceptron, pixels-1000-500-250-code and back, with batch norm and ReLU (after Hinton and
    Salakhutdinov 2006, who had no batch norm). Images of any size, and rows of D numbers as images (1, 1, D).
    """
    pixels = math.prod(image_shape)
    down: list[nn.Module] = [nn.Flatten(), *perceptron([pixels, *hidden])]
    up = perceptron([latent_dim, *reversed(hidden)])
    down.append(nn.Linear(hidden[-1], latent_dim, bias=False))  # a shift of all codes is lost in the next batch norm
    up += [nn.Linear(hidden[0], pixels), nn.Unflatten(1, image_shape)]
    return Autoencoder(nn.Sequential(*down), nn.Sequential(*up), latent_dim=latent_dim, image_shape=image_shape)


def linear(image_shape: ImageShape, *, latent_dim: int = 2) -> Autoencoder:
    """One linear layer in, one out: z = W x + b, x_hat = V z + c. Its least error is that of PCA with as many
    components (Baldi and Hornik 1989). Images of any size, and rows of D numbers as images (1, 1, D).
    """
    pixels = math.prod(image_shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim))
    decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, image_shape))
    return Autoencoder(encoder, decoder, latent_dim=latent_dim, image_shape=image_shape)


def perceptron(sizes: Sequence[int]) -> list[nn.Module]:
    """Layers of [linear, batch norm, ReLU] from sizes[0] to sizes[-1] numbers: (B, sizes[0]) -> (B, sizes[-1])."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return layers
