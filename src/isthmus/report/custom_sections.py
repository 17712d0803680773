"""The sections of a study of one's own: what each analysis found, but for the choice of a code size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from isthmus.figures import codes, curves, images, spatial
from isthmus.figures.labels import fit_legend, short_classes, short_names
from isthmus.figures.style import BLUE, ORANGE, PURPLE, RED, Panel
from isthmus.networks.apply import to_float
from isthmus.report.page import Section, Table
from isthmus.studies import findings_custom as findings
from isthmus.studies.custom import CustomResult
from isthmus.studies.findings import percent, times
from isthmus.studies.findings_sizes import distance
from isthmus.studies.redrawn import SEEN, Restored

MOST = 6  # networks with pictures of their own; the tables name all
ON_SHEET = 16  # drawn images of each density
LONGEST = 18  # letters of a network's name in a picture
NEAREST = 8  # drawn images shown beside the nearest training image


def reconstruction_section(result: CustomResult) -> Section:
    """Errors beside PCA, and examples."""
    found = result.reconstruction
    assert found is not None
    chosen = chosen_of(sorted(found.rebuilt, key=lambda name: (found.rebuilt[name].size, found.rebuilt[name].test)))
    brief = dict(zip(chosen, short_names(chosen, LONGEST), strict=True))
    rows_ = {"original": found.originals} | {brief[name]: found.rebuilt[name].examples for name in chosen}
    rows_ |= {f"PCA {size}": pictures for size, pictures in found.by_pca.items()}
    panels = [images.rows("reconstruction-examples", "test images and what is kept", _columns(result), rows_)]
    judged = result.bench.judge is not None
    head = ["network", "numbers", "training error", "test error", f"{result.bench.pca_name}, test", "error / PCA's"]
    head += ["PSNR (dB)", *(["class kept"] if judged else [])]
    rows, strong = [], set()
    best = min(each.test for each in found.rebuilt.values())
    for i, (name, each) in enumerate(found.rebuilt.items()):
        pca = ["", ""] if each.pca is None else [f"{each.pca:.5f}", f"{times(each.test, each.pca):.2f}"]
        kept = [] if each.kept is None else [percent(each.kept.value)]
        rows.append([name, f"{each.size}", f"{each.train:.5f}", f"{each.test:.5f}", *pca, f"{each.psnr:.1f}", *kept])
        if each.test == best:
            strong.add((i, 3))
    notes = ["Error: mean squared per pixel, pixels in [0, 1]. PCA: of as many components, on the same images."]
    if judged:
        notes.append(f"Class kept: share of reconstructions to which {result.bench.judge_name} gives the true class.")
    asked = "Draw new images again from their codes. How much is lost, and is it less than PCA of the same size loses?"
    table = Table("Reconstruction", head, rows, notes, frozenset(strong))
    return Section("", "Reconstruction", asked, findings.reconstruction(result), panels, [table])


def codes_section(result: CustomResult) -> Section:
    """Where the test images lie in each code."""
    found = result.codes
    assert found is not None
    labels, classes = result.parts.test.labels, short_classes(result.data.classes)
    panels, scenes, chosen = [], [], chosen_of(list(found))
    for name, brief in zip(chosen, short_names(chosen, LONGEST), strict=True):
        code = found[name]
        if code.view is None:
            prior = code.active is not None
            title, what = f"the code of {brief}{', and N(0, 1)' if prior else ''}", "the code of each test image"
            panels.append(codes.marginals(f"codes-{name}", title, code.codes, what=what, prior=prior))
            continue
        wide = code.codes.shape[1] > 2
        panel = codes.scatter(f"codes-{name}", f"codes of {brief}", code.view, labels, classes)
        panel.figure.axes[0].locator_params(axis="x", nbins=6)
        if wide:
            for axis, which in ((panel.figure.axes[0].xaxis, "widest"), (panel.figure.axes[0].yaxis, "second widest")):
                axis.set_label_text(f"along the {which} direction of the codes")
        panels.append(panel)
        if code.codes.shape[1] == 3 and labels is not None:
            title = f"The codes of {name}, to be turned"
            scenes.append(spatial.scene(f"codes-{name}-scene", title, code.codes, labels, classes))
    head = ["network", "numbers", "dead", "clipped", "used by the KL", "silhouette of the classes"]
    rows = [
        [
            name,
            f"{code.codes.shape[1]}",
            f"{int(code.clipping.dead.sum())}",
            f"{len(code.clipping.clipped)}",
            "" if code.active is None else percent(code.active, 0),
            "" if code.silhouette is None else f"{code.silhouette:.2f}",
        ]
        for name, code in found.items()
    ]
    notes = [
        "Dead: numbers that are the same for every image. Clipped: numbers at whose least value more than one image in "
        "a hundred lies. Codes of more than two numbers are shown along their two directions of largest variance."
    ]
    asked = "Where do new images lie in the code? Do classes lie apart, and does every number say something?"
    table = Table("The codes of the test images", head, rows, notes)
    return Section("", "Codes", asked, findings.codes(result), panels, [table], scenes=scenes)


def neighbours_section(result: CustomResult) -> Section:
    """1-NN by network and class."""
    found, classes = result.neighbours, result.data.classes
    assert found is not None
    ranked = sorted(found.by_run, key=lambda name: found.by_run[name].mean, reverse=True)
    inks = (BLUE, ORANGE, PURPLE, RED)
    brief, named = short_names(ranked[: len(inks)], LONGEST), short_classes(classes)
    series = {
        brief[i]: (found.by_run[name].per_class, ink) for i, (name, ink) in enumerate(zip(ranked, inks, strict=False))
    }
    level = ("chance", result.bench.chance)
    panels = [
        curves.by_class("neighbours-classes", "1-nearest neighbour", named, series, level=level),
        codes.class_table(
            "neighbours-confusion",
            f"neighbours in the code of {brief[0]} (counts)",
            found.by_run[ranked[0]].confusion,
            named,
            rows="true class",
            columns="class of the nearest neighbour",
        ),
    ]
    fit_legend(panels[0].figure)
    rows = [[name, *_shares([each.mean, *each.per_class])] for name, each in found.by_run.items()]
    for name, mean in (("pixels", found.pixels), ("chance", result.bench.chance)):
        rows.append([name, *_shares([mean]), *[""] * len(classes)])
    notes = ["References: codes of the training images; queries: codes of the test images. Mean: over classes."]
    table = Table("Accuracy of the nearest neighbour (%)", ["", "mean", *classes], rows, notes)
    asked = "Name each new image by its nearest neighbour in the code: how much of the class does the code keep?"
    return Section("", "Neighbours", asked, findings.neighbours(result), panels, [table])


def accuracy_section(result: CustomResult) -> Section:
    """The best classifier on the test images."""
    found, classes = result.accuracy, result.data.classes
    assert found is not None
    run, named = result.runs[found.chosen], short_classes(classes)
    (brief,) = short_names([found.chosen], LONGEST)
    panels = [
        curves.accuracy_curves("accuracy-curves", brief, run.epochs, best=run.best_epoch),
        curves.by_class("accuracy-classes", "test accuracy", named, {brief: (found.per_class, BLUE)}),
        codes.class_table(
            "accuracy-confusion",
            f"test images read by {brief} (counts)",
            found.counts,
            named,
            rows="true class",
            columns="read as",
        ),
    ]
    if len(found.wrong):
        true = result.parts.test.labels
        assert true is not None
        labels = [
            f"{named[true[at]]} as {named[read]}, {percent(float(sure), 0)}"
            for at, read, sure in zip(found.wrong, found.read, found.sure, strict=True)
        ]
        pictures = result.bench.clean[found.wrong]
        panels.append(images.gallery("accuracy-wrong", "read wrong, the surest first", pictures, labels))
    rows = [
        [
            name,
            f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})",
            f"{percent(found.test.value)} ({percent(found.test.low)} to {percent(found.test.high)})"
            if name == found.chosen
            else "",
        ]
        for name, share in found.validation.items()
    ]
    notes = [
        "Intervals of 95 % (Wilson). Only the best on the validation images is tested, so that those choose nothing."
    ]
    table = Table("Classifiers", ["run", "validation accuracy", "test accuracy"], rows, notes)
    asked = "How many new images are named right, and what is taken for what?"
    return Section("", "Accuracy", asked, findings.accuracy(result), panels, [table])


def restoration_section(result: CustomResult) -> Section:
    """Every method on every damage."""
    found = result.restoration
    assert found is not None
    panels, rows, strong = [], [], set()
    methods = list(dict.fromkeys(name for each in found.values() for name in each))
    for i, (text, by) in enumerate(found.items()):
        best = sorted((n for n in by if n != SEEN), key=lambda name: by[name].quality.psnr, reverse=True)
        pictures: dict[str, Tensor] = {SEEN: by[SEEN].examples}
        called = [findings.NAMES.get(name, name) for name in best[:MOST]]
        brief = short_names(called, LONGEST)
        pictures |= {brief[i]: by[name].examples for i, name in enumerate(best[:MOST])}
        pictures["clean"] = result.bench.clean[result.bench.shown]
        panels.append(images.rows(f"restoration-{i + 1}", f"{text}, restored", _columns(result), pictures))
    for r, name in enumerate(methods):
        cells = []
        for c, by in enumerate(found.values()):
            cells.append(_quality(by.get(name)))
            if name in by and by[name].quality.psnr == max(each.quality.psnr for each in by.values()):
                strong.add((r, c + 1))
        rows.append([findings.NAMES.get(name, name), *cells])
    judged = result.bench.judge is not None
    notes = [
        f"PSNR in decibels, SSIM{', and the share of images whose class the judge finds' if judged else ''}: means "
        f"over all test images. As damaged: missing pixels are filled from those near them, and blocks enlarged. Under "
        f"its name, a network with a code restores through its bottleneck; MAP searches the code of a VAE that "
        f"explains what is seen. Non-local means and total variation, which learn nothing, take "
        f"noise alone."
    ]
    asked = "Restore damaged images with every network, most of which never saw damage in training."
    table = Table("PSNR / SSIM / class kept" if judged else "PSNR / SSIM", ["", *found], rows, notes, frozenset(strong))
    return Section("", "Restoration", asked, findings.restoration(result), panels, [table])


def _quality(restored: Restored | None) -> str:
    if restored is None:
        return ""
    kept = "" if restored.kept is None else f" / {percent(restored.kept.value, 0)}"
    return f"{restored.quality.psnr:.1f} / {restored.quality.ssim:.2f}{kept}"


def generation_section(result: CustomResult) -> Section:
    """Images drawn from each density of each code."""
    found = result.generation
    assert found is not None
    panels: list[Panel] = []
    chosen = chosen_of([name for name, by in found.drawn.items() if by])
    for name, brief in zip(chosen, short_names(chosen, LONGEST), strict=True):
        by = found.drawn[name]
        sheets = {_with_distance(kind, each.frechet): each.images[:ON_SHEET] for kind, each in by.items()}
        panels.append(images.sheet(f"generation-{name}", f"drawn from the codes of {brief}", sheets))
    drawn = [(name, kind, each) for name, by in found.drawn.items() for kind, each in by.items()]
    rated = [entry for entry in drawn if entry[2].frechet is not None] or drawn
    if rated:
        name, kind, each = min(rated, key=lambda entry: entry[2].frechet or 0.0)
        at = each.nearest[:NEAREST].numpy()
        nearest = to_float(torch.from_numpy(result.parts.train.images[at]))
        beside = {"drawn": each.images[: len(at)], "nearest": nearest}
        columns = [str(i + 1) for i in range(len(at))]
        title = f"{kind}, {short_names([name], LONGEST)[0]}: nearest training images"
        panels.append(images.rows("generation-nearest", title, columns, beside))
    head = [
        "network",
        "density",
        "Fréchet distance",
        "log p of new codes (nats)",
        "nearer to a training image than usual",
        "of reconstructions",
    ]
    rows = [
        [
            name,
            kind,
            "" if e.frechet is None else distance(e.frechet),
            _nats(e.heldout_nats),
            percent(e.copied, 0),
            percent(e.copied_floor, 0),
        ]
        for name, kind, e in drawn
    ]
    rows += [[name, kind, "refused", "", "", ""] for name, why in found.refused.items() for kind in why]
    if found.floor is not None:
        rows.append(["real against real", "", distance(found.floor), "", "50\u00a0%", ""])
    notes = [
        f"Of runs that differ in the seed alone, the first. {found.count} images in each sample. "
        f"Fréchet distance in the features of the judge: it compares within this "
        f"study alone. Nats compare among codes of one network. The last columns: shares of drawn images, and of "
        f"reconstructions of new ones, whose nearest training image is nearer than that of half of the real new images."
    ]
    asked = "Draw codes from densities fitted to them, and decode: how good are the images, and are they copies?"
    return Section(
        "", "Generation", asked, findings.generation(result), panels, [Table("Drawn images", head, rows, notes)]
    )


def _columns(result: CustomResult) -> list[str]:
    return short_classes(result.bench.columns)


def _with_distance(kind: str, value: float | None) -> str:
    return kind if value is None else f"{kind} (Fréchet {distance(value)})"


def _nats(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "impossible"


def chosen_of(names: Sequence[str], most: int = MOST) -> list[str]:
    """Up to so many names, spread evenly.

    >>> chosen_of(["a", "b", "c", "d"], 2)
    ['a', 'd']
    """
    if len(names) <= most:
        return list(names)
    return [names[int(i)] for i in np.linspace(0, len(names) - 1, most).round()]


def _shares(shares: Sequence[float]) -> list[str]:
    return ["" if np.isnan(share) else f"{100 * share:.1f}" for share in shares]
