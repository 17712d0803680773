"""What the numbers of the study of digits say, in words. Every sentence is chosen and filled by the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from isthmus.studies.digits import PUBLISHED_1NN, PUBLISHED_CLASSIFIER, DigitsResult

TITLES = {
    "pca": "exact PCA",
    "lab": "the lab's network",
    "strong": "the stronger network",
    "noisy": "no restoration",
}
RECOGNISED, LOST = 0.8, 0.5  # share of a class kept


def summary(result: DigitsResult) -> list[str]:
    """Do the autoencoders beat PCA, and what does that buy?"""
    error = result.d1.test_mse
    sentences = []
    for name in ("lab", "strong"):
        ratio = times(error["pca"], error[name])
        verdict = "beats" if ratio > 1.02 else "loses to" if ratio < 0.98 else "equals"
        amount = "" if verdict == "equals" else f" by a factor of {max(ratio, times(error[name], error['pca'])):.2f}"
        sentences.append(f"With two numbers an image, {TITLES[name]} {verdict} exact PCA in squared error{amount}.")
    if result.d3 is not None:
        means = {name: result.d3[f"{name}.clean"].mean for name in ("pca", "lab", "strong")}
        order = sorted(means, key=lambda name: means[name], reverse=True)
        listed = ", ".join(f"{percent(means[name])} with {TITLES[name]}" for name in order)
        sentences.append(f"A nearest neighbour in the code finds the class of {listed}.")
    return sentences


def d1(result: DigitsResult) -> list[str]:
    """Which classes survive the bottleneck."""
    sentences = []
    if result.d1.kept is not None:
        for name in ("lab", "strong"):
            kept = result.d1.kept[name]
            well = [c for c, share in zip(result.data.classes, kept, strict=True) if share >= RECOGNISED]
            badly = [c for c, share in zip(result.data.classes, kept, strict=True) if share < LOST]
            text = f"After {TITLES[name]}, the classifier of D4 still recognises "
            text += (
                f"{enumerate_words(well)} (at least {percent(RECOGNISED, 0)} of the images)"
                if well
                else "no class reliably"
            )
            text += f", and loses {enumerate_words(badly)} (less than {percent(LOST, 0)})." if badly else "."
            sentences.append(text)
    for name in ("lab", "strong"):
        epochs = result.runs[name].epochs
        train, validation = epochs[-1]["train_loss"], epochs[-1]["validation_loss"]
        excess = validation / train - 1
        judged = (
            "it has learnt images by heart"
            if excess > 0.1
            else "it hardly overfits"
            if excess > 0.03
            else "it does not overfit"
        )
        sentences.append(
            f"The validation loss of {TITLES[name]} ends {percent(abs(excess), 1)} "
            f"{'above' if excess >= 0 else 'below'} its training loss: {judged}."
        )
    return sentences


def d2(result: DigitsResult) -> list[str]:
    """Which classes overlap, and which axes are clipped."""
    sentences = []
    classes, overlap = result.data.classes, result.d2.overlap
    if overlap is not None:
        pairs = [(overlap[a, b], classes[a], classes[b]) for a in range(len(classes)) for b in range(a)]
        pairs = sorted((p for p in pairs if np.isfinite(p[0])), reverse=True)
        worst = [f"{b} and {a} ({percent(share, 0)})" for share, a, b in pairs[:3]]
        sentences.append(
            f"The classes that overlap most are {enumerate_words(worst)}; 100\u00a0% would mean that their codes "
            "cannot be told apart."
        )
        off = np.where(np.eye(len(classes), dtype=bool), np.nan, overlap)
        alone = np.nanmean(off, axis=1)
        best = np.argsort(alone)[:2]
        apart = [f"{classes[k]} (mean overlap {percent(alone[k], 0)})" for k in best]
        sentences.append(f"Most apart from the others: {enumerate_words(apart)}.")
        if result.are_digits:
            rank = 1 + sum(share > overlap[0, 6] for share, _, _ in pairs)
            nearest = int(np.nanargmax(off[0]))
            sentences.append(
                "The lab names zeros and sixes, which share a circle: here they overlap by "
                f"{percent(overlap[0, 6], 0)}, rank {rank} of "
                f"{len(pairs)} pairs, and the digit that overlaps zero most is {nearest} "
                f"({percent(off[0, nearest], 0)})."
            )
    found = result.d2.clipping
    for axis in range(len(found.share)):
        if found.dead[axis]:
            sentences.append(
                f"Axis {axis + 1} is dead: its ReLU gives zero for every image, so the code has one number less "
                "than it seems."
            )
        elif axis in found.clipped:
            sentences.append(
                f"On axis {axis + 1}, {percent(found.share[axis], 1)} of the codes are clipped: the ReLU maps "
                "every negative value to exactly zero."
            )
    if not found.clipped:
        most = found.share.max()
        sentences.append(
            f"Hardly any code is clipped ({percent(most, 2)} at most on an axis): this network has learnt to stay "
            "clear of the ReLU's zero."
        )
    return sentences


def d3(result: DigitsResult) -> list[str]:
    """How much of the class the code keeps, and which condition the published table resembles."""
    if result.d3 is None:
        return []
    classes = result.data.classes
    clean, noisy = result.d3["lab.clean"], result.d3["lab.noisy"]
    order = np.argsort(clean.per_class)
    sentences = [
        f"In the lab's code a nearest neighbour finds {percent(clean.mean)} of the classes on clean images and "
        f"{percent(noisy.mean)} "
        f"on noisy ones, where chance is {percent(1 / len(classes))}. Easiest is {classes[order[-1]]} "
        f"({percent(clean.per_class[order[-1]])}), hardest {classes[order[0]]} ({percent(clean.per_class[order[0]])})."
    ]
    if result.are_digits:
        published = float(np.mean(PUBLISHED_1NN))
        distance = {
            kind: float(np.abs(result.d3[f"lab.{kind}"].per_class - np.array(PUBLISHED_1NN)).mean())
            for kind in ("clean", "noisy")
        }
        nearer = min(distance, key=lambda kind: distance[kind])
        sentences.append(
            f"The published table has a mean of {percent(published)}. Digit by digit it differs from ours by "
            f"{100 * distance['clean']:.0f} points on "
            f"clean and by {100 * distance['noisy']:.0f} points on noisy images: it resembles the {nearer} case more."
        )
    strong, pca = result.d3["strong.clean"].mean, result.d3["pca.clean"].mean
    sentences.append(
        f"The stronger network, as unsupervised and as small, reaches {percent(strong)}; exact PCA {percent(pca)}."
    )
    return sentences


def d4(result: DigitsResult) -> list[str]:
    """The capacity, the remedy, and whether it helped."""
    study = result.d4
    if study is None:
        return []
    seen, verdict = study.diagnosis, study.diagnosis.verdict
    numbers = (
        f"after the last epoch the plain classifier is right on {percent(seen.train, 2)} of the training and "
        f"{percent(seen.validation, 2)} of the validation images, a gap of {seen.gap / seen.standard_error:.1f} "
        "standard errors"
    )
    reading = {
        "overfits": "it overfits, so regularisation is the remedy",
        "underfits": (
            "it treats old and new images alike and has not learnt the old ones, so it underfits and more capacity "
            "is the remedy"
        ),
        "fits": "its capacity is about right and no remedy is called for",
    }[verdict]
    sentences = [f"{numbers[0].upper()}{numbers[1:]}: {reading}."]
    if study.remedy is not None:
        before, after = (study.validation_accuracy[name] for name in ("classifier", "classifier-remedy"))
        noise = math.sqrt(before * (1 - before) / len(result.parts.validation))
        helped = (
            "changes nothing beyond noise" if abs(after - before) <= noise else "helps" if after > before else "harms"
        )
        sentences.append(
            f"The remedy ({study.remedy}) {helped}: validation accuracy goes from {percent(before, 2)} to "
            f"{percent(after, 2)}. "
            f"The {'remedied' if study.chosen == 'classifier-remedy' else 'plain'} network is the one tested."
        )
    low, high = study.interval
    sentences.append(
        f"On the test images the mean over classes is {percent(study.mean, 2)}; accuracy over images lies between "
        f"{percent(low, 2)} and {percent(high, 2)} (95 %, Wilson)."
    )
    if result.are_digits:
        better = int(np.sum(study.per_class > np.array(PUBLISHED_CLASSIFIER)))
        sentences.append(
            f"That is better than published ({percent(float(np.mean(PUBLISHED_CLASSIFIER)))}) on {better} of the "
            "ten digits."
        )
    return sentences


def d5(result: DigitsResult) -> list[str]:
    """Where the decoder was never trained, and what lies between two classes."""
    found = result.d5
    empty = 1 - found.grid.occupied.mean()
    sentences = [
        f"{percent(empty, 0)} of the cells of the grid hold no training code; what the decoder draws there it was "
        "never taught."
    ]
    if found.confidence is not None and np.isfinite(found.confidence[1]):
        inside, outside = found.confidence
        if inside - outside > 0.02:
            sentences.append(
                f"The pictures show it: the classifier of D4 is {percent(inside, 0)} sure of what it sees where "
                f"data lie, {percent(outside, 0)} where none do."
            )
        else:
            sentences.append(
                "The pictures do not betray it: the classifier of D4 is as sure where no data lie "
                f"({percent(outside, 0)}) as where they do ({percent(inside, 0)})."
            )
    if found.ends is not None:
        between = list(dict.fromkeys(name for name in found.passes if name not in found.ends))
        through = (
            f"passes through what the classifier reads as {enumerate_words(between)}"
            if between
            else "meets no other class"
        )
        sentences.append(f"The strip from {found.ends[0]} to {found.ends[1]} {through}.")
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
    if found.kept is not None:
        before, after = found.kept["noisy"], found.kept["lab"]
        judged = (
            "the noise does not pass, but neither does the class"
            if gain > 0 and after < before
            else (
                "noise is removed and the class with it is kept at least as well"
                if gain > 0
                else "the bottleneck is no denoiser"
            )
        )
        sentences.append(
            f"The classifier of D4 still finds the class of {percent(after)} of the restored images, against "
            f"{percent(before)} of the noisy ones: {judged}."
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
    '35.4\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def enumerate_words(words: Sequence[str] | Iterable[str]) -> str:
    """Join with commas and a last 'and'.

    >>> enumerate_words(["0", "1", "6"])
    '0, 1 and 6'
    """
    listed = list(words)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}" if listed else "none"
