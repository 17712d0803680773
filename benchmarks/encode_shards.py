"""Encoding shards of 32 x 32 digits with the lab's encoder: what an image takes of a core and in bytes.

Shards of Parquet (PNG files, as Hugging Face writes them) and of .npy, codes of 2 and of 16 numbers, as many workers of
one thread as there are processors. The time of an image is that of the median shard, in three parts: reading and
decoding, network, writing; what starting the workers takes is left out. Beside it: how long the driver looks at a
shard that is done, and what codes take in memory when they are read back as one set. docs/tools/scale.py makes of these
figures what docs/scale.md says.

    python benchmarks/encode_shards.py [--shards 8] [--images 50000] [--fast]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image

from common import BUSY, probe, save
from isthmus.cli.options import prepare_process
from isthmus.data.catalog import load
from isthmus.studies.single import train_one
from isthmus.training.shard_engines import EncodedShards, encode_shards
from isthmus.training.shard_writing import ShardWriter
from isthmus.writing import written

SIZES = (2, 16)
KINDS = ("parquet", "npy")
PARTS = ("reading", "network", "writing")
READ_BACK = """
import sys
from pathlib import Path
from isthmus.training.joined_codes import read_joined_codes

def bytes_of(what):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))

read_joined_codes(next(Path(sys.argv[1]).parent.glob("*.parquet")))  # what is imported for it does not count
before = bytes_of("VmRSS")
codes = read_joined_codes(Path(sys.argv[1]))
print((bytes_of("VmHWM") - before) / len(codes))
"""


def write_shards(folder: Path, kind: str, shards: int, images: int) -> float:
    """Write shards of digits; returns the bytes that an image takes."""
    digits = load("mnist-5k", size=(32, 32)).images[:, 0]
    contents = [png(digit) for digit in digits] if kind == "parquet" else []
    folder.mkdir(parents=True)
    for i in range(shards):
        rows = (np.arange(images) * 7 + i * 13) % len(digits)
        path = folder / f"{i:05d}.{kind}"
        if kind == "npy":
            np.save(path, digits[rows])
        else:
            struct = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
            column = pyarrow.array([{"bytes": contents[row], "path": None} for row in rows], struct)
            pyarrow.parquet.write_table(
                pyarrow.table({"image": column}), path, row_group_size=1000, use_dictionary=False
            )
    return sum(path.stat().st_size for path in folder.iterdir()) / (shards * images)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A digit as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def encoded(run: Path, source: Path, out: Path, workers: int) -> EncodedShards:
    """Encode shards; any that fail end the measurement."""
    found = encode_shards(run, [str(source)], out, workers=workers, prepare=prepare_process)
    for shard in found.shards:
        if shard.error or shard.left_out_count:
            raise SystemExit(f"{shard.shard.source}: {shard.error or shard.left_out}")
    return found


def of_an_image(found: EncodedShards) -> dict[str, float]:
    """Microseconds of a core that an image takes, by part and in all, of the median shard."""
    times = [{part: 1e6 * each.seconds[part] / each.images for part in PARTS} for each in found.shards]
    middle = {part: statistics.median(time[part] for time in times) for part in PARTS}
    return {**middle, "all": statistics.median(sum(time.values()) for time in times)}


def measure_kinds(
    folder: Path, runs: dict[int, Path], shards: int, images: int, best: list[float]
) -> tuple[dict[str, Any], int]:
    """Every kind of shard with every size of code; how many samples were disturbed."""
    cores, figures, disturbed = len(os.sched_getaffinity(0)), dict[str, Any](), 0
    for kind in KINDS:
        bytes_in = write_shards(folder / kind, kind, shards, images)
        for size, run in runs.items():
            for workers in sorted({1, cores}):
                out, before = folder / f"{kind}-{size}-{workers}", probe()
                found = encoded(run, folder / kind, out, workers)
                after = probe()
                best[0] = min(best[0], before, after)
                disturbed += max(before, after) > BUSY * best[0]
                times = of_an_image(found)
                name = f"{kind}.{size}.{'cores' if workers == cores else 'core'}"
                figures[name] = {
                    "us_an_image": {part: round(value, 2) for part, value in times.items()},
                    "images_a_second_a_core": round(1e6 / times["all"]),
                    "bytes_in": round(bytes_in, 1),
                    "bytes_out": round(sum(p.stat().st_size for p in out.glob("*.parquet")) / found.images, 1),
                    "workers": workers,
                }
                print(name, figures[name], flush=True)
    return figures, disturbed


def driver_seconds(run: Path, folder: Path, shards: int) -> float:
    """Seconds that the driver takes to see that one shard is done, of many that are tiny."""
    write_shards(folder / "tiny", "parquet", shards, 20)
    encoded(run, folder / "tiny", folder / "tiny-codes", len(os.sched_getaffinity(0)))
    started = time.perf_counter()
    again = encoded(run, folder / "tiny", folder / "tiny-codes", 1)
    seconds = time.perf_counter() - started
    if len(again.of("done before")) != shards:
        raise SystemExit("shards were done again that were done before")
    return seconds / shards


def bytes_in_memory(folder: Path, count: int, size: int) -> float:
    """Bytes that a code takes at most while a set of them is read back for a search."""
    codes = np.random.default_rng(0).normal(size=(count // 10, size)).astype(np.float32)
    for i in range(10):
        names = [f"{i:05d}-{row:06d}" for row in range(len(codes))]
        with (
            written(folder / f"{i:05d}.parquet") as file,
            ShardWriter(file, size, labelled=False, posterior=False, model="0" * 64) as writer,
        ):
            writer.add(names, [None] * len(codes), codes)
            writer.finish({})
    command = [sys.executable, "-c", READ_BACK, f"{folder}/*.parquet"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--images", type=int, default=50_000, help="in each shard")
    parser.add_argument("--fast", action="store_true", help="4 shards of 2,000 images, and nothing is saved")
    options = parser.parse_args()
    shards, images = (4, 2000) if options.fast else (options.shards, options.images)
    best = [min(probe() for _ in range(5))]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = {}
        for size in SIZES:
            changes = ["training.epochs=1", "data.height=32", "data.width=32", f"model.latent_dim={size}"]
            changes.append("model.code_relu=false")  # codes without zeros, which would take less space
            runs[size] = folder / f"lab{size}"
            train_one("lab", "mnist-5k", runs[size], changes=changes)
        figures, disturbed = measure_kinds(folder, runs, shards, images, best)
        driver = driver_seconds(runs[2], folder, 50 if options.fast else 1000)
        held = {
            size: bytes_in_memory(folder / f"held{size}", 20_000 if options.fast else 10**6, size) for size in SIZES
        }
    facts = {
        "images": shards * images,
        "images_a_shard": images,
        "encoding": figures,
        "driver_ms_a_shard": round(1000 * driver, 3),
        "bytes_a_code_in_memory": {str(size): round(value, 1) for size, value in held.items()},
        "clean": len(figures) - disturbed,
        "discarded": disturbed,
    }
    if options.fast:
        print(facts)
    else:
        save("encode_shards", facts)
    if disturbed:
        raise SystemExit(f"{disturbed} of {len(figures)} samples were disturbed by others; measure again")


if __name__ == "__main__":
    main()
