"""The nearest of many codes by the libraries for it: building the index and asking it are both timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors


def by_sklearn(references: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    return NearestNeighbors(n_neighbors=1).fit(references).kneighbors(queries, return_distance=False)[:, 0]


def by_brute_force(references: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(references)
    return index.kneighbors(queries, return_distance=False)[:, 0]


def by_faiss(references: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    index = faiss.IndexFlatL2(references.shape[1])
    index.add(references)
    return index.search(queries, 1)[1][:, 0]


def by_tree(references: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    return cKDTree(references).query(queries, workers=-1)[1]


WAYS = {"sklearn": by_sklearn, "sklearn_brute": by_brute_force, "faiss": by_faiss, "tree": by_tree}


def prepare(folder: Path, *, way: str, share: float = 1.0) -> Callable[..., dict[str, Any]]:
    """Arguments: share: of the queries that are asked, where all would take minutes; the time is scaled up."""
    references, queries = np.load(folder / "references.npy"), np.load(folder / "queries.npy")
    asked = queries[: max(1, round(share * len(queries)))]
    find = WAYS[way]
    find(references[:500], asked[:50])

    def sample() -> dict[str, Any]:
        started = time.perf_counter()
        index = find(references, asked)
        seconds = (time.perf_counter() - started) * len(queries) / len(asked)
        gaps = references[index].astype(np.float64) - asked
        return {"seconds": seconds, "distances": np.sqrt(np.square(gaps).sum(1)).tolist()}

    return sample
