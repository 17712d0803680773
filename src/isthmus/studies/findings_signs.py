"""What the numbers of the study of hand signs say, in words. Every sentence is chosen and filled by the numbers."""

from __future__ import annotations

import numpy as np

from isthmus.studies.clusters import Explanation
from isthmus.studies.drawing import SIZES, Drawn
from isthmus.studies.findings import enumerate_words, percent, times
from isthmus.studies.rates import Reading, Share
from isthmus.studies.signs import SignsResult
from isthmus.studies.sizes import CODES, LINEAR_DIM

NOISE = 1.96  # standard errors within which two shares may be one
SURE = 0.05  # p-value below which a rank correlation is taken as real
APART, MIXED = 0.95, 0.75  # accuracy of a plane from which two classes count as apart, or below which as mixed
ORTHOGONAL = 0.01  # correlation below which the numbers of a code count as uncorrelated
BESIDE_PCA = {"better": "beats", "level": "is level with", "worse": "loses to"}
KINDS = {"conv": "the convolutional autoencoder", "linear": "the trained linear one", "pca": "PCA"}


def summary(result: SignsResult) -> list[str]:
    """The three questions of the study in a sentence each."""
    found, sizes = result.s2, result.s3
    sentences = [
        f"The best of four learning rates, {found.best}, names {percent(found.test.value)} of the test images; a "
        f"stronger recipe names {percent(found.strong.mean)}, mean of {len(found.strong.test)} seeds."
    ]
    verdicts = {kind: [n for n in CODES if n != "10b" and sizes.against_pca(n) == kind] for kind in BESIDE_PCA}
    listed = [
        f"{words} {sizes.pca_name} with {_numbers(verdicts[kind])}"
        for kind, words in BESIDE_PCA.items()
        if verdicts[kind]
    ]
    if listed:
        sentences.append(f"The convolutional autoencoder {enumerate_words(listed)}.")
    sentences.append(
        f"With three numbers an image, the nearest neighbour names {percent(result.s4.neighbours.mean)} of the test "
        f"images, and {percent(result.s4.pixel_neighbours)} on the pixels themselves; a guess {percent(result.chance)}."
    )
    return sentences


def s2(result: SignsResult) -> list[str]:
    """A finding for each rate, then the choice and its test."""
    found = result.s2
    sentences = [_reading(rate, reading) for rate, reading in found.readings.items()]
    difference, error = found.difference
    within = abs(difference) <= NOISE * error
    sentences.append(
        f"Chosen on validation: {found.best}, with {_share(found.validation)} there and {_share(found.test)} on the "
        f"test images. They differ by {100 * abs(difference):.1f} points, "
        f"{'no more than' if within else 'more than'} the {100 * NOISE * error:.1f} that chance alone gives in one of "
        f"twenty cases" + (", so the validation images did not flatter it noticeably." if within else ".")
    )
    if found.errors:
        off = found.counts * ~np.eye(len(found.counts), dtype=bool)
        names = result.data.classes
        most = [f"{names[a]} read as {names[b]}" for a, b in np.argwhere(off == off.max())]
        which = (
            "no mistake occurs twice"
            if off.max() == 1
            else f"the commonest mistake{'s are' if len(most) > 1 else ' is'} {enumerate_words(most)} "
            f"({off.max()} times)"
        )
        sentences.append(f"{found.errors} of {found.test.count} test images are wrong; {which}.")
    else:
        sentences.append("It gets no test image wrong.")
    gain = found.strong.mean - found.test.value
    low, high = min(s.value for s in found.strong.test), max(s.value for s in found.strong.test)
    sentences.append(
        f"The stronger recipe reaches {percent(found.strong.mean)} on the test images, from {percent(low)} to "
        f"{percent(high)} over its seeds, {100 * abs(gain):.1f} points {'above' if gain >= 0 else 'below'} the plain "
        f"run."
    )
    return sentences


def s3_sizes(result: SignsResult) -> list[str]:
    """Error against code size, PCA, and what two seeds differ by."""
    found = result.s3
    sentences = []
    for name in (n for n in CODES if n != "10b"):
        optimum = found.optimum(CODES[name])
        if optimum is None:
            sentences.append(f"There is no PCA with {CODES[name]} numbers: the training images have fewer directions.")
            continue
        ratio = times(found.errors[name].test, optimum)
        verdict = {"better": "PCA loses", "worse": "PCA wins", "level": "no further apart than two seeds are"}
        sentences.append(
            f"With {CODES[name]} numbers the test error is {found.errors[name].test:.5f} against {optimum:.5f} of PCA, "
            f"{ratio:.2f} times it: {verdict[found.against_pca(name) or 'level']}."
        )
    sentences.append(
        f"The two runs with 10 numbers, alike but for the seed, differ by {percent(found.spread)} in test error; "
        f"smaller differences between sizes say nothing."
    )
    worst = max(CODES, key=lambda name: times(found.errors[name].test, found.errors[name].train))
    ratio = times(found.errors[worst].test, found.errors[worst].train)
    pca = None
    if found.optimum(CODES[worst]) is not None:
        pca = times(float(found.pca["test"][CODES[worst]]), float(found.pca["train"][CODES[worst]]))
    sentences.append(
        f"Test over training error is largest with {_numbers([worst])}: {ratio:.2f}"
        + (f", where PCA has {pca:.2f}." if pca is not None else ".")
    )
    if any(found.against_pca(name) == "worse" for name in CODES):
        sentences.append(_why_pca_wins(result))
    return sentences


def _why_pca_wins(result: SignsResult) -> str:
    """Is it the training images (optimisation) or new ones (generalisation) that PCA does better on?"""
    found = result.s3
    lost = [name for name in CODES if found.against_pca(name) == "worse"]
    name = max(lost, key=lambda n: times(found.errors[n].test, float(found.pca["test"][CODES[n]])))
    train, test = (
        times(error, float(found.pca[part][CODES[name]]))
        for part, error in (("train", found.errors[name].train), ("test", found.errors[name].test))
    )
    why = (
        "better than PCA on the images it was trained on, and overfits"
        if train <= 1
        else "worse on the training images already, by as much or more: the network, trained for so many epochs, does "
        "not reach the optimum that PCA is given exactly"
        if test <= train
        else "worse on the training images already, and loses more on new ones: it falls short of the optimum and "
        "overfits"
    )
    return (
        f"Where PCA wins most, with {_numbers([name])}, the network is {why} (its error is {train:.2f} times that of "
        f"PCA on training images, {test:.2f} times on test images)."
    )


def s3_linear(result: SignsResult) -> list[str]:
    """How near training comes to the optimum, and what else tells the kinds apart."""
    found = result.s3
    conv, linear, pca = (found.traits[kind] for kind in ("conv", "linear", "pca"))
    largest = float(found.angles[-1])
    sentences = [
        f"The linear autoencoder, trained by the same function, ends {percent(found.gap, 2)} above the exact optimum "
        f"on the training images; its subspace differs from that of PCA by at most {largest:.1f}\u00b0.",
        f"The numbers of its code are {_orthogonal(linear.correlation)} and "
        f"{'happen to fall' if linear.ordered else 'do not fall'} in variance; those of PCA are "
        f"{_orthogonal(pca.correlation)} and fall by construction; those of the convolutional one are "
        f"{_orthogonal(conv.correlation)}.",
    ]
    ratio = times(conv.errors.test, linear.errors.test)
    sentences.append(
        f"With {LINEAR_DIM} numbers the convolutional autoencoder has {ratio:.2f} times the test error of the linear "
        f"one, with {conv.parameters:,} parameters against {linear.parameters:,}."
    )
    ranked = sorted(KINDS, key=lambda kind: found.traits[kind].confidence, reverse=True)
    listed = enumerate_words(
        f"{percent(found.traits[kind].confidence, 0)} for {_kind(result, kind)}" for kind in ranked
    )
    sentences.append(
        f"Random codes from a Gaussian fitted to the codes are decoded to images of which the classifier is sure to "
        f"{listed} (mean of its largest probability)."
    )
    return sentences


def s3_clusters(result: SignsResult) -> list[str]:
    """Are the classes apart in three numbers, and do the pairs that are not agree with the labels?"""
    found, names = result.s4, result.data.classes
    values = found.separability[np.triu_indices(len(names), 1)]
    values = values[np.isfinite(values)]
    apart, mixed = int((values >= APART).sum()), int((values < MIXED).sum())
    positive = int((found.silhouette > 0).sum())
    present = int(np.isfinite(found.silhouette).sum())
    sentences = [
        f"A plane parts {apart} of {len(values)} pairs of classes with an accuracy of at least {percent(APART, 0)}, "
        f"and "
        f"{mixed} with less than {percent(MIXED, 0)}; the mean silhouette is {found.silhouette_mean:.2f}, positive for "
        f"{positive} of {present} classes. " + _clustered(apart / max(len(values), 1), positive / max(present, 1)),
        f"1-NN in the code names {percent(found.neighbours.mean)} of the test images, on the pixels "
        f"{percent(found.pixel_neighbours)}, by chance {percent(result.chance)}.",
        "Least apart are "
        + enumerate_words(
            f"{names[p.classes[0]]} and {names[p.classes[1]]} ({percent(p.separability, 0)})" for p in found.confused
        )
        + ".",
    ]
    if found.numbers is not None:
        sentences.append(_explained(found.numbers, "neighbouring numbers", "the difference of the numbers they mean"))
    if found.pictures is not None:
        sentences.append(_explained(found.pictures, "alike pictures", "the distance of their mean images"))
    return sentences


def _clustered(apart: float, positive: float) -> str:
    """Arguments: shares of pairs that a plane parts, and of classes with a positive silhouette."""
    if apart > 0.5 and positive > 0.5:
        return "Most classes form clusters of their own."
    if apart > 0.5:
        return "Planes part most classes, but few are clusters: they lie beside each other without a gap."
    return (
        "Some classes form clusters of their own." if positive > 0.5 else "Most classes form no clusters of their own."
    )


def s3_drawing(result: SignsResult) -> list[str]:
    """Which density draws best, and whether it copies."""
    sentences = [_drawn(drawn) for drawn in result.s5.codes.values()]
    first = result.s5.codes[SIZES[0]].yardstick
    sentences.append(
        f"Distances are Fréchet's between {first.size} drawn and {first.size} real images that were not trained on, "
        f"in the features of the classifier {first.extractor}; two such halves of real images are {first.floor:.1f} "
        f"apart, {_beside_floor(result)}."
    )
    for drawn in result.s5.codes.values():
        if drawn.judged:
            most = max(drawn.judged.values(), key=lambda judged: judged.copied)
            excess = most.copied - drawn.yardstick.copied_floor
            verdict = "more than" if excess > 0.1 else "about as often as" if excess > -0.1 else "less often than"
            sentences.append(
                f"With {drawn.size} numbers, at most {percent(most.copied, 0)} of the drawn images ({most.name}) lie "
                f"nearer to a training image than real images usually do, {verdict} reconstructions of new images "
                f"({percent(drawn.yardstick.copied_floor, 0)}), which are as smooth and no copies."
            )
        sentences += [f"With {drawn.size} numbers, no {name}: {reason}" for name, reason in drawn.refused.items()]
    return sentences


def _beside_floor(result: SignsResult) -> str:
    distances = [judged.frechet for drawn in result.s5.codes.values() for judged in drawn.judged.values()]
    if not distances:
        return "and nothing could be drawn"
    ratio = times(min(distances), result.s5.floor)
    return f"the best drawn ones {ratio:.1f} times as far" if ratio > 1 else "and the best drawn ones are no farther"


def _drawn(drawn: Drawn) -> str:
    if not drawn.judged:
        return f"No density could be fitted to the codes of {drawn.size} numbers."
    ranked = sorted(drawn.judged.values(), key=lambda judged: judged.frechet)
    likely = max(drawn.judged.values(), key=lambda judged: judged.heldout_nats)
    listed = enumerate_words(f"{judged.name} ({judged.frechet:.1f})" for judged in ranked)
    best = (
        "It also gives codes of new images the highest likelihood"
        if likely.name == ranked[0].name
        else f"Codes of new images are likeliest under another, the {likely.name}"
    )
    return (
        f"With {drawn.size} numbers, from nearest to real images to farthest: {listed}. {best} "
        f"({likely.heldout_nats:.2f} nats)."
    )


def _kind(result: SignsResult, kind: str) -> str:
    return result.s3.pca_name if kind == "pca" else KINDS[kind]


def _reading(rate: str, reading: Reading) -> str:
    if reading.run is None or reading.accuracy is None:
        done = len(reading.epochs)
        return f"{rate}: diverged after {done} whole epoch{'s' if done != 1 else ''}: the loss was no longer finite."
    trained = reading.epochs[reading.run.best_epoch - 1]["train_accuracy"]
    texts = {
        "learns nothing": "learns nothing beyond a guess",
        "unsteady": "the loss jumps up and down: the rate is too high to settle",
        "still falling": "still falling at the last epoch: more epochs may help",
        "too short": "too few epochs to judge",
        "gets worse": "ends worse than it was, on training images too",
        "overfits": f"overfits from epoch {(reading.since or 0) + 1} on: the validation loss rises, the training loss "
        "falls",
        "settled": "has settled: neither rising nor falling by much at the end",
    }
    accuracy = f"best validation accuracy {percent(reading.accuracy)}, {percent(trained)} on training images"
    return f"{rate}: {texts[reading.verdict]}; {accuracy}."


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _numbers(names: list[str]) -> str:
    return f"{enumerate_words(str(size) for size in dict.fromkeys(CODES[name] for name in names))} numbers"


def _orthogonal(correlation: float) -> str:
    return "uncorrelated" if correlation < ORTHOGONAL else f"correlated (up to {correlation:.2f})"


def _explained(found: Explanation, what: str, distance: str) -> str:
    real = found.p_value < SURE
    text = f"Rank correlation of separability with {distance}: {found.correlation:+.2f} (p = {found.p_value:.2g}"
    if real and found.correlation > 0:
        return f"{text}): classes are confused because of {what}, at least in part."
    if real:
        return f"{text}): the opposite of confusion by {what}."
    return f"{text}, by permuting the classes): no sign that {what} explain the confusions."
