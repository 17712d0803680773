"""Variations of training images, as tensors: what changes a picture but not its class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def random_shifts(images: Tensor, most: int, *, generator: torch.Generator) -> Tensor:
    """Move each image by up to `most` whole pixels along each axis, repeating its edges.

    Arguments: images: (B, C, H, W). Returns: the same shape, dtype and device.
    """
    count, _, height, width = images.shape
    dy, dx = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator).to(images.device)
    grown = F.pad(images.float(), (most,) * 4, mode="replicate").to(images.dtype)
    rows = dy + torch.arange(height, device=images.device)
    columns = dx + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around a slice come first: (B, H, W, C).
    return grown[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
