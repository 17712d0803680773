"""Training from a set on disk that is larger than the memory allowed, against the same images in memory.

The set is an .npy file of digits of 32 x 32, larger than the address space that `ulimit -v` leaves to the process that
trains from it: that it cannot be read into memory there is tried first. Both processes train the lab's autoencoder on
the same images, drawn at random over the whole file, with the same seed: one reads them as it goes, the other holds
them in memory and has no limit. That the losses are equal to the last bit is checked. They train in turns, another one
first in each round; a run during which the machine was busy does not count. Before it begins, the file is dropped from
the system's cache ("cold"), or is not ("warm").

    python benchmarks/memory_map.py [--gigabytes 6] [--rounds 3] [--fast]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import Aims, in_turns, missed, save
from isthmus.cli.options import prepare_process
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet
from isthmus.data.stored import Stored, Storing, open_stored
from isthmus.networks.autoencoder import lab
from isthmus.settings import TrainingSettings
from isthmus.training.loop import train

AIMS: Aims = {"warm_share_of_speed": (0.9, None), "cold_share_of_speed": (0.9, None)}
SIDE, BATCH = 32, 64
LIMIT = 0.8  # of the size of the file


def write_set(path: Path, size: int) -> int:
    """An .npy file of at least so many bytes; the number of images in it."""
    digits = load("mnist-5k", size=(SIDE, SIDE)).images
    generator = np.random.default_rng(0)
    writing = Storing(path, (1, SIDE, SIDE))
    while writing.count * SIDE * SIDE < size:
        writing.append(np.concatenate([np.roll(digits, generator.integers(-3, 4, 2), (2, 3)) for _ in range(10)]))
    writing.finish()
    return writing.count


def train_here(path: Path, count: int, where: str) -> dict[str, Any]:
    """In a process of its own: an epoch over `count` images drawn from the file."""
    prepare_process()
    torch.manual_seed(0)
    stored = open_stored(path)
    if where == "disk":
        refuse_to_hold(stored)
    rows = np.random.default_rng(1).permutation(len(stored))[: count + 500]
    chosen = stored.select(rows[:count])
    images: Any = chosen if where == "disk" else np.asarray(chosen)
    validation = ImageSet(np.asarray(stored.select(rows[count:])), None)
    if os.environ.get("COLD"):
        drop_from_cache(path)
    settings = TrainingSettings(epochs=1, batch_size=BATCH)
    history = train(lab((1, SIDE, SIDE)), ImageSet(images, None), validation, settings)
    return {"seconds": history.seconds, "loss": history.epochs[0]["loss"], "in_memory": isinstance(images, np.ndarray)}


def refuse_to_hold(stored: Stored) -> None:
    """End unless the set is larger than the memory there is."""
    try:
        np.asarray(stored)
    except MemoryError:
        return
    raise SystemExit("the whole set fits into the memory that this process may take; the limit is none")


def drop_from_cache(path: Path) -> None:
    """Have the system forget what it holds of the file, which it does of what has been written to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(path: Path, count: int, where: str, *, cold: bool) -> dict[str, Any]:
    """Train in a process of its own; from disk, below a limit."""
    limit = int(LIMIT * path.stat().st_size)
    below = (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))) if where == "disk" else None
    command = [sys.executable, __file__, "--child", str(path), str(count), where]
    environment = {**os.environ, "COLD": "1" if cold else ""}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=below, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(train_here(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--images", type=int, default=50_000, help="trained on in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="6,400 images, one round, and nothing is saved")
    options = parser.parse_args()
    count, rounds = (6400, 1) if options.fast else (options.images, options.rounds)
    place = Path(tempfile.mkdtemp(prefix="isthmus-map-"))
    try:
        total = write_set(place / "set.npy", int(options.gigabytes * 2**30))
        facts = measure(place / "set.npy", total, count, rounds)
    finally:
        shutil.rmtree(place)
    if options.fast:
        print(facts)
    else:
        save("memory_map", facts)
    behind = missed(facts, AIMS)
    if behind and not options.fast:
        raise SystemExit(f"missed: {', '.join(behind)}")


def measure(path: Path, total: int, count: int, rounds: int) -> dict[str, Any]:
    ways = {
        "memory": lambda: run(path, count, "memory", cold=False),
        "warm": lambda: run(path, count, "disk", cold=False),
        "cold": lambda: run(path, count, "disk", cold=True),
    }
    turns = in_turns(ways, rounds)
    found = {name: turns.answers(name) for name in ways}
    if len({answer["loss"] for answers in found.values() for answer in answers}) != 1:
        raise SystemExit(f"the losses differ: {found}")
    if any(answer["in_memory"] != (name == "memory") for name, answers in found.items() for answer in answers):
        raise SystemExit(f"not where it was to be: {found}")
    medians = {name: count / statistics.median(turns.seconds(name)) for name in ways}
    return {
        "images_in_file": total,
        "file_bytes": path.stat().st_size,
        "limit_bytes": int(LIMIT * path.stat().st_size),
        "trained_on": count,
        "clean": sum(map(len, turns.samples.values())),
        "discarded": turns.discarded,
        "images_a_second": {name: round(value) for name, value in medians.items()},
        "warm_share_of_speed": round(medians["warm"] / medians["memory"], 3),
        "cold_share_of_speed": round(medians["cold"] / medians["memory"], 3),
    }


if __name__ == "__main__":
    main()
