"""Every claim of speed, side by side with real peers, in one run.

    python benchmarks/suite.py [--fast | --tiny] [--only NAME ...] [--rounds N] [--list]

Figures go into results.json, of --fast into results-fast.json, after each workload, so that an interrupted run loses
nothing; the table in README.md is made from results.json. --tiny only shows that everything works: it counts samples
of a busy machine too, and writes into the file named by --results. Peers are installed first, untimed, into an
environment of their own. What is not among the workloads is measured by scripts of this folder, which a full run starts
at its end. Ends with exit code 1 and a list if an aim is missed or something could not be measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import peer_environment
import table
from common import RESULTS, NotMeasured, save
from isthmus.errors import IsthmusError
from isthmus.networks.compiled import OFF, SWITCH
from workloads import (
    accuracy,
    components,
    encoding,
    error,
    folder_loading,
    neighbours,
    restoration,
    sweeps,
    training,
)
from workloads.plan import Plan, Size, Workload, behind

ROUNDS = {"full": 3, "fast": 2, "tiny": 1}
FAST_RESULTS = RESULTS.with_name("results-fast.json")
WORKLOADS: list[Workload] = [
    workload
    for module in (
        training,
        error,
        accuracy,
        sweeps,
        components,
        neighbours,
        restoration,
        encoding,
        folder_loading,
    )
    for workload in module.WORKLOADS
]
SCRIPTS = (
    "compiled",
    "folders",
    "search",
    "memory_growth",
    "memory_map",
    "encode_shards",
    "explorer",
    "study_signs",
    "study_full",
    "outliers",
)


def run(workload: Workload, names: Sequence[str], plan: Plan, results: Path) -> list[str]:
    """Measure, save, and say what was missed."""
    started = time.perf_counter()
    print(f"{', '.join(names)}", flush=True)
    try:
        found = workload.measure(plan, names)
    except (NotMeasured, IsthmusError) as reason:
        print(f"  not measured: {reason}", flush=True)
        return [f"{', '.join(names)}: not measured: {reason}"]
    missed = []
    for name, facts in found.items():
        short = behind(facts, workload.aims.get(name, {}))
        save(name, {**facts, "missed": short}, results)
        missed += [f"{name}: {text}" for text in short]
    print(f"  {time.perf_counter() - started:.0f} s in all", flush=True)
    return missed


def run_script(name: str) -> list[str]:
    """Start one of the scripts of this folder, which saves its own figures."""
    print(name, flush=True)
    done = subprocess.run([sys.executable, str(Path(__file__).parent / f"{name}.py")], check=False)
    return [f"{name}: exit code {done.returncode}, see above"] if done.returncode else []


def chosen(only: Sequence[str], size: Size) -> tuple[list[tuple[Workload, list[str]]], list[str]]:
    """Workloads with the names wanted of each, and scripts. Ends the program at a name that is not known."""
    known = {name for workload in WORKLOADS for name in workload.names} | set(SCRIPTS)
    unknown = sorted(set(only) - known)
    if unknown:
        raise SystemExit(f"there is no {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    wanted = []
    for workload in WORKLOADS:
        asked = only or (workload.fast if size == "fast" else workload.names)
        names = [name for name in workload.names if name in asked]
        if names:
            wanted.append((workload, names))
    everything = SCRIPTS if size == "full" and not only else ()
    return wanted, [name for name in SCRIPTS if name in only or name in everything]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_mutually_exclusive_group()
    for size in ("fast", "tiny"):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, default="full")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=0, help="clean samples wanted of each (default: 3, fast 2)")
    parser.add_argument("--results", type=Path, default=None, metavar="FILE")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    if options.list:
        print("\n".join([name for workload in WORKLOADS for name in workload.names] + list(SCRIPTS)))
        return
    workloads, scripts = chosen(options.only, options.size)
    os.environ[SWITCH] = OFF  # for contestants and scripts; those that are about compiled operators take it back
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        results = options.results or results_of(options.size, Path(folder))
        peer_environment.install()
        started = time.perf_counter()
        rounds = options.rounds or ROUNDS[options.size]
        missed = []
        for workload, names in workloads:
            plan = Plan(options.size, Path(folder), rounds, any_machine=options.size == "tiny")
            missed += run(workload, names, plan, results)
            if results == RESULTS:
                table.write()
    for name in scripts:
        missed += run_script(name)
        table.write()
    print(f"{time.perf_counter() - started:.0f} s in all, without the installation of the peers")
    if missed:
        raise SystemExit("missed:\n  " + "\n  ".join(missed))


def results_of(size: Size, folder: Path) -> Path:
    """Where figures go: those of --fast beside the published ones, those of --tiny into a file that goes with it."""
    return {"full": RESULTS, "fast": FAST_RESULTS, "tiny": folder / "results.json"}[size]


if __name__ == "__main__":
    main()
