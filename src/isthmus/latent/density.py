"""Densities of codes: p(z), to score codes by, to sample from, and to be the prior of a restoration.

All kinds by name, how one is fitted, and how they lie on disk: one in a file, or several, as in a run's
`densities.safetensors`. What a density is stands in gaussians.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from isthmus.errors import InputError
from isthmus.latent.gaussians import Density, FullGaussian, StandardNormal
from isthmus.latent.mixtures import GaussianMixture, Histogram, Kernel
from isthmus.settings import nearest
from isthmus.writing import write_bytes

__all__ = [
    "DENSITIES",
    "Density",
    "DensityName",
    "FullGaussian",
    "GaussianMixture",
    "Histogram",
    "Kernel",
    "StandardNormal",
    "fit_density",
    "kind_of",
    "load_densities",
    "load_density",
    "save_densities",
]

DensityName = Literal["normal", "gaussian", "mixture", "kernel", "histogram"]
DENSITIES: dict[str, type[Density]] = {
    kind.name: kind for kind in (StandardNormal, FullGaussian, GaussianMixture, Kernel, Histogram)
}
# By which a file without its kind in it, as written before there were more than these two, is known.
_UNNAMED = {frozenset({"latent_dim"}): "normal", frozenset({"mean", "covariance"}): "gaussian"}


def kind_of(name: object) -> type[Density]:
    """The density of this name. Raises: InputError if there is none."""
    if not isinstance(name, str) or name not in DENSITIES:
        raise InputError(f"{name!r} is no density; {nearest(str(name), DENSITIES)}")
    return DENSITIES[name]


def fit_density(name: str, codes: Tensor, *, generator: torch.Generator | None = None) -> Density:
    """Fit the density of this name to codes (N, D).

    Raises: InputError if there is none of this name, or it cannot be fitted to these codes.

    >>> fit_density("gaussian", torch.tensor([[0.0], [2.0]])).tensors()["mean"]
    tensor([1.], dtype=torch.float64)
    """
    return kind_of(name).fit(codes, generator=generator)


def save_densities(path: Path, densities: Mapping[str, Density]) -> None:
    """Write several densities into one file, each under a name. Raises: StorageError; ValueError if a name has a dot.

    Arguments: densities: name -> density; in a run the names are those of `DENSITIES`.
    """
    if any("." in name for name in densities):
        raise ValueError(f"Names of densities have no dot in them, got {', '.join(densities)}.")
    tensors = {
        f"{name}.{part}": tensor.contiguous()
        for name, density in densities.items()
        for part, tensor in density.tensors().items()
    }
    kinds = {name: density.name for name, density in densities.items()}
    write_bytes(path, save_tensors(tensors, metadata={"kinds": json.dumps(kinds)}))


def load_densities(path: Path) -> dict[str, Density]:
    """Read what `save_densities` wrote. Raises: InputError if the file is missing, damaged or of another sort."""
    tensors, facts = _read(path)
    if "kinds" not in facts:
        raise InputError(f"{path} does not hold densities by name ({', '.join(sorted(tensors))}); delete it.")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        density, _, part = name.partition(".")
        parts.setdefault(density, {})[part] = tensor
    return {name: _build(path, kind, parts[name]) for name, kind in _kinds(path, facts["kinds"], parts).items()}


def load_density(path: Path) -> Density:
    """Read what `Density.save` wrote. Raises: InputError if the file is missing, damaged or of another sort."""
    tensors, facts = _read(path)
    kind = facts.get("kind") or _UNNAMED.get(frozenset(tensors))
    if kind is None:
        raise InputError(f"{path} holds no density known here ({', '.join(sorted(tensors))}); update Isthmus.")
    return _build(path, kind, tensors)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); the file is missing or damaged, fit it again.") from error


def _kinds(path: Path, text: str, names: Collection[str]) -> dict[str, str]:
    """The kind of each density in a file, by name. Raises: InputError unless it is said of each, and of no other."""
    try:
        kinds = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} names its densities in no JSON ({error}); delete it, fit them again.") from error
    if not isinstance(kinds, dict) or set(kinds) != set(names) or not all(isinstance(k, str) for k in kinds.values()):
        raise InputError(
            f"{path} says of its densities ({', '.join(sorted(names))}) that their kinds are {text[:99]}; it is "
            f"damaged: delete it, fit them again."
        )
    return kinds


def _build(path: Path, kind: str, tensors: Mapping[str, Tensor]) -> Density:
    if kind not in DENSITIES:
        raise InputError(f"{path} holds a density of a kind not known here ({kind}); update Isthmus.")
    try:
        return DENSITIES[kind].from_tensors(tensors)
    except KeyError as error:
        raise InputError(f"{path} lacks {error} of its {kind}; the file is damaged, fit it again.") from error
