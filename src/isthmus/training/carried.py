"""A run trained where its folder is out of reach: its files are carried there and back as bytes.

{"run.json": ..., "metrics.jsonl": ..., "model/model.safetensors": ..., "status.json": ...}
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from isthmus.data.imageset import Split
from isthmus.data.stored import stored_in
from isthmus.errors import DataError
from isthmus.model_files import WEIGHTS
from isthmus.runs import Run
from isthmus.writing import write_bytes

Files = Mapping[str, bytes]

SETTINGS, STATUS = "run.json", "status.json"


def what_was_begun(run: Run) -> dict[str, bytes]:
    """Of a run that was begun before: what decides whether it may be taken up, {} of one that was not."""
    path = run.folder / SETTINGS
    return {SETTINGS: path.read_bytes()} if path.exists() else {}


def packed(run: Run) -> dict[str, bytes]:
    """Every file of a run, by its path in it; {} where nothing was done."""
    if not run.status():
        return {}
    files = (path for path in run.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(run.folder).as_posix(): path.read_bytes() for path in files}


def unpack(run: Run, files: Files) -> None:
    """Write the files of a run in place of those of an earlier attempt.

    The weights and then the status come last: a run counts as finished only where all of it lies. Raises: StorageError.
    """
    if not files:
        return
    for path in (run.folder / STATUS, run.folder / "metrics.jsonl", run.checkpoint):
        path.unlink(missing_ok=True)
    last = (f"model/{WEIGHTS}", STATUS)
    for name in sorted(files, key=lambda name: last.index(name) if name in last else -1):
        write_bytes(run.folder / name, _named_from_here(files[name]) if name == SETTINGS else files[name])


def check_within_reach(parts: Split) -> None:
    """Raises: DataError if images that stay on disk lie on another machine."""
    stored = stored_in(parts.train.images)
    if stored is not None and not Path(stored.path).exists():
        raise DataError(
            f"The images are too large for memory and stay in {stored.path}, which the machine {platform.node()} does "
            f"not see: set ISTHMUS_HOME to a folder that all machines share, or make the images smaller with "
            f"data.height and data.width."
        )


def _named_from_here(content: bytes) -> bytes:
    """The settings of a run, whose images were read here: where their path begins, if it is not a whole one."""
    facts = json.loads(content)
    facts.pop("named_from", None)
    name = facts["settings"]["data"]["name"]
    if os.path.exists(name) and not os.path.isabs(name):
        facts["named_from"] = os.getcwd()
    return (json.dumps(facts, indent=2) + "\n").encode()
