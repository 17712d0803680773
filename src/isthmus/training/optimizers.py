"""What the settings of a training say of its steps: which weights learn, by which optimizer, at which rate."""

from __future__ import annotations

import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network
from isthmus.networks.variational import VAE
from isthmus.settings import TrainingSettings


def make_optimizer(network: Network, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all parameters that are not frozen."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return kind(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rate step by step, or None if it is constant.

    One cycle: up for `warmup` of the steps, then down by a cosine (Smith and Topin 2018).
    """
    if settings.schedule == "constant":
        return None
    warmup = settings.warmup
    if warmup * (steps + 1) == 1:  # torch divides by the length of the rise, here zero
        warmup *= 1.001
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps + 1, pct_start=warmup
    )


def freeze(network: Network, settings: TrainingSettings) -> nn.Module:
    """Let the part of the network that is not to change learn no more, and return it, or else an empty module: in
    evaluation mode its batch norms stand still too. Raises: InputError if the network has no such part."""
    if settings.frozen == "none":
        return nn.Module()
    if not isinstance(network, Autoencoder | VAE):
        raise InputError("training.frozen=decoder needs a network with a decoder: an autoencoder or a vae.")
    network.decoder.requires_grad_(False)
    if isinstance(network, VAE):
        network.log_sigma.requires_grad_(False)
    return network.decoder
