"""A folder of images by a torch Dataset: one file an item, opened with PIL, batches by a DataLoader."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Folder(Dataset[tuple[Tensor, int]]):
    """One folder a class, as torchvision's ImageFolder has it."""

    def __init__(self, root: Path):
        classes = sorted(entry.name for entry in root.iterdir())
        self.files = [(path, k) for k, name in enumerate(classes) for path in sorted((root / name).iterdir())]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image))[None], label


def prepare(folder: Path, *, images: str, workers: int) -> Callable[..., dict[str, Any]]:
    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        batches = list(DataLoader(Folder(Path(images)), batch_size=256, num_workers=workers))
        pixels = torch.cat([batch for batch, _ in batches])
        labels = torch.cat([batch for _, batch in batches])
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "pixels": int(pixels.long().sum()), "labels": int(labels.sum())}

    sample()
    return sample
