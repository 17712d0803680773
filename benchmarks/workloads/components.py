"""Exact PCA of MNIST's 60,000 training images, ten components: ours from eight-bit images against scikit-learn's
solvers on float64 rows that were scaled beforehand. "randomized" is not exact, and shown beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import NotMeasured, compared, in_turns
from contestants import orders, running
from isthmus.cli.options import prepare_process
from isthmus.data.imageset import ImageSet
from isthmus.networks.pca import principal_components
from workloads.plan import Facts, Plan, Workload, joined, mnist

COMPONENTS = 10
EXACT = ("covariance_eigh", "full")
AGREE = 1e-8
AIM = 1 / 1.2  # of the fastest exact solver


def ours(folder: Path) -> Callable[[], dict[str, Any]]:
    prepare_process()
    images = ImageSet(np.load(folder / "images.npy"), None)

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        found = principal_components(images, COMPONENTS)
        return {"seconds": time.perf_counter() - started, "variances": found.variances.tolist()}

    sample()
    return sample


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    folder = plan.folder / "pca"
    folder.mkdir()
    images, _ = joined(mnist(28).train, mnist(28).validation)
    np.save(folder / "images.npy", images[: plan.pick(60_000, 60_000, 2_000)])
    solvers = [*EXACT, "randomized"]
    options = {solver: {"solver": solver, "components": COMPONENTS} for solver in solvers}
    targets = {"ours": "workloads.components:ours", **dict.fromkeys(solvers, "peers.sklearn_pca:prepare")}
    with running(targets, folder, options) as contestants:
        turns = in_turns(orders(contestants), plan.rounds, any_machine=plan.any_machine)
    found = {name: np.array(turns.answers(name)[0]["variances"]) for name in turns.samples}
    for solver in EXACT:
        if not np.allclose(found[solver], found["ours"], rtol=AGREE, atol=0):
            raise NotMeasured(f"ours finds the variances {found['ours']}, {solver} {found[solver]}")
    approximate = float(np.abs(found["randomized"] / found["ours"] - 1).max())
    return {"pca": {**compared(turns), "images": len(images), "randomized_differs": approximate}}


WORKLOADS = [Workload(("pca",), measure, {"pca": dict.fromkeys(EXACT, AIM)})]
