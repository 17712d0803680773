"""The nearest of 60,000 training codes for each of 10,000 test codes of 2, 16 and 250 numbers, by ours and libraries.

The codes are those of exact PCA of MNIST. Making the index is timed with asking it. All have to find neighbours that
are equally near. In 250 dimensions the tree is asked a part of the queries, and its time scaled up.
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
from isthmus.latent.neighbours import nearest
from isthmus.networks.apply import encode
from isthmus.networks.pca import principal_components
from workloads.plan import Facts, Plan, Workload, mnist

SIZES = (2, 16, 250)
WAYS = ("sklearn", "sklearn_brute", "faiss", "tree")
TREE_SHARE = 0.02
AGREE = 1e-3  # of the mean distance: faiss and scikit-learn round |a|^2 - 2 a b + |b|^2 in float32
AIM = 1 / 1.1


def ours(folder: Path) -> Callable[[], dict[str, Any]]:
    prepare_process()
    references, queries = np.load(folder / "references.npy"), np.load(folder / "queries.npy")
    nearest(references[:500], queries[:50])

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        index = nearest(references, queries)
        seconds = time.perf_counter() - started
        gaps = references[index].astype(np.float64) - queries
        return {"seconds": seconds, "distances": np.sqrt(np.square(gaps).sum(1)).tolist()}

    return sample


def write_codes(plan: Plan, size: int) -> Path:
    folder, parts = plan.folder / f"knn.{size}", mnist(28)
    folder.mkdir()
    network = principal_components(parts.train, size).autoencoder()
    images = np.concatenate([parts.train.images, parts.validation.images])
    np.save(folder / "references.npy", encode(network, images[: plan.pick(60_000, 60_000, 3_000)]))
    np.save(folder / "queries.npy", encode(network, parts.test.images[: plan.pick(10_000, 10_000, 300)]))
    return folder


def measure(plan: Plan, names: Sequence[str]) -> dict[str, Facts]:
    (name,) = names
    size = int(name.partition(".")[2])
    folder = write_codes(plan, size)
    options = {way: {"way": way, "share": TREE_SHARE if (way, size) == ("tree", 250) else 1.0} for way in WAYS}
    targets = {"ours": "workloads.neighbours:ours", **dict.fromkeys(WAYS, "peers.nearest:prepare")}
    with running(targets, folder, options) as contestants:
        turns = in_turns(orders(contestants), plan.rounds, any_machine=plan.any_machine)
    check({contestant: np.array(turns.answers(contestant)[0]["distances"]) for contestant in turns.samples})
    return {name: compared(turns)}


def check(distances: dict[str, Any]) -> None:
    """Raises: NotMeasured if somebody's neighbours are farther than others'."""
    own = distances["ours"]
    for name, found in distances.items():
        apart = np.abs(found - own[: len(found)]).max()
        if not apart <= AGREE * own.mean():
            raise NotMeasured(f"neighbours by {name} and by ours differ by up to {apart:.3g} in distance")


WORKLOADS = [Workload((f"knn.{size}",), measure, {f"knn.{size}": {"*": AIM}}) for size in SIZES]
