"""Reading a folder of small PNG files, one subfolder a class: ours for the first and the second time, against a torch
Dataset with PIL and a DataLoader of none and of two worker processes.

folders.py looks closer, at 100,000 files: against decoding alone, and small files against large ones.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import NotMeasured, compared, in_turns, rounded
from contestants import orders, running
from folders import write_digits
from isthmus.data.catalog import load
from workloads.plan import Facts, Plan, Workload

WORKERS = {"pytorch": 0, "pytorch_2_workers": 2}


def ours(folder: Path, *, images: str) -> Callable[[], dict[str, Any]]:
    """The first load has no cache of ours; the files may be in the system's, as they are for the peers."""
    home = folder / "home"
    os.environ["ISTHMUS_HOME"] = str(home)

    def sample() -> dict[str, Any]:
        shutil.rmtree(home, ignore_errors=True)
        started = time.perf_counter()
        first = load(Path(images))
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        second = load(Path(images))
        again = time.perf_counter() - started
        assert second.labels is not None, "the subfolders name the classes"
        sums = {"pixels": int(first.images.sum(dtype=np.int64)), "labels": int(second.labels.sum())}
        return {"seconds": seconds, "second": again, **sums}

    sample()
    return sample


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    folder = plan.folder / "load_folder"
    files = plan.pick(50_000, 10_000, 500)
    write_digits(folder / "images", files)
    images = {"images": str(folder / "images")}
    options = {"ours": images, **{name: {**images, "workers": count} for name, count in WORKERS.items()}}
    targets = {"ours": "workloads.folder_loading:ours", **dict.fromkeys(WORKERS, "peers.image_folder:prepare")}
    with running(targets, folder, options) as contestants:
        turns = in_turns(orders(contestants), plan.rounds, any_machine=plan.any_machine)
    sums = {name: {k: turns.answers(name)[0][k] for k in ("pixels", "labels")} for name in turns.samples}
    if any(found != sums["ours"] for found in sums.values()):
        raise NotMeasured(f"not the same was read: {sums}")
    again = float(np.median([answer["second"] for answer in turns.answers("ours")]))
    return {"load_folder": {**compared(turns), "second_s": rounded(again), "files": files}}


WORKLOADS = [Workload(("load_folder",), measure, {})]
