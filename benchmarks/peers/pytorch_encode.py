"""Codes of many images in plain PyTorch: the network in evaluation mode, a DataLoader, one tensor at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from peers.networks import Lab

BATCH = 256


def prepare(folder: Path) -> Callable[..., dict[str, Any]]:
    images = torch.from_numpy(np.load(folder / "images.npy"))
    encoder = Lab().encoder
    with np.load(folder / "encoder.npz") as stored:
        values = (torch.from_numpy(stored[f"{i:03d}"]) for i in range(len(stored.files)))
        encoder.load_state_dict(dict(zip(encoder.state_dict(), values, strict=True)))
    encoder.eval()

    @torch.inference_mode()
    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        loader = DataLoader(TensorDataset(images), batch_size=BATCH)
        codes = torch.cat([encoder(batch.float() / 255) for (batch,) in loader])
        return {"seconds": time.perf_counter() - started, "codes": codes[:: max(1, len(codes) // 100)].tolist()}

    sample()
    return sample
