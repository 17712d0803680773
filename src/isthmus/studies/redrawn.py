"""Two analyses of a study of one's own: damaged images restored, and new ones drawn from the codes.

A VAE restores in two ways, through its bottleneck and by MAP, the search for the code that explains what is seen; an
autoencoder, which has no prior over its codes, through its bottleneck alone; a denoiser as it was trained to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.data.degrade import Degradation, Recipe, add_noise, parse_recipe
from isthmus.errors import InputError
from isthmus.inverse import classical
from isthmus.inverse.bottleneck import Quality, quality
from isthmus.inverse.bottleneck import restore as through
from isthmus.inverse.map import restore as by_map
from isthmus.latent.density import Density, StandardNormal, fit_density, save_densities
from isthmus.latent.generation import (
    Images,
    Yardstick,
    heldout_nats,
    judge_density,
    nearest_training_images,
    yardstick,
)
from isthmus.networks.apply import Coder, decode, encode, to_float
from isthmus.networks.variational import VAE
from isthmus.studies.analyses import Bench
from isthmus.studies.rates import Share
from isthmus.studies.samples import generator_of

CHOSEN_ON = 200  # validation images by which the strengths of classical methods are chosen
LEAST_SIGMA = 0.01  # of the noise that MAP assumes where none was added: two and a half grey values of 255
SEEN = "as damaged"  # what stands for no restoration at all


@dataclass(frozen=True)
class Restored:
    """One method on all test images. seconds: of restoring them. examples: (K, C, H, W)."""

    quality: Quality
    kept: Share | None
    seconds: float | None
    examples: Tensor


def restorations(bench: Bench, recipes: Sequence[str]) -> dict[str, dict[str, Restored]]:
    """By degradation, then by method: "as damaged", "<run>", "<run>, MAP", and without training "nlm" and "tv"."""
    return {text: _against(bench, parse_recipe(text), i) for i, text in enumerate(recipes)}


def _against(bench: Bench, recipe: Recipe, number: int) -> dict[str, Restored]:
    operator, measured = _damaged(bench, recipe, bench.clean, number)
    guess = operator.guess(measured)
    methods: dict[str, Callable[[], Tensor]] = {}
    for name, network in {**bench.coders, **bench.denoisers}.items():
        methods[name] = lambda n=network: through(n, guess)  # type: ignore[misc]
        if isinstance(network, VAE):
            methods[f"{name}, MAP"] = lambda n=network: _by_map(n, measured, recipe, operator)  # type: ignore[misc]
    if recipe.kind == "noise" and classical.available():
        for name, (method, _) in classical.STRENGTHS.items():
            strength = _strength(bench, recipe, name, number)
            methods[name] = lambda m=method, s=strength: m(measured, recipe.sigma, s)  # type: ignore[misc]
    return {SEEN: _measured(bench, guess, None)} | {name: _timed(bench, work) for name, work in methods.items()}


def _damaged(bench: Bench, recipe: Recipe, clean: Tensor, number: int) -> tuple[Degradation, Tensor]:
    generator = generator_of((bench.seed, 20, number))
    operator = recipe.build(bench.parts.test.shape, count=len(clean), generator=generator)
    measured = operator.apply(clean)
    if recipe.sigma:
        measured = add_noise(measured, recipe.sigma, generator=generator)
    return operator, operator.apply(measured) if recipe.kind == "mask" else measured


def _by_map(network: VAE, measured: Tensor, recipe: Recipe, operator: Degradation) -> Tensor:
    found = by_map(network, measured, sigma=recipe.sigma or LEAST_SIGMA, degradation=operator)
    return found.images.clamp(0, 1).cpu()


def _strength(bench: Bench, recipe: Recipe, name: str, number: int) -> float:
    part = bench.parts.validation.take(np.arange(min(CHOSEN_ON, len(bench.parts.validation))))
    clean = to_float(torch.from_numpy(part.images))
    noisy = add_noise(clean, recipe.sigma, generator=generator_of((bench.seed, 21, number)))
    return classical.choose_strength(name, noisy, clean, recipe.sigma)


def _timed(bench: Bench, work: Callable[[], Tensor]) -> Restored:
    started = time.perf_counter()
    images = work()
    return _measured(bench, images, time.perf_counter() - started)


def _measured(bench: Bench, images: Tensor, seconds: float | None) -> Restored:
    return Restored(quality(images, bench.clean), bench.kept(images), seconds, images[bench.shown])


@dataclass(frozen=True)
class Drawn:
    """What one density of one code draws.

    images: (S, C, H, W). frechet: to real images, in the judge's features; None without a judge. heldout_nats: mean log
    p of codes it was not fitted to. copied: share nearer to a training image than half of the real new images are.
    copied_floor: the same of reconstructions of those, which are no copies, but as smooth. nearest: (S,) positions of
    the nearest training images.
    """

    images: Tensor
    frechet: float | None
    heldout_nats: float
    copied: float
    copied_floor: float
    nearest: Tensor


@dataclass(frozen=True)
class Generation:
    """By run, then by density. refused: why a density could not be fitted. floor: Fréchet distance between two halves
    of real images, None without a judge. count: images in each sample."""

    drawn: dict[str, dict[str, Drawn]]
    refused: dict[str, dict[str, str]]
    floor: float | None
    count: int


def generation(bench: Bench, densities: Sequence[str], runs: Sequence[str]) -> Generation:
    """Fit densities to the codes of the training images, keep them with the runs, draw, decode and measure.

    Arguments: runs: those to draw from.
    """
    real = np.concatenate([bench.parts.validation.images, bench.parts.test.images])
    training = bench.parts.train.images
    drawn, refused, floor = {}, {}, None
    for name in runs:
        network = bench.coders[name]
        fitted, refused[name] = _fit(bench, network, densities)
        kept = {kind: density for kind, density in fitted.items() if kind != "normal"}
        if kept:
            save_densities(bench.folders[name].densities, kept)
        if bench.judge is None:
            smooth = _smooth(network, real, training)
            drawn[name] = {kind: _draw(bench, network, density, real, smooth) for kind, density in fitted.items()}
        else:
            against = yardstick(bench.judge, network, real, training, generator=generator_of((bench.seed, 9)))
            drawn[name] = {kind: _judged(bench, network, density, real, against) for kind, density in fitted.items()}
            floor = against.floor
    return Generation(drawn, {name: why for name, why in refused.items() if why}, floor, len(real) // 2)


def _fit(bench: Bench, network: Coder, densities: Sequence[str]) -> tuple[dict[str, Density], dict[str, str]]:
    """Densities over the codes of the training images, and why the others could not be fitted. `normal` is of a VAE
    alone: nothing makes the codes of an autoencoder standard normal."""
    codes = torch.from_numpy(encode(network, bench.parts.train.images))
    fitted: dict[str, Density] = {}
    refused = {}
    for name in densities:
        if name == "normal":
            if isinstance(network, VAE):
                fitted[name] = StandardNormal(network.latent_dim)
            continue
        try:
            fitted[name] = fit_density(name, codes, generator=generator_of((bench.seed, 8)))
        except InputError as error:
            refused[name] = str(error)
    return fitted, refused


def _smooth(network: Coder, real: Images, training: Images) -> tuple[float, float]:
    """Median distance of real new images to the nearest training image, and the share of their reconstructions that
    lie nearer than that."""
    usual = float(nearest_training_images(real, training)[1].median())
    rebuilt = nearest_training_images(decode(network, encode(network, real)), training)[1]
    return usual, float((rebuilt < usual).double().mean())


def _judged(bench: Bench, network: Coder, density: Density, real: Images, against: Yardstick) -> Drawn:
    """As many images as half of the real ones, and how good they are by the judge."""
    assert bench.judge is not None
    unseen = torch.from_numpy(encode(network, real))
    generator, training = generator_of((bench.seed, 10)), bench.parts.train.images
    found = judge_density(density, network, bench.judge, against, training, unseen, generator=generator)
    share = against.copied_floor
    return Drawn(found.images, found.frechet, found.heldout_nats, found.copied, share, found.nearest)


def _draw(bench: Bench, network: Coder, density: Density, real: Images, smooth: tuple[float, float]) -> Drawn:
    """As many images as half of the real ones, and how good they are without a judge."""
    usual, share = smooth
    images = decode(network, density.sample(len(real) // 2, generator=generator_of((bench.seed, 10))).cpu())
    nearest, distances = nearest_training_images(images, bench.parts.train.images)
    nats = heldout_nats(density, torch.from_numpy(encode(network, real)))
    return Drawn(images, None, nats, float((distances < usual).double().mean()), share, nearest)


def best(methods: Mapping[str, Restored]) -> str:
    """The method of highest PSNR."""
    return max(methods, key=lambda name: methods[name].quality.psnr)
