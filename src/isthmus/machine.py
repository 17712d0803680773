"""The machine and the installation: what decides numbers and times, and what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import torch

from isthmus.data.catalog import MNIST, entries
from isthmus.data.download import cache_folder
from isthmus.networks.compiled import SWITCH, in_use, library
from isthmus.runs import versions

EXTRAS = ("onnx", "onnxscript", "onnxruntime", "huggingface-hub", "scikit-image", "ray", "datasets", "tensorboard")
VARIABLES = (
    "ISTHMUS_HOME",
    "ISTHMUS_DATA",
    "ISTHMUS_OFFLINE",
    "ISTHMUS_MIRROR",
    "ISTHMUS_DEVICE",
    SWITCH,
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


def environment() -> dict[str, object]:
    """Versions and machine, as far as they decide numbers and times."""
    compiled = in_use()
    return {
        "versions": versions(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "compiled": None if compiled is None else compiled.stem,
    }


def examine() -> dict[str, dict[str, str | int | None]]:
    """Facts by group: versions, extras, machine, data, environment. Nothing is changed or downloaded."""
    cache = cache_folder(MNIST).parent
    return {
        "versions": {**versions()},
        "extras": {name: _version(name) for name in EXTRAS},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "compiled operators": _operators(),
            "cpu capability": torch.backends.cpu.get_cpu_capability(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "mps": "yes" if torch.backends.mps.is_available() else None,
        },
        "data": {
            "cache": f"{cache}{'' if cache.exists() else ' (not made yet)'}",
            "free disk (GB)": round(shutil.disk_usage(_existing(cache)).free / 1e9),
            **{row.name: row.origin for row in entries()},
        },
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }


def _operators() -> str | None:
    there = library()
    if not there.exists():
        return None
    return f"{there}{'' if in_use() else f' (switched off by {SWITCH})'}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
