"""Densities of codes as plain numbers, for the page to draw from, to shade the map with, and to be its priors.

normal    N(0, I), of a VAE          {"latent_dim": D}
gaussian  N(m, L L')                 {"mean": [D], "cholesky": [[D]]}, L lower triangular
mixture   sum_k w_k N(m_k, L_k L_k') {"weights": [K], "means": [[D]], "choleskys": [[[D]]]}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from isthmus.errors import InputError
from isthmus.latent.density import Density, FullGaussian, GaussianMixture, StandardNormal
from isthmus.latent.sampling import density_of, keep_or_note
from isthmus.networks.apply import Coder
from isthmus.networks.variational import VAE
from isthmus.runs import Run

DEFAULT = ("mixture", "gaussian", "normal")  # the first there is


@dataclass(frozen=True)
class Densities:
    """What there is for a run's codes. content: of density.json, None if there is no density at all. missing: a
    sentence for each that is not there. notes: sentences a user should read."""

    content: dict[str, Any] | None
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def densities(run: Run, network: Coder) -> Densities:
    """The densities of a run's codes: a normal one of a VAE, a Gaussian and a mixture, where they can be had.

    One that is fitted now is kept with the run, as `isthmus generate` keeps it.
    """
    kinds, missing, notes = {}, [], []
    for name in ("normal", "gaussian", "mixture"):
        if name == "normal" and not isinstance(network, VAE):
            continue
        try:
            density, fitted = density_of(run, network, name)
        except InputError as error:  # too few codes or flat ones, a model that came without, a damaged file
            missing.append(f"There is no {name} density of the codes. {error}")
            continue
        kinds[name] = as_numbers(density)
        notes += keep_or_note(run, name, density) if fitted else []
    first = next((name for name in DEFAULT if name in kinds), None)
    content = None if first is None else {"kinds": kinds, "default": first}
    return Densities(content, tuple(missing), tuple(notes))


def as_numbers(density: Density) -> dict[str, Any]:
    """A density as JSON takes it. Raises: TypeError for a kind the page does not know."""
    match density:
        case StandardNormal():
            return {"latent_dim": density.latent_dim}
        case FullGaussian():
            root = torch.linalg.cholesky(density.covariance)
            return {"mean": density.mean.tolist(), "cholesky": root.tolist()}
        case GaussianMixture():
            roots = torch.linalg.cholesky(density.covariances)
            return {
                "weights": density.weights.tolist(),
                "means": density.means.tolist(),
                "choleskys": roots.tolist(),
            }
    raise TypeError(f"The page knows no {density.name} density.")
