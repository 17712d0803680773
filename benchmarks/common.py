"""What the benchmarks share: a guard against a busy machine, measuring in turns, and the file of results.

A sample is clean if a fixed matrix product took about as long before and after it as at best in the run, and if
nobody else used the processors meanwhile. Contestants take turns, each round begins with another one, and the others
are counted, said and left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isthmus.machine import environment

Aims = dict[str, tuple[float | None, float | None]]  # name: (least, most), None where there is no bound
RESULTS = Path(__file__).parent / "results.json"
BUSY = 1.5  # times the best probe of a run: more means that somebody else was at work
OTHERS = 0.1  # of one processor that others may use during a sample
UNSEEN = 0.05  # seconds of theirs that are not held against a sample: the system counts in hundredths
PROC = Path("/proc")


class NotMeasured(SystemExit):
    """Why a workload has no figures: the machine was too busy, a contestant failed, or it did other work than ours. A
    script that has nothing else to measure ends with it."""


@dataclass(frozen=True)
class Sample:
    """One turn: what the contestant answered, `seconds` among it; the probes around it; what others used meanwhile."""

    answer: dict[str, Any]
    before: float
    after: float
    others: float

    @property
    def seconds(self) -> float:
        return float(self.answer["seconds"])

    def clean(self, best: float) -> bool:
        return max(self.before, self.after) <= BUSY * best and self.others <= OTHERS


@dataclass(frozen=True)
class Turns:
    """The clean samples of each contestant, of which each has at least one, and how many were left out."""

    samples: dict[str, list[Sample]]
    discarded: int

    def seconds(self, name: str) -> list[float]:
        return [sample.seconds for sample in self.samples[name]]

    def answers(self, name: str) -> list[dict[str, Any]]:
        return [sample.answer for sample in self.samples[name]]


def probe() -> float:
    """Seconds of a fixed matrix product, the least of three: how busy the machine is."""
    matrix = torch.rand(700, 700)
    least = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(4):
            matrix = (matrix @ matrix).clamp(0, 1)
        least = min(least, time.perf_counter() - started)
    return least


def others_used() -> float:
    """Seconds of processor time that all but us have used so far: not this process nor any that it started.

    0 where there is no /proc. Subtract two of these.
    """
    if not (PROC / "stat").exists():
        return 0.0
    ticks = [int(value) for value in (PROC / "stat").read_text().split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # without idle and waiting for a disk
    return (busy - _ours()) / os.sysconf("SC_CLK_TCK")


def _ours() -> int:
    """Ticks of this process and of those it started, the ended ones included."""
    spent: dict[int, tuple[int, int]] = {}  # process: its parent, its ticks
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since
            spent[int(entry.name)] = int(fields[1]), sum(int(value) for value in fields[11:15])
    family = {os.getpid()}
    while True:
        more = {process for process, (parent, _) in spent.items() if parent in family} - family
        if not more:
            return sum(spent[process][1] for process in family if process in spent)
        family |= more


def in_turns(
    contestants: Mapping[str, Callable[[], dict[str, Any]]],
    rounds: int,
    *,
    most: int | None = None,
    any_machine: bool = False,
) -> Turns:
    """Ask each contestant once a round, for as many rounds as it takes until each has `rounds` clean samples.

    Arguments: contestants: called without arguments, answer with a dictionary that has `seconds`. most: rounds to try,
    by default twice as many. any_machine: count disturbed samples as clean, to try things out.
    Raises: NotMeasured if one of them has no clean sample.
    """
    taken: dict[str, list[Sample]] = {name: [] for name in contestants}
    best = min(probe() for _ in range(5))
    names = list(contestants)
    for turn in range(2 * rounds if most is None else most):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            sample = _sample(contestants[name])
            taken[name].append(sample)
            best = min(best, sample.before, sample.after)
            told = "" if sample.clean(best) else ", disturbed"
            print(f"  {name}: {sample.seconds:.3g} s{told}", flush=True)
        clean = _clean(taken, best, any_machine)
        if turn + 1 >= rounds and min(map(len, clean.values())) >= rounds:
            break
    missing = [name for name, samples in clean.items() if not samples]
    if missing:
        raise NotMeasured(f"the machine was too busy: no clean sample of {', '.join(missing)}; run again")
    return Turns(clean, sum(map(len, taken.values())) - sum(map(len, clean.values())))


def _sample(contestant: Callable[[], dict[str, Any]]) -> Sample:
    before, others, started = probe(), others_used(), time.perf_counter()
    answer = contestant()
    used, spent = others_used() - others, time.perf_counter() - started
    return Sample(answer, before, probe(), max(0.0, used - UNSEEN) / spent)


def _clean(taken: Mapping[str, list[Sample]], best: float, any_machine: bool) -> dict[str, list[Sample]]:
    return {name: [s for s in samples if any_machine or s.clean(best)] for name, samples in taken.items()}


def compared(turns: Turns, *, ours: str = "ours") -> dict[str, Any]:
    """The figures of a workload: median seconds of ours and of each peer, peer / ours, least and most of each."""
    medians = {name: statistics.median(turns.seconds(name)) for name in turns.samples}
    peers = [name for name in medians if name != ours]
    return {
        "ours_s": rounded(medians[ours]),
        "peers_s": {name: rounded(medians[name]) for name in peers},
        "ratio": {name: round(medians[name] / medians[ours], 3) for name in peers},
        "spread_s": {n: [rounded(min(turns.seconds(n))), rounded(max(turns.seconds(n)))] for n in medians},
        "clean": sum(map(len, turns.samples.values())),
        "discarded": turns.discarded,
    }


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def missed(figures: Mapping[str, float], aims: Aims) -> list[str]:
    """The names of figures outside their bounds."""
    return [
        name
        for name, (least, most) in aims.items()
        if (least is not None and figures[name] < least) or (most is not None and figures[name] > most)
    ]


def save(workload: str, facts: Mapping[str, Any], results: Path = RESULTS) -> None:
    """Put one workload's figures into results.json, with the machine and the commit they were measured on."""
    content: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"workloads": {}}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    content["machine"] = environment()
    content["commit"] = commit.stdout.strip()
    content["workloads"][workload] = {**facts, "commit": content["commit"]}
    half = results.with_suffix(".half")
    half.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    half.replace(results)
    print(json.dumps({workload: facts}, indent=2), flush=True)
