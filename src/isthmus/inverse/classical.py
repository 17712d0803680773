"""Restoring without learning, by scikit-image (extra `denoise`): non-local means and total variation.

Both take Gaussian noise and nothing else. Their one free strength is chosen on validation images by whoever compares.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.metrics import psnr

restoration: Any = None
if importlib.util.find_spec("skimage") is not None:  # else the extra is not installed
    restoration = importlib.import_module("skimage.restoration")

Method = Callable[[Tensor, float, float], Tensor]


def available() -> bool:
    """Whether scikit-image is installed."""
    return restoration is not None


def non_local_means(images: Tensor, sigma: float, strength: float) -> Tensor:
    """Means over similar patches (Buades, Coll and Morel 2005): patches of 5, searched 6 pixels around.

    Arguments: images: (N, C, H, W). sigma: of the noise, in [0, 1] units. strength: the filter's h, in units of sigma.
    Returns: (N, C, H, W), clipped to [0, 1].
    """
    options = {"patch_size": 5, "patch_distance": 6, "h": strength * sigma, "sigma": sigma, "fast_mode": True}
    return _each(images, lambda image: restoration.denoise_nl_means(image, channel_axis=-1, **options))


def total_variation(images: Tensor, sigma: float, strength: float) -> Tensor:
    """Least squares with a penalty on the gradient's length (Rudin, Osher and Fatemi 1992; Chambolle 2004).

    Arguments: as in `non_local_means`; strength: the weight of the penalty, in units of sigma.
    """
    return _each(
        images, lambda image: restoration.denoise_tv_chambolle(image, weight=strength * sigma, channel_axis=-1)
    )


STRENGTHS: dict[str, tuple[Method, tuple[float, ...]]] = {
    "nlm": (non_local_means, (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)),
    "tv": (total_variation, (0.4, 0.6, 0.8, 1.0, 1.3, 1.6)),
}


def choose_strength(name: str, noisy: Tensor, clean: Tensor, sigma: float) -> float:
    """Of the strengths tried, the one of highest mean PSNR on these images, which are not to be test images."""
    method, strengths = STRENGTHS[name]
    return max(strengths, key=lambda strength: float(psnr(method(noisy, sigma, strength), clean).mean()))


def _each(images: Tensor, restore: Callable[[NDArray[Any]], NDArray[Any]]) -> Tensor:
    pixels = images.permute(0, 2, 3, 1).double().cpu().numpy()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        restored = np.stack(list(pool.map(restore, pixels))).reshape(pixels.shape)  # a single channel may be dropped
    return torch.from_numpy(restored).permute(0, 3, 1, 2).to(images).clamp(0, 1)
