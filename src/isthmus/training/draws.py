"""Random draws of a training: functions of (seed, epoch) alone, so that a run can be taken up after any epoch.

Dropout and the codes of a VAE draw from torch's global random states, which are seeded here and put back afterwards.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch


def epoch_generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """A generator that is a function of (seed, epoch) and of what it is used for."""
    state = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def seed_global(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, but for this device only: it also notes where it was called for each kind of device
    that is not here, a millisecond an epoch."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":  # torch.cuda.manual_seed is for the current one, which may be another
        torch.cuda.default_generators[device.index].manual_seed(seed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def random_state_kept(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """What `seed_global` sets, the random states of the CPU and of this device, is put back on leaving."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)
