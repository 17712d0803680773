"""An epoch of the lab's autoencoder at batch 64 with the operators of `isthmus doctor --compile`, and without them.

The same weights, the same updates, in turns; with one thread and with two. Needs a C++ compiler.

    python benchmarks/compiled.py [--rounds 3] [--images 12800]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from common import compared, in_turns, save
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet
from isthmus.networks import compiled
from isthmus.networks.catalog import NETWORKS, build
from isthmus.settings import LabSettings
from isthmus.training.loop import train

AIM = 1.3
LIBRARY = compiled.operators


def way(images: ImageSet, *, threads: int, library: bool) -> Callable[[], dict[str, Any]]:
    """A contestant: one epoch."""
    few = images.take(np.arange(64))
    settings = NETWORKS["lab"].training.model_copy(update={"epochs": 1})

    def sample() -> dict[str, Any]:
        compiled.operators = LIBRARY if library else cache(lambda: None)
        torch.set_num_threads(threads)
        history = train(build(LabSettings(), images.shape), images, few, settings)
        return {"seconds": history.seconds, "loss": history.epochs[0]["loss"]}

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=12_800)
    options = parser.parse_args()
    prepare_process()
    os.environ.pop(compiled.SWITCH, None)
    compiled.make()
    generator = np.random.default_rng(0)
    images = ImageSet(generator.integers(0, 256, (options.images, 1, 32, 32), np.uint8), None)
    behind = []
    for threads in (1, 2):
        ways = {
            "ours": way(images, threads=threads, library=True),
            "without": way(images, threads=threads, library=False),
        }
        for start in ways.values():
            start()
        turns = in_turns(ways, options.rounds)
        losses = {name: turns.answers(name)[0]["loss"] for name in ways}
        if not np.isclose(losses["ours"], losses["without"], rtol=1e-3):
            raise SystemExit(f"the two did not learn the same: losses {losses}")
        facts = compared(turns)
        save(f"train.lab.compiled.{threads}", {**facts, "threads": threads, "loss": losses})
        if facts["ratio"]["without"] < AIM:
            behind.append(f"{facts['ratio']['without']:.2f} times with {threads} thread(s), aim {AIM}")
    if behind:
        raise SystemExit(f"missed: {', '.join(behind)}")


if __name__ == "__main__":
    main()
