"""The peers' own environment, benchmarks/.peers: made on first use from pinned versions, and again when these change.

python benchmarks/peer_environment.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import venv
from pathlib import Path

from contestants import HERE, OWN, OWN_PYTHON

REQUIREMENTS = HERE / "peers" / "requirements.txt"
CONSTRAINTS = HERE.parent / "constraints.txt"
STAMP = OWN / "installed"


def install() -> None:
    """Install the peers unless these versions are there. torch comes first and alone, so that none of them chooses
    another build of it; none brings torchvision, which does not import beside the CPU build.

    Raises: CalledProcessError if pip fails."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + CONSTRAINTS.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    print(f"installing the peers into {OWN}", flush=True)
    shutil.rmtree(OWN, ignore_errors=True)
    venv.create(OWN, with_pip=True)
    (OWN / ".gitignore").write_text("*\n")
    index = os.environ.get("TORCH_INDEX")
    _pip(*(["--extra-index-url", index] if index else []), "torch")
    _pip("-r", str(REQUIREMENTS))
    STAMP.write_text(wanted)


def _pip(*arguments: str) -> None:
    pip = [str(OWN_PYTHON), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
    subprocess.run([*pip, *arguments], check=True)


def versions() -> dict[str, str]:
    """Of what requirements.txt names."""
    lines: list[str] = [line.strip() for line in Path(REQUIREMENTS).read_text().splitlines()]
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return dict(pins)


if __name__ == "__main__":
    install()
