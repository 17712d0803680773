"""Encoding images through the estimator against the bare network in evaluation mode, in turns in one run.

60,000 uint8 images of 32 x 32 and the lab's encoder. "bare" is what a person would write by hand: the same network, the
same uint8 tensors, batches of the same size, each cast and scaled to [0, 1]. "bare_float" is given float32 tensors that
were scaled beforehand, which costs it neither the checks nor the cast.

    python benchmarks/encode.py [--images 60000] [--rounds 5] [--fast]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import Tensor

from common import probe, save
from isthmus.cli.options import prepare_process
from isthmus.data.catalog import load
from isthmus.estimators.autoencoders import ConvAutoencoder
from isthmus.networks.apply import BATCH
from isthmus.networks.autoencoder import Autoencoder

AIM = 0.9
BUSY = 1.5


@torch.inference_mode()
def bare(network: Autoencoder, images: Tensor) -> Tensor:
    """Codes of images (N, 1, 32, 32), uint8 or float."""
    parts = []
    for batch in images.split(BATCH):
        scaled = batch.float() / 255 if batch.dtype == torch.uint8 else batch
        parts.append(network.encoder(scaled))
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fast", action="store_true", help="6,000 images, and nothing is saved")
    options = parser.parse_args()
    prepare_process()
    digits = load("mnist-5k", size=(32, 32)).images
    count = 6000 if options.fast else options.images
    images = np.resize(digits, (count, *digits.shape[1:]))
    model = ConvAutoencoder(latent_dim=2, epochs=1, code_relu=True, random_state=0).fit(images[:2000])
    network = model.network_.eval()
    tensors = torch.from_numpy(images)
    floats = tensors.float() / 255
    ways = {
        "estimator": lambda: model.transform(images),
        "bare": lambda: bare(network, tensors),
        "bare_float": lambda: bare(network, floats),
    }
    answers = {name: np.asarray(way()) for name, way in ways.items()}  # and the warm-up
    for name, codes in answers.items():
        assert np.allclose(codes, answers["bare"], atol=1e-5), name
    best, discarded = min(probe() for _ in range(5)), 0
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            before, started = probe(), time.perf_counter()
            way()
            seconds, after = time.perf_counter() - started, probe()
            best = min(best, before, after)
            if max(before, after) > BUSY * best:
                discarded += 1
                continue
            times[name].append(seconds)
            print(f"{name} {seconds:.3f} s, {count / seconds:,.0f} images a second", flush=True)
    if not all(times.values()):
        raise SystemExit("the machine was too busy: no clean sample of one of them; run again")
    medians = {name: statistics.median(values) for name, values in times.items()}
    facts = {
        "ours_s": round(medians["estimator"], 3),
        "peers_s": {name: round(medians[name], 3) for name in ("bare", "bare_float")},
        "ratio": {name: round(medians[name] / medians["estimator"], 3) for name in ("bare", "bare_float")},
        "images": count,
        "clean": sum(map(len, times.values())),
        "discarded": discarded,
    }
    if options.fast:
        print(facts)
    else:
        save("encode", facts)
    if facts["ratio"]["bare"] < AIM:
        raise SystemExit(f"missed: {AIM:.0%} of the throughput of the bare network")


if __name__ == "__main__":
    main()
