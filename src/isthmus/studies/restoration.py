"""D8: noisy images restored by the bottleneck and by MAP, beside everything else one would use.

VAEs with codes of 16, 32 and 64 numbers are trained on clean images. The bottleneck pushes a noisy image through one;
MAP searches the code that explains it. The fair opponents: the bottleneck with an encoder fine-tuned on noisy images
(decoder frozen), a network trained to denoise, non-local means and total variation. Then the same VAE against three
other damages, which nothing was trained for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from isthmus.data.degrade import Identity, Recipe, add_noise, parse_recipe
from isthmus.data.imageset import Split
from isthmus.inverse import classical
from isthmus.inverse.bottleneck import Quality, quality
from isthmus.inverse.bottleneck import restore as through_bottleneck
from isthmus.inverse.laplace import coverage, laplace
from isthmus.inverse.map import Solution, decoder, restore
from isthmus.latent.density import StandardNormal
from isthmus.metrics import wilson_interval
from isthmus.networks.apply import reconstruct, to_float
from isthmus.networks.catalog import NETWORKS
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.settings import DenoiserSettings, TrainingSettings, VAESettings
from isthmus.studies.samples import add_noise_to, confusion_of, examples_of, generator_of
from isthmus.studies.study import DigitsSettings, Study, budget
from isthmus.studies.variational import importance_of, linear_optimum
from isthmus.training.job import Trained
from isthmus.training.scoring import score

SIZES = (16, 32, 64)
MAIN = 16
LARGER_EPOCHS = 6  # of the codes of 32 and 64 numbers, which reach as far in fewer (docs/decisions.md)
FINE_TUNING = TrainingSettings(epochs=2, batch_size=128, learning_rate=2e-3, schedule="one-cycle", frozen="decoder")
OTHERS = ("mask:0.5+noise:0.1", "blur:1.5+noise:0.1", "lowres:2+noise:0.1")
CHOSEN_ON = 200  # validation images by which the strengths of classical methods are chosen
CHECKED = 200  # test images whose optimum is also solved for to the last digits
SAMPLES = 32  # of the importance-weighted bound
INK = 0.1  # pixels above this belong to what is drawn, not to the ground


@dataclass(frozen=True)
class Measured:
    """A method on all test images. kept: share to which the classifier gives the true class, None without labels, and
    its 95 % interval. seconds: of restoring all of them, None where that was not timed. examples: (K, C, H, W)."""

    quality: Quality
    kept: float | None
    interval: tuple[float, float] | None
    seconds: float | None
    examples: Tensor


@dataclass(frozen=True)
class AtSize:
    """A VAE with a code of one size. ceiling: clean images reconstructed. bound, kl: nats per test image."""

    sigma: float
    bound: float
    kl: float
    ceiling: Measured
    bottleneck: Measured
    noisy_encoder: Measured
    map: Measured
    converged: float
    steps: float


@dataclass(frozen=True)
class Sureness:
    """Of MAP at the main size. std: of the examples' pixels (K, C, H, W). coverage: share of pixels inside their 90 %
    interval, of all and of those that are drawn on (clean value above INK; None if there are none)."""

    std: Tensor
    coverage: float
    coverage_ink: float | None


@dataclass(frozen=True)
class Restoration:
    """D8. sizes: by code size. others: "noisy", "nlm", "tv", "denoiser"; the middle two only where scikit-image is.

    path: (T + 1, N), F of MAP at the main size, nats. gap: of the objective to the optimum solved to the last digits,
    relative, on CHECKED images. damages: by recipe, the methods by name. damaged: by recipe, the damaged examples
    brought to full size. iwae, ppca: nats per test image, of the main size; ppca None if there are
    too few images for it.
    """

    sigma: float
    clean: Tensor
    runs: dict[str, Trained]
    sizes: dict[int, AtSize]
    others: dict[str, Measured]
    strengths: dict[str, float]
    path: Tensor
    gap: float
    sureness: Sureness
    damages: dict[str, dict[str, Measured]]
    damaged: dict[str, Tensor]
    iwae: float
    ppca: float | None

    @property
    def main(self) -> AtSize:
        """The code of 16 numbers."""
        return self.sizes[MAIN]


def run_restoration(study: Study[DigitsSettings], parts: Split, judge: Classifier | None) -> Restoration:
    """Train what is compared, restore the test images with each, measure."""
    sigma, seed = study.settings.noise, study.settings.seed
    runs: dict[str, Trained] = {}
    for size in SIZES:
        runs |= _train_vaes(study, size, parts, sigma)
    training = NETWORKS["denoiser"].training.model_copy(update={"noise": sigma})
    training = budget(training, images=len(parts.train), fast=study.settings.fast)
    runs["denoiser"] = study.train("denoiser", DenoiserSettings(), training, parts)

    study.say("restoring the test images")
    bench = _Bench(parts, judge)
    noisy = add_noise_to(parts.test, sigma, seed=(seed, 2))
    others = {"noisy": bench.measure(noisy)}
    strengths = {}
    if classical.available():
        part = parts.validation.take(np.arange(min(CHOSEN_ON, len(parts.validation))))
        pair = (add_noise_to(part, sigma, seed=(seed, 3)), to_float(torch.from_numpy(part.images)))
        for name, (method, _) in classical.STRENGTHS.items():
            strengths[name] = classical.choose_strength(name, *pair, sigma)
            others[name] = bench.timed(lambda m=method, s=strengths[name]: m(noisy, sigma, s))  # type: ignore[misc]
    denoiser = cast(Denoiser, runs["denoiser"].network)
    others["denoiser"] = bench.timed(lambda: through_bottleneck(denoiser, noisy))

    sizes, solutions = {}, {}
    for size in SIZES:
        network, tuned = (cast(VAE, runs[name].network) for name in (f"vae{size}", f"vae{size}-noisy"))
        sizes[size], solutions[size] = _at_size(network, tuned, noisy, sigma, bench)
    network = cast(VAE, runs[f"vae{MAIN}"].network)
    damages, damaged = {}, {}
    for recipe in map(parse_recipe, OTHERS):
        damages[str(recipe)], damaged[str(recipe)] = _against(recipe, network, denoiser, bench, seed)
    return Restoration(
        sigma,
        bench.clean[bench.examples],
        runs,
        sizes,
        others,
        strengths,
        solutions[MAIN].path,
        _gap(network, noisy, sigma, solutions[MAIN]),
        _sureness(network, solutions[MAIN], sigma, bench),
        damages,
        damaged,
        importance_of(network, parts.test, seed=seed, samples=SAMPLES),
        linear_optimum(parts, MAIN),
    )


def figures(found: Restoration) -> dict[str, float | None]:
    """The numbers of D8 by their dotted names; without a size they are of the code of 16 numbers."""
    named: dict[str, float | None] = {}
    methods = {**found.others, "bottleneck": found.main.bottleneck, "map": found.main.map}
    methods |= {"bottleneck_noisy_encoder": found.main.noisy_encoder, "clean": found.main.ceiling}
    for name, measured in methods.items():
        named |= _named(f"D8.{name}", measured)
    for size, at in found.sizes.items():
        pairs = {"bottleneck": at.bottleneck, "bottleneck_noisy_encoder": at.noisy_encoder, "map": at.map}
        for name, measured in {**pairs, "clean": at.ceiling}.items():
            named[f"D8.{name}.psnr.{size}"] = measured.quality.psnr
            if measured.kept is not None:
                named[f"D8.{name}.class_kept.{size}"] = measured.kept
        named[f"D8.vae.sigma.{size}"] = at.sigma
        named[f"D8.map.converged.{size}"] = at.converged
    main = found.main
    named["D8.map.seconds"], named["D8.map.converged"] = main.map.seconds, main.converged
    named["D8.map.steps"], named["D8.map.gap"] = main.steps, found.gap
    named["D8.map.coverage"], named["D8.map.coverage_ink"] = found.sureness.coverage, found.sureness.coverage_ink
    named["D8.vae.bound_nats"], named["D8.vae.kl_nats"] = main.bound, main.kl
    named["D8.vae.iwae_nats"], named["D8.ppca.nats"] = found.iwae, found.ppca
    for text, by_method in found.damages.items():
        for name, measured in by_method.items():
            named[f"D8.{text.partition(':')[0]}.{name}.psnr"] = measured.quality.psnr
    return named


def _named(prefix: str, measured: Measured) -> dict[str, float | None]:
    named: dict[str, float | None] = {f"{prefix}.psnr": measured.quality.psnr, f"{prefix}.ssim": measured.quality.ssim}
    if measured.kept is not None:
        named[f"{prefix}.class_kept"] = measured.kept
    if measured.seconds is not None:
        named[f"{prefix}.seconds"] = measured.seconds
    return named


@dataclass(frozen=True)
class _Bench:
    """The clean test images, which of them are shown, and who judges."""

    parts: Split
    judge: Classifier | None

    @property
    def clean(self) -> Tensor:
        return to_float(torch.from_numpy(self.parts.test.images))

    @property
    def examples(self) -> Tensor:
        return torch.from_numpy(examples_of(self.parts.test))

    def measure(self, images: Tensor, *, seconds: float | None = None) -> Measured:
        kept = interval = None
        if self.judge is not None:
            counts = confusion_of(self.judge, images, self.parts.test)
            right, total = int(counts.trace()), int(counts.sum())
            kept, interval = right / total, wilson_interval(right, total)
        return Measured(quality(images, self.clean), kept, interval, seconds, images[self.examples])

    def timed(self, work: Callable[[], Tensor]) -> Measured:
        started = time.perf_counter()
        images = work()
        return self.measure(images, seconds=time.perf_counter() - started)


def _train_vaes(study: Study[DigitsSettings], size: int, parts: Split, sigma: float) -> dict[str, Trained]:
    """The VAE on clean images, and its encoder fine-tuned on noisy ones."""
    model = VAESettings(latent_dim=size)
    fast, count = study.settings.fast, len(parts.train)
    training = NETWORKS["vae"].training
    if size != MAIN:
        training = training.model_copy(update={"epochs": LARGER_EPOCHS})
    clean = study.train(f"vae{size}", model, budget(training, images=count, fast=fast), parts)
    training = budget(FINE_TUNING.model_copy(update={"noise": sigma}), images=count, fast=fast)
    tuned = study.train(f"vae{size}-noisy", model, training, parts, start=(f"vae{size}", clean.network))
    return {f"vae{size}": clean, f"vae{size}-noisy": tuned}


def _at_size(network: VAE, tuned: VAE, noisy: Tensor, sigma: float, bench: _Bench) -> tuple[AtSize, Solution]:
    started = time.perf_counter()
    found = restore(network, noisy, sigma=sigma)
    seconds = time.perf_counter() - started
    device = next(network.parameters()).device
    scored = score(network, torch.from_numpy(bench.parts.test.images).to(device), None)
    at = AtSize(
        network.sigma,
        -scored["reconstruction"] - scored["kl"],
        scored["kl"],
        bench.measure(reconstruct(network, bench.parts.test.images).clamp(0, 1)),
        bench.timed(lambda: through_bottleneck(network, noisy)),
        bench.timed(lambda: through_bottleneck(tuned, noisy)),
        bench.measure(found.images.clamp(0, 1).cpu(), seconds=seconds),
        float(found.converged.float().mean()),
        float(found.steps.float().mean()),
    )
    return at, found


def _against(
    recipe: Recipe, network: VAE, denoiser: Denoiser, bench: _Bench, seed: int
) -> tuple[dict[str, Measured], Tensor]:
    """Another damage than noise alone: what MAP, the bottleneck and the denoiser make of it."""
    generator = generator_of((seed, 4))
    clean = bench.clean
    operator = recipe.build(bench.parts.test.shape, count=len(clean), generator=generator)
    measured = add_noise(operator.apply(clean), recipe.sigma, generator=generator)
    if recipe.kind == "mask":
        measured = operator.apply(measured)
    guess = operator.guess(measured)
    started = time.perf_counter()
    found = restore(network, measured, sigma=recipe.sigma, degradation=operator)
    seconds = time.perf_counter() - started
    return {
        "guess": bench.measure(guess),
        "bottleneck": bench.measure(through_bottleneck(network, guess)),
        "denoiser": bench.measure(through_bottleneck(denoiser, guess)),
        "map": bench.measure(found.images.clamp(0, 1).cpu(), seconds=seconds),
    }, guess[bench.examples]


def _gap(network: VAE, noisy: Tensor, sigma: float, found: Solution) -> float:
    """How far the objective lies above that of Levenberg-Marquardt from the same start, relative, mean over images."""
    exact = restore(network, noisy[:CHECKED], sigma=sigma, solver="lm")
    reached = found.objective[:CHECKED].to(exact.objective)
    return float(((reached - exact.objective) / exact.objective.abs()).mean())


def _sureness(network: VAE, found: Solution, sigma: float, bench: _Bench) -> Sureness:
    prior = StandardNormal(network.latent_dim)
    std = laplace(
        decoder(network), found.codes, prior=prior, sigma=sigma, degradation=Identity(), decoder_sigma=network.sigma
    ).std.cpu()
    clean = bench.clean
    inside = coverage(found.images.cpu(), std, clean)
    ink = clean > INK
    drawn = float(inside[ink].float().mean()) if bool(ink.any()) else None
    return Sureness(std[bench.examples], float(inside.float().mean()), drawn)
