"""Seconds until the lab's autoencoder rebuilds the test images with the error that our defaults reach.

Ours is the whole training of `isthmus train lab`, choosing by validation images included. The peer is the tutorial's
loop of batch 64 and rate 1e-3 on the same network, images and first weights, which trains until its test error is as
low, and is stopped after 8 times our time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import Turns, compared, in_turns
from contestants import running
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet
from isthmus.networks.catalog import NETWORKS
from isthmus.training.loop import train
from isthmus.training.scoring import score
from workloads.plan import Facts, Plan, Workload, around, mnist
from workloads.training import EPOCHS, start, write_task

NAME = "time_to_error.lab"
AIM, AT_MOST = 3.0, 8


def ours(folder: Path, *, epochs: int) -> Callable[[], dict[str, Any]]:
    prepare_process()
    training, validation = (ImageSet(np.load(folder / f"{part}.npy"), None) for part in ("images", "validation"))
    test = torch.from_numpy(np.load(folder / "test.npy"))
    settings = NETWORKS["lab"].training.model_copy(update={"epochs": epochs})

    def sample() -> dict[str, Any]:
        network = start(EPOCHS["train.lab.b64"], folder)
        started = time.perf_counter()
        train(network, training, validation, settings)
        return {"seconds": time.perf_counter() - started, "error": score(network, test, None)["loss"]}

    return sample


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    folder = write_task("train.lab.b64", plan, folder=NAME)
    for part, data in (("validation", mnist().validation), ("test", mnist().test)):
        np.save(folder / f"{part}.npy", data.images[: plan.pick(10_000, 2_000, 200)])
    epochs = NETWORKS["lab"].training.epochs
    options = {"ours": {"epochs": plan.pick(epochs, epochs, 1)}}
    targets = {"ours": "workloads.error:ours", "pytorch": "peers.loop_to_error:prepare"}
    with running(targets, folder, options) as contestants:
        before = in_turns({"ours": contestants["ours"].ask}, plan.rounds // 2 + 1, any_machine=plan.any_machine)
        target = float(np.median([answer["error"] for answer in before.answers("ours")]))
        limit = AT_MOST * float(np.median(before.seconds("ours")))
        loop = {"pytorch": lambda: contestants["pytorch"].ask(target=target, limit=limit)}
        peer = in_turns(loop, 1, any_machine=plan.any_machine)
        after = in_turns({"ours": contestants["ours"].ask}, max(1, plan.rounds // 2), any_machine=plan.any_machine)
    return {NAME: facts_of(around(before, peer, after), target)}


def facts_of(turns: Turns, target: float) -> Facts:
    facts = compared(turns)
    answers = turns.answers("pytorch")
    facts["at_least"] = [] if all(answer["reached"] for answer in answers) else ["pytorch"]
    facts["test_mse"] = round(target, 6)
    facts["peer_errors"] = [round(error, 5) for error in answers[0]["errors"]]
    return facts


WORKLOADS = [Workload((NAME,), measure, {NAME: {"*": AIM}})]
