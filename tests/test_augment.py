"""Augmentation: what each variation is, that nothing happens when all are off, and where the randomness comes from."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from isthmus.data.augment import augment, relight, transform
from isthmus.settings import TrainingSettings

ALL = TrainingSettings(shift=2, rotation=15.0, scale=0.12, mirror=True, contrast=0.2, brightness=0.2)
SHAPES = [(3, 1, 16, 16), (3, 3, 24, 40), (3, 3, 33, 20)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth images in [0, 1]: two coarse waves a channel, which bilinear resampling hardly changes."""
    phase = torch.rand(count, channels, 2, 1, generator=generator(seed)) * 2 * math.pi
    rows = (torch.linspace(0, 1.5 * math.pi, height) + phase[:, :, 0]).sin()
    columns = (torch.linspace(0, 1.5 * math.pi, width) + phase[:, :, 1]).sin()
    return (rows[..., :, None] * columns[..., None, :] + 1) / 2


def moved(images: Tensor, *, angle: float = 0.0, scale: float = 1.0, mirror: bool = False) -> Tensor:
    count = len(images)
    return transform(
        images,
        angle=torch.full((count,), angle),
        scale=torch.full((count,), scale),
        mirror=torch.full((count,), mirror),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_settings_of_zero_change_nothing_and_draw_nothing(dtype: torch.dtype) -> None:
    images = (torch.rand(4, 3, 20, 16) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    source = generator()
    state = source.get_state()
    assert augment(images, TrainingSettings(), generator=source) is images
    assert torch.equal(source.get_state(), state)


def test_an_option_leaves_the_draws_of_the_others_as_they_are() -> None:
    images = blobs(8, 1, 32, 32)
    turned = augment(images, TrainingSettings(rotation=20.0), generator=generator())
    lit = augment(images, TrainingSettings(rotation=20.0, brightness=1e-9), generator=generator())
    assert torch.allclose(turned, lit, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_rotation_scale_or_mirror_is_the_identity(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    assert torch.allclose(moved(images), images, atol=1e-5)


@pytest.mark.parametrize("turns", [-1, 1, 2, 3])
def test_quarter_turns_meet_the_pixels(turns: int) -> None:
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(moved(images, angle=90.0 * turns), torch.rot90(images, turns, (2, 3)))
    odd = torch.rand(3, 1, 21, 21)
    assert torch.allclose(moved(odd, angle=90.0 * turns), torch.rot90(odd, turns, (2, 3)), atol=1e-5)


def test_half_a_turn_of_an_image_that_is_no_square() -> None:
    images = torch.rand(2, 3, 16, 64)
    assert torch.equal(moved(images, angle=180.0), images.flip(2, 3))


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (3, 3, 32, 64)])
def test_a_mirror_image_is_the_flip_and_twice_the_image(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    assert torch.equal(moved(images, mirror=True), images.flip(3))
    assert torch.equal(moved(moved(images, mirror=True), mirror=True), images)


def test_mirror_comes_before_rotation() -> None:
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(moved(images, angle=90.0, mirror=True), torch.rot90(images.flip(3), 1, (2, 3)))


@pytest.mark.parametrize("shape", [(3, 1, 48, 48), (2, 3, 40, 64)])
def test_rotation_and_scale_are_undone_by_their_inverse(shape: tuple[int, int, int, int]) -> None:
    images = blobs(*shape)
    there = moved(images, angle=17.0, scale=1.2)
    back = moved(there, angle=-17.0, scale=1 / 1.2)
    middle = (..., slice(12, -12), slice(12, -12))  # what was pushed over the border is lost
    assert not torch.allclose(there[middle], images[middle], atol=0.05)
    assert torch.allclose(back[middle], images[middle], atol=0.01)


def test_a_circle_stays_one_in_an_image_that_is_no_square() -> None:
    rows, columns = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")

    def ring(radius: float) -> Tensor:
        return torch.exp(-16 * (rows.hypot(columns) / radius - 1).square())[None, None]

    assert torch.allclose(moved(ring(10), angle=33.0), ring(10), atol=0.04)
    assert torch.allclose(moved(ring(10), scale=1.25), ring(12.5), atol=0.04)


def test_beyond_the_border_its_pixels_are_repeated() -> None:
    images = torch.rand(1, 1, 1, 1).expand(1, 1, 16, 16)
    assert torch.allclose(moved(images, angle=45.0, scale=0.3), images)


def test_contrast_stretches_about_the_mean_and_brightness_shifts() -> None:
    images = 0.4 + 0.2 * torch.rand(2, 3, 16, 16)
    lit = relight(images, contrast=torch.tensor([0.5, 1.0]), brightness=torch.tensor([0.0, 0.1]))
    assert torch.allclose(lit[0].mean(), images[0].mean(), atol=1e-6)
    assert torch.allclose(lit[0].std(), images[0].std() / 2, atol=1e-6)
    assert torch.allclose(lit[1], images[1] + 0.1, atol=1e-6)
    same = relight(images, contrast=torch.ones(2), brightness=torch.zeros(2))
    assert torch.equal(same, images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_shape_dtype_and_range_are_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    sharp = torch.rand(shape).round()
    images = (sharp * (255 if dtype == torch.uint8 else 1)).to(dtype)
    varied = augment(images, ALL, generator=generator())
    assert varied.shape == images.shape
    assert varied.dtype == dtype
    assert varied.min() >= 0
    assert varied.max() <= (255 if dtype == torch.uint8 else 1)
    assert not torch.equal(varied, images)


def test_bytes_are_varied_as_floats_are() -> None:
    images = torch.randint(0, 256, (6, 3, 20, 20), dtype=torch.uint8)
    bytes_, floats = (augment(x, ALL, generator=generator()) for x in (images, images.float() / 255))
    assert torch.allclose(bytes_.float() / 255, floats, atol=0.51 / 255)


def test_each_image_is_varied_by_itself() -> None:
    images, order = torch.rand(5, 3, 24, 24), torch.tensor([3, 0, 4, 1, 2])
    angle, scale = torch.linspace(-20, 20, 5), torch.linspace(0.8, 1.2, 5)
    mirror = torch.arange(5) % 2 == 0
    whole = transform(images, angle=angle, scale=scale, mirror=mirror)
    mixed = transform(images[order], angle=angle[order], scale=scale[order], mirror=mirror[order])
    assert torch.equal(mixed, whole[order])
    factor, offset = torch.linspace(0.8, 1.2, 5), torch.linspace(-0.1, 0.1, 5)
    lit = relight(images, contrast=factor, brightness=offset)
    assert torch.equal(relight(images[order], contrast=factor[order], brightness=offset[order]), lit[order])


def test_the_generator_alone_decides() -> None:
    images = torch.rand(6, 1, 20, 28)
    first, again, other = (augment(images, ALL, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_fill_their_range_and_half_are_mirrored() -> None:
    count = 4000
    # The value is the column: its slope tells the mirror and the scale, its mean the brightness.
    ramp = torch.linspace(0.25, 0.75, 16).expand(count, 1, 16, 16)
    slope = (varied := augment(ramp, TrainingSettings(mirror=True, scale=0.3), generator=generator()))[:, 0, 8, 9]
    slope = (slope - varied[:, 0, 8, 6]) / (ramp[0, 0, 8, 9] - ramp[0, 0, 8, 6])
    assert float((slope < 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    logarithm = -slope.abs().log()
    assert float(logarithm.min()) == pytest.approx(-0.3, abs=0.01)
    assert float(logarithm.max()) == pytest.approx(0.3, abs=0.01)
    assert float(logarithm.mean()) == pytest.approx(0, abs=0.01)
    brighter = augment(ramp, TrainingSettings(brightness=0.2), generator=generator())[:, 0, 0, 8] - ramp[0, 0, 0, 8]
    assert float(brighter.min()) == pytest.approx(-0.2, abs=0.01)
    assert float(brighter.max()) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("wrong", [{"rotation": 181}, {"rotation": -1}, {"scale": -0.1}, {"contrast": 1.5}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainingSettings(**wrong)  # type: ignore[arg-type]
