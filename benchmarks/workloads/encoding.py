"""Codes of 60,000 uint8 images of 32 x 32: the estimator against the bare network and against plain PyTorch.

"bare" is our network in evaluation mode, written by hand in large batches on the same uint8 tensors; "bare_float" is
given float32 tensors scaled beforehand, which costs it neither checks nor casts. "pytorch" is the plain network with a
DataLoader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import NotMeasured, compared, in_turns
from contestants import orders, running
from isthmus.cli.options import prepare_process
from isthmus.data.catalog import load
from isthmus.estimators.autoencoders import ConvAutoencoder
from isthmus.networks.apply import BATCH
from isthmus.networks.autoencoder import Autoencoder
from workloads.plan import Facts, Plan, Workload

AIM = 0.9


def prepare(folder: Path, *, way: str) -> Callable[[], dict[str, Any]]:
    """A contestant that runs our network, one of the ways."""
    prepare_process()
    images = np.load(folder / "images.npy")
    model = fitted(images)
    tensors = torch.from_numpy(images)
    floats = tensors.float() / 255
    network = model.network_.eval()
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: model.transform(images),
        "bare": lambda: bare(network, tensors),
        "bare_float": lambda: bare(network, floats),
    }

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        codes = ways[way]()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "codes": np.asarray(codes)[:: max(1, len(codes) // 100)].tolist()}

    sample()
    return sample


def fitted(images: Any) -> ConvAutoencoder:
    """The same in every process that asks."""
    return ConvAutoencoder(latent_dim=2, epochs=1, code_relu=True, random_state=0).fit(images[:2000])


@torch.inference_mode()
def bare(network: Autoencoder, images: Tensor) -> Tensor:
    """Codes of images (N, 1, 32, 32), uint8 or float."""
    parts = []
    for batch in images.split(BATCH):
        scaled = batch.float() / 255 if batch.dtype == torch.uint8 else batch
        parts.append(network.encoder(scaled))
    return torch.cat(parts)


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    folder = plan.folder / "encode"
    folder.mkdir()
    digits = load("mnist-5k", size=(32, 32)).images
    images = np.resize(digits, (plan.pick(60_000, 30_000, 2_000), *digits.shape[1:]))
    np.save(folder / "images.npy", images)
    state = fitted(images).network_.encoder.state_dict()
    np.savez(folder / "encoder.npz", **{f"{i:03d}": value.numpy() for i, value in enumerate(state.values())})
    ways = ("ours", "bare", "bare_float")
    targets = {**dict.fromkeys(ways, "workloads.encoding:prepare"), "pytorch": "peers.pytorch_encode:prepare"}
    with running(targets, folder, {way: {"way": way} for way in ways}) as contestants:
        turns = in_turns(orders(contestants), plan.rounds, any_machine=plan.any_machine)
    own = np.array(turns.answers("ours")[0]["codes"])
    for name in turns.samples:
        apart = float(np.abs(np.array(turns.answers(name)[0]["codes"]) - own).max())
        if not apart <= 1e-4:
            raise NotMeasured(f"codes by {name} differ from ours by {apart:.3g}")
    return {"encode": {**compared(turns), "images": len(images)}}


WORKLOADS = [Workload(("encode",), measure, {"encode": {"bare": AIM}})]
