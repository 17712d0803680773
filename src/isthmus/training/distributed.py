"""One training on several devices, under torchrun: each process has a part of every batch.

    torchrun --nproc-per-node 2 -m isthmus train lab mnist-5k --out runs/lab

torchrun starts the processes and says to each by its environment which one it is. All of them load the same images and
go through the same batches; `training.batch_size` is that of all together. The gradients are averaged by
`torch.nn.parallel.DistributedDataParallel`, and what a network takes over a batch is taken over all parts
(networks/sharing.py), so that the losses are those of one process with the same batches, up to rounding. Process 0, the
leader, alone writes and prints. On CPUs the processes talk by gloo, on GPUs, one each, by NCCL.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isthmus.errors import InputError, IsthmusError
from isthmus.networks.catalog import Network
from isthmus.networks.sharing import mean_of_means, share_of, sharing, synchronised

PATIENCE = timedelta(days=1)  # the leader may read images for hours; a process that died is noticed at once
TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun
T = TypeVar("T")


class ProcessLostError(IsthmusError):
    """Another process of the same training ended before its time."""


@dataclass(frozen=True)
class Group:
    """The processes of a training, of which this is number `rank` of `size`."""

    rank: int
    size: int


_group: ContextVar[Group | None] = ContextVar("group", default=None)


def current() -> Group | None:
    """The group that this process has `joined`, if it has."""
    return _group.get()


def leads() -> bool:
    """Whether this process writes and prints: it is alone, or the first of its group."""
    group = current()
    return group is None or group.rank == 0


def launched() -> Group | None:
    """The group that torchrun's environment names, None if this process was started alone."""
    if any(name not in os.environ for name in TOLD) or int(os.environ["WORLD_SIZE"]) == 1:
        return None
    return Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[str]:
    """What is trained in this block is trained together with the other processes that torchrun started, if it did.

    Arguments: device: "cpu", or "cuda", of which each process takes one of its own. Yields: the device of this one.
    Raises: InputError if the device cannot be shared so; ProcessLostError, in whatever is done together, if another
    process ends before.
    """
    group = launched()
    if group is None:
        yield device
        return
    device = _own(device)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    with told_of_losses():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    before = _group.set(group)
    try:
        yield device
    finally:
        _group.reset(before)
        distributed.destroy_process_group()


def _own(device: str) -> str:
    if device == "cpu":
        return device
    if device != "cuda":
        raise InputError(
            f"--device {device} cannot be used under torchrun, where each process takes a GPU of its own: give cuda or "
            "cpu, or start without torchrun."
        )
    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= there:
        raise InputError(
            f"torchrun started more processes than this machine has GPUs, {there}: give --nproc-per-node {there}."
        )
    return f"cuda:{place}"


@contextlib.contextmanager
def leader_first() -> Iterator[None]:
    """The leader does this block before all others, which then find what it left in the cache."""
    group = current()
    if group is not None and group.rank > 0:
        with told_of_losses():
            distributed.barrier()
    yield
    if group is not None and group.rank == 0:
        with told_of_losses():
            distributed.barrier()


def from_leader(value: T) -> T:
    """What the leader gives; what the others give is nothing. Called by all at the same place."""
    if current() is None:
        return value
    held: list[Any] = [value]
    with told_of_losses():
        distributed.broadcast_object_list(held, src=0)
    found: T = held[0]
    return found


def from_all(value: T) -> list[T]:
    """What each process gives, in order. Called by all at the same place."""
    group = current()
    if group is None:
        return [value]
    held: list[Any] = [None] * group.size
    with told_of_losses():
        distributed.all_gather_object(held, value)
    return held


@contextlib.contextmanager
def told_of_losses() -> Iterator[None]:
    """Raises: ProcessLostError where what is done together fails because another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in ("gloo", "NCCL")):
            raise
        raise ProcessLostError(
            "Another process of this training ended before its time, so this one ends too: look above for what it "
            "said, or for one that was killed, and run the same command again with --resume."
        ) from error


class Together:
    """A network that learns together with its copies in the other processes of a group."""

    def __init__(self, network: Network, group: Group):
        self.group = group
        with told_of_losses():
            self._shared = DistributedDataParallel(_Loss(network), **_no_buffers())

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch (B, C, H, W), of which this process works on its part; a scalar, the same everywhere."""
        share = share_of(len(images), self.group.rank, self.group.size)
        own = slice(share.begin, share.end)
        with sharing(share), told_of_losses():
            found: Tensor = mean_of_means(self._shared(images[own], targets[own]), share)
        return found


def _no_buffers() -> dict[str, Any]:
    """Buffers are the same everywhere without being sent. The option has had two names."""
    known = inspect.signature(DistributedDataParallel).parameters
    return {next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in known): False}


class _Loss(nn.Module):
    """Its forward pass is what DistributedDataParallel prepares for the gradients of."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.network.loss(images, targets)


@contextlib.contextmanager
def together(network: Network, batch_size: int) -> Iterator[Together | None]:
    """The network as one of a group while this lasts, or None if this process is alone.

    Raises: InputError if a batch has fewer images than there are processes.
    """
    group = current()
    if group is None:
        yield None
        return
    if batch_size < group.size:
        raise InputError(
            f"training.batch_size is {batch_size}, which {group.size} processes cannot share: it is that of all of "
            f"them together; give at least {group.size}, or start fewer processes."
        )
    with synchronised(network):
        yield Together(network, group)
