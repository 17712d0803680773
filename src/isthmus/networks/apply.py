"""A network on many images: evaluation mode, large batches, no gradients, results on the CPU.

Images come as an array or tensor (N, C, H, W), uint8 or float in [0, 1]. A batch of any size gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier

BATCH = 1000


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; float images as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def ranges(count: int, size: int) -> list[tuple[int, int]]:
    """Ranges of `size` that cover `count`; a single one left over joins the last (batch norm needs two).

    >>> ranges(7, 3)
    [(0, 3), (3, 7)]
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def encode(network: Autoencoder, images: NDArray[np.generic] | Tensor) -> NDArray[np.float32]:
    """Codes of images: (N, C, H, W) -> (N, D)."""
    return _in_batches(network, network.encode, images).numpy()


def decode(network: Autoencoder, codes: NDArray[np.float32] | Tensor) -> Tensor:
    """Images of codes, clipped to [0, 1]: (N, D) -> (N, C, H, W)."""
    return _in_batches(network, network.decode, codes).clamp(0, 1)


def reconstruct(network: Autoencoder, images: NDArray[np.generic] | Tensor) -> Tensor:
    """D(E(x)), not clipped: (N, C, H, W) -> the same shape."""
    return _in_batches(network, network, images)


def classify(network: Classifier, images: NDArray[np.generic] | Tensor) -> Tensor:
    """Class probabilities: (N, C, H, W) -> (N, K)."""
    return _in_batches(network, network.probabilities, images)


@torch.inference_mode()
def _in_batches(
    network: nn.Module, function: Callable[[Tensor], Tensor], inputs: NDArray[np.generic] | Tensor
) -> Tensor:
    network.eval()
    device = next(network.parameters()).device
    inputs = torch.as_tensor(inputs)
    parts = []
    for begin, end in ranges(len(inputs), BATCH):
        batch = to_float(inputs[begin:end].to(device))
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        parts.append(function(batch).cpu())
    return torch.cat(parts)
