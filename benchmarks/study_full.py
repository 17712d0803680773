"""The study of digits on full MNIST, seed 0, against what it is meant to reach.

ISTHMUS_DATA=... python benchmarks/study_full.py [--out DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import Aims, missed, save
from isthmus.cli.console import Console
from isthmus.cli.options import prepare_process
from isthmus.report.studies import run_study

# name: (least, most) that is aimed at; None where there is no bound.
AIMS: Aims = {
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
    "D7.vae.1nn_mean": (0.78, None),
    "D7.vae.test_mse": (None, 0.036),
    **dict.fromkeys(("D7.vae.bound_nats", "D7.vae.iwae_nats", "D7.ppca.nats", "D7.vae.active_units"), (None, None)),
    **{f"D7.vae2-{name}": (None, None) for name in ("sum.1nn_mean", "mean.1nn_mean", "mean.active_units")},
    "D8.noisy.psnr": (None, None),
    "D8.bottleneck.psnr": (None, None),
    "D8.bottleneck_noisy_encoder.psnr": (None, None),
    "D8.map.psnr.16": (24.0, None),
    "D8.map.psnr.32": (25.0, None),
    "D8.map.psnr.64": (None, None),
    "D8.map.ssim": (None, None),
    "D8.map.class_kept": (0.985, None),
    "D8.bottleneck.class_kept": (None, None),
    **{f"D8.{name}.psnr": (None, None) for name in ("nlm", "tv", "denoiser", "clean")},
    **{f"D8.bottleneck_noisy_encoder.psnr.{size}": (None, None) for size in (32, 64)},
    **{f"D8.{name}.map.psnr": (None, None) for name in ("mask", "blur", "lowres")},
    **{f"D8.map.{name}": (None, None) for name in ("seconds", "converged", "steps", "gap", "coverage")},
    **dict.fromkeys(("D8.vae.bound_nats", "D8.vae.iwae_nats", "D8.ppca.nats"), (None, None)),
    "study.seconds": (None, 1500),
}
# decibels by which MAP with 16 numbers is to lead: name: (the figure it leads, by at least)
LEADS = {
    "lead over the bottleneck": ("D8.bottleneck.psnr", 5.0),
    "lead over the fine-tuned encoder": ("D8.bottleneck_noisy_encoder.psnr", 0.6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    out = parser.parse_args().out or Path(tempfile.mkdtemp()) / "study"
    prepare_process()
    _, summary = run_study("digits", "mnist", out, seed=0, reporter=Console())
    figures = {name: summary["figures"][name] for name in AIMS}
    for name, (of, least) in LEADS.items():
        figures[name] = figures["D8.map.psnr.16"] - figures[of]
        AIMS[name] = (least, None)
    wrong = missed(figures, AIMS)
    save("study.digits.mnist", {"figures": figures, "missed": wrong})
    if wrong:
        raise SystemExit(f"missed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
