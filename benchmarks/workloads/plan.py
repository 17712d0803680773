"""How large a measurement is: `full` for the figures that are published, `fast` for eight minutes in all, `tiny` to see
that everything works."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common import Turns
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split

AT_MOST = 25  # times our time: a peer that has not reached a target by then is stopped
Size = Literal["full", "fast", "tiny"]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """folder: where a workload puts what its contestants read. any_machine: count disturbed samples as well."""

    size: Size
    folder: Path
    rounds: int
    any_machine: bool = False

    def pick(self, full: int, fast: int, tiny: int) -> int:
        return {"full": full, "fast": fast, "tiny": tiny}[self.size]


@dataclass(frozen=True)
class Workload:
    """One measurement.

    names: of its figures in results.json. measure: called with the plan and those of the names that are wanted, gives
    the facts by name. aims: by name, the smallest ratio to each of some peers ("*" for all of them). fast: which of the
    names are measured in fast runs.
    """

    names: tuple[str, ...]
    measure: Callable[[Plan, Sequence[str]], dict[str, Facts]]
    aims: Mapping[str, Mapping[str, float]]
    fast: tuple[str, ...] = ()


def behind(facts: Facts, aims: Mapping[str, float]) -> list[str]:
    """What falls short of its aim, in words. Facts may list further ones under `missed`."""
    found = []
    for peer, least in aims.items():
        for name, ratio in facts["ratio"].items():
            if peer in ("*", name) and ratio < least:
                found.append(f"{ratio:.2f} times {name}, aim {least:g}")
    return found + list(facts.get("missed", []))


@functools.cache
def mnist(size: int = 32) -> Split:
    """MNIST: 50,000 / 10,000 / 10,000."""
    return split(load("mnist", size=(size, size)))


def around(before: Turns, peer: Turns, after: Turns) -> Turns:
    """Ours before and after a peer that takes minutes, as one measurement."""
    samples = {name: before.samples[name] + after.samples[name] for name in before.samples}
    return Turns(samples | peer.samples, before.discarded + peer.discarded + after.discarded)


def joined(first: ImageSet, second: ImageSet) -> tuple[Any, Any]:
    """Images and labels of two sets as two arrays."""
    return np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels])
