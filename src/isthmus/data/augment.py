"""Variations of training images, as tensors: what changes a picture but not its class.

Each image of a batch draws its own: a shift by whole pixels; a mirror image, a rotation and a scale, all three in one
bilinear resampling about the centre; a contrast and a brightness. What a picture does not show is filled by repeating
its edges. The functions that take the drawn values (`transform`, `relight`) are deterministic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.settings import TrainingSettings


def augment(images: Tensor, settings: TrainingSettings, *, generator: torch.Generator) -> Tensor:
    """Vary each image of a batch as `settings` say: shift, rotation, scale, mirror, contrast, brightness.

    Angles, logarithms of scales, contrasts and brightnesses are uniform between plus and minus their setting, every
    second image is mirrored. What is 0 is not done, and draws nothing.
    Arguments: images: (B, C, H, W), uint8 or float in [0, 1]. Returns: the same shape, dtype, device and range.
    """
    if settings.shift:
        images = random_shifts(images, settings.shift, generator=generator)
    moved = bool(settings.rotation or settings.scale or settings.mirror)
    if not (moved or settings.contrast or settings.brightness):
        return images
    # One table for all, so that an option that is off leaves the draws of the others as they are.
    drawn = torch.rand(5, len(images), generator=generator).to(images.device) * 2 - 1
    angle, stretch, side, contrast, brightness = drawn
    varied = _to_float(images)
    if moved:
        mirror = side > 0 if settings.mirror else torch.zeros_like(side, dtype=torch.bool)
        scale = (settings.scale * stretch).exp()
        varied = transform(varied, angle=settings.rotation * angle, scale=scale, mirror=mirror)
    varied = relight(varied, contrast=1 + settings.contrast * contrast, brightness=settings.brightness * brightness)
    return (varied * 255).round().to(images.dtype) if images.dtype == torch.uint8 else varied.to(images.dtype)


def random_shifts(images: Tensor, most: int, *, generator: torch.Generator) -> Tensor:
    """Move each image by up to `most` whole pixels along each axis, repeating its edges.

    Arguments: images: (B, C, H, W). Returns: the same shape, dtype and device.
    """
    count, _, height, width = images.shape
    dy, dx = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator).to(images.device)
    grown = F.pad(images.float(), (most,) * 4, mode="replicate").to(images.dtype)
    rows = dy + torch.arange(height, device=images.device)
    columns = dx + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around a slice come first: (B, H, W, C).
    return grown[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def transform(images: Tensor, *, angle: Tensor, scale: Tensor, mirror: Tensor) -> Tensor:
    """Mirror images left to right, then turn them about their centre, then scale them.

        out(p) = in(M R(-angle) p / scale)      M = diag(-1, 1) where mirrored, else the identity

    p is in pixels from the centre, so that nothing is sheared in an image that is no square. Between pixels the value
    is bilinear; beyond the border it is that of the nearest pixel.
    Arguments: images: (B, C, H, W), float. angle: (B,) in degrees, counter-clockwise as torch.rot90 turns.
    scale: (B,), above 1 enlarges. mirror: (B,) of bool. Returns: the same shape, dtype and device.
    """
    height, width = images.shape[-2:]
    exact = torch.deg2rad(angle.cpu().double())  # some devices have no float64
    # Rounded, so that cos 90 degrees is 0 and a quarter turn meets the pixels.
    cosine, sine = (wave.round(decimals=12).to(images)[:, None, None] for wave in (exact.cos(), exact.sin()))
    y = torch.arange(height, device=images.device, dtype=images.dtype)[None, :, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device, dtype=images.dtype)[None, None, :] - (width - 1) / 2
    shrink = 1 / scale.to(images.dtype)[:, None, None]
    side = torch.where(mirror, -1.0, 1.0).to(images.dtype)[:, None, None]
    from_x = side * (cosine * x - sine * y) * shrink
    from_y = (sine * x + cosine * y) * shrink
    # grid_sample counts from the centre in half sides.
    places = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)


def relight(images: Tensor, *, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Stretch each image about its mean, then add a constant; clipped to [0, 1].

        out = clip(m + contrast (in - m) + brightness)      m: mean of the image, over pixels and channels

    Arguments: images: (B, C, H, W), float in [0, 1]. contrast, brightness: (B,), 1 and 0 change nothing.
    Returns: the same shape, dtype and device.
    """
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    factor, offset = (values.to(images.dtype)[:, None, None, None] for values in (contrast, brightness))
    # Written as a change of the image, so that 1 and 0 leave every bit.
    return (images + ((factor - 1) * (images - mean) + offset)).clamp(0, 1)


def _to_float(images: Tensor) -> Tensor:
    """uint8 to [0, 1]; float16 and bfloat16 to float32, in which places between pixels are exact enough."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
