"""Contestants as processes: ours with the Python that runs the suite, peers with that of their own environment.

Each is started once, prepares itself untimed, then waits for orders and measures its own seconds. See peers/serve.py
for what is said between the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from common import NotMeasured

HERE = Path(__file__).parent
SERVE = HERE / "peers" / "serve.py"
OWN = HERE / ".peers"
OWN_PYTHON = OWN / "bin" / "python"
LAST_LINES = 15
PATIENCE = 30.0  # seconds in which a contestant that is told to end has to end
NO_ALLOCATOR_SETTINGS = "MALLOC_MMAP_THRESHOLD_"  # with it, `prepare_process` would leave ours as it is


class Contestant:
    """A running contestant. Raises: NotMeasured if its process ends."""

    def __init__(self, name: str, target: str, folder: Path, options: Mapping[str, Any]):
        self.name, self.log = name, folder / f"{name}.log"
        python = sys.executable if target.startswith("workloads.") else str(OWN_PYTHON)
        hidden = {"PYTHONPATH", NO_ALLOCATOR_SETTINGS}
        kept = {key: value for key, value in os.environ.items() if key not in hidden}
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [python, "-u", str(SERVE), target, str(folder), json.dumps(dict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=kept,
            )
        self._answer()

    def ask(self, **order: Any) -> dict[str, Any]:
        """One sample: the answer to an order."""
        assert self.process.stdin is not None, "it was opened with a pipe"
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise NotMeasured(self._why()) from None
        return self._answer()

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None, "it was opened with a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise NotMeasured(self._why())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _why(self) -> str:
        self.close()
        said = "\n".join(self.log.read_text().splitlines()[-LAST_LINES:])
        return f"{self.name} ended with exit code {self.process.returncode}:\n{said}"


@contextmanager
def running(
    targets: Mapping[str, str], folder: Path, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[dict[str, Contestant]]:
    """Start contestants one after the other, and end them all.

    Arguments: targets: MODULE:FUNCTION by name; of a module below `workloads` with our Python. options: by name.
    """
    if not OWN_PYTHON.exists() and any(not target.startswith("workloads.") for target in targets.values()):
        raise NotMeasured("the peers are not installed: run `make bench`, or python benchmarks/peer_environment.py")
    with ExitStack() as stack:
        started: dict[str, Contestant] = {}
        for name, target in targets.items():
            started[name] = Contestant(name, target, folder, (options or {}).get(name, {}))
            stack.callback(started[name].close)
        yield started


def orders(contestants: Mapping[str, Contestant], **order: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """What `in_turns` asks for: the same order to each."""
    return {name: partial(contestant.ask, **order) for name, contestant in contestants.items()}
