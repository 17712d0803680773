"""pythae: its AE and VAE around the same encoder and decoder, trained by its BaseTrainer, without progress bar, printed
metrics and saved files.

Its AE sums the squares over the pixels where ours takes their mean. Adam undoes a factor of the loss, all but that of
its epsilon, which is multiplied by the same here, so that the updates are the same.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pythae.data.datasets import BaseDataset, collate_dataset_output
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from peers.task import Fitted, Task, contestant

PIXELS = 1024


class Encoder(BaseEncoder):
    def __init__(self, layers: nn.Module, gaussian: bool):
        super().__init__()
        self.layers, self.gaussian = layers, gaussian

    def forward(self, x: Tensor) -> ModelOutput:
        found = self.layers(x)
        if not self.gaussian:
            return ModelOutput(embedding=found)
        mean, log_variance = found.chunk(2, 1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


class SeededVAE(VAE):
    """Draws from the network's own generator, as the other peers do."""

    generator: torch.Generator

    def _sample_gauss(self, mu: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(mu.shape, generator=self.generator, dtype=mu.dtype)
        return mu + noise * std, noise


class Trainer(BaseTrainer):
    mean_loss = float("nan")

    def _setup_callbacks(self) -> None:
        self.callback_handler = CallbackHandler([TrainingCallback()], self.model)

    def save_model(self, model: Any, dir_path: str) -> None:
        """Nothing is kept."""

    def train_step(self, epoch: int) -> float:
        self.mean_loss = super().train_step(epoch)
        return self.mean_loss


def model_of(task: Task, network: Any) -> Any:
    gaussian = task.kind == "vae"
    parts = (Encoder(network.encoder, gaussian), Decoder(network.decoder))
    if gaussian:
        model = SeededVAE(VAEConfig(input_dim=(1, 32, 32), latent_dim=16, reconstruction_loss="mse"), *parts)
        model.generator = network.generator
        return model
    return AE(AEConfig(input_dim=(1, 32, 32), latent_dim=2), *parts)


def fit(task: Task, shuffle: bool) -> Fitted:
    network = task.network()
    scale = PIXELS if task.kind == "lab" else 1
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            learning_rate=task.rate,
            per_device_train_batch_size=task.batch,
            num_epochs=1,
            optimizer_params={"eps": 1e-8 * scale},
            no_cuda=True,
        )
        data = BaseDataset(task.images, task.labels)
        data.data = task.images  # of float64 it makes float32
        trainer = Trainer(model_of(task, network), data, training_config=config)
        if not shuffle:
            trainer.train_loader = DataLoader(data, task.batch, collate_fn=collate_dataset_output)
        task.restart(network)  # the trainer has tried the model on a batch
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return Fitted(seconds, trainer.mean_loss / scale, network)


def prepare(folder: Path) -> Callable[..., dict[str, float]]:
    logging.getLogger("pythae").setLevel(logging.ERROR)
    logging.getLogger("pythae.trainers.base_trainer.base_trainer").setLevel(logging.ERROR)
    return contestant(folder, fit)
