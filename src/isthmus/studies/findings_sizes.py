"""What the choice of a code size found, in words: the elbow of every curve, with its reason."""

from __future__ import annotations

import numpy as np

from isthmus.studies.code_size import DEPTH, LEAST, AtSize, Curve
from isthmus.studies.custom import CustomResult
from isthmus.studies.findings import ALIKE, percent, times


def code_size(result: CustomResult) -> list[str]:
    """The elbow of every curve, with its reason, and what the other measures say there."""
    found = result.code_size
    assert found is not None
    sentences = [sentence for name, curve in found.curves.items() for sentence in _elbow(result, name, curve)]
    sentences += [f"{name} has too few sizes left to choose from: runs were not trained." for name in found.short]
    if found.floor is None and found.curves:
        sentences.append(f"How good drawn images are at each size is left out, since {unjudged(result)}.")
    return sentences


def _elbow(result: CustomResult, name: str, curve: Curve) -> list[str]:
    elbow, sizes = curve.elbow, curve.sizes
    over = f"from {sizes[0]} to {sizes[-1]} numbers"
    if elbow.size is None:
        first, last = (max(float(np.mean(curve.points[i].validation)), LEAST) for i in (0, -1))
        halved = float((last / first) ** (np.log(2) / np.log(sizes[-1] / sizes[0])))
        if halved > 1 - DEPTH:
            flat = f"{name} has no elbow {over}: the validation error hardly depends on the size of the code."
            return [flat + _limited(result, name, curve, curve.points[0]) + _by_chance(elbow.spread)]
        return [
            f"{name} has no elbow {over}: each doubling of the code takes the validation error to about "
            f"{halved:.2f} of itself, without a bend. The size is a question of what one can afford."
            + _by_chance(elbow.spread)
        ]
    point = curve.at_elbow
    assert point is not None
    if elbow.reason == "plateau":
        assert elbow.spread is not None
        gain = f"gains {percent(elbow.gain)}" if elbow.gain > 0 else "gains nothing"
        why = (
            f"beyond it the best larger code {gain} in validation error, no more than two runs of one size differ by "
            f"({percent(elbow.spread)})"
        )
    else:
        why = (
            f"there the validation error lies farthest below the straight line from the first to the last size on "
            f"logarithmic axes, {percent(elbow.depth, 0)}; the best larger code gains another {percent(elbow.gain, 0)}"
        )
    enough = f"{numbers(elbow.size)} {'is' if elbow.size == 1 else 'are'} enough"
    return [f"{name}: {enough}, {over}: {why}.{_limited(result, name, curve, point)}", *_at_elbow(result, name, curve)]


def _limited(result: CustomResult, name: str, curve: Curve, here: AtSize) -> str:
    """That the larger codes are held back by their training: exact PCA, which they could equal, goes below `here`
    where they do not."""
    for point in reversed(curve.points):
        least = point.pca
        if point.size <= here.size or least is None:
            continue
        if least < (1 - DEPTH) * float(np.mean(here.test)) and least < (1 - ALIKE) * float(np.mean(point.test)):
            return (
                f" That is a limit of the training rather than of the code, since {result.bench.pca_name} of "
                f"{numbers(point.size)} reaches a test error of {least:.5f}, and {name} {np.mean(point.test):.5f}: "
                f"train longer, or take another network, before a size is chosen."
            )
    return ""


def _by_chance(spread: float | None) -> str:
    return "" if spread is None else f" Two runs of one size differ by {percent(spread)}."


def _at_elbow(result: CustomResult, name: str, curve: Curve) -> list[str]:
    """What PCA, neighbours and samples say of the size at the elbow."""
    point = curve.at_elbow
    assert point is not None
    sentences = []
    test = float(np.mean(point.test))
    if point.pca is not None:
        ratio = times(test, point.pca)
        sentences.append(
            f"{name}: there the test error is {test:.5f}, {ratio:.2f} times that of {result.bench.pca_name} of the "
            f"same size."
        )
    if point.neighbours:
        means = {p.size: float(np.mean(p.neighbours)) for p in curve.points}
        most = max(means, key=lambda size: means[size])
        sentences.append(
            f"{name}: the nearest neighbour is right in {percent(means[point.size])} there"
            + ("." if most == point.size else f", and most often with {numbers(most)}, {percent(means[most])}.")
        )
    drawn = {p.size: p.samples for p in curve.points if p.samples is not None}
    if drawn:
        least = min(drawn, key=lambda size: drawn[size])
        known = point.size in drawn
        there = f"{distance(drawn[point.size])} there" if known else "unknown there, since nothing was drawn"
        more = "" if least == point.size else f", and least with {numbers(least)}, {distance(drawn[least])}"
        sentences.append(f"{name}: the Fréchet distance of drawn images is {there}{more}.")
    return sentences


def numbers(count: int) -> str:
    """
    >>> numbers(1), numbers(2)
    ('1 number', '2 numbers')
    """
    return f"{count} number{'' if count == 1 else 's'}"


def distance(value: float) -> str:
    """A Fréchet distance, to three digits: its unit depends on the classifier.

    >>> distance(0.8421), distance(1234.5)
    ('0.842', '1234')
    """
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def unjudged(result: CustomResult) -> str:
    """Why there is no classifier to tell how near drawn images come to real ones."""
    labels = result.parts.train.labels
    if labels is None:
        return "the images have no labels"
    if not result.bench.labelled:
        return "the images are all of one class"
    return "no classifier was trained"
