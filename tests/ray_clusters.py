"""Ray in tests: clusters that are really started, on this machine and as if elsewhere, and who lives in them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TOKEN = "0123456789abcdef" * 4
SETTINGS = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def require_ray() -> None:
    """Skip the test where Ray is not installed, or fail it where that is demanded."""
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("ISTHMUS_REQUIRE_RAY"):
            pytest.fail("ISTHMUS_REQUIRE_RAY is set and Ray is not installed")
        pytest.skip("the extra ray is not installed")


def plain_environment(**more: str) -> dict[str, str]:
    """The environment without any cluster in it, with one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    tests = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**kept, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": tests, **more}


def bare_python(place: Path, *, without: str = "isthmus") -> Path:
    """A Python with every package of this one but those with a certain name."""
    venv.create(place, with_pip=False, symlinks=True)
    theirs = next((place / "lib").glob("python3*")) / "site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        named = entry.name.lower()
        if "isthmus" not in named and not named.startswith(without) and not (theirs / entry.name).exists():
            (theirs / entry.name).symlink_to(entry)
    return place / "bin" / "python"


@contextlib.contextmanager
def cluster(python: Path, *, cpus: int = 2, memory: int | None = None) -> Iterator[str]:
    """A cluster of one machine that knows nothing of this process, and asks for `TOKEN`: its address."""
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of sockets may not be long
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
        command += [f"--num-cpus={cpus}", "--include-dashboard=false", f"--temp-dir={folder}"]
        command += [f"--object-store-memory={memory}"] if memory else []
        environment = plain_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, PYTHONPATH="")
        with (Path(folder) / "out").open("w") as out:
            head = subprocess.Popen(command, env=environment, cwd="/", stdout=out, stderr=out)
        stack.callback(head.wait, 60)
        stack.callback(head.send_signal, signal.SIGTERM)
        end = time.monotonic() + 120
        while "will now block" not in (said := (Path(folder) / "out").read_text()):
            assert head.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"


def below(process: int) -> dict[int, str]:
    """The processes that a process has started, and those that these have, with their command lines (Linux)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    for child in parents:
        above = parents.get(child)
        while above is not None and above != process:
            above = parents.get(above)
        if above == process:
            with contextlib.suppress(OSError):
                found[child] = (Path("/proc") / str(child) / "cmdline").read_text().replace("\0", " ")
    return found


def at_work(process: int) -> list[int]:
    """The workers of a cluster that a process has started which are at a job."""
    return [number for number, command in below(process).items() if command.startswith("ray::_do")]


def run_driver(script: Path, *arguments: object, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A program that uses a cluster."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=300, check=False)
