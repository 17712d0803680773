"""MAP denoising of MNIST's 10,000 test images, noise of 0.25: ours against 1000 steps of Adam from random codes.

One VAE with a code of 16 numbers is trained first, untimed. Both minimise the same objective through the same decoder,
and ours has to end no higher. The peer runs on a part of the images; its time is scaled up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import compared, in_turns
from contestants import orders, running
from isthmus.cli.options import prepare_process
from isthmus.data.degrade import add_noise
from isthmus.inverse.map import restore
from isthmus.metrics import psnr
from isthmus.networks.apply import to_float
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.studies.single import train_one
from workloads.plan import Facts, Plan, Workload, mnist

SIGMA, STEPS = 0.25, 1000
AIM = 30.0


def ours(folder: Path, *, part: int) -> Callable[[], dict[str, Any]]:
    prepare_process()
    network = Run(folder / "run").network()
    assert isinstance(network, VAE), "that is what was trained"
    noisy, clean = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("noisy", "clean"))

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        found = restore(network, noisy, sigma=SIGMA)
        seconds = time.perf_counter() - started
        with torch.no_grad():
            misfit = (network.decode(found.codes[:part]) - noisy[:part]).square().flatten(1).sum(1) / (2 * SIGMA**2)
            objective = misfit + 0.5 * found.codes[:part].square().sum(1)
        return {
            "seconds": seconds,
            "objective": float(objective.mean()),
            "psnr": float(psnr(found.images[:part].clamp(0, 1), clean[:part]).mean()),
            "converged": float(found.converged.float().mean()),
        }

    restore(network, noisy[:50], sigma=SIGMA)
    return sample


def write_task(plan: Plan) -> tuple[Path, int]:
    """The folder, and how many images the peer restores."""
    folder, size = plan.folder / "map", ["data.height=32", "data.width=32"]
    short = [] if plan.size == "full" else [f"training.epochs={plan.pick(0, 3, 1)}"]
    train_one("vae", "mnist" if plan.size == "full" else "mnist-5k", folder / "run", changes=[*size, *short])
    network = Run(folder / "run").network()
    assert isinstance(network, VAE), "that is what was trained"
    weights = [parameter.detach().numpy() for parameter in network.decoder.parameters()]
    np.savez(folder / "decoder.npz", **{f"{i:03d}": value for i, value in enumerate(weights)})
    clean = to_float(torch.from_numpy(mnist().test.images))[: plan.pick(10_000, 3_000, 100)]
    np.save(folder / "clean.npy", clean.numpy())
    np.save(folder / "noisy.npy", add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(1)).numpy())
    return folder, plan.pick(400, 100, 20)


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    folder, part = write_task(plan)
    steps = plan.pick(STEPS, STEPS, 20)
    options = {"ours": {"part": part}, "adam_1000": {"sigma": SIGMA, "part": part, "steps": steps}}
    targets = {"ours": "workloads.restoration:ours", "adam_1000": "peers.adam_map:prepare"}
    with running(targets, folder, options) as contestants:
        turns = in_turns(orders(contestants), min(plan.rounds, 3), any_machine=plan.any_machine)
    facts = compared(turns)
    for figure, digits in (("objective", 3), ("psnr", 2)):
        facts[figure] = {
            name: round(float(np.mean([answer[figure] for answer in turns.answers(name)])), digits)
            for name in turns.samples
        }
    facts["converged"] = round(turns.answers("ours")[0]["converged"], 4)
    facts["part"] = part
    higher = facts["objective"]["ours"] - facts["objective"]["adam_1000"]
    facts["missed"] = [f"our objective ends {higher:.3g} higher"] if higher > 0 else []
    return {"map": facts}


WORKLOADS = [Workload(("map",), measure, {"map": {"*": AIM}}, fast=("map",))]
