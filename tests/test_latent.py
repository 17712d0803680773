"""Neighbours, overlap, clipping and the manifold, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from isthmus.inverse.bottleneck import quality, restore
from isthmus.latent import neighbours
from isthmus.latent.manifold import grid, middle, quantile_grid, uneven, walk
from isthmus.latent.neighbours import nearest, neighbour_accuracy
from isthmus.latent.separability import clipping, pairwise_overlap
from isthmus.networks.autoencoder import linear


def two_gaussians(distance: float, count: int = 4000, *, dim: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normals whose means lie `distance` apart."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    codes = generator.normal(size=(count, dim))
    codes[:, 0] += distance * labels
    return codes, labels


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 16])
def test_nearest_equals_the_search_by_hand(dim: int) -> None:
    generator = np.random.default_rng(0)
    references, queries = generator.normal(size=(300, dim)), generator.normal(size=(40, dim))
    by_hand = np.square(references[None] - queries[:, None]).sum(2).argmin(1)
    assert (nearest(references, queries) == by_hand).all()


def test_a_reference_is_its_own_neighbour() -> None:
    codes, labels = two_gaussians(1.0)
    assert neighbour_accuracy(codes, labels, codes, labels, classes=2).mean == 1


def test_separate_classes_are_found_and_equal_ones_are_a_guess() -> None:
    for distance, low, high in ((50.0, 1.0, 1.0), (0.0, 0.45, 0.55)):
        codes, labels = two_gaussians(distance)
        found = neighbour_accuracy(codes[::2], labels[::2] * 0, codes[1::2], labels[1::2] * 0, classes=1)
        assert found.mean == 1
        half = len(codes) // 2
        found = neighbour_accuracy(codes[:half], labels[:half], codes[half:], labels[half:], classes=2)
        assert low <= found.mean <= high
        assert found.confusion.sum() == half


def test_mean_is_over_classes_and_ignores_absent_ones() -> None:
    references, labels = np.array([[0.0], [1.0]]), np.array([0, 1])
    queries = np.array([[0.1], [0.2], [0.3], [0.2]])
    found = neighbour_accuracy(references, labels, queries, np.array([0, 0, 0, 1]), classes=3)
    assert found.per_class[:2].tolist() == [1, 0]
    assert np.isnan(found.per_class[2])
    assert found.mean == 0.5


def overlap(distance: float) -> float:
    codes, labels = two_gaussians(distance, 20000)
    half = len(codes) // 2
    return float(pairwise_overlap(codes[:half], labels[:half], codes[half:], labels[half:], classes=2)[0, 1])


def test_overlap_is_zero_apart_one_together_and_falls_in_between() -> None:
    values = [overlap(distance) for distance in (0.0, 1.0, 2.0, 4.0, 20.0)]
    assert values[0] == pytest.approx(1, abs=0.03)
    assert values[-1] == 0
    assert values == sorted(values, reverse=True)


def test_overlap_equals_its_integral() -> None:
    """Twice the asymptotic 1-NN error of two equally likely classes: the integral of 2 p q / (p + q)."""
    distance = 1.5
    x = np.linspace(-8, 10, 20001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0, distance))
    assert overlap(distance) == pytest.approx(np.trapezoid(2 * p * q / (p + q), x), abs=0.03)


def test_overlap_does_not_depend_on_class_sizes() -> None:
    codes, labels = two_gaussians(1.0, 40000)
    rare = (labels == 0) | (np.arange(len(labels)) % 20 == 1)
    codes, labels = codes[rare], labels[rare]
    half = len(codes) // 2
    found = pairwise_overlap(codes[:half], labels[:half], codes[half:], labels[half:], classes=2)
    assert found[0, 1] == pytest.approx(overlap(1.0), abs=0.06)
    assert (found == found.T).all()


def test_overlap_with_an_absent_class_is_unknown() -> None:
    codes, labels = two_gaussians(1.0, 100)
    assert np.isnan(pairwise_overlap(codes, labels, codes, labels, classes=3)[0, 2])


def test_clipping_is_found_from_the_codes_alone() -> None:
    generator = np.random.default_rng(0)
    codes = np.stack([np.maximum(generator.normal(size=5000), 0), generator.normal(size=5000), np.zeros(5000)], 1)
    found = clipping(codes)
    assert found.share[0] == pytest.approx(0.5, abs=0.03)
    assert found.share[1] == 0
    assert found.clipped == [0, 2]
    assert found.dead.tolist() == [False, False, True]


def test_grid_covers_the_codes_and_counts_them_all() -> None:
    codes = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    cells = grid(codes, size=10, tail=0)
    assert cells.counts.sum() == 5000
    assert cells.codes[0, 0, 1] > cells.codes[-1, 0, 1]
    assert cells.codes[0, 0, 0] < cells.codes[0, -1, 0]
    assert cells.codes.reshape(-1, 2).min(0) == pytest.approx(codes.min(0))


def test_grid_counts_stand_where_the_codes_are() -> None:
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32).repeat([1, 2, 3, 4], axis=0)
    assert grid(corners, size=2, tail=0).counts.tolist() == [[2, 4], [1, 3]]


def test_grid_of_a_dead_axis_still_has_a_width() -> None:
    codes = np.stack([np.linspace(0, 1, 50), np.zeros(50)], 1).astype(np.float32)
    cells = grid(codes, size=5)
    assert np.isfinite(cells.codes).all()
    assert cells.codes[0, 0, 1] - cells.codes[-1, 0, 1] == pytest.approx(1)


def test_grid_levels_enclose_their_share() -> None:
    cells = grid(np.random.default_rng(0).normal(size=(20000, 2)).astype(np.float32), size=15, tail=0)
    for share, level in cells.levels((0.5, 0.9)).items():
        assert cells.counts[cells.counts >= level].sum() >= share * 20000
        assert cells.counts[cells.counts > level].sum() < share * 20000


def test_grid_needs_two_numbers() -> None:
    with pytest.raises(ValueError, match=r"needs codes \(N, 2\), got \(9, 3\)"):
        grid(np.zeros((9, 3)))


def test_cells_of_a_quantile_grid_hold_the_prior_evenly() -> None:
    prior = np.random.default_rng(0).normal(size=(100_000, 2))
    cells = quantile_grid(prior, size=10)
    assert cells.counts.sum() == 100_000
    assert np.abs(cells.counts / 1000 - 1).max() < 0.15
    np.testing.assert_allclose(cells.codes[::-1, :, 1], -cells.codes[:, :, 1], atol=1e-6)
    assert (np.diff(cells.codes[0, :, 0]) > 0).all()
    assert (np.diff(cells.codes[:, 0, 1]) < 0).all()
    with pytest.raises(ValueError, match=r"codes \(N, 2\)"):
        quantile_grid(np.zeros((9, 3)))


def test_unevenness_is_small_for_the_prior_and_grows_away_from_it() -> None:
    prior = np.random.default_rng(0).normal(size=(20_000, 2))
    same, shifted, point = (uneven(quantile_grid(codes)) for codes in (prior, prior + 1, np.full((20_000, 2), 0.1)))
    assert same < 0.1 < 0.3 < shifted < point
    assert point == pytest.approx(1 - 1 / 400)
    # Shifted by d, the total variation of two normals is 2 Phi(|d| / 2) - 1.
    assert shifted == pytest.approx(2 * norm.cdf(np.sqrt(2) / 2) - 1, abs=0.05)


def test_walk_is_straight_and_even_and_middle_is_a_real_code() -> None:
    line = walk(np.array([0.0, 1.0]), np.array([3.0, -1.0]), steps=7)
    assert np.diff(line, axis=0) == pytest.approx(np.broadcast_to([0.5, -1 / 3], (6, 2)), abs=1e-6)
    codes = np.random.default_rng(0).normal(size=(99, 2))
    assert (codes == middle(codes)).all(1).any()


def test_a_full_bottleneck_restores_perfectly_and_an_empty_one_does_not() -> None:
    network = linear((1, 16, 16), latent_dim=256)
    with torch.no_grad():
        for layer in (network.encoder[1], network.decoder[0]):
            layer.weight.copy_(torch.eye(256))
            layer.bias.zero_()
    images = torch.rand(5, 1, 16, 16)
    assert torch.allclose(restore(network, images), images, atol=1e-6)
    assert restore(network, 3 * images - 1).min() >= 0
    assert restore(network, 3 * images - 1).max() <= 1
    assert quality(restore(network, images), images).ssim == pytest.approx(1, abs=1e-4)
    assert quality(images * 0, images).psnr < 20


@pytest.mark.parametrize("size", [16, 32, 130])
def test_the_kernels_of_faiss_find_the_same(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pytest.importorskip("faiss", reason="needs faiss")
    generator = np.random.default_rng(0)
    references, queries = (generator.normal(100, 1, (count, size)).astype(np.float32) for count in (3000, 500))
    found = nearest(references, queries)
    monkeypatch.setattr(neighbours, "_has_faiss", lambda: False)
    assert np.array_equal(found, nearest(references, queries))
