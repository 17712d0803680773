"""Finding the ten nearest of a million codes of 16 numbers: seconds a query, after loading.

The codes are a mixture, as those of images are. They are written and read back as a file of codes first, which is
timed beside. "ours" is what `isthmus search` calls for one query; "sklearn" is NearestNeighbors, brute force, fitted
beforehand, and a tree of scipy is timed too: all are asked the same queries, in turns and each as often first. Ours and
the tree's answers have to agree; scikit-learn's distances, which it rounds more, to rounding.

    python benchmarks/search.py [--codes 1000000] [--queries 30] [--fast]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from common import compared, in_turns, rounded, save
from isthmus.latent.search import nearest_codes
from isthmus.training.codes import CodesFile, read_codes, write_codes

SIZE, FOUND = 16, 10
MOST_SECONDS = 0.5

Way = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def made_up(count: int) -> NDArray[np.float32]:
    """Codes in ten clusters, (count, SIZE)."""
    generator = np.random.default_rng(0)
    centres = 3 * generator.normal(size=(10, SIZE))
    return (centres[generator.integers(0, 10, count)] + generator.normal(size=(count, SIZE))).astype(np.float32)


def through_a_file(codes: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """The codes as they come back from a file, and the seconds it takes to read them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.npz"
        names = tuple(f"folder-{i % 100:02d}/{i:07d}.png" for i in range(len(codes)))
        write_codes(path, CodesFile(codes, names, run="0" * 64))
        started = time.perf_counter()
        found = read_codes(path).codes
        return found, time.perf_counter() - started


def asking(way: Way, queries: NDArray[np.float32], found: list[NDArray[np.int64]]) -> Callable[[], dict[str, Any]]:
    """A contestant: the next of the queries, whose answer is put with those before it."""

    def sample() -> dict[str, Any]:
        query, started = queries[len(found)], time.perf_counter()
        answer = way(query[None])
        seconds = time.perf_counter() - started
        found.append(answer)
        return {"seconds": seconds}

    return sample


def check(codes: NDArray[np.float32], query: NDArray[np.float32], answers: dict[str, NDArray[np.int64]]) -> None:
    """That ours are the nearest, by the tree, and by distances in float64."""
    if set(answers["ours"].tolist()) != set(answers["tree"].tolist()):
        raise SystemExit(f"ours are not the nearest: {answers}")
    distances = {
        name: np.sort(np.square(codes[found].astype(np.float64) - query).sum(1)) for name, found in answers.items()
    }
    if not np.allclose(distances["ours"], distances["sklearn"], rtol=1e-3):
        raise SystemExit(f"ours and scikit-learn's are not as near: {distances}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--fast", action="store_true", help="100,000 codes, 5 queries, and nothing is saved")
    options = parser.parse_args()
    count, asked = (100_000, 5) if options.fast else (options.codes, options.queries)
    everything = made_up(count + asked)
    codes, load_seconds = through_a_file(everything[:count])
    queries = everything[count:]
    references, index = torch.from_numpy(codes), NearestNeighbors(n_neighbors=FOUND, algorithm="brute").fit(codes)
    tree = cKDTree(codes)
    ways: dict[str, Way] = {
        "ours": lambda query: nearest_codes(references, torch.from_numpy(query), count=FOUND).index[0],
        "sklearn": lambda query: index.kneighbors(query, return_distance=False)[0],  # it sorts them by distance
        "tree": lambda query: tree.query(query[0], FOUND)[1],
    }
    for way in ways.values():
        way(queries[:1])  # warm-up
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in ways}
    turns = in_turns({name: asking(way, queries, found[name]) for name, way in ways.items()}, asked, most=asked)
    for i, query in enumerate(queries):
        check(codes, query, {name: answers[i] for name, answers in found.items()})
    facts = compared(turns) | {
        "ours_worst_s": rounded(max(turns.seconds("ours"))),
        "load_s": round(load_seconds, 2),
        "codes": count,
        "queries": asked,
    }
    if options.fast:
        print(facts)
    else:
        save("search", facts)
    if facts["ours_worst_s"] > MOST_SECONDS:
        raise SystemExit(f"missed: {MOST_SECONDS} s a query, the slowest took {facts['ours_worst_s']} s")


if __name__ == "__main__":
    main()
