"""Reading a folder of 100,000 small PNG files: against decoding alone, and a second time from the cache.

"decoding alone" is two processes, started beforehand, that open each file with Pillow and turn it into an array, which
they drop: no search of the folder, no headers looked at, nothing kept. "first" is `isthmus.load` with an empty cache,
the start of its processes included; "second" is the same again. The files are digits of 28 x 28 in ten classes, made
here; they lie in the system's file cache for all three. They are timed in turns, "alone" before the others and after
them by turns; the first round, a warm-up, and one in which the machine was busy do not count. With it: threads against
processes, for small PNG files and for JPEG files of 1600 x 1200.

    python benchmarks/folders.py [--files 100000] [--rounds 3] [--fast]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import BUSY, Aims, missed, probe, save
from isthmus.data.catalog import load
from isthmus.data.decoding import read_parts
from isthmus.data.imageset import ImageSet

AIMS: Aims = {"share_of_decoding_alone": (0.8, None), "second_load_faster": (10, None)}
CORES = 2
PAUSE = 1.0  # seconds in which our own processes end, before a probe
JPEGS = 150


def write_digits(folder: Path, count: int) -> None:
    """PNG files in ten subfolders, each image another one."""
    digits = load("mnist-5k")
    assert digits.labels is not None
    generator = np.random.default_rng(0)
    for k in range(10):
        (folder / str(k)).mkdir(parents=True)
    for i in range(count):
        picture = np.roll(digits.images[i * 501 % len(digits), 0], generator.integers(-3, 4, 2), (0, 1))
        Image.fromarray(picture).save(folder / str(digits.labels[i * 501 % len(digits)]) / f"{i:06d}.png")


def write_photographs(folder: Path, count: int) -> None:
    """Large JPEG files of smooth noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        small = generator.integers(0, 256, (75, 100, 3), dtype=np.uint8)
        Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.jpg", quality=90)


def decode_alone(paths: list[str]) -> int:
    """What each process of the comparison does."""
    total = 0
    for path in paths:
        with Image.open(path) as image:
            total += np.asarray(image).size
    return total


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def check(sizes: list[int], first: ImageSet, second: ImageSet) -> None:
    """That all have read the same."""
    if sum(sizes) != first.images.size or first.fingerprint != second.fingerprint:
        raise SystemExit(f"not the same was read: {sum(sizes)}, {first.images.size}, {second.images.size} pixels")


def threads_against_processes(folder: Path, shape: tuple[int, int, int]) -> dict[str, float]:
    """Files a second either way."""
    paths = sorted(str(path) for path in folder.rglob("*.*"))
    found = {}
    for name, processes in (("threads", 0), ("processes", CORES)):
        spent = seconds_of(
            lambda processes=processes: [len(p.headers) for p in read_parts(paths, shape, processes=processes)]
        )
        found[name] = round(len(paths) / spent[0], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="20,000 files, and nothing is saved")
    options = parser.parse_args()
    count = 20_000 if options.fast else options.files
    place = Path(tempfile.mkdtemp(prefix="isthmus-folders-"))
    os.environ["ISTHMUS_HOME"] = str(place / "home")
    try:
        write_digits(place / "digits", count)
        write_photographs(place / "photographs", JPEGS // 5 if options.fast else JPEGS)
        facts = measure(place, count, options.rounds)
    finally:
        shutil.rmtree(place)
    if options.fast:
        print(facts)
    else:
        save("folders", facts)
    behind = missed(facts, AIMS)
    if behind and not options.fast:  # of few files, the start of the processes is a large share
        raise SystemExit(f"missed: {', '.join(behind)}")


def measure(place: Path, count: int, rounds: int) -> dict[str, object]:
    paths = sorted(str(path) for path in (place / "digits").rglob("*.png"))
    shares = [paths[start::CORES] for start in range(CORES)]
    times: dict[str, list[float]] = {"alone": [], "first": [], "second": []}
    best, discarded = min(probe() for _ in range(5)), 0
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        pool.map(decode_alone, [share[:100] for share in shares], chunksize=1)  # they have started
        work: dict[str, Callable[[], Any]] = {
            "alone": lambda: pool.map(decode_alone, shares, chunksize=1),
            "first": lambda: load(place / "digits"),
            "second": lambda: load(place / "digits"),
        }
        for turn in range(rounds + 1):
            shutil.rmtree(place / "home", ignore_errors=True)
            spent, found, busy = {}, {}, [probe()]
            for name in ("first", "second", "alone") if turn % 2 else ("alone", "first", "second"):
                spent[name], found[name] = seconds_of(work[name])
                time.sleep(PAUSE)
                busy.append(probe())
            check(found["alone"], found["first"], found["second"])
            best = min(best, *busy)
            quiet = max(busy) <= BUSY * best
            told = "warm-up" if not turn else "" if quiet else f"busy: {max(busy) / best:.2f}"
            print({name: round(value, 2) for name, value in spent.items()}, told, flush=True)
            discarded += bool(turn) and not quiet
            for name, value in spent.items() if turn and quiet else ():
                times[name].append(value)
    if not times["alone"]:
        raise SystemExit("the machine was too busy in every round; run again")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "files": count,
        "rounds": len(times["alone"]),
        "discarded": discarded,
        "seconds": {name: round(value, 2) for name, value in medians.items()},
        "share_of_decoding_alone": round(medians["alone"] / medians["first"], 3),
        "second_load_faster": round(medians["first"] / medians["second"], 1),
        "small_png_a_second": threads_against_processes(place / "digits", (1, 28, 28)),
        "large_jpeg_a_second": threads_against_processes(place / "photographs", (3, 256, 256)),
    }


if __name__ == "__main__":
    main()
