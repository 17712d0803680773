"""What the numbers of D7 and D8 say, in words. Every sentence is chosen and filled by the numbers."""

from __future__ import annotations

from isthmus.studies.digits import DigitsResult
from isthmus.studies.findings import ALIKE, enumerate_words, percent
from isthmus.studies.restoration import MAIN, Measured, Restoration
from isthmus.studies.variational import SAMPLES, Reading

CLOSE = 0.1  # decibels not worth a verdict
METHODS = {
    "noisy": "the noisy image itself",
    "nlm": "non-local means",
    "tv": "total variation",
    "denoiser": "the network trained to denoise",
    "bottleneck": "the bottleneck",
    "noisy_encoder": "the bottleneck with an encoder fine-tuned on noisy images",
    "map": "MAP",
    "guess": "the damaged image, brought to full size",
}
DAMAGES = {"mask": "missing pixels", "blur": "a blur", "lowres": "low resolution"}


def methods_of(found: Restoration) -> dict[str, Measured]:
    """All that restores noisy images, with codes of the main size."""
    main = found.main
    return {**found.others, "bottleneck": main.bottleneck, "noisy_encoder": main.noisy_encoder, "map": main.map}


def d7(result: DigitsResult) -> list[str]:
    """Is the VAE's code better, how good is the density, and what does the weight do?"""
    found = result.d7
    main = found.main
    return [*_code(result, main), *_density(result), *_weights(result), *_aggregate(result)]


def _code(result: DigitsResult, main: Reading) -> list[str]:
    error = result.d1.test_mse
    side = "below" if main.mse < error["lab"] else "above"
    text = f"With sigma learnt ({main.sigma:.3f}) the test error is {main.mse:.4f} per pixel, {side} the lab's "
    text += f"{error['lab']:.4f} ({result.pca_name} {error['pca']:.4f}, the stronger network {error['strong']:.4f})"
    if main.neighbours is None or result.d3 is None:
        return [f"{text}."]
    lab, strong = result.d3["lab.clean"].mean, result.d3["strong.clean"].mean
    ours = main.neighbours.mean
    text += (
        f"; the nearest neighbour in its code names the class of {percent(ours)}, in the lab's code of "
        f"{percent(lab)} and in the stronger network's of {percent(strong)}."
    )
    return [text]


def _density(result: DigitsResult) -> list[str]:
    found = result.d7
    text = (
        f"As a density of images it reaches {found.main.bound:.1f} nats per test image by the evidence bound and "
        f"{found.iwae:.1f} by {SAMPLES} importance samples"
    )
    if found.ppca is None:
        return [f"{text}."]
    gain = found.iwae - found.ppca
    verb = "more" if gain > 0 else "less"
    return [
        f"{text}; the exact linear model with two numbers, probabilistic PCA, has {found.ppca:.1f}: the VAE "
        f"explains an image by {abs(gain):.0f} nats {verb}."
    ]


def _weights(result: DigitsResult) -> list[str]:
    readings = sorted(result.d7.readings.values(), key=lambda reading: reading.per_sse)
    sentences = [f"{r.weight.meaning}. {_effect(r)}" for r in readings if r.weight is not None]
    spreads = [reading.spread for reading in readings]
    listed = enumerate_words(f"{r.spread:.2f} at {r.per_sse:.3g}" for r in readings)
    if spreads == sorted(spreads, reverse=True):
        judged = "tighten with the weight"
    elif spreads == sorted(spreads):
        judged = "spread with the weight"
    else:
        judged = "neither tighten nor spread steadily with the weight"
    sentences.append(f"The means {judged} on the KL: their standard deviation is {listed} beside the sum of squares.")
    return sentences


def _effect(reading: Reading) -> str:
    count, size = int(reading.active.sum()), len(reading.active)
    if count == 0:
        text = f"Measured, no unit is active ({reading.kl:.2f} nats of KL): the code says nothing, it has collapsed"
    elif count < size:
        text = f"Measured, {count} of {size} units are active ({reading.kl:.2f} nats of KL): the code collapses in part"
    else:
        text = f"Measured, all {size} units are active ({reading.kl:.2f} nats of KL): nothing collapses"
    if reading.neighbours is not None:
        text += f", with 1-NN right in {percent(reading.neighbours.mean)} and an error of {reading.mse:.4f}"
    return f"{text}."


def _aggregate(result: DigitsResult) -> list[str]:
    found = result.d7.aggregate
    empty, before = 1 - float(result.d7.grid.occupied.mean()), 1 - float(result.d5.grid.occupied.mean())
    if found.floor > 0.4:
        apart = "are too few to tell whether they differ"
    else:
        apart = "differ" if found.uneven > 2 * found.floor else "hardly differ"
    return [
        f"All codes together {apart} from N(0, I): total variation {found.uneven:.2f} over cells of equal prior "
        f"mass, where as many samples of the prior show {found.floor:.2f}. {percent(empty, 0)} of the prior's mass "
        f"lies in cells without a code; of the cells of D5's grid it was {percent(before, 0)}."
    ]


def d8(result: DigitsResult) -> list[str]:
    """Does MAP win, where does it lose, and can it be trusted?"""
    found = result.d8
    return [*_gains(found), *_classes(found), *_sizes(found), *_solver(found), *_sure(found), *_others(found)]


def _gains(found: Restoration) -> list[str]:
    methods = methods_of(found)
    reached = found.main.map.quality.psnr
    plain, tuned = (methods[name].quality.psnr for name in ("bottleneck", "noisy_encoder"))
    sentences = [
        f"With {MAIN} numbers MAP restores the noisy images to {reached:.1f} dB, {_by(reached - plain)} the "
        f"bottleneck of the same network ({plain:.1f} dB) and {_by(reached - tuned)} the fairer opponent, whose "
        f"encoder was fine-tuned on noisy images ({tuned:.1f} dB)."
    ]
    ahead = [name for name, m in methods.items() if m.quality.psnr > reached + CLOSE]
    if ahead:
        named = enumerate_words(f"{METHODS[n]} ({methods[n].quality.psnr:.1f} dB)" for n in ahead)
        reason = ": it was trained for this very noise, which MAP only learns of now" if ahead == ["denoiser"] else ""
        sentences.append(f"MAP loses to {named}{reason}.")
    else:
        sentences.append("Nothing compared here restores better than MAP.")
    behind = [name for name in ("nlm", "tv") if name in methods and methods[name].quality.psnr < reached - CLOSE]
    if behind:
        named = enumerate_words(f"{METHODS[n]} ({methods[n].quality.psnr:.1f} dB)" for n in behind)
        sentences.append(f"It leads {named}.")
    return sentences


def _classes(found: Restoration) -> list[str]:
    methods = methods_of(found)
    kept = {name: m.kept for name, m in methods.items() if m.kept is not None}
    ours, theirs = found.main.map.interval, found.main.bottleneck.interval
    if not kept or ours is None or theirs is None:
        return []
    if ours[0] > theirs[1]:
        judged = "more often than the bottleneck, beyond noise"
    elif ours[1] < theirs[0]:
        judged = "less often than the bottleneck, beyond noise"
    else:
        judged = "as often as the bottleneck, within noise"
    best = max(kept, key=lambda name: kept[name])
    text = (
        f"After MAP the classifier of D4 finds the true class in {percent(kept['map'])}, {judged} "
        f"({percent(kept['bottleneck'])}); of the noisy images themselves it finds {percent(kept['noisy'])}"
    )
    if best != "map":
        text += f"; best is {METHODS[best]} with {percent(kept[best])}"
    return [f"{text}."]


def _sizes(found: Restoration) -> list[str]:
    sizes = list(found.sizes)
    listed = enumerate_words(f"{found.sizes[s].map.quality.psnr:.1f} dB with {s}" for s in sizes)
    best = max(sizes, key=lambda s: found.sizes[s].map.quality.psnr)
    sentences = [f"MAP reaches {listed} numbers, best with {best}."]
    for size in sizes[1:]:
        at, before = found.sizes[size], found.sizes[sizes[sizes.index(size) - 1]]
        gained = at.ceiling.quality.psnr - before.ceiling.quality.psnr
        if gained > CLOSE and at.map.quality.psnr < before.map.quality.psnr + CLOSE:
            sentences.append(
                f"From {sizes[sizes.index(size) - 1]} to {size} numbers clean images are reconstructed {gained:.1f} dB "
                "better, but MAP gains nothing from them."
            )
    losing = [s for s in sizes if found.sizes[s].noisy_encoder.quality.psnr > found.sizes[s].map.quality.psnr + CLOSE]
    if losing:
        named = enumerate_words(str(size) for size in losing)
        sentences.append(f"With {named} numbers the fine-tuned encoder's bottleneck is ahead of MAP.")
    return sentences


def _solver(found: Restoration) -> list[str]:
    main = found.main
    seconds = main.map.seconds or 0.0
    return [
        f"{percent(main.converged)} of the searches converged, after {main.steps:.0f} steps in the mean; "
        f"{found.path.shape[1]:,} images took {seconds:.1f} s. The objective ends {100 * abs(found.gap):.3f}\u00a0% "
        f"{'above' if found.gap >= 0 else 'below'} that of an exact solver from the same start."
    ]


def _sure(found: Restoration) -> list[str]:
    sure = found.sureness
    judged = (
        "as they should" if abs(sure.coverage - 0.9) < ALIKE else "too wide" if sure.coverage > 0.9 else "too narrow"
    )
    text = f"The 90\u00a0% intervals of the pixels hold {percent(sure.coverage)} of them, {judged}"
    if sure.coverage_ink is not None:
        ink = sure.coverage_ink
        word = "as they should" if abs(ink - 0.9) < ALIKE else "too wide" if ink > 0.9 else "too narrow"
        text += f"; of pixels that are drawn on {percent(ink)}, {word}"
        if abs(ink - sure.coverage) > 2 * ALIKE:
            text += ": one sigma for every pixel does not fit both"
    return [f"{text}."]


def _others(found: Restoration) -> list[str]:
    parts, won = [], 0
    for text, methods in found.damages.items():
        best = max(methods, key=lambda name: methods[name].quality.psnr)
        rest = max((name for name in methods if name != "map"), key=lambda name: methods[name].quality.psnr)
        ours, theirs = methods["map"].quality.psnr, methods[rest].quality.psnr
        won += best == "map"
        parts.append(f"{DAMAGES[text.partition(':')[0]]} {ours:.1f} dB against {theirs:.1f} of {METHODS[rest]}")
    return [
        f"Against damages that nothing was trained for, the same network by MAP is best in {won} of {len(parts)}: "
        f"{'; '.join(parts)}."
    ]


def _by(gain: float) -> str:
    return f"{abs(gain):.1f} dB {'above' if gain >= 0 else 'below'}"
