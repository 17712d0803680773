"""What the numbers of a study of one's own say, in words. Every sentence is chosen and filled by the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from isthmus.studies.custom import CustomResult
from isthmus.studies.findings import ALIKE, enumerate_words, percent, times
from isthmus.studies.findings_sizes import code_size, distance, numbers, unjudged
from isthmus.studies.rates import Share
from isthmus.studies.redrawn import SEEN, Restored
from isthmus.studies.redrawn import best as best_method
from isthmus.studies.study_file import Analysis

COPIES = 0.1  # of drawn images beyond what reconstructions would give, from which on copying is spoken of
MOST_NAMED = 6  # runs named one by one in a sentence
NAMES = {"nlm": "non-local means", "tv": "total variation"}


def summary(result: CustomResult) -> list[str]:
    """The answer of each analysis in a sentence, and what was left out."""
    heads: dict[Analysis, Callable[[CustomResult], list[str]]] = {
        "code-size": code_size,
        "reconstruction": reconstruction,
        "neighbours": neighbours,
        "accuracy": accuracy,
        "restoration": restoration,
        "generation": generation,
    }
    found = [work(result) for name, work in heads.items() if getattr(result, name.replace("-", "_")) is not None]
    first = [sentences[0] for sentences in found if sentences]
    return first or [f"{len(result.runs)} of {len(result.planned)} networks were trained; nothing was to be measured."]


def reconstruction(result: CustomResult) -> list[str]:
    """Which network draws the images again best, and which beats PCA of its size."""
    assert result.reconstruction is not None
    rebuilt = result.reconstruction.rebuilt
    pca = result.bench.pca_name
    best = min(rebuilt, key=lambda name: rebuilt[name].test)
    each = rebuilt[best]
    sentences = [
        f"Nearest to the test images comes {best}, with {numbers(each.size)}: a squared error of {each.test:.5f} per "
        f"pixel, {each.psnr:.1f} dB."
    ]
    ratios = {name: times(r.test, r.pca) for name, r in rebuilt.items() if r.pca is not None}
    for words, chosen in (
        ("beat", [n for n, ratio in ratios.items() if ratio < 1 - ALIKE]),
        ("are level with", [n for n, ratio in ratios.items() if abs(ratio - 1) <= ALIKE]),
        ("lose to", [n for n, ratio in ratios.items() if ratio > 1 + ALIKE]),
    ):
        if chosen:
            words = words if len(chosen) > 1 else {"beat": "beats", "lose to": "loses to"}.get(words, "is level with")
            low, high = min(ratios[n] for n in chosen), max(ratios[n] for n in chosen)
            range_ = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
            sentences.append(f"{_listed(chosen)} {words} {pca} of the same size ({range_} times its test error).")
    bare = [name for name, r in rebuilt.items() if r.pca is None]
    if bare:
        sentences.append(
            f"Beside {_listed(bare)} there is no PCA of the same size: the training images have fewer directions."
        )
    worst = max(rebuilt, key=lambda name: times(rebuilt[name].test, rebuilt[name].train))
    ratio = times(rebuilt[worst].test, rebuilt[worst].train)
    verdict = "much worse" if ratio > 1.5 else "somewhat worse" if ratio > 1.1 else "about as well"
    sentences.append(
        f"Test over training error is largest for {worst}, {ratio:.2f}: it draws new images {verdict}"
        f"{'' if ratio <= 1.1 else ' than those it was trained on'}."
    )
    kept = {name: r.kept.value for name, r in rebuilt.items() if r.kept is not None}
    if kept:
        most = max(kept, key=lambda name: kept[name])
        sentences.append(
            f"The classifier {result.bench.judge_name} finds the class again in {percent(kept[most])} of the images "
            f"that {most} rebuilt, the most of all; a guess is right in {percent(result.bench.chance)}."
        )
    return sentences


def codes(result: CustomResult) -> list[str]:
    """Which numbers of the codes say nothing, and whether classes lie apart."""
    found = result.codes or {}
    dead = {name: int(code.clipping.dead.sum()) for name, code in found.items() if code.clipping.dead.any()}
    sentences = [
        f"{name}: {count} of {numbers(found[name].codes.shape[1])} {'is' if count == 1 else 'are'} the same for every "
        f"image, and say{'s' if count == 1 else ''} nothing."
        for name, count in dead.items()
    ]
    if not dead:
        sentences.append("No number of any code is the same for every image.")
    idle = {name: code.active for name, code in found.items() if code.active is not None and code.active < 1}
    for name, share in idle.items():
        used, of = round(share * found[name].codes.shape[1]), numbers(found[name].codes.shape[1])
        sentences.append(
            f"{name} uses {used} of its {of}; the KL has switched the others off."
            if used
            else f"{name} uses none of its {of}: the KL is too strong, or the training too short."
        )
    clipped = {name: code.clipping.share.max() for name, code in found.items() if code.clipping.clipped}
    live = [name for name in clipped if name not in dead]
    if live:
        worst = max(live, key=lambda name: clipped[name])
        sentences.append(
            f"Codes pile up at the least value of a number in {_listed(live)}; most in {worst}, "
            f"{percent(clipped[worst])} of the images on one number."
        )
    apart = {name: code.silhouette for name, code in found.items() if code.silhouette is not None}
    if apart:
        most = max(apart, key=lambda name: apart[name])
        value = round(apart[most], 2) + 0.0  # no minus before a zero
        verdict = "clusters" if value > 0.25 else "hardly clusters" if value > 0 else "no clusters"
        sentences.append(
            f"The classes lie farthest apart in {most}: a mean silhouette of {value:.2f}, {verdict} (1 is far apart, 0 "
            f"touching, below 0 mixed)."
        )
    return sentences


def neighbours(result: CustomResult) -> list[str]:
    """How much of the class each code keeps, beside the pixels and a guess."""
    assert result.neighbours is not None
    means = {name: each.mean for name, each in result.neighbours.by_run.items()}
    best = max(means, key=lambda name: means[name])
    pixels = result.neighbours.pixels
    ahead = means[best] - pixels
    verdict = "as good as" if abs(ahead) <= ALIKE else "better than" if ahead > 0 else "worse than"
    sentences = [
        f"The nearest neighbour in the code of {best} names the right class of {percent(means[best])} of the test "
        f"images (mean over classes), {verdict} on the pixels themselves ({percent(pixels)}); a guess is right in "
        f"{percent(result.bench.chance)}."
    ]
    worst = min(means, key=lambda name: means[name])
    if worst != best:
        sentences.append(f"Least is kept by {worst}: {percent(means[worst])}.")
    by_class = result.neighbours.by_run[best].per_class
    known = [k for k in np.argsort(by_class) if np.isfinite(by_class[k])]
    names, low, high = result.data.classes, float(by_class[known[0]]), float(by_class[known[-1]])
    if low < high:
        sentences.append(
            f"In the code of {best}, hardest is {names[known[0]]} ({percent(low)}), easiest {names[known[-1]]} "
            f"({percent(high)})."
        )
    return sentences


def accuracy(result: CustomResult) -> list[str]:
    """What the best classifier names right, and what it takes for what."""
    found = result.accuracy
    assert found is not None
    among = f", the best of {len(found.validation)} on the validation images," if len(found.validation) > 1 else ""
    sentences = [f"{found.chosen}{among} names {_share(found.test)} of the test images right."]
    off = found.counts * ~np.eye(len(found.counts), dtype=bool)
    names = result.data.classes
    if not off.any():
        return [*sentences, "It gets no test image wrong."]
    wrong = int(off.sum())
    if off.max() == 1:
        sentences.append(f"{wrong} test image{' is' if wrong == 1 else 's are'} wrong; no mistake occurs twice.")
        return sentences
    most = [f"{names[a]} read as {names[b]}" for a, b in np.argwhere(off == off.max())]
    sentences.append(
        f"{wrong} test images are wrong; the commonest mistake{'s are' if len(most) > 1 else ' is'} "
        f"{_listed(most)} ({off.max()} times{' each' if len(most) > 1 else ''})."
    )
    return sentences


def restoration(result: CustomResult) -> list[str]:
    """Which method restores each damage best, and whether any does."""
    sentences = []
    for text, methods in (result.restoration or {}).items():
        best = best_method(methods)
        seen = methods[SEEN].quality.psnr
        if best == SEEN:
            sentences.append(
                f"{text}: no method comes nearer to the clean images than the damaged ones ({seen:.1f} dB)."
            )
            continue
        gain = methods[best].quality.psnr - seen
        sentences.append(
            f"{text}: {NAMES.get(best, best)} restores best, {methods[best].quality.psnr:.1f} dB, {gain:.1f} dB above "
            f"the damaged images{_kept(methods, best)}."
        )
        sentences += _map_against_bottleneck(text, methods)
    return sentences


def _kept(methods: Mapping[str, Restored], best: str) -> str:
    before, after = methods[SEEN].kept, methods[best].kept
    if before is None or after is None:
        return ""
    return f"; the classifier finds the class in {percent(after.value)} of them, before in {percent(before.value)}"


def _map_against_bottleneck(text: str, methods: Mapping[str, Restored]) -> list[str]:
    gains = {
        name: methods[f"{name}, MAP"].quality.psnr - methods[name].quality.psnr
        for name in methods
        if f"{name}, MAP" in methods
    }
    if not gains:
        return []
    name = max(gains, key=lambda n: abs(gains[n]))
    word = "gains" if gains[name] >= 0 else "loses"
    return [f"{text}: searching the code of {name} (MAP) {word} {abs(gains[name]):.1f} dB over its encoder."]


def generation(result: CustomResult) -> list[str]:
    """Which code and density draw best, and whether they copy."""
    found = result.generation
    assert found is not None
    drawn = {(run, kind): each for run, by in found.drawn.items() for kind, each in by.items()}
    if not drawn:
        return ["No density could be fitted to any code."]
    judged = {key: each.frechet for key, each in drawn.items() if each.frechet is not None}
    if judged and found.floor is not None:
        run, kind = min(judged, key=lambda key: judged[key])
        ratio = times(judged[run, kind], found.floor)
        sentences = [
            f"The images nearest to real ones are drawn from the {kind} over the codes of {run}: a Fréchet distance of "
            f"{distance(judged[run, kind])}, {ratio:.1f} times the {distance(found.floor)} between two halves of real "
            f"images."
        ]
    else:
        sentences = [f"How near drawn images come to real ones is left out, since {unjudged(result)}."]
    run, kind = max(drawn, key=lambda key: drawn[key].copied - drawn[key].copied_floor)
    most = drawn[run, kind]
    copied = most.copied > most.copied_floor + COPIES
    sentences.append(
        f"{percent(most.copied, 0)} of the images drawn from the {kind} over the codes of {run} lie nearer to a "
        f"training image than half of the real new images do, and {percent(most.copied_floor, 0)} of its "
        f"reconstructions of new images, which are as smooth and no copies: "
        f"{'look whether these are copies' if copied else 'no sign of copying'}."
    )
    for kind in dict.fromkeys(kind for reasons in found.refused.values() for kind in reasons):
        runs = [run for run, reasons in found.refused.items() if kind in reasons]
        why = found.refused[runs[0]][kind]
        sentences.append(
            f"No {kind} over the codes of {_listed(runs)}{f'. Of {runs[0]}' if len(runs) > 1 else ''}: {why}"
        )
    return sentences


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return enumerate_words(names if more <= 0 else [*names[:MOST_NAMED], f"{more} more"])


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
