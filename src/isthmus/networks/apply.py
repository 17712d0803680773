"""A network on many images: evaluation mode, large batches, no gradients, results on the CPU.

Images come as an array or tensor (N, C, H, W), uint8 or float in [0, 1]. A batch of any size gives the same numbers, so
it is as large as is fast: of large images fewer, since what a layer gives for them all is to fit into memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.networks.convolution import UpsampleConv2d
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE, Gaussian

BATCH, BATCH_PIXELS = 1000, 2**19  # images at once, and their pixels, at most
LEAST = 16  # as many are drawn together where numbers are drawn: whatever the batch, the same ones
Coder = Autoencoder | VAE


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


def batch_size(height: int, width: int) -> int:
    """How many images of this size are given to a network at once where none are trained on.

    >>> [batch_size(side, side) for side in (28, 64, 1024)]
    [656, 128, 16]
    """
    return min(BATCH, max(LEAST, BATCH_PIXELS // (height * width) // LEAST * LEAST))


@torch.inference_mode()
def in_batches(
    network: Coder | Classifier | Denoiser, function: Callable[[Tensor], Tensor], inputs: NDArray[np.generic] | Tensor
) -> Tensor:
    """A function of the network in evaluation mode, over inputs of any number, images or codes, on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    whole: Tensor | None = None
    _, height, width = network.image_shape  # of codes, too, which become images
    for begin, end in ranges(len(inputs), batch_size(height, width)):
        batch = to_float(torch.as_tensor(inputs[begin:end]).to(device))
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        found = function(batch).cpu()
        # Filled in place: results kept one by one lie between the large tensors, whose memory is then of no more use.
        whole = _room(len(inputs), found) if whole is None else whole
        whole[begin:end] = found
    assert whole is not None, "there is nothing to apply the network to"
    return whole


def _room(count: int, found: Tensor) -> Tensor:
    """For so many of what a batch gives, laid out alike."""
    last = found.ndim == 4 and found.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((count, *found.shape[1:]), dtype=found.dtype, memory_format=layout)


def encode(network: Coder, images: NDArray[np.generic] | Tensor) -> NDArray[np.float32]:
    """Codes of images, for a VAE the means: (N, C, H, W) -> (N, D)."""
    return in_batches(network, lambda batch: _code(network, batch), images).numpy()


def dead_axes(network: Coder, images: NDArray[np.generic] | Tensor) -> NDArray[np.int64]:
    """The axes of the code that are the same for every image (N, C, H, W), without holding the codes of all."""
    parts = (encode(network, images[begin:end]) for begin, end in ranges(len(images), BATCH))
    first = next(parts)
    dead = (first == first[0]).all(0)
    for codes in parts:
        dead &= (codes == first[0]).all(0)
    return np.flatnonzero(dead)


def posteriors(network: VAE, images: NDArray[np.generic] | Tensor) -> Gaussian:
    """q(z|x) of images: (N, C, H, W) -> means and log-variances (N, D)."""

    def both(batch: Tensor) -> Tensor:
        found = network.encode(batch)
        return torch.cat([found.mean, found.log_variance], 1)

    return Gaussian(*in_batches(network, both, images).chunk(2, dim=1))


def decode(network: Coder, codes: NDArray[np.float32] | Tensor) -> Tensor:
    """Images of codes, clipped to [0, 1]: (N, D) -> (N, C, H, W)."""
    return in_batches(network, network.decode, codes).clamp(0, 1)


def reconstruct(network: Coder | Denoiser, images: NDArray[np.generic] | Tensor) -> Tensor:
    """D(E(x)), or what a denoiser makes of x, not clipped: (N, C, H, W) -> the same shape."""
    return in_batches(network, network, images)


def classify(network: Classifier, images: NDArray[np.generic] | Tensor) -> Tensor:
    """Class probabilities: (N, C, H, W) -> (N, K)."""
    return in_batches(network, network.probabilities, images)


def fold(layers: nn.Sequential) -> nn.Sequential:
    """A copy in evaluation mode with every batch norm folded into the layer before it, without gradients to weights.

    It computes the same: gamma (W x + b - mu) / sqrt(v + eps) + beta is one linear layer. Upsampling convolutions
    become the plain transposed ones they are equal to.
    """
    folded: list[nn.Module] = []
    for layer in copy.deepcopy(layers).eval():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            before = folded[-2] if isinstance(folded[-1], nn.Unflatten) else folded[-1]
            if isinstance(before, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                _absorb(before, layer)
                continue
        folded.append(_as_transposed(layer) if isinstance(layer, UpsampleConv2d) else layer)
    return nn.Sequential(*folded).eval().requires_grad_(False)


def _absorb(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    if isinstance(layer, nn.Linear):
        each = layer.out_features // norm.num_features  # outputs that are unflattened to one channel
        mean, variance, weight, bias = (t.repeat_interleave(each) for t in (mean, variance, norm.weight, norm.bias))
        layer.weight, layer.bias = fuse_linear_bn_weights(
            layer.weight, layer.bias, mean, variance, norm.eps, weight, bias
        )
    else:
        transpose = isinstance(layer, nn.ConvTranspose2d)
        layer.weight, layer.bias = fuse_conv_bn_weights(
            layer.weight, layer.bias, mean, variance, norm.eps, norm.weight, norm.bias, transpose
        )


def _as_transposed(layer: UpsampleConv2d) -> nn.ConvTranspose2d:
    kernel = layer.kernel().detach()
    before, after = kernel.shape[:2]
    plain = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=layer.bias is not None)
    plain.weight = nn.Parameter(kernel)
    plain.bias = layer.bias
    return plain.to(kernel)


def _code(network: Coder, batch: Tensor) -> Tensor:
    found = network.encode(batch)
    return found.mean if isinstance(found, Gaussian) else found
