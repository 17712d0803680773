"""A convolutional classifier: p(k | x) = softmax(f(x))_k, trained by cross-entropy.

Three blocks of [conv 3x3 without bias, max-pool, batch norm, ReLU] with 16, 32 and 64 channels, then one linear
layer. Batch norm follows the pooling, so that it normalises a quarter of the pixels.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.convolution import check_size


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
    width: int = 16,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
) -> Classifier:
    """Blocks of `width`, 2 `width` and 4 `width` channels, then a linear layer to K = `classes` scores.

    Raises: InputError if the sides are outside 16 to 256; ValueError if there are fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"A classifier tells at least two classes apart, got {classes}.")
    channels, height, width_px = image_shape
    check_size(height, width_px)
    layers: list[nn.Module] = []
    before = channels
    for after in (width, 2 * width, 4 * width):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    layers += [
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(before * (height // 8) * (width_px // 8), classes),
    ]
    return Classifier(nn.Sequential(*layers), image_shape=image_shape, classes=classes, label_smoothing=label_smoothing)
