"""The images of a set as training and scoring take them, a batch at a time on the device.

An array lies on the device as one tensor. On the CPU that is the array itself, and a part that shares the array of the
whole (data/selection.py) is gathered from there. What is too large for memory stays on disk, and a thread reads the
next batches meanwhile. In each case the same images come in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from isthmus.data.imageset import ImageSet
from isthmus.data.selection import Selection, selection_in
from isthmus.data.stored import Stored, stored_in
from isthmus.errors import InputError
from isthmus.networks.apply import BATCH, ranges
from isthmus.networks.catalog import Network

Images: TypeAlias = Tensor | Stored | Selection  # (N, C, H, W)


def placed(data: ImageSet, network: Network, device: str | torch.device) -> tuple[Images, Tensor | None]:
    """Images where batches of them are taken from, and labels on the device where the network learns from them.

    Raises: InputError if it does, and there are none.
    """
    images = _placed(data, torch.device(device))
    if network.target == "images":
        return images, None
    if data.labels is None:
        raise InputError(
            f"{data.name} has no labels for a classifier to learn from; put each class into a folder of its own."
        )
    return images, torch.from_numpy(data.labels).to(device)


def _placed(data: ImageSet, device: torch.device) -> Images:
    stored, selection = stored_in(data.images), selection_in(data.images)
    if stored is not None:
        return stored
    if selection is None:
        return torch.from_numpy(data.images).to(device)
    if device.type == "cpu":
        return selection
    whole = torch.empty(selection.shape, dtype=torch.from_numpy(selection[:0]).dtype, device=device)
    for begin, end in ranges(len(selection), BATCH):
        whole[begin:end] = torch.from_numpy(selection[begin:end]).to(device)
    return whole


def batches(images: Images, chosen: list[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The images at each of these positions, on the device."""
    if isinstance(images, Stored):
        for batch in images.batches(index.cpu().numpy() for index in chosen):
            yield torch.from_numpy(batch).to(device)
    elif isinstance(images, Selection):
        yield from (torch.from_numpy(images[index.numpy()]) for index in chosen)
    else:
        yield from (images[index] for index in chosen)


def taken(images: Images, index: slice, device: torch.device) -> Tensor:
    """A slice of them, on the device."""
    found = images[index]
    return found if isinstance(found, Tensor) else torch.from_numpy(found).to(device)


def selected(images: Images, index: Tensor) -> Images:
    """The images at these positions."""
    return images[index] if isinstance(images, Tensor) else images.select(index.numpy())


def every(count: int, most: int) -> Tensor:
    """Up to `most` indices spread evenly over `count`."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()
