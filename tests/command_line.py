"""What the tests of the command line share: a call in this process, a process of its own, and tiny images."""

import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from isthmus.cli.main import run

PROGRAM = Path(sys.executable).parent / "isthmus"
SMALL = ("--set", "data.height=16", "--set", "data.width=16")
BRIEF = ("--set", "training.epochs=1")
ENDLESS = ("--set", "training.epochs=1000000")
# The figures that others rely on, of a study of ten classes named 0 to 9.
PROMISED = [
    *("D1.lab.test_mse", "D1.pca.test_mse"),
    *("D3.lab.clean.1nn_mean", "D3.lab.noisy.1nn_mean", "D3.strong.clean.1nn_mean"),
    *(f"D3.lab.clean.1nn.{digit}" for digit in range(10)),
    *("D4.accuracy_mean", "D4.train_seconds", *(f"D4.accuracy.{digit}" for digit in range(10))),
    *("D6.noisy.psnr", "D6.bottleneck.psnr", "D6.bottleneck.ssim", "study.seconds"),
    *(f"D7.vae.{name}" for name in ("1nn_mean", "test_mse", "bound_nats", "iwae_nats", "active_units")),
    *("D8.vae.bound_nats", "D8.vae.iwae_nats", "D8.noisy.psnr", "D8.bottleneck.psnr", "D8.map.psnr", "D8.map.ssim"),
    *("D8.bottleneck.class_kept", "D8.map.class_kept", "D8.bottleneck_noisy_encoder.psnr", "D8.denoiser.psnr"),
    *("D8.nlm.psnr", "D8.map.seconds", "D8.map.converged", *(f"D8.map.psnr.{size}" for size in (16, 32, 64))),
]


class Caller:
    """Calls the program in this process: caller("data", "list") -> (exit code, stdout, stderr)."""

    def __init__(self, monkeypatch, capsys):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments):
        self.monkeypatch.setattr(sys, "argv", ["isthmus", *map(str, arguments)])
        self.capsys.readouterr()
        code, handler = None, signal.getsignal(signal.SIGTERM)
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as outside of tests
            try:
                run()
            except SystemExit as end:
                code = end.code
            finally:
                signal.signal(signal.SIGTERM, handler)
        return code, *self.capsys.readouterr()


STARTED: list[subprocess.Popen[str]] = []


def start(*arguments, **options):
    """The program as a process of its own, with one thread. It is killed at the latest when its test has ended.

    SIGINT is set back to its default: a test run in the background hands on that it is ignored.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(PROGRAM), *map(str, arguments)]
    pipe = subprocess.PIPE
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    options = {"stdout": pipe, "stderr": pipe, "text": True, "env": environment, "preexec_fn": attend, **options}
    process = subprocess.Popen(command, **options)
    STARTED.append(process)
    return process


def wait_until(condition, process, seconds=60):
    """Wait for something that a running process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def toy(path, *, count=60, classes=3, size=16, channels=1, labels=True, names=None, seed=0):
    """Bars at a place that tells the class, with noise, as an .npz file."""
    generator = np.random.default_rng(seed)
    numbers = np.arange(count) % classes
    images = generator.integers(0, 60, (count, channels, size, size), dtype=np.uint8)
    for image, number in zip(images, numbers, strict=True):
        row, column = number * 3 % (size - 2), number // 5 * 4 % (size - 2)
        image[:, row : row + 3] += np.uint8(150)
        image[:, :, column : column + 2] = 200
    arrays = {"images": images}
    if labels:
        arrays["labels"] = numbers if names is None else np.array(names)[numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def content(folder):
    """Every file of a folder with its time of change: equal if nothing was written."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def check_refused(answer, *words):
    """Exit code 2, nothing on stdout, and one message of a few lines with these words."""
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 3
    for word in words:
        assert word in err
