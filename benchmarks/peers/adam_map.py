"""MAP as it is usually done: 1000 steps of Adam from random codes, through the plain decoder.

The objective is |y - D(z)|^2 / (2 sigma^2) + |z|^2 / 2. It runs on a part of the images; its time is scaled up, since
it is the same for every image.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peers.networks import VAE

RATE = 0.05


def prepare(folder: Path, *, sigma: float, part: int, steps: int) -> Callable[..., dict[str, Any]]:
    noisy = torch.from_numpy(np.load(folder / "noisy.npy"))
    clean = torch.from_numpy(np.load(folder / "clean.npy"))[:part]
    decoder = VAE().decoder
    with np.load(folder / "decoder.npz") as stored, torch.no_grad():
        for i, parameter in enumerate(decoder.parameters()):
            parameter.copy_(torch.from_numpy(stored[f"{i:03d}"]))
    decoder.requires_grad_(False)
    turn = 0

    def sample() -> dict[str, Any]:
        nonlocal turn
        generator = torch.Generator().manual_seed(turn)
        turn += 1
        started = time.perf_counter()
        codes = solve(decoder, noisy[:part], sigma, steps, generator)
        seconds = (time.perf_counter() - started) * len(noisy) / part
        images = decoder(codes).clamp(0, 1)
        errors = (images - clean).square().flatten(1).mean(1)
        decibels = float((-10 * errors.log10()).mean())
        return {"seconds": seconds, "objective": float(objective(decoder, codes, noisy[:part], sigma).mean())} | {
            "psnr": decibels
        }

    solve(decoder, noisy[:part], sigma, 3, torch.Generator())
    return sample


def objective(decoder: nn.Module, codes: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """Of each image, (N,)."""
    misfit = (decoder(codes) - noisy).square().flatten(1).sum(1) / (2 * sigma**2)
    return misfit + 0.5 * codes.square().sum(1)


def solve(decoder: nn.Module, noisy: Tensor, sigma: float, steps: int, generator: torch.Generator) -> Tensor:
    """Codes (N, D)."""
    codes = torch.randn(len(noisy), 16, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(decoder, codes, noisy, sigma).sum().backward()
        optimizer.step()
    return codes.detach()
