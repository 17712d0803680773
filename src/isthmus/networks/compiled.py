"""Layers of a network through compiled operators: the same numbers in fewer passes over memory.

`fused.cpp` has [batch norm, max-pool, ReLU], [batch norm, ReLU], max-pooling, and the last upsampling to one channel,
forward and backward. `isthmus doctor --compile` makes a library of it; without that library, in evaluation mode, on a
GPU, for other types than float32 and for channels that do not fill whole registers the layers are those of PyTorch; so
they are where `ISTHMUS_COMPILED` is 0. No training ever waits for a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.data.cache import home_folder
from isthmus.errors import InputError
from isthmus.networks.convolution import UpsampleConv2d

LANES = 16  # channels in one AVX-512 register
SOURCE = Path(__file__).with_name("fused.cpp")
COMPILE = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-std=c++17"]
CPU = Path("/proc/cpuinfo")
SWITCH, OFF = "ISTHMUS_COMPILED", "0"


def library() -> Path:
    """Where the library of this source and processor lies, or would lie."""
    flags = [line for line in CPU.read_text().splitlines() if line.startswith("flags")][:1] if CPU.exists() else []
    content = "\n".join([SOURCE.read_text(), *COMPILE, platform.machine(), *flags])
    return home_folder() / "compiled" / f"fused-{hashlib.sha256(content.encode()).hexdigest()[:16]}.so"


def make() -> Path:
    """Compile the library unless it is there: a few seconds, once for each version and processor.

    Raises: InputError without a compiler, or if it fails.
    """
    there = library()
    if there.exists():
        return there
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise InputError("--compile needs a C++ compiler; none was found: install g++, or name one in CXX.")
    there.parent.mkdir(parents=True, exist_ok=True)
    partial = there.with_suffix(f".{os.getpid()}.part")
    done = subprocess.run([compiler, *COMPILE, str(SOURCE), "-o", str(partial)], capture_output=True, text=True)
    if done.returncode:
        partial.unlink(missing_ok=True)
        first = next(iter(done.stderr.splitlines()), "it said nothing")
        raise InputError(f"{compiler} could not compile the operators: {first}. Training works without them.")
    partial.replace(there)
    return there


def in_use() -> Path | None:
    """The library with which trainings are done: None where it was not made, or is switched off."""
    there = library()
    return there if there.exists() and os.environ.get(SWITCH) != OFF else None


@cache
def operators() -> ctypes.CDLL | None:
    """The library if it was in use when this process first asked, else None."""
    there = in_use()
    return None if there is None else ctypes.CDLL(str(there))


def through(layers: nn.Sequential, x: Tensor) -> Tensor:
    """What `layers(x)` gives, by the compiled operators while training, where they are there and fit."""
    if not layers.training or x.device.type != "cpu" or x.dtype is not torch.float32 or operators() is None:
        return cast(Tensor, layers(x))
    rest = list(layers)
    while rest:
        kinds = [type(layer) for layer in rest[:3]]
        full = x.ndim == 4 and x.shape[1] % LANES == 0 and x.shape[0] * x.shape[2] * x.shape[3] > 1
        pooled = full and min(x.shape[2:]) > 1
        if pooled and kinds == [nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU] and _halves(rest[1]):
            x, taken = _normed(_NormPoolRelu, cast(nn.BatchNorm2d, rest[0]), x), 3
        elif full and kinds[:2] == [nn.BatchNorm2d, nn.ReLU]:
            x, taken = _normed(_NormRelu, cast(nn.BatchNorm2d, rest[0]), x), 2
        elif pooled and kinds[0] is nn.MaxPool2d and _halves(rest[0]):
            x, taken = _Pool.apply(x), 1  # type: ignore[no-untyped-call]
        elif full and isinstance(rest[0], UpsampleConv2d) and rest[0].bias is not None and len(rest[0].bias) == 1:
            x, taken = _Doubled.apply(x, rest[0].kernel(), rest[0].bias), 1  # type: ignore[no-untyped-call]
        else:
            x, taken = rest[0](x), 1
        rest = rest[taken:]
    return x


def _halves(pool: nn.Module) -> bool:
    kept = [getattr(pool, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    return kept == [2, 2, 0, 1, False]


def _normed(operator: Any, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    counted = cast(Tensor, norm.num_batches_tracked)
    counted.add_(1)
    given = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
    return cast(Tensor, operator.apply(x, *given))


def _call(name: str, shape: torch.Size, *given: Tensor | float) -> None:
    """Call an operator: the sizes of its images and the number of threads come first."""
    sizes = [ctypes.c_int64(size) for size in shape]
    rest = [ctypes.c_void_p(v.data_ptr()) if isinstance(v, Tensor) else ctypes.c_double(v) for v in given]
    getattr(operators(), name)(*sizes, ctypes.c_int(torch.get_num_threads()), *rest)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _pooled_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a max-pooled x, and for where each maximum lay."""
    count, channels, height, width = x.shape
    size = (count, channels, height // 2, width // 2)
    y = torch.empty(size, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8)


def _normed_backward(name: str, ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of what `_normed` is given: x, gamma and beta; the rest has none."""
    x, *_, gamma = ctx.saved_tensors
    dx, dgamma, dbeta = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
    _call(name, x.shape, _last(dy), *ctx.saved_tensors, dx, dgamma, dbeta)
    return dx, dgamma, dbeta, None, None, None, None


class _NormPoolRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, rate: float, eps: float
    ) -> Tensor:
        x = _last(x)
        (y, where), m, scale = _pooled_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        pooled = torch.empty_like(y)
        _call("norm_pool_relu", x.shape, x, gamma, beta, mean, var, rate, eps, y, pooled, where, m, scale)
        ctx.save_for_backward(x, pooled, where, m, scale, gamma)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return _normed_backward("norm_pool_relu_backward", ctx, dy)


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, rate: float, eps: float
    ) -> Tensor:
        x = _last(x)
        y, m, scale = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        _call("norm_relu", x.shape, x, gamma, beta, mean, var, rate, eps, y, m, scale)
        ctx.save_for_backward(x, y, m, scale, gamma)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return _normed_backward("norm_relu_backward", ctx, dy)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = _last(x)
        y, where = _pooled_like(x)
        _call("pool", x.shape, x, y, where)
        ctx.save_for_backward(where)
        ctx.shape = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        dx = torch.empty(ctx.shape, memory_format=torch.channels_last)
        _call("pool_backward", ctx.shape, _last(dy), *ctx.saved_tensors, dx)
        return dx


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = _last(x), weight.contiguous()
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(x), 1, 2 * x.shape[2], 2 * x.shape[3])
        _call("doubled", x.shape, x, weight, bias, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        count, channels = x.shape[:2]
        dx, dweight = torch.empty_like(x), x.new_empty(count, LANES, channels)
        _call("doubled_backward", x.shape, dy.contiguous(), x, weight.view(channels, LANES).T.contiguous(), dx, dweight)
        return dx, dweight.sum(0).T.reshape(weight.shape), dy.sum().view(1)
