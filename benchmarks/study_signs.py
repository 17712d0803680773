"""The study of hand signs on sign-digits, seed 0, and how fast its photographs are read, against what it is to reach.

ISTHMUS_DATA=... python benchmarks/study_signs.py [--out DIR]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from common import Aims, missed, save
from isthmus.cli.console import Console
from isthmus.cli.options import prepare_process
from isthmus.data.catalog import load
from isthmus.report.studies import run_study

RATES = ("1e-1", "1e-3", "1e-4", "1e-5")
CODES = ("3", "10", "10b", "100", "250")
# name: (least, most) that is aimed at; None where there is no bound.
AIMS: Aims = {
    "S1.gauss.max_error": (None, None),
    **{f"S2.validation_accuracy.{rate}": (None, None) for rate in RATES},
    "S2.best_rate": (None, None),
    "S2.test_accuracy": (None, None),
    "S2.test_accuracy.low": (None, None),
    "S2.test_accuracy.high": (None, None),
    "S2.strong.test_accuracy": (0.985, None),
    "S2.strong.train_seconds": (None, 60),
    **{f"S3.conv.test_mse.{code}": (None, None) for code in CODES},
    **{f"S3.pca.test_mse.{size}": (None, None) for size in (3, 10, 100, 250)},
    "S3.linear.test_mse.10": (None, None),
    "S3.linear.gap": (None, 0.02),
    "S3.code3.1nn_mean": (None, None),
    "S3.code3.silhouette": (None, None),
    "S3.pixels.1nn_mean": (None, None),
    **{f"S3.density.{name}.frechet": (None, None) for name in ("gaussian", "mixture", "kernel", "histogram")},
    **{f"S3.density10.{name}.frechet": (None, None) for name in ("gaussian", "mixture", "kernel")},
    "S3.density.real_floor": (None, None),
    "study.seconds": (None, 1500),
    "loading cold, seconds": (None, 4),
    "loading from the cache, seconds": (None, 0.3),
}
TIMES = 5


def loading(home: Path) -> dict[str, float]:
    """Seconds of reading the photographs at 64 x 64 grey, without and with our cache; the least of a few."""
    spent: dict[str, list[float]] = {"cold": [], "from the cache": []}
    for i in range(TIMES):
        os.environ["ISTHMUS_HOME"] = str(home / str(i))
        for name in spent:
            started = time.perf_counter()
            load("sign-digits", size=(64, 64)).grey()
            spent[name].append(time.perf_counter() - started)
    return {f"loading {name}, seconds": min(values) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    out = parser.parse_args().out or Path(tempfile.mkdtemp()) / "study"
    home = os.environ.get("ISTHMUS_HOME")
    found = loading(Path(tempfile.mkdtemp()))
    os.environ["ISTHMUS_HOME"] = home or tempfile.mkdtemp()
    prepare_process()
    _, summary = run_study("signs", "sign-digits", out, seed=0, prepare=prepare_process, reporter=Console())
    figures = {**{name: summary["figures"][name] for name in AIMS if name in summary["figures"]}, **found}
    wrong = missed(figures, AIMS)
    save("study.signs.sign-digits", {"figures": figures, "missed": wrong})
    if wrong:
        raise SystemExit(f"missed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
