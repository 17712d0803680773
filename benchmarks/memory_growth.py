"""Memory and time of training as the number of images grows.

N made-up images of 32 x 32, an uint8 array, are written to a file, and a process of its own trains one epoch from it,
by `isthmus train` or by an estimator. What counts is the most memory it ever had (`ru_maxrss`), less the fixed cost:
that of the same training on 40,000 images, less their bytes. Where the set streams from shards of .npy, as one does
that is too large for memory, that difference is to stay the same for any N.

    python benchmarks/memory_growth.py [--images 1000 10000 100000 1000000] [--network lab] [--fast]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import Aims, missed, save
from isthmus.cli.options import prepare_process
from isthmus.data import stored
from isthmus.estimators.autoencoders import ConvAutoencoder
from isthmus.studies.single import train_one

SIDE, BASE = 32, 40_000  # pixels; images of the training that tells the fixed cost: its parts fill every batch
WAYS = ("npz", "npy", "estimator", "shards")
MOST, STREAMED = 1.2, 2**26  # bytes beyond the fixed cost: for each byte of the array; in all, where it streams
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
SHARDS = 8


def write_images(place: Path, count: int, way: str) -> Path:
    """Grey squares on noise, a label each, a part at a time."""
    if way == "shards":
        (place / "shards").mkdir()
        for i, part in enumerate(np.array_split(np.arange(count), SHARDS)):
            np.save(place / "shards" / f"{i}.npy", made_up(len(part), seed=i))
        return place / "shards"
    images = made_up(count)
    if way == "npz":
        np.savez(place / "set.npz", images=images, labels=np.arange(count) % 10)
        return place / "set.npz"
    np.save(place / "set.npy", images)
    return place / "set.npy"


def made_up(count: int, *, seed: int = 0) -> np.ndarray:
    """(N, H, W) uint8."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 64, (count, SIDE, SIDE), dtype=np.uint8)
    for image, (top, left) in zip(images, generator.integers(0, SIDE // 2, (count, 2)), strict=True):
        image[top : top + SIDE // 2, left : left + SIDE // 2] += 128
    return images


def train_here(path: Path, way: str, network: str) -> dict[str, float]:
    """In a process of its own: one epoch."""
    prepare_process()
    started = time.perf_counter()
    if way == "estimator":
        ConvAutoencoder(epochs=1, batch_size=64).fit(np.load(path))
    else:
        if way == "shards":
            stored.SHARE = 0.0  # as if there were no memory for the set
        train_one(network, str(path), path.parent / "run", changes=["training.epochs=1", "training.batch_size=64"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak": peak * (1 if sys.platform == "darwin" else 1024), "seconds": time.perf_counter() - started}


def measure(count: int, way: str, network: str) -> dict[str, float]:
    """Peak memory in bytes and seconds of one training."""
    place = Path(tempfile.mkdtemp(prefix="isthmus-growth-"))
    try:
        path = write_images(place, count, way)
        command = [sys.executable, __file__, "--child", str(path), way, network]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        found: dict[str, float] = json.loads(done.stdout)
        return found
    finally:
        shutil.rmtree(place)


def growth(way: str, counts: list[int], network: str) -> dict[str, Any]:
    """Of each number of images: memory beyond the fixed cost, for each byte of the array, and time for each image."""
    found = {count: measure(count, way, network) for count in sorted({BASE, *counts})}
    fixed = found[BASE]["peak"] - BASE * SIDE**2
    facts: dict[str, Any] = {"fixed_mb": round(fixed / 1e6)}
    for count in counts:
        beyond = found[count]["peak"] - fixed
        facts[f"{count}"] = {
            "array_mb": round(count * SIDE**2 / 1e6, 1),
            "beyond_mb": round(beyond / 1e6, 1),
            "bytes_per_byte": round(beyond / (count * SIDE**2), 3),
            "us_per_image": round(found[count]["seconds"] / count * 1e6, 1),
        }
        print(way, count, facts[f"{count}"], flush=True)
    return facts


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(train_here(Path(sys.argv[2]), sys.argv[3], sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--network", default="lab", help="linear is fastest; the estimator's is the lab's")
    parser.add_argument("--fast", action="store_true", help="up to 100,000 images, and nothing is saved")
    options = parser.parse_args()
    counts = [count for count in options.images if not options.fast or count <= 100_000]
    facts = {way: growth(way, counts, options.network) for way in options.ways}
    behind = missed(*judged(facts, counts))
    if not options.fast:
        save("memory_growth", facts)
    if behind:
        raise SystemExit(f"missed: {', '.join(behind)}")


def judged(facts: dict[str, Any], counts: list[int]) -> tuple[dict[str, float], Aims]:
    """What the aims are about: sets of at least 100,000 images, whose array is larger than what varies by chance."""
    figures: dict[str, float] = {}
    aims: Aims = {}
    for way, found in facts.items():
        for count in (count for count in counts if count >= 100_000):
            name = f"{way}.{count}"
            streamed = way == "shards"
            figures[name] = found[f"{count}"]["beyond_mb"] * 1e6 if streamed else found[f"{count}"]["bytes_per_byte"]
            aims[name] = (None, STREAMED if streamed else MOST)
    return figures, aims


if __name__ == "__main__":
    main()
