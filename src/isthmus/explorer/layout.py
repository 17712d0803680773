"""A layout that keeps neighbours: t-SNE (van der Maaten and Hinton 2008) of the codes, made once, at export.

It is computed by openTSNE (Polićar, Stražar and Zupan 2024), an extra of this package.
"""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import InputError

NAME = "t-SNE"
PACKAGE = "openTSNE"
MOST = 20_000  # points
PERPLEXITY = 30.0  # neighbours each point keeps, roughly; fewer where there are few points
LEAST = 8  # points below which there are no neighbours to keep


def check_package() -> None:
    """Raises: InputError if openTSNE is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(f'--layout tsne needs {PACKAGE}: `pip install "isthmus[tsne]"`, or leave the option out.')


def tsne(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Places (N', 2) of the first N' codes, at most 20,000; the same codes give the same places.

    Raises: InputError if openTSNE is missing, or there are fewer than 8 codes.
    """
    check_package()
    some = np.ascontiguousarray(codes[:MOST], np.float64)
    if len(some) < LEAST:
        raise InputError(f"--layout tsne needs at least {LEAST} images, got {len(some)}: leave the option out.")
    package = importlib.import_module(PACKAGE)
    perplexity = min(PERPLEXITY, (len(some) - 1) / 3)
    fitted = package.TSNE(perplexity=perplexity, initialization="pca", random_state=0, n_jobs=1).fit(some)
    places: NDArray[np.float64] = np.asarray(fitted, np.float64)
    return np.asarray(places - places.mean(0), np.float32)
