"""Memory of a training grows by the bytes of the array and not more, and of one that streams not with the images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CODE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from isthmus.cli.options import prepare_process
from isthmus.data import stored
from isthmus.studies.single import train_one

prepare_process()
if sys.argv[2] == "disk":
    stored.SHARE = 0.0
path = Path(sys.argv[1])
changes = ["training.epochs=1", "training.batch_size=1000"]
train_one("linear", str(path), path.parent / f"run-{path.stem}-{sys.argv[2]}", changes=changes)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)))
"""


def peak(path: Path, where: str) -> int:
    """The most memory that a training from this file ever had, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), where], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found: int = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads ru_maxrss")
def test_a_training_takes_the_array_once_and_one_that_streams_does_not_take_it(tmp_path: Path) -> None:
    few, many, side = 40_000, 280_000, 32
    generator = np.random.default_rng(0)
    for count in (few, many):
        images = generator.integers(0, 256, (count, side, side), dtype=np.uint8)
        np.save(tmp_path / f"{count}.npy", images)
        if count == many:
            np.savez(tmp_path / "archive.npz", images=images)
    more = (many - few) * side**2
    fixed = peak(tmp_path / f"{few}.npy", "memory")
    assert peak(tmp_path / f"{many}.npy", "memory") - fixed < 1.35 * more  # 1.2, and what varies by chance
    assert peak(tmp_path / "archive.npz", "memory") - fixed < 1.35 * more
    streamed = peak(tmp_path / f"{many}.npy", "disk") - peak(tmp_path / f"{few}.npy", "disk")
    assert streamed < 0.35 * more
