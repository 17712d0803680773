"""Quality of drawn images: features of the classifier, distances to real and training images, and copies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.latent import generation
from isthmus.latent.density import FullGaussian, StandardNormal
from isthmus.latent.generation import (
    features,
    fingerprint,
    frechet,
    heldout_nats,
    judge_density,
    nearest_training_images,
    yardstick,
)
from isthmus.networks.apply import classify, encode
from isthmus.networks.autoencoder import Autoencoder, linear
from isthmus.networks.classifier import Classifier, classifier

SHAPE = (1, 16, 16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, *, seed: int = 0) -> torch.Tensor:
    """Smooth images from four random waves, so that eight numbers describe them: (N, 1, 16, 16), uint8."""
    waves = torch.randn(4, 1, 1, 16, 16, generator=generator(99)).cumsum(3).cumsum(4)
    waves = waves / waves.flatten(1).std(1).reshape(-1, 1, 1, 1, 1)
    amounts = torch.randn(4, count, 1, 1, 1, generator=generator(seed))
    return (128 + 20 * (amounts * waves).sum(0)).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def judge() -> Classifier:
    torch.manual_seed(0)
    return classifier(SHAPE, classes=3, width=4).eval()


@pytest.fixture(scope="module")
def network() -> Autoencoder:
    """The exact linear autoencoder of the pictures."""
    pixels = pictures(300).flatten(1).double() / 255
    mean = pixels.mean(0)
    directions = torch.linalg.svd(pixels - mean, full_matrices=False)[2][:4].float()
    found = linear(SHAPE, latent_dim=4)
    with torch.no_grad():
        inward, outward = found.encoder[1], found.decoder[0]
        inward.weight.copy_(directions)
        inward.bias.copy_(-(directions @ mean.float()))
        outward.weight.copy_(directions.T)
        outward.bias.copy_(mean.float())
    return found.eval()


def test_features_are_what_the_last_linear_layer_takes(judge: Classifier) -> None:
    images = pictures(1203)  # more than one batch
    found = features(judge, images)
    assert found.shape == (1203, 16 * 2 * 2)
    last = [layer for layer in judge.modules() if isinstance(layer, nn.Linear)][-1]
    torch.testing.assert_close(last(found).softmax(1).detach(), classify(judge, images))
    assert torch.equal(features(judge, images.numpy()), found)
    assert not last._forward_pre_hooks
    with pytest.raises(InputError, match="no linear layer"):
        features(Classifier(nn.Sequential(nn.Conv2d(1, 2, 16), nn.Flatten()), image_shape=SHAPE, classes=2), images)


def test_the_fingerprint_is_of_the_weights(judge: Classifier) -> None:
    same = classifier(SHAPE, classes=3, width=4)
    same.load_state_dict(judge.state_dict())
    assert fingerprint(same) == fingerprint(judge)
    assert len(fingerprint(judge)) == 12
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(same) != fingerprint(judge)


def test_frechet_tells_damage_from_likeness(judge: Classifier) -> None:
    real, others = pictures(200), pictures(200, seed=1)
    noisy = (others.float() / 255 + 0.2 * torch.randn(others.shape, generator=generator())).clamp(0, 1)
    assert frechet(judge, real, real) == pytest.approx(0, abs=1e-3)
    assert frechet(judge, noisy, real) > 5 * frechet(judge, others, real) > 0


@pytest.mark.parametrize("values", [2**24, 256 * 7])
def test_the_nearest_training_image_is_found(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CHUNK_VALUES", values)
    training, asked = pictures(100), pictures(20, seed=1)
    asked[3] = training[57]
    index, distance = nearest_training_images(asked, training)
    a, b = (images.flatten(1).numpy() / 255 for images in (asked, training))
    by_hand = np.sqrt(np.square(a[:, None] - b[None]).mean(2))
    assert np.array_equal(index, by_hand.argmin(1))
    np.testing.assert_allclose(distance, by_hand.min(1), atol=1e-6)
    assert (int(index[3]), float(distance[3])) == (57, 0)
    with pytest.raises(ValueError, match=r"\(20, 1, 16, 16\) have no neighbours among \(100, 1, 16, 8\)"):
        nearest_training_images(asked, training[..., :8])


def test_heldout_nats_are_those_of_the_closed_form() -> None:
    codes = torch.randn(200, 3, generator=generator())
    expected = float(-0.5 * (codes.double().square().sum(1).mean() + 3 * math.log(2 * math.pi)))
    assert heldout_nats(StandardNormal(3), codes) == pytest.approx(expected)


def test_the_floor_is_of_two_halves_of_one_size(judge: Classifier, network: Autoencoder) -> None:
    real, training = pictures(101, seed=1), pictures(300)
    found = yardstick(judge, network, real, training, generator=generator())
    assert found.size == 50
    assert found.real.shape == (100, 64)
    chosen = real[torch.randperm(101, generator=generator())[:100]]
    assert found.floor == pytest.approx(frechet(judge, chosen[:50], chosen[50:]))
    assert found.usual == pytest.approx(float(nearest_training_images(chosen, training)[1].median()))
    assert 0 <= found.copied_floor <= 1
    with pytest.raises(InputError, match="Two halves of 60 real images, at least 2, are to be compared, and there are"):
        yardstick(judge, network, real, training, size=60, generator=generator())


def test_a_density_is_judged_by_what_it_draws(judge: Classifier, network: Autoencoder) -> None:
    """The Gaussian that the pictures are from comes near the floor; one too narrow and one too wide do not."""
    training, real = pictures(300), pictures(400, seed=1)
    against = yardstick(judge, network, real, training, generator=generator())
    codes, others = (torch.from_numpy(encode(network, images)) for images in (training, real))
    right = FullGaussian.fit(codes)
    densities = {share: FullGaussian(right.mean, share**2 * right.covariance) for share in (1.0, 0.2, 3.0)}
    found = {
        share: judge_density(density, network, judge, against, training, others, generator=generator(1))
        for share, density in densities.items()
    }
    assert found[1.0].images.shape == (200, 1, 16, 16)
    assert found[1.0].frechet < 3 * against.floor
    assert found[1.0].name == "gaussian"
    for share in (0.2, 3.0):
        assert found[share].frechet > 3 * found[1.0].frechet
        assert found[share].heldout_nats < found[1.0].heldout_nats
    # Narrow, it draws what is near to many training images; wide, what is near to none.
    assert found[0.2].copied > found[1.0].copied > found[3.0].copied
    assert found[1.0].copied == float((found[1.0].distances < against.usual).double().mean())


def test_a_yardstick_of_another_classifier_is_refused(judge: Classifier, network: Autoencoder) -> None:
    against = yardstick(judge, network, pictures(20, seed=1), pictures(30), generator=generator())
    with pytest.raises(ValueError, match="taken with another classifier"):
        judge_density(
            StandardNormal(4),
            network,
            classifier(SHAPE, classes=3, width=8),
            against,
            pictures(30),
            torch.zeros(2, 4),
            generator=generator(),
        )
