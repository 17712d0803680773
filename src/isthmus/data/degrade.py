"""Damaging images on purpose: y = x + noise, on the [0, 1] scale."""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(images: Tensor, sigma: float, *, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation `sigma`, in [0, 1] units, without clipping.

    The noise is drawn on the generator's device, so that a CPU generator gives the same noise everywhere.
    Arguments: images: (B, C, H, W). Returns: the same shape.
    """
    noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
    return images + sigma * noise.to(images.device)
