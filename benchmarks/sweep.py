"""The nine runs of the study of signs: in two processes of one thread, against one after the other with two threads.

The sheet's classifier at four learning rates and the convolutional autoencoder at 3, 10, 10, 100 and 250 numbers, each
for a share of the study's epochs, on made-up images (what they show does not change the time). The two ways take turns;
a round counts if a fixed matrix product took about as long before and after each as at best, and if nobody else used
the processors meanwhile. Starting the processes is included.

    python benchmarks/sweep.py [--rounds 3] [--images 1300] [--share 0.2]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from common import probe, save
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet, Split
from isthmus.settings import DataSettings, ModelSettings, RunSettings, TrainingSettings
from isthmus.studies.rates import PLAIN, PLAIN_MODEL, RATES
from isthmus.studies.sizes import CODES, CONV, CONV_TRAINING
from isthmus.training.sweep import Trial, sweep

AIM = 1.3
BUSY = 1.5  # times the best probe: more means that somebody else was at work
OTHERS = 0.1  # of one processor that others may use meanwhile


def made_up(count: int) -> Split:
    """As many grey images of 64 x 64 in ten classes as a set of `count` training images has, 70 / 15 / 15."""
    generator = np.random.default_rng(0)
    classes = tuple("0123456789")

    def part(images: int) -> ImageSet:
        pixels = generator.integers(0, 256, (images, 1, 64, 64), np.uint8)
        return ImageSet(pixels, np.arange(images, dtype=np.int64) % 10, classes)

    return Split(part(count), part(count * 15 // 70), part(count * 15 // 70))


def nine(folder: Path, share: float) -> list[Trial]:
    """The trials, each into a folder of its own."""

    def trial(name: str, model: ModelSettings, training: TrainingSettings, seed: int = 0) -> Trial:
        training = training.model_copy(update={"epochs": max(1, round(share * training.epochs))})
        data = DataSettings(name="made-up")
        return Trial(name, folder / name, RunSettings(data=data, model=model, training=training, seed=seed))

    trials = [
        trial(f"rate-{rate}", PLAIN_MODEL, PLAIN.model_copy(update={"learning_rate": float(rate)})) for rate in RATES
    ]
    for name, size in CODES.items():
        trials.append(
            trial(f"conv{name}", CONV.model_copy(update={"latent_dim": size}), CONV_TRAINING, int(name == "10b"))
        )
    return trials


def used() -> tuple[float, float]:
    """Seconds of processor time: of all that runs on this machine (Linux; elsewhere 0), and of ours alone."""
    table = Path("/proc/stat")
    ticks = table.read_text().split()[1:9] if table.exists() else ["0"] * 8
    busy = sum(map(int, ticks)) - int(ticks[3]) - int(ticks[4])  # without idle and waiting for a disk
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy / os.sysconf("SC_CLK_TCK"), sum(usage.ru_utime + usage.ru_stime for usage in ours)


def seconds(parts: Split, share: float, *, workers: int) -> float:
    """Of the whole sweep, from the call to the last outcome."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcomes = sweep(nine(Path(folder), share), parts, workers=workers, prepare=prepare_process)
        spent = time.perf_counter() - started
    failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.status == "failed"}
    if failed:
        raise SystemExit(f"failed: {failed}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1300)
    parser.add_argument("--share", type=float, default=0.2)
    options = parser.parse_args()
    prepare_process()
    torch.set_num_threads(2)
    parts = made_up(options.images)
    seconds(made_up(100), 0, workers=1)  # warm-up
    best = min(probe() for _ in range(5))
    rounds: list[dict[int, float]] = []
    for _ in range(options.rounds):
        times: dict[int, float] = {}
        for workers in (1, 2):
            before, (all_before, ours_before) = probe(), used()
            spent = seconds(parts, options.share, workers=workers)
            (all_after, ours_after), after = used(), probe()
            best = min(best, before, after)
            others = max(0.0, all_after - all_before - (ours_after - ours_before)) / spent
            print(f"{workers} process(es): {spent:.1f} s; others used {others:.0%} of a processor", flush=True)
            if max(before, after) <= BUSY * best and others <= OTHERS:
                times[workers] = spent
        rounds.append(times)
    clean = [times for times in rounds if len(times) == 2]
    if not clean:
        raise SystemExit("the machine was too busy: there was no clean round; run again")
    ratio = statistics.median(times[1] / times[2] for times in clean)
    facts = {
        "one_after_the_other_s": round(statistics.median(times[1] for times in clean), 1),
        "two_processes_s": round(statistics.median(times[2] for times in clean), 1),
        "ratio": round(ratio, 2),
        "ratios": [round(times[1] / times[2], 2) for times in clean],
        "discarded": len(rounds) - len(clean),
        "share_of_epochs": options.share,
        "images": options.images,
    }
    save("sweep.nine", facts)
    if ratio < AIM:
        raise SystemExit(f"missed: {AIM} times faster than one after the other")


if __name__ == "__main__":
    main()
