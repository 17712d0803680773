"""A classifier: p(k | x) = softmax(f(x))_k, trained by cross-entropy.

Convolutional: blocks of [conv 3x3, max-pool, batch norm, ReLU], each with twice the channels of the one before, then
linear layers. Batch norm follows the pooling, so that it normalises a quarter of the pixels; with it a convolution
needs no bias. A perceptron, for images of any size and rows of numbers, is the linear layers alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.convolution import check_size

FLAT = 1e-6  # added to the variance of an image: one of a single grey becomes 0, not a division by 0


@final
class Standardise(nn.Module):
    """Bring each image to mean 0 and variance 1 over its pixels and channels: (B, C, H, W) -> the same shape.

    Light and exposure of a photograph are gone then: a x + b gives the same as x for any a > 0.
    """

    def forward(self, images: Tensor) -> Tensor:
        centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
        return centred * (centred.square().mean(dim=(1, 2, 3), keepdim=True) + FLAT).rsqrt()


@final
class Classifier(nn.Module):
    """A network from images to class scores.

    Arguments: layers: (B, C, H, W) -> (B, K) logits. label_smoothing: share of each target spread evenly over
    the classes while training (Szegedy et al. 2016); scores are always measured without it.
    """

    target: ClassVar[Literal["labels"]] = "labels"

    def __init__(self, layers: nn.Sequential, *, image_shape: ImageShape, classes: int, label_smoothing: float = 0.0):
        super().__init__()
        self.layers = layers
        self.image_shape, self.classes, self.label_smoothing = image_shape, classes, label_smoothing

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, C, H, W) -> (B, K)."""
        logits: Tensor = self.layers(images)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """p(k | x): (B, C, H, W) -> (B, K), each row summing to 1."""
        logits: Tensor = self(images)
        return logits.softmax(1)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats per image, with label smoothing; a scalar."""
        return F.cross_entropy(self(images), labels, label_smoothing=self.label_smoothing)

    def score(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One value an image, (B,): the loss without smoothing, and whether the class is right."""
        logits = self(images)
        right = (logits.argmax(1) == labels).to(logits.dtype)
        return {"loss": F.cross_entropy(logits, labels, reduction="none"), "accuracy": right}


def classifier(
    image_shape: ImageShape,
    *,
    classes: int,
    architecture: Literal["convolutional", "mlp"] = "convolutional",
    width: int = 16,
    blocks: int = 3,
    batch_norm: bool = True,
    hidden: int | Sequence[int] = 0,
    standardise: bool = False,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
) -> Classifier:
    """A network to K = `classes` scores.

    "convolutional": `blocks` of `width`, 2 `width`, 4 `width`, ... channels, then linear layers. "mlp": these alone.
    Arguments: hidden: size of a linear layer with ReLU before the scores, or of several; 0 for none. standardise: bring
    each image to mean 0 and variance 1 first. dropout: share of numbers dropped before each linear layer but the first
    of a perceptron, while training.
    Raises: InputError if convolutions meet sides outside 16 to 256, or that cannot be halved `blocks` times; ValueError
    if there are fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"A classifier tells at least two classes apart, got {classes}.")
    layers: list[nn.Module] = [Standardise()] if standardise else []
    if architecture == "convolutional":
        blocks_of, features = _convolutions(image_shape, width, blocks, batch_norm)
        layers += [*blocks_of, nn.Flatten(), nn.Dropout(dropout)]
    else:
        features = math.prod(image_shape)
        layers.append(nn.Flatten())
    sizes = [features, *([hidden] if hidden else [])] if isinstance(hidden, int) else [features, *hidden]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    layers.append(nn.Linear(sizes[-1], classes))
    return Classifier(nn.Sequential(*layers), image_shape=image_shape, classes=classes, label_smoothing=label_smoothing)


def _convolutions(image_shape: ImageShape, width: int, blocks: int, batch_norm: bool) -> tuple[list[nn.Module], int]:
    """The blocks, and how many numbers they give."""
    channels, height, width_px = image_shape
    check_size(height, width_px)
    _check_blocks(blocks, height, width_px)
    layers: list[nn.Module] = []
    for i in range(blocks):
        before, after = channels if i == 0 else width * 2 ** (i - 1), width * 2**i
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return layers, width * 2 ** (blocks - 1) * (height // 2**blocks) * (width_px // 2**blocks)


def _check_blocks(blocks: int, height: int, width: int) -> None:
    most = min(height, width).bit_length() - 1  # halvings, rounded down, until one pixel is left
    if blocks > most:
        raise InputError(
            f"model.blocks is {blocks}, but images of {height} x {width} can be halved {most} times at most: give "
            f"--set model.blocks={most} or fewer, or larger images with --set data.height and --set data.width."
        )
