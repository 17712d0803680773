"""What the benchmarks share: the machine, a guard against a busy one, and the file of results."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from isthmus.machine import environment

Aims = dict[str, tuple[float | None, float | None]]  # name: (least, most), None where there is no bound
RESULTS = Path(__file__).parent / "results.json"


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


def missed(figures: Mapping[str, float], aims: Aims) -> list[str]:
    """The names of figures outside their bounds."""
    return [
        name
        for name, (least, most) in aims.items()
        if (least is not None and figures[name] < least) or (most is not None and figures[name] > most)
    ]


def save(workload: str, facts: dict[str, Any]) -> None:
    """Put one workload's figures into results.json, with the machine and the commit they were measured on."""
    content: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"workloads": {}}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    content["machine"] = environment()
    content["commit"] = commit.stdout.strip()
    content["workloads"][workload] = {**facts, "commit": content["commit"]}
    RESULTS.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    print(json.dumps({workload: facts}, indent=2))
