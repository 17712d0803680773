"""The networks that are compared, in plain PyTorch and in the usual order of layers: upsample, then convolve; convolve,
batch norm, ReLU, then pool. Parameters come in the same order as in ours, so that weights can be handed over as a list.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16


class Lab(nn.Module):
    """The lab's autoencoder for images of 32 x 32: four halvings, a code of two numbers behind a ReLU, and back."""

    def __init__(self) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for i in range(4):
            down += [nn.Conv2d(WIDTH if i else 1, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)]
            down += [nn.ReLU(), nn.MaxPool2d(2)]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(4 * WIDTH, 2), nn.ReLU())
        up: list[nn.Module] = [
            nn.Linear(2, 4 * WIDTH),
            nn.Unflatten(1, (WIDTH, 2, 2)),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        ]
        for _ in range(3):
            up += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
            up += [nn.BatchNorm2d(WIDTH), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))

    def loss(self, images: Tensor, _: Tensor) -> Tensor:
        """Mean squared error per pixel."""
        return F.mse_loss(self(images), images)


class VAE(nn.Module):
    """A convolutional VAE for images of 32 x 32 with 16 numbers and sigma = 1: half the sum of squares plus the KL."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, WIDTH, 2 * WIDTH, 4 * WIDTH]
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Linear(16, 256), nn.SiLU(), nn.Linear(256, 1024), nn.Unflatten(1, (4 * WIDTH, 4, 4))]
        for i in range(3):
            down += [nn.Conv2d(sizes[i], sizes[i + 1], 4, stride=2, padding=1), nn.SiLU()]
            up += [nn.SiLU(), nn.ConvTranspose2d(sizes[3 - i], sizes[2 - i], 4, stride=2, padding=1)]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(1024, 256), nn.SiLU(), nn.Linear(256, 32))
        self.decoder = nn.Sequential(*up)
        self.generator = torch.Generator()

    def loss(self, images: Tensor, _: Tensor) -> Tensor:
        """Per image."""
        mean, log_variance = self.encoder(images).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=self.generator, dtype=mean.dtype)
        codes = mean + (0.5 * log_variance).exp() * noise
        squares = F.mse_loss(self.decoder(codes), images, reduction="sum") / len(images)
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return 0.5 * squares + kl


class Classifier(nn.Module):
    """Three blocks of 16, 32 and 64 channels and a linear layer, for images of 32 x 32 in ten classes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, 4 * WIDTH)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats per image."""
        return F.cross_entropy(self(images), labels)


NETWORKS = {"lab": Lab, "vae": VAE, "classifier": Classifier}
