"""How good a network is on a set of images: means of what it measures, by itself or by several processes together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.data.imageset import ImageSet
from isthmus.networks.apply import batch_size, ranges, to_float
from isthmus.networks.catalog import Network
from isthmus.training.distributed import Group, from_all
from isthmus.training.feed import Images, taken

Corrupt = Callable[[Tensor, torch.Generator], Tensor]

TRAIN_SAMPLE = 5000  # training images scored after each epoch, at most: see scored_images


def scored_images(training: ImageSet, validation: ImageSet) -> int:
    """How many training images are scored after each epoch, in the same way as the validation images: no more than
    there are of those, since the two are compared."""
    return min(TRAIN_SAMPLE, len(training), len(validation))


@torch.inference_mode()
def score(
    network: Network,
    images: Images,
    targets: Tensor | None,
    *,
    corrupt: Corrupt | None = None,
    generator: torch.Generator | None = None,
    group: Group | None = None,
) -> dict[str, float]:
    """Means over all images of what `network.score` measures, in evaluation mode and large batches.

    Arguments: images: (N, C, H, W), uint8 or float, or on disk. targets: (N,) labels, or None where the images are it.
    group: processes that all call this with the same images, and share the batches.
    """
    if corrupt is not None and generator is None:
        raise ValueError("score needs a generator to corrupt images with")
    network.eval()
    sums: dict[str, float] = {}
    place = next(network.parameters()).device
    for number, (begin, end) in enumerate(ranges(len(images), batch_size(*images.shape[-2:]))):
        others = group is not None and number % group.size != group.rank
        if others and corrupt is None:
            continue
        clean = to_float(taken(images, slice(begin, end), place))
        given = corrupt(clean, generator) if corrupt is not None and generator is not None else clean
        if others:  # only the generator had to go on
            continue
        given = given.contiguous(memory_format=torch.channels_last)
        figures = network.score(given, clean if targets is None else targets[begin:end])
        for name, values in figures.items():
            # Added up in float64 on the CPU: some devices have no float64.
            sums[name] = sums.get(name, 0.0) + float(values.cpu().double().sum())
    found = [sums] if group is None else [each for each in from_all(sums) if each]
    return {name: sum(each[name] for each in found) / len(images) for name in found[0]}
