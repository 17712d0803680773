"""What the numbers of the study of digits say, in words. Every sentence is chosen and filled by the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from isthmus.studies.digits import PUBLISHED_1NN, PUBLISHED_CLASSIFIER, DigitsResult

TITLES = {"pca": "PCA", "lab": "the lab's network", "strong": "the stronger network"}
RECOGNISED, LOST = 0.8, 0.5  # share of a class kept
ALIKE = 0.02  # relative difference of errors, or difference of shares, not worth a verdict


def summary(result: DigitsResult) -> list[str]:
    """Do the autoencoders beat PCA, and what does that buy?"""
    error = result.d1.test_mse
    sentences = []
    for name in ("lab", "strong"):
        better, worse = times(error["pca"], error[name]), times(error[name], error["pca"])
        if max(better, worse) <= 1 + ALIKE:
            verdict = f"is within {percent(ALIKE, 0)} of {result.pca_name} in squared error on clean images"
        else:
            factor = max(better, worse)
            amount = f" by a factor of {factor:.2f}" if math.isfinite(factor) else ""
            verdict = (
                f"{'beats' if better > worse else 'loses to'} {result.pca_name} in squared error on clean "
                f"images{amount}"
            )
        sentences.append(f"With two numbers an image, {TITLES[name]} {verdict}.")
    if result.d3 is not None:
        means = {name: result.d3[f"{name}.clean"].mean for name in ("pca", "lab", "strong")}
        order = sorted(means, key=lambda name: means[name], reverse=True)
        listed = enumerate_words(f"{percent(means[name])} with {TITLES[name]}" for name in order)
        sentences.append(f"Naming the class by the nearest neighbour in the code is right in {listed}.")
    found = result.d6.quality
    for name in ("lab", "strong"):
        gain = found[name].psnr - found["pca"].psnr
        if (gain < 0) != (error["pca"] < error[name]):
            sentences.append(
                f"On noisy images the order turns: {TITLES[name]} restores them {abs(gain):.1f} dB "
                f"{'worse' if gain < 0 else 'better'} than {result.pca_name}."
            )
    return sentences


def d1(result: DigitsResult) -> list[str]:
    """Which classes survive the bottleneck, and whether the loss shows overfitting."""
    sentences = []
    for name in ("lab", "strong"):
        kept = {} if result.d1.kept is None else dict(zip(result.data.classes, result.d1.kept[name], strict=True))
        if kept:
            well = [label for label, share in kept.items() if share >= RECOGNISED]
            badly = [label for label, share in kept.items() if share < LOST]
            text = f"After {TITLES[name]}, the classifier of D4 recognises "
            text += (
                f"{enumerate_words(well)} (at least {percent(RECOGNISED, 0)} of the images)"
                if well
                else "no class well"
            )
            text += f", and loses {enumerate_words(badly)} (less than {percent(LOST, 0)})." if badly else "."
            sentences.append(text)
    for name in ("lab", "strong"):
        run = result.runs[name]
        kept_epoch = run.epochs[run.best_epoch - 1]
        excess = times(kept_epoch["validation_loss"], kept_epoch["train_loss"]) - 1
        side = "above" if excess >= 0 else "below"
        ending = "still falling at the last epoch" if run.best_epoch == len(run.epochs) else "past its least by the end"
        sentences.append(
            f"The validation loss of {TITLES[name]} is {percent(abs(excess))} {side} its training loss where it was "
            f"kept, and {ending}."
        )
    return sentences


def d2(result: DigitsResult) -> list[str]:
    """Which classes overlap, and which axes are clipped."""
    return [*_overlaps(result), *_clipped(result)]


def _overlaps(result: DigitsResult) -> list[str]:
    overlap = result.d2.overlap
    if overlap is None:
        return []
    classes = result.data.classes
    off = np.where(np.eye(len(classes), dtype=bool), np.nan, overlap)
    present = [k for k in range(len(classes)) if np.isfinite(off[k]).any()]
    pairs = sorted(((off[a, b], classes[b], classes[a]) for a in present for b in present if b < a), reverse=True)
    worst = [f"{a} with {b} ({percent(share, 0)})" for share, a, b in pairs[:3]]
    alone = {k: float(np.nanmean(off[k])) for k in present}
    best = sorted(alone, key=lambda k: alone[k])[:2]
    sentences = [
        f"In the lab's code the pairs that overlap most are {enumerate_words(worst)}; at 100\u00a0% neighbours "
        "could not tell them "
        "apart.",
        "Most apart from the others: "
        f"{enumerate_words(f'{classes[k]} (mean overlap {percent(alone[k], 0)})' for k in best)}.",
    ]
    if result.are_digits:
        rank = 1 + sum(share > off[0, 6] for share, _, _ in pairs)
        nearest = int(np.nanargmax(off[0]))
        sentences.append(
            "The lab's answers name 0 and 6, which share a circle, as overlapping: here they do by "
            f"{percent(off[0, 6], 0)}, "
            f"rank {rank} of {len(pairs)} pairs, and the digit that overlaps zero most is {nearest} "
            f"({percent(off[0, nearest], 0)})."
        )
    return sentences


def _clipped(result: DigitsResult) -> list[str]:
    found = result.d2.clipping
    sentences = []
    for axis in np.flatnonzero(found.dead):
        cause = "its ReLU gives zero for every image" if found.bottom[axis] == 0 else "it is the same for every image"
        sentences.append(f"Axis {axis + 1} is dead: {cause}, so the code has one number less than it seems.")
    clipped = [axis for axis in found.clipped if not found.dead[axis]]
    if clipped:
        shares = enumerate_words(f"{percent(found.share[axis])} on axis {axis + 1}" for axis in clipped)
        relu = all(found.bottom[axis] == 0 for axis in clipped)
        cause = "the ReLU maps every negative value to exactly zero" if relu else "they share the least value"
        sentences.append(f"Codes are clipped, {shares}: {cause}.")
    if not found.clipped:
        sentences.append(f"Hardly any code is clipped: {percent(found.share.max(), 2)} at most on an axis.")
    return sentences


def d3(result: DigitsResult) -> list[str]:
    """How much of the class the code keeps, and which condition the published table resembles."""
    if result.d3 is None:
        return []
    clean, noisy = result.d3["lab.clean"], result.d3["lab.noisy"]
    by_class = {c: s for c, s in zip(result.data.classes, clean.per_class, strict=True) if np.isfinite(s)}
    order = sorted(by_class, key=lambda label: by_class[label])
    sentences = [
        f"In the lab's code the nearest neighbour names the right class of {percent(clean.mean)} of clean images and "
        f"of {percent(noisy.mean)} of noisy ones (means over classes), where chance is {percent(result.chance)}. "
        f"Easiest is {order[-1]} ({percent(by_class[order[-1]])}), hardest {order[0]} "
        f"({percent(by_class[order[0]])})."
    ]
    if result.are_digits:
        published = np.array(PUBLISHED_1NN)
        off = {name: np.abs(found.per_class - published) for name, found in result.d3.items()}
        nearer = min(("clean", "noisy"), key=lambda kind: off[f"lab.{kind}"].mean())
        worst = int(off[f"lab.{nearer}"].argmax())
        nearest = min(off, key=lambda name: off[name].mean())
        sentences.append(
            f"The published table has a mean of {percent(float(published.mean()))}. Digit by digit it differs from "
            f"the lab's network by {100 * off['lab.clean'].mean():.0f} points on clean and by "
            f"{100 * off['lab.noisy'].mean():.0f} points on noisy images: of the two, it resembles the {nearer} case "
            f"more, though digit {worst} differs by {100 * off[f'lab.{nearer}'][worst]:.0f}."
        )
        if not nearest.startswith("lab"):
            name, _, kind = nearest.partition(".")
            sentences.append(
                f"Nearest of all our conditions is {result.pca_name if name == 'pca' else TITLES[name]} on {kind} "
                f"images, {100 * off[nearest].mean():.0f} points away."
            )
    strong, pca = result.d3["strong.clean"].mean, result.d3["pca.clean"].mean
    ratio = result.runs["strong"].parameters / result.runs["lab"].parameters
    sentences.append(
        f"The stronger network, also trained without labels, with as small a code but {ratio:.0f} times the "
        f"parameters, reaches {percent(strong)}; {result.pca_name} {percent(pca)}."
    )
    return sentences


READINGS = {
    "overfits": "it does better on images it has seen, so it overfits and regularisation is the remedy",
    "underfits": "it does no better on images it has seen, and has not learnt those, so more capacity is the remedy",
    "fits": "the gap calls for neither more capacity nor regularisation",
    "both": "it has not learnt the old images and does clearly worse on new ones; neither remedy alone is called for",
}


def d4(result: DigitsResult) -> list[str]:
    """The capacity, the remedy, and whether it helped."""
    study = result.d4
    if study is None:
        return []
    seen = study.diagnosis
    sentences = [
        f"After the last epoch the plain classifier is right on {percent(seen.train, 2)} of a sample of the training "
        f"images and on {percent(seen.validation, 2)} of the validation images, a gap of "
        f"{seen.gap / seen.standard_error:.1f} standard errors: {READINGS[seen.verdict]}."
    ]
    plain = study.runs["classifier"]
    if seen.verdict == "overfits" and plain.best_epoch == len(plain.epochs):
        sentences.append(
            "Its validation accuracy was best at the last epoch: the gap has not begun to cost anything yet."
        )
    if study.remedy is not None:
        before, after = (study.validation_accuracy[name] for name in ("classifier", "classifier-remedy"))
        chosen = "remedied" if study.chosen == "classifier-remedy" else "plain"
        sentences.append(
            f"The remedy ({study.remedy}) {_effect(before, after, len(result.parts.validation))}: validation accuracy "
            f"goes from {percent(before, 2)} to {percent(after, 2)}. The {chosen} network is the one tested."
        )
    low, high = study.interval
    sentences.append(
        f"On the test images the mean over classes is {percent(study.mean, 2)}; accuracy over images lies between "
        f"{percent(low, 2)} and {percent(high, 2)} (95\u00a0%, Wilson)."
    )
    if result.are_digits:
        better = int(np.sum(study.per_class > np.array(PUBLISHED_CLASSIFIER)))
        published = percent(float(np.mean(PUBLISHED_CLASSIFIER)))
        count = "all ten" if better == 10 else f"{better} of the ten"
        sentences.append(f"The accuracy of {count} digits is above the published one (mean {published}).")
    return sentences


def _effect(before: float, after: float, images: int) -> str:
    """Whether two accuracies on as many images differ by more than two standard errors of a difference."""
    smoothed = ((before + after) / 2 * images + 1) / (images + 2)
    noise = 2 * math.sqrt(2 * smoothed * (1 - smoothed) / images)
    return "changes nothing beyond noise" if abs(after - before) <= noise else "helps" if after > before else "harms"


def d5(result: DigitsResult) -> list[str]:
    """Where the decoder was never trained, and what lies between two classes."""
    found = result.d5
    empty = 1 - float(found.grid.occupied.mean())
    sentences = [
        f"{percent(empty, 0)} of the cells of the grid hold no training code; "
        f"what the decoder draws there is extrapolation."
    ]
    if found.confidence is not None and np.isfinite(found.confidence).all():
        inside, outside = found.confidence
        if inside - outside > ALIKE:
            sentences.append(
                f"The pictures show it: the classifier of D4 is {percent(inside, 0)} sure of what it sees where data "
                f"lie, {percent(outside, 0)} where none do."
            )
        else:
            how = "even surer" if outside - inside > ALIKE else "as sure"
            sentences.append(
                f"The classifier of D4 does not notice: it is {how} of what it sees where no data lie "
                f"({percent(outside, 0)}) {'than' if how == 'even surer' else 'as'} where they do "
                f"({percent(inside, 0)})."
            )
    if found.ends is not None:
        between = list(dict.fromkeys(name for name in found.passes if name not in found.ends))
        through = f"passes through what the classifier reads as {enumerate_words(between)}"
        sentences.append(
            f"The strip from {found.ends[0]} to {found.ends[1]} {through if between else 'meets no other class'}."
        )
    return sentences


def d6(result: DigitsResult) -> list[str]:
    """Whether noise passes the bottleneck, and whether the image does."""
    found = result.d6
    noisy, lab = found.quality["noisy"], found.quality["lab"]
    gain = lab.psnr - noisy.psnr
    sentences = [
        f"Pushing noisy images through the lab's bottleneck {'gains' if gain > 0 else 'loses'} {abs(gain):.1f} dB "
        f"({noisy.psnr:.1f} to {lab.psnr:.1f} dB) and moves the similarity from {noisy.ssim:.2f} to {lab.ssim:.2f}."
    ]
    if found.kept is not None and result.d1.kept is not None:
        before, after, clean = found.kept["noisy"], found.kept["lab"], float(np.nanmean(result.d1.kept["lab"]))
        judged = "fewer" if after < before - ALIKE else "more" if after > before + ALIKE else "as many"
        sentences.append(
            f"The classifier of D4 finds the class of {percent(after)} of the restored images, {judged} "
            f"{'as' if judged == 'as many' else 'than'} of the noisy ones themselves ({percent(before)}); of clean "
            f"images sent through the same bottleneck it finds {percent(clean)}."
        )
    best = max(("pca", "lab", "strong"), key=lambda name: found.quality[name].psnr)
    sentences.append(
        f"Of the three codes of two numbers, {TITLES[best]} restores best ({found.quality[best].psnr:.1f} dB)."
    )
    return sentences


def times(a: float, b: float) -> float:
    """How many times a is b; of two zeros, one.

    >>> times(3.0, 2.0), times(0.0, 0.0), times(1.0, 0.0)
    (1.5, 1.0, inf)
    """
    return 1.0 if a == b else a / b if b else float("inf")


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage.

    >>> percent(0.3541)
    '35.4\\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def enumerate_words(words: Iterable[str]) -> str:
    """Join with commas and a last 'and'.

    >>> enumerate_words(["0", "1", "6"])
    '0, 1 and 6'
    """
    listed = list(words)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}" if listed else "none"
