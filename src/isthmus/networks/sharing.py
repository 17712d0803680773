"""A batch of B images of which each of several processes has a part, as if one process had all of it.

    y = (x - m) / sqrt(v + eps)     m, v: of the whole batch, by sums over all processes

Where a network takes a mean over the batch, or draws for it, it does so here: within `sharing` the mean is that of all
parts, and a draw is made for the whole batch by every process, which keeps its own part. Elsewhere there is one
process, and a mean is a mean. Gradients are taken through the sums: each process gets those of the sum of the losses of
all processes, which `torch.nn.parallel.DistributedDataParallel` then averages.

torch.nn.SyncBatchNorm does the same for the batch norm of a GPU; this one is for any device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Share:
    """Images `begin` to `end` of a batch of `count`. weight: of each; below 1 where several processes have the same."""

    begin: int
    end: int
    count: int
    weight: float = 1.0


_share: ContextVar[Share | None] = ContextVar("share", default=None)


def share_of(count: int, rank: int, processes: int) -> Share:
    """What process `rank` has of a batch of `count` images; of fewer images than processes, everyone has all.

    >>> [(share_of(7, rank, 2).begin, share_of(7, rank, 2).end) for rank in range(2)]
    [(0, 3), (3, 7)]
    """
    if count < processes:
        return Share(0, count, count, 1 / processes)
    return Share(rank * count // processes, (rank + 1) * count // processes, count)


@contextlib.contextmanager
def sharing(share: Share) -> Iterator[None]:
    """What a network is given in this block is a part of a batch, and the others are given theirs."""
    before = _share.set(share)
    try:
        yield
    finally:
        _share.reset(before)


def batch_mean(values: Tensor) -> Tensor:
    """Mean over the images of the whole batch: (B, ...) -> (...)."""
    share = _share.get()
    if share is None:
        return values.mean(0)
    return total(values.sum(0) * share.weight) / share.count


def mean_of_means(value: Tensor, share: Share) -> Tensor:
    """The mean over the whole batch of what `value`, a scalar, is the mean of over this part."""
    return total(value * (share.weight * (share.end - share.begin) / share.count))


def drawn(shape: torch.Size, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """What `draw` gives for (B, ...) numbers: this part of what it gives for the whole batch."""
    share = _share.get()
    return draw(shape) if share is None else draw((share.count, *shape[1:]))[share.begin : share.end]


def total(values: Tensor) -> Tensor:
    """The sum over all processes, of which gradients are taken."""
    found: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return found


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    values = values.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(values)
    return values


@contextlib.contextmanager
def synchronised(network: nn.Module) -> Iterator[None]:
    """Batch norms and dropouts of a network, in training, are those of the whole batch; afterwards they are as before.

    The layers that take their place have the same parameters and buffers, under the same names.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            other = _counterpart(layer)
            if other is not None:
                replaced.append((parent, name, layer))
                setattr(parent, name, other)
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer)


def _counterpart(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return _Norm(layer).train(layer.training)
    return _Dropout(layer.p).train(layer.training) if isinstance(layer, nn.Dropout) else None


class _Norm(nn.Module):
    """The batch norm of `layer`, over the whole batch."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.momentum = 0.1 if layer.momentum is None else layer.momentum
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        share = _share.get()
        if share is None or not self.training:
            mean, variance, moves = self.running_mean, self.running_var, self.training
            return F.batch_norm(x, mean, variance, self.weight, self.bias, moves, self.momentum, self.eps)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, share)  # type: ignore[no-untyped-call]
        count = share.count * x[0, 0].numel()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normalised: Tensor = y
        return normalised


class _Normalise(torch.autograd.Function):
    """(B, C, ...) -> the same shape, and the mean and the variance of each channel, (C,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, share: Share
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        each = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        count = share.count * x[0, 0].numel()
        mean = _summed(x.sum(axes) * share.weight) / count
        centred = x - mean.view(each)
        variance = _summed(centred.square().sum(axes) * share.weight) / count
        slope = (variance + eps).rsqrt()
        normal = centred * slope.view(each)
        ctx.save_for_backward(normal, weight, slope)
        ctx.axes, ctx.each, ctx.count, ctx.weight = axes, each, count, share.weight
        ctx.mark_non_differentiable(mean, variance)
        return normal * weight.view(each) + bias.view(each), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        normal, weight, slope = ctx.saved_tensors
        g = gradients[0]
        of_bias, of_weight = g.sum(ctx.axes), (g * normal).sum(ctx.axes)
        mean_g, mean_gn = _summed(torch.stack([of_bias, of_weight]) * ctx.weight) / ctx.count
        of_x = (g - mean_g.view(ctx.each) - normal * mean_gn.view(ctx.each)) * (weight * slope).view(ctx.each)
        return of_x, of_weight, of_bias, None, None


class _Dropout(nn.Dropout):
    """Dropout by this part of a mask for the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        if _share.get() is None or not self.training:
            return super().forward(x)
        return x * drawn(x.shape, lambda shape: F.dropout(x.new_ones(shape), self.p))
