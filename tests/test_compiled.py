"""Compiled operators against PyTorch in float64, and what happens without them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.machine import environment, examine
from isthmus.networks import compiled
from isthmus.networks.autoencoder import lab
from isthmus.networks.convolution import UpsampleConv2d

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def operators(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ISTHMUS_HOME", str(home))
    compiled.make()
    compiled.operators.cache_clear()
    yield
    compiled.operators.cache_clear()


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    compiled.operators.cache_clear()
    yield
    compiled.operators.cache_clear()


def everything(layers: nn.Sequential, images: torch.Tensor) -> list[torch.Tensor]:
    """What the layers give, the gradients of a weighted sum, and the buffers afterwards."""
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = compiled.through(layers, images)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = torch.autograd.grad((y * weights).sum(), [images, *layers.parameters()])
    return [tensor.detach().double() for tensor in (y, *gradients, *layers.buffers())]


def norm(channels: int) -> nn.BatchNorm2d:
    found = nn.BatchNorm2d(channels)
    nn.init.normal_(found.weight)  # of both signs: a negative one makes a minimum of the maximum
    nn.init.normal_(found.bias)
    return found


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("shape", [(5, 16, 8, 12), (3, 32, 9, 7), (2, 48, 2, 3)])
@pytest.mark.parametrize("kind", ["norm, pool, ReLU", "norm, ReLU", "pool", "upsampling"])
def test_each_operator_equals_pytorch(kind: str, shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    layers = {
        "norm, pool, ReLU": [norm(shape[1]), nn.MaxPool2d(2), nn.ReLU()],
        "norm, ReLU": [norm(shape[1]), nn.ReLU()],
        "pool": [nn.MaxPool2d(2)],
        "upsampling": [UpsampleConv2d(shape[1], 1)],
    }[kind]
    ours, images = nn.Sequential(*layers), 3 * torch.randn(shape) + 5
    theirs = copy.deepcopy(ours).double()
    for a, b in zip(everything(ours, images), everything(theirs, images.double()), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    layers, images, threads = nn.Sequential(norm(16), nn.MaxPool2d(2), nn.ReLU()), torch.randn(7, 16, 8, 8), []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            threads.append(everything(copy.deepcopy(layers), images))
    finally:
        torch.set_num_threads(before)
    for found in threads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(threads[0], found, strict=True))


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_a_network_learns_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    one = lab((1, 28, 28))
    other, images = copy.deepcopy(one), torch.rand(8, 1, 28, 28)
    ours = one.loss(images, images)
    gradients = torch.autograd.grad(ours, list(one.parameters()))
    monkeypatch.setattr(compiled, "operators", cache(lambda: None))
    theirs = other.loss(images, images)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    for a, b in zip(gradients, torch.autograd.grad(theirs, list(other.parameters())), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
    assert one.state_dict().keys() == other.state_dict().keys()


@pytest.mark.usefixtures("nothing")
def test_without_a_library_the_layers_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(norm(16), nn.MaxPool2d(2), nn.ReLU())
    images = torch.randn(4, 16, 6, 6)
    assert compiled.operators() is None
    assert torch.equal(compiled.through(copy.deepcopy(layers), images), layers(images))


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_a_library_that_is_switched_off_is_there_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.operators() is not None
    assert environment()["compiled"] == compiled.library().stem
    monkeypatch.setenv("ISTHMUS_COMPILED", "0")
    compiled.operators.cache_clear()
    assert compiled.operators() is None
    assert environment()["compiled"] is None
    assert examine()["machine"]["compiled operators"] == f"{compiled.library()} (switched off by ISTHMUS_COMPILED)"


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_evaluation_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(norm(16), nn.MaxPool2d(2), nn.ReLU()).eval()
    images = torch.randn(4, 16, 6, 6)
    assert torch.equal(compiled.through(layers, images), layers(images))


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_a_library_is_made_once() -> None:
    there = compiled.make()
    made = there.stat().st_mtime_ns
    assert compiled.make() == there
    assert there.stat().st_mtime_ns == made
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.mark.usefixtures("nothing")
def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler; none was found"):
        compiled.make()


@pytest.mark.usefixtures("nothing")
def test_a_compiler_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(InputError, match="could not compile the operators"):
        compiled.make()
    assert not list(compiled.library().parent.iterdir())
