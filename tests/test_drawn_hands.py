"""Laws of drawn hands: what a factor says is what the picture shows, and nothing else moves with it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge

from isthmus.data.drawn_hands import (
    RANGES,
    SIGNS,
    Factors,
    draw,
    drawn_hands,
    hands_and_factors,
    random_factors,
)
from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError

OPEN = SIGNS[5]


def hand(count: int = 1, **changes: object) -> Factors:
    """`count` upright open hands, dark on a white ground in flat light, without noise, but for the changes."""
    plain = Factors(
        up=np.tile(OPEN, (count, 1)),
        round=np.zeros(count),
        spread=np.full(count, 10.0),
        rotation=np.zeros(count),
        scale=np.full(count, 0.6),
        shift=np.zeros((count, 2)),
        direction=np.full(count, 90.0),
        brightness=np.ones(count),
        contrast=np.full(count, -0.7),
        gradient=np.zeros(count),
        noise=np.zeros(count),
        grain=np.arange(count),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def masks(factors: Factors, size: tuple[int, int] = (128, 128)) -> NDArray[np.bool_]:
    """Where the hand is, (N, H, W): nearer to skin than to the ground."""
    return draw(factors, size=size)[:, 0] < 255 * 0.65


def within(radius: float, centre: tuple[float, float] = (0, 0), side: int = 128) -> NDArray[np.bool_]:
    """The disc of this radius about a place (down, right) of the image's middle, in sides."""
    down, right = (np.indices((side, side)) - (side - 1) / 2) / side
    return np.hypot(down - centre[0], right - centre[1]) < radius


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Share of the union of two masks that both hold."""
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module")
def known() -> tuple[ImageSet, Factors]:
    return hands_and_factors(1200, size=(32, 32), seed=4)


# The set


def test_a_seed_is_a_set() -> None:
    once = drawn_hands(40, seed=3)
    assert np.array_equal(drawn_hands(40, seed=3).images, once.images)
    assert drawn_hands(40, seed=3).fingerprint == once.fingerprint
    other = drawn_hands(40, seed=4)
    assert not (other.images == once.images).all((1, 2, 3)).any()
    assert not np.isin(other.image_hashes(), once.image_hashes()).any()


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (256, 16)])
def test_a_larger_set_begins_with_the_smaller(size: tuple[int, int]) -> None:
    small, large = hands_and_factors(23, size=size), hands_and_factors(57, size=size)
    assert np.array_equal(small[0].images, large[0].images[:23])
    assert np.array_equal(small[0].labels, large[0].labels[:23])  # type: ignore[index]
    for field in fields(Factors):
        assert np.array_equal(getattr(small[1], field.name), getattr(large[1], field.name)[:23])


@pytest.mark.parametrize("count", [1, 9, 10, 57])
def test_signs_are_balanced_and_named(count: int) -> None:
    images = drawn_hands(count, size=(16, 16))
    assert images.labels is not None
    counts = np.bincount(images.labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert images.classes == tuple("0123456789")
    assert images.name == "drawn-hands"
    assert "drawings" in images.notes[0]
    assert images.images.shape == (count, 1, 16, 16)
    assert images.images.dtype == np.uint8


def test_drawn_hands_are_those_of_the_factors_that_come_with_them(known: tuple[ImageSet, Factors]) -> None:
    images, factors = known
    assert np.array_equal(drawn_hands(1200, size=(32, 32), seed=4).images, images.images)
    assert np.array_equal(draw(factors, size=(32, 32)), images.images)
    assert images.labels is not None
    assert np.array_equal((factors.up > 0.5).astype(int), SIGNS[images.labels])
    assert np.array_equal(factors.round > 0, images.labels == 0)


def test_no_image_knows_of_another() -> None:
    images, factors = hands_and_factors(70, size=(37, 51))
    order = np.random.default_rng(0).permutation(70)
    assert np.array_equal(draw(factors.take(order), size=(37, 51)), images.images[order])
    assert np.array_equal(draw(factors.take([41]), size=(37, 51)), images.images[41:42])


def test_every_sign_has_fingers_of_its_own() -> None:
    assert len({tuple(fingers) for fingers in SIGNS.tolist()}) == 10
    assert SIGNS[1:6].sum(1).tolist() == [1, 2, 3, 4, 5]


# Geometry


@pytest.mark.parametrize("angle", [-150, -90, -20, 5, 35, 90, 180])
def test_rotation_turns_the_picture(angle: float) -> None:
    seen = within(0.45)
    upright = draw(hand(), size=(128, 128))[0, 0].astype(float)
    turned = ndimage.rotate(upright, angle, reshape=False, order=1, mode="nearest") < 255 * 0.65
    mask = masks(hand(rotation=[angle]))[0]
    assert overlap(mask & seen, turned & seen) > 0.95
    assert overlap(mask & seen, masks(hand())[0] & seen) < 0.9


def test_area_grows_with_the_square_of_scale() -> None:
    scale = np.array([0.3, 0.45, 0.6, 0.8])
    found = masks(hand(4, scale=scale), size=(256, 256))
    area = [(mask & within(0.6 * s, side=256)).sum() for mask, s in zip(found, scale, strict=True)]
    np.testing.assert_allclose(np.divide(area, scale**2), np.divide(area[-1], scale[-1] ** 2), rtol=0.02)


def test_a_shift_by_whole_pixels_moves_every_pixel() -> None:
    size = (64, 64)
    still, moved = draw(hand(2, shift=[[0, 0], [5 / 64, -9 / 64]]), size=size)[:, 0].astype(int)
    assert np.abs(moved[7:-1, 2:-11] - still[2:-6, 11:-2]).max() <= 1
    assert np.abs(moved[7:-1, 2:-11] - still[7:-1, 2:-11]).max() > 100


def test_the_centroid_moves_by_the_shift() -> None:
    shift = np.array([[0.0, 0.0], [0.1, -0.05], [-0.08, 0.113]])
    found = masks(hand(3, shift=shift, scale=np.full(3, 0.5)))
    centres = [
        ndimage.center_of_mass(mask & within(0.3, tuple(place))) for mask, place in zip(found, shift, strict=True)
    ]
    np.testing.assert_allclose((np.array(centres) - centres[0]) / 128, shift, atol=0.003)


@pytest.mark.parametrize("finger", range(5))
@pytest.mark.parametrize("others", [0, 1])
def test_a_finger_that_stretches_adds_area(finger: int, others: int) -> None:
    up = np.full((9, 5), float(others))
    up[:, finger] = np.linspace(0, 1, 9)
    area = masks(hand(9, up=up, spread=np.full(9, 20.0))).sum((1, 2))
    assert (np.diff(area) >= -0.002 * area[0]).all()
    assert area[-1] > 1.03 * area[0]


def test_each_finger_is_where_it_belongs() -> None:
    """Stretching one adds area to the right of where the next one does, from thumb to little finger."""
    up = np.concatenate([np.zeros((1, 5)), np.eye(5)])
    found = masks(hand(6, up=up, spread=np.full(6, 14.0)))
    places = [ndimage.center_of_mass(mask & ~found[0]) for mask in found[1:]]
    assert (np.diff([place[1] for place in places]) < 0).all()
    assert min(place[0] for place in places) == places[2][0]  # the middle finger reaches highest


def test_spread_parts_the_fingers() -> None:
    found = masks(hand(4, spread=[3.0, 8.0, 14.0, 20.0]))
    top = found[:, :56]
    width = np.ptp(np.where(top.any(1), np.arange(128), 64), axis=1)
    assert (np.diff(width) > 3).all()


def test_a_round_hand_has_a_hole_and_others_have_none() -> None:
    images, factors = hands_and_factors(100, size=(96, 96), seed=1)
    assert images.labels is not None
    plain = replace(factors, noise=0 * factors.noise, gradient=0 * factors.gradient, brightness=np.ones(100))
    plain = replace(plain, contrast=np.full(100, -0.7))
    for mask, label in zip(masks(plain, (96, 96)), images.labels, strict=True):
        hole = ndimage.binary_fill_holes(mask) & ~mask
        assert (hole.sum() > 40) == (label == 0)


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_a_longer_side_adds_ground_and_changes_no_hand(size: tuple[int, int]) -> None:
    down, right = (size[0] - 64) // 2, (size[1] - 64) // 2
    inner = draw(hand(), size=size)[0, 0, down : down + 64, right : right + 64].astype(int)
    square = draw(hand(), size=(64, 64))[0, 0].astype(int)
    assert np.abs(inner - square)[1:-1, 1:-1].max() <= 1


def test_a_small_picture_is_the_large_one_made_small() -> None:
    factors = hands_and_factors(20, size=(16, 16))[1]
    factors = replace(factors, noise=np.zeros(20))
    large = draw(factors, size=(256, 256)).reshape(20, 64, 4, 64, 4).mean((2, 4))
    assert np.abs(large - draw(factors, size=(64, 64))[:, 0]).mean() < 2


# Light and noise


def test_light_and_noise_move_no_outline() -> None:
    still = masks(hand())[0]
    directions = np.array([-180.0, -100, -20, 45, 120])
    for mask in masks(hand(5, direction=directions)):
        assert overlap(mask, still) > 0.97
    darker = draw(hand(brightness=[0.8], contrast=[-0.56]), size=(128, 128))[0, 0] < 255 * 0.65 * 0.8
    assert overlap(darker, still) > 0.999  # all greys are multiplied alike
    noisy = draw(hand(30, noise=np.full(30, 0.05)), size=(128, 128))[:, 0].mean(0) < 255 * 0.65
    assert overlap(noisy, still) > 0.98


def test_light_comes_from_its_direction() -> None:
    """With the light on the right the right half of a finger is the brighter one, and so on round."""
    left, right = draw(hand(2, direction=[180.0, 0.0]), size=(128, 128))[:, 0].astype(float)
    mask = ndimage.binary_erosion(masks(hand())[0], iterations=2)
    slope = ndimage.sobel(ndimage.distance_transform_edt(masks(hand())[0]), axis=1)
    change = (right - left)[mask]
    assert np.corrcoef(change, -slope[mask])[0, 1] > 0.4


def test_brightness_and_contrast_are_the_greys_of_ground_and_skin() -> None:
    images = draw(hand(2, brightness=[0.9, 0.3], contrast=[-0.5, 0.4]), size=(128, 128))[:, 0] / 255
    np.testing.assert_allclose(images[:, 2, 2], [0.9, 0.3], atol=0.005)
    palm = images[:, 60:85, 50:75]
    np.testing.assert_allclose(np.median(palm, (1, 2)), [0.4, 0.7], rtol=0.1)


def test_the_ground_darkens_away_from_the_light() -> None:
    small = {"scale": [0.1], "shift": [[1.0, 0.0]]}  # the hand is out of the picture
    ground = draw(hand(direction=[0.0], gradient=[0.4], **small))[0, 0].astype(int)
    assert ground[32, 60] > ground[32, 32] > ground[32, 3]
    assert ground[0, 0] < ground[32, 0]
    flat = draw(hand(**small))[0, 0]
    assert flat.min() == flat.max()


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_noise_has_its_standard_deviation_and_no_pattern(sigma: float) -> None:
    count = 24
    changes = {"brightness": np.full(count, 0.6), "contrast": np.full(count, -0.1)}
    clean = draw(hand(count, **changes))[:, 0] / 255
    noise = draw(hand(count, noise=np.full(count, sigma), **changes))[:, 0] / 255 - clean
    assert noise.std() == pytest.approx(sigma, rel=0.02)
    assert abs(noise.mean()) < 4 * sigma / np.sqrt(noise.size)
    z = noise / noise.std()
    assert abs((z**3).mean()) < 0.05
    assert (z**4).mean() == pytest.approx(3, abs=0.1)
    limit = 5 / np.sqrt(noise.size)
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < limit
    assert abs((z[:, :, 1:] * z[:, :, :-1]).mean()) < limit
    assert abs((z[1:] * z[:-1]).mean()) < limit  # nor from one grain to the next
    assert abs((z[:, :32] * z[:, 32:]).mean()) < 1.5 * limit


def test_a_grain_is_a_noise() -> None:
    twins = draw(hand(3, noise=np.full(3, 0.1), grain=[7, 7, 8]))
    assert np.array_equal(twins[0], twins[1])
    assert not np.array_equal(twins[0], twins[2])


# What can be learned from them


def test_the_signs_can_be_told_apart(known: tuple[ImageSet, Factors]) -> None:
    images, _ = known
    pixels = images.images.reshape(1200, -1) / 255
    codes = PCA(60, random_state=0).fit(pixels[:900]).transform(pixels)
    codes /= codes[:900].std(0)
    model = LogisticRegression(C=0.1, max_iter=300).fit(codes[:900], images.labels[:900])  # type: ignore[index]
    assert model.score(codes[900:], images.labels[900:]) > 0.5  # type: ignore[index]


def test_a_code_finds_the_factors(known: tuple[ImageSet, Factors]) -> None:
    images, factors = known
    pixels = images.images.reshape(1200, -1) / 255
    codes = PCA(40, random_state=0).fit(pixels[:900]).transform(pixels)
    truth = {name: getattr(factors, name) for name in ("rotation", "scale", "brightness")}
    truth |= {"down": factors.shift[:, 0], "right": factors.shift[:, 1], "index": factors.up[:, 1]}
    for name, values in truth.items():
        fit = Ridge(1.0).fit(codes[:900], values[:900])
        assert fit.score(codes[900:], values[900:]) > 0.35, name
    unseen = factors.grain.astype(float)
    assert Ridge(1.0).fit(codes[:900], unseen[:900]).score(codes[900:], unseen[900:]) < 0.05


def test_only_the_fingers_know_the_label(known: tuple[ImageSet, Factors]) -> None:
    images, factors = known
    assert images.labels is not None
    for name in set(RANGES) - {"up", "round"}:
        values = getattr(factors, name).reshape(1200, -1).astype(float)
        means = np.stack([values[images.labels == k].mean(0) for k in range(10)])
        assert (np.ptp(means, axis=0) < 1.0 * values.std(0)).all(), name


# Errors


@pytest.mark.parametrize("size", [(15, 64), (64, 257), (0, 0)])
def test_a_size_out_of_range_is_refused(size: tuple[int, int]) -> None:
    words = f"size is {size[0]} x {size[1]}; drawn hands need a height and width from 16 to 256 pixels"
    with pytest.raises(DataError, match=words):
        drawn_hands(10, size=size)
    with pytest.raises(DataError, match=words):
        draw(hand(), size=size)


def test_counts_and_seeds_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="count is 0; needed is at least 1"):
        drawn_hands(0)
    with pytest.raises(DataError, match="seed is -1; needed is a whole number from 0"):
        drawn_hands(10, seed=-1)


@pytest.mark.parametrize("labels", [[0, 10], [-1], [0.5], [[1, 2]], [True]])
def test_other_labels_are_refused(labels: object) -> None:
    with pytest.raises(DataError, match=r"needed are whole numbers from 0 to 9 of shape \(N,\)"):
        random_factors(labels, generator=np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(RANGES))
def test_values_out_of_range_are_refused_by_name(name: str) -> None:
    good = np.array(getattr(hand(3), name))
    low, high = RANGES[name]
    for wrong in (low - 1, high + 1):
        values = good.copy()
        values[1] = wrong
        with pytest.raises(DataError, match=rf"{name} holds .*; needed are values from {low} to {high}: \d of \d"):
            hand(3, **{name: values})
    with pytest.raises(DataError, match=rf"{name} has shape \(2,.*; needed is \(N.*the same for every factor|has 2"):
        hand(3, **{name: good[:2]})
    with pytest.raises(DataError, match=f"{name} is <U.*numbers from {low} to {high}"):
        hand(3, **{name: good.astype(str)})


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="rotation holds nan"):
        hand(2, rotation=[0, np.nan])
    with pytest.raises(DataError, match="grain is float64; needed are whole numbers"):
        hand(grain=[0.5])
    with pytest.raises(DataError, match=r"up has shape \(0, 5\).*N at least 1"):
        hand(2).take([])


def test_factors_are_not_shared_with_the_caller() -> None:
    rotation = np.zeros(1)
    factors = hand(rotation=rotation)
    rotation[0] = 90
    assert factors.rotation[0] == 0
