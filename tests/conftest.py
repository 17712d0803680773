"""Small real and made-up images that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import STARTED, Caller, toy
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split


@pytest.fixture(autouse=True)
def _steady_random_state() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


@pytest.fixture
def isthmus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    """Calls the program in this process: isthmus("data", "list") -> (exit code, stdout, stderr)."""
    return Caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny labelled images in an .npz file."""
    return toy(tmp_path_factory.mktemp("data") / "toy.npz")


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """600 embedded digits of 32 x 32, 60 of each."""
    images = load("mnist-5k", size=(32, 32))
    assert images.labels is not None
    chosen = np.concatenate([np.flatnonzero(images.labels == k)[:60] for k in range(10)])
    return images.take(chosen)


@pytest.fixture(scope="session")
def parts(digits: ImageSet) -> Split:
    """420 / 90 / 90 of them."""
    return split(digits)


@pytest.fixture
def mnist_folder() -> Path:
    """The folder of the four published files; skips where there is none."""
    root = os.environ.get("ISTHMUS_DATA")
    if not root or not (Path(root) / "mnist").is_dir():
        pytest.skip("ISTHMUS_DATA does not name a folder with mnist/ in it")
    return Path(root) / "mnist"
