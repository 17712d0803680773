"""The study of digits on full MNIST, seed 0, against what it is meant to reach.

ISTHMUS_DATA=... python benchmarks/study_full.py [--out DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import save
from isthmus.cli.console import Console
from isthmus.cli.options import prepare_process
from isthmus.report.studies import run_study

# name: (least, most) that is aimed at; None where there is no bound.
AIMS: dict[str, tuple[float | None, float | None]] = {
    "D1.pca.test_mse": (None, None),
    "D1.lab.test_mse": (None, None),
    "D1.strong.test_mse": (None, None),
    "D3.pca.clean.1nn_mean": (None, None),
    "D3.lab.clean.1nn_mean": (0.55, None),
    "D3.lab.noisy.1nn_mean": (0.25, 0.45),
    "D3.strong.clean.1nn_mean": (0.75, None),
    "D4.accuracy_mean": (0.992, None),
    "D4.train_seconds": (None, 60),
    "D6.noisy.psnr": (None, None),
    "D6.bottleneck.psnr": (None, None),
    "D6.bottleneck.ssim": (None, None),
    "study.seconds": (None, 900),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    out = parser.parse_args().out or Path(tempfile.mkdtemp()) / "study"
    prepare_process()
    _, summary = run_study("digits", "mnist", out, seed=0, reporter=Console())
    figures = {name: summary["figures"][name] for name in AIMS}
    missed = [
        name
        for name, (least, most) in AIMS.items()
        if (least is not None and figures[name] < least) or (most is not None and figures[name] > most)
    ]
    save("study.digits.mnist", {"figures": figures, "missed": missed})
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
