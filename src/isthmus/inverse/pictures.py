"""Restoring a person's own images: from a run and pictures to restored pictures and a table.

Either the images are damaged already, and the recipe says how; or they are whole, are damaged by the recipe first, and
the result is compared with them.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.data.degrade import Degradation, Mask, Recipe, add_noise, estimate_noise
from isthmus.data.pictures import Pictures, load_pictures
from isthmus.errors import InputError
from isthmus.inverse.bottleneck import EXACT
from isthmus.inverse.bottleneck import restore as through_bottleneck
from isthmus.inverse.laplace import laplace
from isthmus.inverse.map import check_prior, decoder, restore
from isthmus.inverse.solvers import Solver
from isthmus.latent.density import DENSITIES, Density, DensityName
from isthmus.latent.sampling import density_of
from isthmus.metrics import psnr
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.runs import Run, claim
from isthmus.training.loop import Progress
from isthmus.training.redraw import Places
from isthmus.writing import write_arrays, write_bytes, write_json

Method = Literal["bottleneck", "map"]
MARKER = "denoise.json"  # by which a folder of ours is known
LEAST_SIGMA = 0.01  # of an image without measurable noise, where neither it nor the decoder gives a scale


@dataclass(frozen=True)
class Restored:
    """What became of N pictures.

    measured: what was restored, (N, C, H', W'). images: (N, C, H, W) in [0, 1]. sigma: (N,) assumed of the noise by
    MAP, None for the bottleneck, and where it was from. psnr: of the measured and the restored images against the whole
    ones, decibels, or None where those are not known; of the measured None too where its size differs. columns: name ->
    (N,), what else the method says of each image. std: (N, C, H, W), standard deviation of each pixel, or None.
    """

    measured: Tensor
    images: Tensor
    sigma: Tensor | None
    sigma_from: str
    psnr_before: Tensor | None
    psnr_after: Tensor | None
    columns: dict[str, Tensor]
    std: Tensor | None


@dataclass(frozen=True)
class Options:
    """How to restore. None leaves the choice to the method; the bottleneck takes none of these but `seed`.

    recipe: how the pictures are damaged; with `damaged` they are already, else they are damaged here, and clipped to
    [0, 1] if `clip`. sigma: assumed of the noise; "auto" estimates it from each image; None takes the recipe's, else
    the decoder's own. prior: N(0, I), which a VAE has, or a density fitted to the run's training codes.
    """

    method: Method
    recipe: Recipe
    damaged: bool = False
    clip: bool = False
    sigma: float | Literal["auto"] | None = None
    prior: DensityName | None = None
    solver: Solver | None = None
    restarts: int | None = None
    uncertainty: bool = False
    seed: int = 0


def denoise_into(
    folder: Path,
    run: Run,
    source: str,
    options: Options,
    *,
    resize: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Restored, Pictures]:
    """Read pictures, restore them and write the results to a folder.

    Arguments: progress: called with (images solved, images to solve, a line) while MAP goes on.
    Raises: InputError for a run, pictures or options that cannot be used, before anything is written; RunExistsError if
    the folder is taken; StorageError.
    """
    channels, height, width = run.image_shape()
    recipe = options.recipe
    if options.damaged and recipe.kind == "lowres":
        height, width = -(-height // int(recipe.amount)), -(-width // int(recipe.amount))
    pictures = load_pictures(source, (channels, height, width), resize=resize)
    job = _plan(run, pictures, options, device)
    with claim(folder, marker=MARKER, resume=None, overwrite=overwrite):
        facts = {"run": str(run.folder), "images": source, **asdict(options), "recipe": str(recipe)}
        write_json(folder / MARKER, facts)
        restored = _carry_out(job, progress)
        write_restored(restored, pictures, folder, damaged=options.damaged)
    return restored, pictures


def write_restored(restored: Restored, pictures: Pictures, folder: Path, *, damaged: bool) -> None:
    """Write `restored/`, where they were damaged here also `damaged/`, `table.csv`, and `uncertainty.npz` if there is
    any. Raises: StorageError."""
    places = Places()
    names = [Path(places.of(name)) for name in pictures.names]
    for i, name in enumerate(names):
        write_bytes(folder / "restored" / name, _png(restored.images[i]))
        if not damaged:
            write_bytes(folder / "damaged" / name, _png(restored.measured[i]))
    if restored.std is not None:
        write_arrays(folder / "uncertainty.npz", {"std": restored.std.numpy(), "names": np.array(pictures.names)})
    write_bytes(folder / "table.csv", _table(restored, pictures, names).encode(errors="backslashreplace"))


@dataclass(frozen=True)
class _Job:
    """All that is needed to restore, checked; nothing in it can be refused any more."""

    network: Network
    measured: Tensor
    whole: Tensor | None
    operator: Degradation
    sigma: Tensor | None
    sigma_from: str
    prior: Density | None
    solver: Solver
    restarts: int
    uncertainty: bool
    generator: torch.Generator


def _plan(run: Run, pictures: Pictures, options: Options, device: str) -> _Job:
    """Refuse what cannot be done, damage what is whole, settle the noise."""
    network = run.network().to(device)
    recipe = options.recipe
    _check_use(run, network, options)
    generator = torch.Generator().manual_seed(options.seed)
    shape = run.image_shape()
    operator = recipe.build(shape, count=len(pictures.images), generator=generator)
    measured = pictures.images
    if not options.damaged:
        measured = operator.apply(measured)
        if recipe.sigma:
            measured = add_noise(measured, recipe.sigma, generator=generator)
            if isinstance(operator, Mask):
                measured = operator.apply(measured)
        measured = measured.clamp(0, 1) if options.clip else measured
    whole = None if options.damaged else pictures.images
    if options.method == "bottleneck":
        return _Job(network, measured, whole, operator, None, "", None, "bfgs", 1, False, generator)
    assert isinstance(network, VAE | Autoencoder)
    density = _prior(run, network, options.prior or "normal")
    assumed, origin = _sigma(measured, operator, network, recipe, options.sigma)
    solver, restarts = options.solver or "bfgs", options.restarts or 1
    return _Job(
        network, measured, whole, operator, assumed, origin, density, solver, restarts, options.uncertainty, generator
    )


def _carry_out(job: _Job, progress: Progress | None) -> Restored:
    std, columns = None, {}
    if job.prior is None or job.sigma is None:
        assert not isinstance(job.network, Classifier)
        images = through_bottleneck(job.network, job.operator.guess(job.measured))
    else:
        assert isinstance(job.network, VAE | Autoencoder)
        problem: dict[str, Any] = {"prior": job.prior, "sigma": job.sigma, "degradation": job.operator}
        search: dict[str, Any] = {"solver": job.solver, "restarts": job.restarts, "generator": job.generator}
        found = restore(job.network, job.measured, **problem, **search, progress=progress)
        images = found.images.clamp(0, 1).cpu()
        columns = {name: getattr(found, name).cpu() for name in ("objective", "converged", "steps")}
        if job.uncertainty:
            own = _own_sigma(job.network) or 0.0
            std = laplace(decoder(job.network), found.codes, **problem, decoder_sigma=own).std.cpu()
            columns["mean_std"] = std.flatten(1).mean(1)
    before = after = None
    if job.whole is not None:
        after = psnr(images, job.whole).clamp(max=EXACT)
        before = psnr(job.measured, job.whole).clamp(max=EXACT) if job.measured.shape == job.whole.shape else None
    return Restored(job.measured, images, job.sigma, job.sigma_from, before, after, columns, std)


def _own_sigma(network: Network) -> float | None:
    """The noise a VAE's Gaussian decoder expects of an image; None for other networks."""
    return network.sigma if isinstance(network, VAE) and network.likelihood == "gaussian" else None


def _check_use(run: Run, network: Network, options: Options) -> None:
    kind, method = options.recipe.kind, options.method
    if isinstance(network, Classifier):
        raise InputError(f"{run.folder} is a classifier, which draws no images; give a vae, autoencoder or denoiser.")
    if isinstance(network, Denoiser) and method == "map":
        raise InputError(f"{run.folder} is a denoiser, without codes to search; use --method bottleneck for it.")
    if isinstance(network, Denoiser) and kind != "noise":
        raise InputError(f"{run.folder} was trained against noise and knows nothing of {kind}; use a vae run.")
    if options.damaged and kind == "mask":
        raise InputError(
            "Which pixels of a damaged image are missing cannot be told from it: without --damaged the images are "
            "masked here, and restored."
        )
    given = [name for name in ("sigma", "prior", "solver", "restarts") if getattr(options, name) is not None]
    given += ["uncertainty"] if options.uncertainty else []
    if method == "bottleneck" and given:
        raise InputError(f"--{given[0]} belongs to --method map: the bottleneck has no use for it; leave it out.")


def _prior(run: Run, network: VAE | Autoencoder, kind: DensityName) -> Density:
    check_prior(DENSITIES[kind])
    if kind == "normal" and not isinstance(network, VAE):
        raise InputError(
            f"{run.folder} is not a VAE, so its codes have no prior: use --prior gaussian, which fits one to its "
            f"training codes, --method bottleneck, or a run of `isthmus train vae`."
        )
    return density_of(run, network, kind)[0]


def _sigma(
    measured: Tensor,
    operator: Degradation,
    network: Network,
    recipe: Recipe,
    sigma: float | Literal["auto"] | None,
) -> tuple[Tensor, str]:
    """The noise assumed of each image, (N,), and where it is from."""
    if isinstance(sigma, float | int):
        if not 0 < sigma < math.inf:
            raise InputError(f"--sigma is a standard deviation above 0, on the [0, 1] scale, or auto; got {sigma}.")
        return torch.full((len(measured),), float(sigma)), "given"
    own = _own_sigma(network) or LEAST_SIGMA
    if sigma is None and recipe.sigma:
        return torch.full((len(measured),), recipe.sigma), "of the noise added"
    if sigma is None and recipe.kind != "noise":
        return torch.full((len(measured),), own), "the decoder's own, as there is no noise"
    seen = operator.seen if isinstance(operator, Mask) else None
    estimated = estimate_noise(measured, seen=seen)
    return torch.where(estimated > LEAST_SIGMA, estimated, own), "estimated from each image"


def _png(image: Tensor) -> bytes:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _table(restored: Restored, pictures: Pictures, names: list[Path]) -> str:
    columns: dict[str, list[object]] = {"image": list(pictures.names), "restored": [n.as_posix() for n in names]}
    if restored.sigma is not None:
        columns["sigma"] = [f"{value:.4g}" for value in restored.sigma.tolist()]
    for name, values in (("psnr_damaged", restored.psnr_before), ("psnr_restored", restored.psnr_after)):
        if values is not None:
            columns[name] = [f"{value:.2f}" for value in values.tolist()]
    for name, values in restored.columns.items():
        columns[name] = [f"{value:.6g}" if isinstance(value, float) else value for value in values.tolist()]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def summary(restored: Restored) -> dict[str, float | str]:
    """Means over the pictures, for printing."""
    facts: dict[str, float | str] = {"images": len(restored.images)}
    if restored.sigma is not None:
        facts |= {"sigma": float(restored.sigma.mean()), "sigma_is": restored.sigma_from}
    for name, values in (("psnr_damaged", restored.psnr_before), ("psnr_restored", restored.psnr_after)):
        if values is not None:
            facts[name] = float(values.mean())
    if "converged" in restored.columns:
        facts["converged"] = float(restored.columns["converged"].float().mean())
    return facts
