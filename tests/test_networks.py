"""Networks: the exact rewrites, every size, and PCA as the optimum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import nn

from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError
from isthmus.networks import apply, pca
from isthmus.networks.autoencoder import Autoencoder, lab, linear, strong
from isthmus.networks.catalog import build
from isthmus.networks.classifier import classifier
from isthmus.networks.convolution import UpsampleConv2d, doubled, down_block, most_halvings
from isthmus.settings import (
    ClassifierSettings,
    DenoiserSettings,
    LabSettings,
    LinearSettings,
    ModelSettings,
    StrongSettings,
    VAESettings,
)
from isthmus.training.scoring import score


def gradients(loss: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (8, 8), (7, 3)])
@pytest.mark.parametrize("channels", [(1, 1), (16, 1), (16, 3), (3, 16)])
def test_upsampling_convolution_equals_the_plain_form(height: int, width: int, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = UpsampleConv2d(*channels).double()
    images = torch.randn(4, channels[0], height, width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, channels[1], 2 * height, 2 * width, dtype=torch.float64)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)

    assert torch.allclose(layer(images), plain(images), atol=1e-12)
    inputs = [images, layer.weight, layer.bias]
    ours, theirs = (gradients((f(images) * weights).sum(), inputs) for f in (layer, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_upsampling_keeps_the_channels_last_in_memory_for_the_layers_behind_it() -> None:
    images = torch.randn(2, 16, 4, 4)  # as `nn.Unflatten` gives them: the channels first
    drawn = UpsampleConv2d(16, 16)(images)
    assert drawn.is_contiguous(memory_format=torch.channels_last)
    assert not drawn.is_contiguous()


@pytest.mark.parametrize("bias", [True, False])
def test_doubling_to_one_channel_equals_the_operator_of_pytorch(bias: bool) -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(1, dtype=torch.float64, requires_grad=True) if bias else None
    inputs = [images, weight] if shift is None else [images, weight, shift]
    ours = doubled(images, weight, shift)
    theirs = F.conv_transpose2d(images, weight, shift, stride=2, padding=1)
    assert torch.allclose(ours, theirs, atol=1e-12)
    for a, b in zip(*(gradients((y**2).sum(), inputs) for y in (ours, theirs)), strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_pooling_before_relu_equals_the_plain_form() -> None:
    torch.manual_seed(0)
    convolution, norm, pool, relu = down_block(3, 16)
    block = nn.Sequential(convolution, norm, pool, relu).double()
    plain = nn.Sequential(convolution, norm, nn.ReLU(), nn.MaxPool2d(2)).double()
    images = torch.randn(6, 3, 12, 10, dtype=torch.float64, requires_grad=True)
    assert torch.equal(block(images), plain(images))
    inputs = [images, *block.parameters()]
    ours, theirs = (gradients((f(images) ** 2).sum(), inputs) for f in (block, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


SIZES = [(16, 16), (16, 256), (17, 16), (28, 28), (31, 64), (32, 32), (33, 47), (100, 60), (128, 16), (256, 256)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("upsample", ["nearest", "transposed"])
def test_lab_keeps_every_shape(channels: int, size: tuple[int, int], upsample: str) -> None:
    network = lab((channels, *size), latent_dim=5, width=4, upsample=upsample)  # type: ignore[arg-type]
    images = torch.rand(2, channels, *size)
    assert network.encode(images).shape == (2, 5)
    assert network(images).shape == images.shape


def test_lab_halves_every_size_to_two_or_three_pixels() -> None:
    for size in range(16, 257, 5):
        assert -(-size // 2 ** most_halvings(size, size)) in (2, 3)
        assert lab((1, size, 16), width=1)(torch.rand(2, 1, size, 16)).shape == (2, 1, size, 16)


@pytest.mark.parametrize("build_network", [lab, strong, linear])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 20, 30)])
def test_gradients_reach_every_parameter(build_network: object, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = build_network(shape, latent_dim=4)  # type: ignore[operator]
    images = torch.rand(8, *shape)
    network.loss(images, images).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name


def test_gradients_reach_every_parameter_of_the_classifier() -> None:
    torch.manual_seed(0)
    network = classifier((3, 20, 30), classes=4, dropout=0.2)
    network.loss(torch.rand(8, 3, 20, 30), torch.arange(8) % 4).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-8, name


def test_code_is_not_negative_behind_a_relu() -> None:
    images = torch.rand(50, 1, 32, 32)
    assert lab((1, 32, 32)).encode(images).min() >= 0
    assert lab((1, 32, 32), code_relu=False, latent_dim=8).encode(images).min() < 0


CONVOLUTIONAL = [LabSettings(), VAESettings(), DenoiserSettings(), ClassifierSettings()]
PERCEPTRONS = [
    StrongSettings(latent_dim=3, hidden=(8, 6)),
    LinearSettings(latent_dim=3),
    VAESettings(latent_dim=3, architecture="mlp", hidden=(8,)),
    DenoiserSettings(architecture="mlp", hidden=(8, 6)),
    ClassifierSettings(architecture="mlp", hidden=(8, 6)),
    ClassifierSettings(architecture="mlp"),
]


@pytest.mark.parametrize("settings", CONVOLUTIONAL, ids=lambda settings: settings.name)
def test_convolutions_refuse_sizes_out_of_range(settings: ModelSettings) -> None:
    with pytest.raises(InputError, match=r"15 x 40 cannot be halved enough: both sides must be at least 16"):
        build(settings, (1, 15, 40), classes=3)
    with pytest.raises(InputError, match=r"40 x 257 are too large: both sides may have at most 256"):
        build(settings, (1, 40, 257), classes=3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (3, 5, 2), (1, 300, 4)])
@pytest.mark.parametrize("settings", PERCEPTRONS, ids=lambda settings: settings.name)
def test_perceptrons_take_any_size_and_gradients_reach_every_parameter(
    settings: ModelSettings, shape: tuple[int, int, int]
) -> None:
    network = build(settings, shape, classes=3).double()
    images = torch.rand(9, *shape, dtype=torch.float64)
    target = torch.arange(9) % 3 if network.target == "labels" else images
    network.loss(images, target).backward()
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.float64, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if network.target == "images":
        assert network.eval()(images).shape == images.shape


def test_a_perceptron_learns_from_a_batch_of_two() -> None:
    rows = torch.rand(2, 1, 1, 5)
    for settings in PERCEPTRONS:
        network = build(settings, (1, 1, 5), classes=3)
        assert network.loss(rows, torch.tensor([0, 2]) if network.target == "labels" else rows).isfinite()


def test_other_shapes_than_the_networks_own_are_refused() -> None:
    network = lab((1, 32, 32))
    with pytest.raises(ValueError, match=r"takes images \(1, 32, 32\), got \(1, 28, 28\): resize them"):
        network.encode(torch.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match=r"takes codes \(B, 2\), got \(4, 3\)"):
        network.decode(torch.zeros(4, 3))


def test_classifier_gives_probabilities_and_needs_classes() -> None:
    network = classifier((3, 20, 28), classes=7).eval()
    probabilities = network.probabilities(torch.rand(5, 3, 20, 28))
    assert probabilities.shape == (5, 7)
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    with pytest.raises(ValueError, match="at least two classes apart, got 1"):
        classifier((1, 32, 32), classes=1)
    with pytest.raises(InputError, match="no labels to learn from"):
        build(ClassifierSettings(), (1, 32, 32))


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = build(LabSettings(), (1, 32, 32), seed=3).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    second, other = (build(LabSettings(), (1, 32, 32), seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def random_set(count: int, shape: tuple[int, int, int], *, rank: int = 6) -> ImageSet:
    """Images near a subspace of few dimensions."""
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(rank, int(np.prod(shape))))
    flat = (
        0.5 + 0.04 * generator.normal(size=(count, rank)) @ basis + 0.01 * generator.normal(size=(count, len(basis[0])))
    )
    return ImageSet(np.clip(flat, 0, 1).astype(np.float32).reshape(count, *shape), None)


@pytest.mark.parametrize("count", [60, 900])  # fewer images than pixels: the Gram matrix; more: the covariance
def test_pca_equals_scikit_learn(count: int) -> None:
    images = random_set(count, (1, 16, 20))
    ours = pca.principal_components(images, 4)
    flat = images.images.reshape(count, -1).astype(np.float64)
    theirs = PCA(4, svd_solver="full").fit(flat)
    assert ours.exact
    assert np.abs(ours.components.numpy() @ theirs.components_.T) == pytest.approx(np.eye(4), abs=1e-5)
    assert ours.variances.numpy() == pytest.approx(theirs.explained_variance_ * (count - 1) / count, rel=1e-6)
    network = ours.autoencoder()
    restored = apply.reconstruct(network, images.images).numpy().reshape(count, -1)
    expected = theirs.inverse_transform(theirs.transform(flat))
    assert restored == pytest.approx(expected, abs=1e-5)


def test_pca_components_are_orthonormal_and_ordered() -> None:
    found = pca.principal_components(random_set(40, (1, 16, 16)), 8)
    assert torch.allclose(found.components @ found.components.T, torch.eye(8).double(), atol=1e-9)
    assert (found.variances.diff() <= 0).all()


def test_large_pca_is_labelled_approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "EXACT_UP_TO", 100)
    images = random_set(300, (1, 16, 16))
    rough = pca.principal_components(images, 3)
    monkeypatch.undo()
    exact = pca.principal_components(images, 3)
    assert not rough.exact
    assert exact.exact
    assert torch.allclose((rough.components @ exact.components.T).abs(), torch.eye(3).double(), atol=1e-3)


def test_pca_needs_more_images_than_components() -> None:
    with pytest.raises(InputError, match="PCA with 30 components needs more than 30 images"):
        pca.principal_components(random_set(30, (1, 16, 16)), 30)


def test_any_batch_size_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = lab((1, 32, 32), latent_dim=3)
    images = (torch.rand(23, 1, 32, 32) * 255).to(torch.uint8)
    whole = apply.encode(network, images)
    monkeypatch.setattr(apply, "BATCH", 5)
    assert apply.encode(network, images) == pytest.approx(whole, abs=1e-5)
    assert apply.decode(network, whole).min() >= 0


@pytest.mark.parametrize(("side", "at_once"), [(16, 1000), (32, 512), (64, 128), (256, 16)])
def test_of_large_images_fewer_are_held_at_once(side: int, at_once: int) -> None:
    seen: list[int] = []
    network = linear((1, side, side), latent_dim=2)
    for part in (network.encoder, network.decoder):
        part.register_forward_pre_hook(lambda part, given: seen.append(len(given[0])))
    images = torch.zeros(at_once + 2, 1, side, side, dtype=torch.uint8)
    codes = apply.encode(network, images)
    apply.decode(network, codes)
    score(network, images, None)
    assert seen == [at_once, 2, at_once, 2, at_once, at_once, 2, 2]


@pytest.mark.parametrize(("count", "size"), [*itertools.product([1, 2, 7, 64, 65], [2, 8, 64])])
def test_ranges_cover_everything_and_never_leave_one_alone(count: int, size: int) -> None:
    parts = apply.ranges(count, size)
    assert [i for begin, end in parts for i in range(begin, end)] == list(range(count))
    assert all(end - begin > 1 for begin, end in parts) or count == 1


def test_autoencoder_is_two_sequentials() -> None:
    network = lab((1, 32, 32))
    assert isinstance(network, Autoencoder)
    assert isinstance(network.encoder, nn.Sequential)
    assert isinstance(network.decoder, nn.Sequential)
