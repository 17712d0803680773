"""Restoring by the bottleneck: what does not fit through the code is lost, noise with it.  x_hat = clip(D(E(y)))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.metrics import psnr, ssim
from isthmus.networks.apply import Coder, reconstruct
from isthmus.networks.denoiser import Denoiser

EXACT = 100.0  # decibels given to an image without any error, whose PSNR is infinite


@dataclass(frozen=True)
class Quality:
    """Means over images against the clean ones: psnr in decibels, ssim at most 1."""

    psnr: float
    ssim: float


def restore(network: Coder | Denoiser, degraded: Tensor) -> Tensor:
    """Push degraded images through the network and clip: (N, C, H, W) -> the same shape, in [0, 1]."""
    return reconstruct(network, degraded).clamp(0, 1)


def quality(images: Tensor, clean: Tensor) -> Quality:
    """Mean PSNR and SSIM of images against clean ones, both (N, C, H, W). An image that is equal counts as 100 dB."""
    chunks = range(0, len(images), 1000)
    similarity = torch.cat([ssim(images[i : i + 1000], clean[i : i + 1000]) for i in chunks])
    return Quality(float(psnr(images, clean).clamp(max=EXACT).mean()), float(similarity.mean()))
