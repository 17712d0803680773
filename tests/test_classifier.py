"""The classifier's options: what each adds to the layers, and which sizes it takes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.networks.apply import classify
from isthmus.networks.catalog import build
from isthmus.networks.classifier import Standardise, classifier
from isthmus.settings import ClassifierSettings

STRONG = ClassifierSettings(blocks=4, hidden=128, standardise=True, dropout=0.3, label_smoothing=0.1)


def kinds(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.layers]  # type: ignore[union-attr]


def test_by_default_there_are_three_blocks_and_one_linear_layer() -> None:
    network = classifier((1, 32, 32), classes=10)
    block = ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
    assert kinds(network) == [*block * 3, "Flatten", "Dropout", "Linear"]
    numbers = 9 * 16 + 2 * 16 + 9 * 16 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64 + 64 * 4 * 4 * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == numbers


def test_the_strong_recipe_has_four_blocks_and_a_hidden_layer() -> None:
    network = build(STRONG, (1, 64, 64), classes=10)
    block = ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
    head = ["Flatten", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds(network) == ["Standardise", *block * 4, *head]
    channels = [layer.out_channels for layer in network.layers if isinstance(layer, nn.Conv2d)]  # type: ignore[union-attr]
    assert channels == [16, 32, 64, 128]


def test_a_perceptron_is_linear_layers_alone() -> None:
    network = classifier((1, 1, 7), classes=3, architecture="mlp", hidden=(20, 10), dropout=0.2)
    assert kinds(network) == ["Flatten", *["Linear", "ReLU", "Dropout"] * 2, "Linear"]
    assert [layer.out_features for layer in network.layers if isinstance(layer, nn.Linear)] == [20, 10, 3]
    assert kinds(classifier((1, 1, 7), classes=3, architecture="mlp")) == ["Flatten", "Linear"]


def test_one_number_and_several_are_sizes_of_hidden_layers() -> None:
    one, two = classifier((1, 16, 16), classes=2, hidden=9), classifier((1, 16, 16), classes=2, hidden=(9, 5))
    assert kinds(one)[-6:] == ["Flatten", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds(two)[-9:] == ["Flatten", "Dropout", *["Linear", "ReLU", "Dropout"] * 2, "Linear"]


def test_without_batch_norm_convolutions_have_a_bias() -> None:
    network = classifier((1, 32, 32), classes=10, batch_norm=False)
    assert kinds(network) == [*["Conv2d", "MaxPool2d", "ReLU"] * 3, "Flatten", "Dropout", "Linear"]
    assert all(layer.bias is not None for layer in network.layers if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_reach_every_parameter(batch_norm: bool) -> None:
    options = STRONG.model_dump(exclude={"name"}) | {"batch_norm": batch_norm}
    network = classifier((3, 20, 30), classes=4, **options)
    network.loss(torch.rand(8, 3, 20, 30), torch.arange(8) % 4).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-9, name


def test_standardised_images_have_mean_0_and_variance_1() -> None:
    images = torch.rand(5, 3, 20, 30) * torch.linspace(0.2, 0.9, 5)[:, None, None, None] + 0.1
    standard = Standardise()(images)
    assert torch.allclose(standard.mean((1, 2, 3)), torch.zeros(5), atol=1e-5)
    assert torch.allclose(standard.var((1, 2, 3), unbiased=False), torch.ones(5), atol=1e-3)


def test_an_image_of_a_single_grey_is_standardised_to_zeros() -> None:
    images = torch.full((2, 1, 16, 16), 0.3, requires_grad=True)
    standard = Standardise()(images)
    standard.sum().backward()
    assert standard.abs().max() < 1e-3
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_a_standardising_classifier_sees_neither_light_nor_exposure() -> None:
    network = build(STRONG, (1, 32, 32), classes=5)
    images = torch.rand(4, 1, 32, 32)
    assert torch.allclose(classify(network, 0.4 * images + 0.3), classify(network, images), atol=1e-4)  # type: ignore[arg-type]
    plain = build(ClassifierSettings(), (1, 32, 32), classes=5)
    assert not torch.allclose(classify(plain, 0.4 * images + 0.3), classify(plain, images), atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (31, 40), (64, 17), (256, 256)])
def test_blocks_halve_down_to_one_pixel_and_no_further(height: int, width: int) -> None:
    most = int(math.log2(min(height, width)))
    network = classifier((1, height, width), classes=2, width=2, blocks=most).eval()
    assert network(torch.rand(3, 1, height, width)).shape == (3, 2)
    words = (
        f"model.blocks is {most + 1}, but images of {height} x {width} can be halved {most} times at most: give --set"
    )
    with pytest.raises(InputError, match=words):
        classifier((1, height, width), classes=2, width=2, blocks=most + 1)
