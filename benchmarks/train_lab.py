"""An epoch of the lab's autoencoder at batch 64: ours against a plain PyTorch loop with a DataLoader.

The same weights, the same updates, the same optimizer. The plain network is written as a tutorial writes it: upsample,
then convolve; ReLU, then pool. The two run in turns; a sample counts if a fixed matrix product took about as long
before and after it as at best.

    python benchmarks/train_lab.py [--rounds 5] [--images 50000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from common import probe, save
from isthmus.data.imageset import ImageSet
from isthmus.networks.autoencoder import Autoencoder, lab
from isthmus.settings import TrainingSettings
from isthmus.training.loop import train

BATCH, RATE = 64, 1e-3
AIM = 1.9
BUSY = 1.5  # times the best probe: more means that somebody else was at work


class Images(Dataset[torch.Tensor]):
    """uint8 images, one float tensor at a time."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.images[index]).float() / 255


def plain_network(width: int = 16) -> nn.Sequential:
    """lab() for 32 x 32 grey images in the usual order of layers."""
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [
            nn.Conv2d(1 if i == 0 else width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    layers += [
        nn.Flatten(),
        nn.Linear(4 * width, 2),
        nn.ReLU(),
        nn.Linear(2, 4 * width),
        nn.Unflatten(1, (width, 2, 2)),
    ]
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    for i in range(4):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, 1 if i == 3 else width, 3, padding=1, bias=i == 3)]
        layers += [] if i == 3 else [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def plain_epoch(network: nn.Module, images: np.ndarray) -> float:
    """Seconds of one epoch of a plain loop."""
    loader = DataLoader(Images(images), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    network.train()
    total = 0.0
    started = time.perf_counter()
    for batch in loader:
        loss = nn.functional.mse_loss(network(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return time.perf_counter() - started


def our_epoch(network: Autoencoder, images: np.ndarray) -> float:
    """Seconds of one epoch of ours, steps alone (the plain loop does not score either)."""
    data = ImageSet(images, None)
    settings = TrainingSettings(epochs=1, batch_size=BATCH, learning_rate=RATE)
    return train(network, data, data.take(np.arange(64)), settings).seconds


def pair() -> tuple[Autoencoder, nn.Module]:
    """Our network and the plain one with the same weights, checked to compute the same."""
    torch.manual_seed(0)
    ours, plain = lab((1, 32, 32)), plain_network()
    with torch.no_grad():
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            b.copy_(a)
        x = torch.rand(64, 1, 32, 32)
        difference = float((ours(x) - plain(x)).abs().max())
    if difference > 1e-4:
        raise SystemExit(f"the two networks differ by {difference}")
    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 1, 32, 32), np.uint8)
    ours, plain = pair()
    our_epoch(ours, images[:1280])  # warm-up
    plain_epoch(plain, images[:1280])
    best = min(probe() for _ in range(5))
    times: dict[str, list[float]] = {"ours": [], "pytorch": []}
    discarded = 0
    for _ in range(options.rounds):
        ours, plain = pair()
        runs = {"ours": partial(our_epoch, ours), "pytorch": partial(plain_epoch, plain)}
        for name, run in runs.items():
            before, seconds, after = probe(), run(images), probe()
            best = min(best, before, after)
            if max(before, after) > BUSY * best:
                discarded += 1
                continue
            times[name].append(seconds)
            print(f"{name} {seconds:.1f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items() if values}
    if len(medians) < 2:
        raise SystemExit("the machine was too busy: no clean sample of one of the two; run again")
    facts = {
        "ours_s": round(medians["ours"], 2),
        "peers_s": {"pytorch": round(medians["pytorch"], 2)},
        "ratio": {"pytorch": round(medians["pytorch"] / medians["ours"], 2)},
        "spread_s": {name: [round(min(v), 2), round(max(v), 2)] for name, v in times.items()},
        "clean": sum(map(len, times.values())),
        "discarded": discarded,
    }
    save("train.lab.b64", facts)
    if medians["pytorch"] < AIM * medians["ours"]:
        raise SystemExit(f"missed: {AIM} times faster than the plain loop")


if __name__ == "__main__":
    main()
