"""How good the images are that a decoder makes of codes drawn from a density, and whether they are copies.

    frechet       |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2))   of the features of drawn and real images
    heldout_nats  mean of log p(z) over codes of images never fitted to
    copied        share of drawn images nearer to a training image than real images usually are

Features are what our own classifier hands its last linear layer (Heusel et al. 2017 take Inception's): the numbers
compare only under the same classifier, which its fingerprint names. The Fréchet distance of samples is too large, the
more so the fewer they are: everything here is taken from samples of one size, the floor of real against real too.
Notation: x images (N, C, H, W), uint8 or float in [0, 1]; features (N, F); z codes (N, D).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.latent.density import Density
from isthmus.metrics import frechet_of_samples
from isthmus.networks.apply import BATCH, Coder, batch_size, decode, encode, ranges, to_float
from isthmus.networks.classifier import Classifier

CHUNK_VALUES = 2**24  # pixels of training images, as float32, and distances, held at once
Images = NDArray[np.generic] | Tensor


@dataclass(frozen=True)
class Yardstick:
    """What drawn images are held against.

    size: images in every sample. extractor: fingerprint of the classifier. real: (2 size, F), features of real images,
    the second half the reference. floor: Fréchet distance of its two halves. usual: median distance of those images to
    the nearest training image. copied_floor: `copied` of the decoder's own reconstructions of them: what is smooth is
    nearer to everything.
    """

    size: int
    extractor: str
    real: Tensor
    floor: float
    usual: float
    copied_floor: float


@dataclass(frozen=True)
class Judged:
    """A density and what it draws.

    name. codes: (S, D). images: (S, C, H, W) in [0, 1]. frechet: to real images, compare with `Yardstick.floor`.
    heldout_nats: mean log p of held-out codes in nats per code; minus infinity if one is impossible. nearest: (S,),
    positions of the nearest training images. distances: (S,) to them, root mean square per pixel. copied: share of
    the distances below `Yardstick.usual`.
    """

    name: str
    codes: Tensor
    images: Tensor
    frechet: float
    heldout_nats: float
    nearest: Tensor
    distances: Tensor
    copied: float


def fingerprint(classifier: Classifier) -> str:
    """The first 12 hexadecimal digits of sha256 over the names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def features(classifier: Classifier, images: Images) -> Tensor:
    """What the last linear layer of a classifier is given: (N, C, H, W) -> (N, F), on the CPU.

    Raises: InputError if the classifier has no linear layer.
    """
    linear = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError("This classifier has no linear layer, before which features could be taken; train another.")
    device = next(classifier.parameters()).device
    found: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0].flatten(1).cpu()))
    try:
        classifier.eval()
        pixels = torch.as_tensor(images)
        for begin, end in ranges(len(pixels), batch_size(*pixels.shape[-2:])):
            classifier(to_float(pixels[begin:end].to(device)))
    finally:
        hook.remove()
    return torch.cat(found)


def frechet(classifier: Classifier, images_a: Images, images_b: Images) -> float:
    """Fréchet distance of two sets of images by the classifier's features; compare among equal sizes only."""
    return frechet_of_samples(features(classifier, images_a), features(classifier, images_b))


@torch.no_grad()
def heldout_nats(density: Density, codes: Tensor) -> float:
    """Mean of log p(z) over codes (N, D), in nats per code, computed in float64."""
    return float(density.log_prob(codes.double()).mean())


def nearest_training_images(images: Images, training: Images) -> tuple[Tensor, Tensor]:
    """The training image nearest to each image, by pixels.

    Arguments: (S, C, H, W) and (N, C, H, W). Returns: positions (S,), and distances (S,), root mean square per pixel.
    Raises: ValueError if the images differ in shape.
    """
    asked, known = torch.as_tensor(images), torch.as_tensor(training)
    if asked.shape[1:] != known.shape[1:] or not len(known):
        raise ValueError(f"Images {tuple(asked.shape)} have no neighbours among {tuple(known.shape)}.")
    queries = to_float(asked).flatten(1)
    least = torch.full((len(queries),), torch.inf)
    index = torch.zeros(len(queries), dtype=torch.int64)
    step = max(1, CHUNK_VALUES // max(queries.shape[1], len(queries)))
    for begin in range(0, len(known), step):
        chunk = to_float(known[begin : begin + step]).flatten(1)
        squares = chunk.square().sum(1) - 2 * queries @ chunk.T  # less |query|^2, which is the same for all
        values, places = squares.min(1)
        index = torch.where(values < least, places + begin, index)
        least = torch.minimum(values, least)
    parts = [
        (to_float(known[index[begin:end]]).flatten(1) - queries[begin:end]).square().mean(1).sqrt()
        for begin, end in ranges(len(queries), BATCH)
    ]
    return index, torch.cat(parts)


def yardstick(
    classifier: Classifier,
    network: Coder,
    real: Images,
    training: Images,
    *,
    size: int | None = None,
    generator: torch.Generator,
) -> Yardstick:
    """Measure real images, once for all densities.

    Arguments: real: images not trained on, (N, C, H, W), split at random into two halves of `size`, by default as large
    as they can be. training: those trained on.
    Raises: InputError if there are fewer than twice `size`, or fewer than four.
    """
    pixels = torch.as_tensor(real)
    size = len(pixels) // 2 if size is None else size
    if size < 2 or len(pixels) < 2 * size:
        raise InputError(
            f"Two halves of {size} real images, at least 2, are to be compared, and there are {len(pixels)}: give "
            f"more images, or a smaller sample."
        )
    chosen = pixels[torch.randperm(len(pixels), generator=generator)[: 2 * size]]
    found = features(classifier, chosen)
    usual = float(nearest_training_images(chosen, training)[1].median())
    redrawn = nearest_training_images(decode(network, encode(network, chosen)), training)[1]
    floor = frechet_of_samples(found[:size], found[size:])
    return Yardstick(size, fingerprint(classifier), found, floor, usual, float((redrawn < usual).double().mean()))


def judge_density(
    density: Density,
    network: Coder,
    classifier: Classifier,
    against: Yardstick,
    training: Images,
    heldout: Tensor,
    *,
    generator: torch.Generator,
) -> Judged:
    """Draw as many codes as the yardstick is long, decode them, and measure them.

    Arguments: network: whose codes these are. classifier: that of the yardstick. training: the images trained on, as
    given to `yardstick`. heldout: codes (N, D) that the density was not fitted to.
    Raises: ValueError if the classifier is another one.
    """
    if fingerprint(classifier) != against.extractor:
        raise ValueError("The yardstick was taken with another classifier; measure it again.")
    codes = density.sample(against.size, generator=generator).cpu()
    images = decode(network, codes)
    distance = frechet_of_samples(features(classifier, images), against.real[against.size :])
    nearest, distances = nearest_training_images(images, training)
    copied = float((distances < against.usual).double().mean())
    return Judged(
        density.name, codes, images, distance, heldout_nats(density, heldout.cpu()), nearest, distances, copied
    )
