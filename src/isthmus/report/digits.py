"""The report of the study of digits: results, figures and findings laid out exercise by exercise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.figures import codes, curves, images
from isthmus.figures.labels import short_classes
from isthmus.figures.style import BLUE, MODEL_COLOURS, ORANGE, PURPLE, RED
from isthmus.report.digits_vae import columns_of, restoration_section, variational_section
from isthmus.report.page import Page, Section, Table
from isthmus.runs import versions
from isthmus.studies import findings
from isthmus.studies.digits import (
    AUTOENCODERS,
    LATENT_DIM,
    PUBLISHED_1NN,
    PUBLISHED_CLASSIFIER,
    DigitsResult,
)
from isthmus.studies.study import DigitsSettings, Study

SOURCE = "Published: answers of the lab 5LSL0 (TU Eindhoven, 2023)."


def digits_page(study: Study[DigitsSettings], result: DigitsResult) -> Page:
    """Lay out the page. Exercises that need labels are left out where there are none, and the lead says so."""
    sections = [_d1(result), _d2(result)]
    if result.d3 is not None and result.d4 is not None:
        sections += [_d3(result), _d4(result)]
    sections += [_d5(result), _d6(result), variational_section(result), restoration_section(result)]
    made = versions()
    return Page(
        title=f"What two numbers keep of an image: {result.data.name.replace('mnist', 'MNIST')}",
        lead=_lead(study, result),
        found=findings.summary(result),
        facts=_facts(study, result),
        sections=sections,
        tables=[_runs_table(result)],
        footer=[
            f"Made by Isthmus {made['isthmus']} with Python {made['python']}, torch {made['torch']}, numpy "
            f"{made['numpy']}.",
            "The figures at the end are those of summary.json beside this page; each picture is in figures/ as PNG "
            "and SVG.",
        ],
    )


def _lead(study: Study[DigitsSettings], result: DigitsResult) -> list[str]:
    channels, height, width = result.data.shape
    kind = "grey" if channels == 1 else "colour"
    text = (
        f"{len(result.data):,} {kind} images of {height} x {width} pixels are squeezed through a code of "
        f"{LATENT_DIM} numbers "
        f"and drawn again: by the network of a course (the lab), by a stronger one (strong), and by {result.pca_name}, "
        f"the best any linear network can do. A classifier that sees the whole image judges what was kept."
    )
    lead = [text]
    if study.settings.fast:
        lead.insert(
            0,
            "A fast run: every training had about a third of its updates, so the study reaches better figures "
            "without --fast.",
        )
    if result.d3 is None:
        lead.append(
            "The images have no labels: neighbours (D3), the classifier (D4) and whatever else needs classes are "
            "left out."
        )
    if result.duplicates:
        lead.append(
            f"{result.duplicates} of the test images equal a training image pixel by pixel: "
            "the test figures may flatter by as much."
        )
    return lead


def _facts(study: Study[DigitsSettings], result: DigitsResult) -> dict[str, str]:
    parts = result.parts
    facts = {
        "Images": f"{len(parts.train):,} to train, {len(parts.validation):,} to choose by, {len(parts.test):,} to test",
        "Classes": ", ".join(result.data.classes) or "none",
        "Noise": f"standard deviation {study.settings.noise} in [0, 1] units, not clipped (D3, D6, D8)",
        "Training": (
            f"{duration(sum(run.seconds for run in result.runs.values()))} on {study.device}, seed "
            f"{study.settings.seed}"
        ),
        "Fingerprint": result.data.fingerprint[:16],
    }
    if result.data.notes:
        facts["Reading"] = " ".join(result.data.notes)
    return facts


def _runs_table(result: DigitsResult) -> Table:
    rows = []
    for name, run in result.runs.items():
        per_epoch = run.seconds / len(run.epochs)
        rows.append(
            [
                name,
                f"{run.parameters:,}",
                f"{len(run.epochs)}",
                f"{run.best_epoch}",
                duration(run.seconds),
                f"{per_epoch:.2g} s",
            ]
        )
    head = ["run", "parameters", "epochs", "kept", "training", "an epoch"]
    note = (
        "Kept: the epoch best on the validation images, whose weights are used. Nothing was chosen on the test images."
    )
    return Table("What was trained", head, rows, [note])


def _d1(result: DigitsResult) -> Section:
    found, classes = result.d1, columns_of(result)
    panels = [
        images.rows(
            "D1-reconstructions",
            "test images and what two numbers keep",
            classes,
            {"original": found.originals} | {_short(n): found.reconstructed[n] for n in AUTOENCODERS},
        )
    ]
    level = (f"{result.pca_name} (test)", found.test_mse["pca"])
    for name in ("lab", "strong"):
        run = result.runs[name]
        panels.append(
            curves.loss_curves(
                f"D1-loss-{name}", f"loss of the {_names(result)[name]}", run.epochs, best=run.best_epoch, level=level
            )
        )
    best = min(found.test_mse.values())
    rows, strong = [], set()
    for i, name in enumerate(AUTOENCODERS):
        error = found.test_mse[name]
        kept = "" if found.kept is None else findings.percent(float(np.nanmean(found.kept[name])))
        rows.append(
            [
                _names(result)[name],
                f"{error:.5f}",
                f"{findings.times(found.test_mse['pca'], error):.2f}",
                *([kept] if kept else []),
            ]
        )
        if error == best:
            strong.add((i, 1))
    head = [
        "code of two numbers",
        "test error per pixel",
        "PCA's error / this error",
        *(["class kept"] if found.kept else []),
    ]
    notes = ["Error: mean squared, pixels in [0, 1]."]
    if found.kept is not None:
        notes.append(
            "Class kept: share of reconstructions to which the classifier of D4 gives the true class, mean over "
            "classes."
        )
    tables = [Table("Reconstruction error on the test images", head, rows, notes, frozenset(strong))]
    if found.kept is not None:
        by_digit = [[_names(result)[n], *(findings.percent(float(s), 0) for s in found.kept[n])] for n in AUTOENCODERS]
        tables.append(Table("Class kept after reconstruction, by class", ["", *result.data.classes], by_digit))
    asked = "Train an autoencoder with a code of two numbers; show a reconstruction of each class and the loss."
    return Section("D1", "Reconstruction", asked, findings.d1(result), panels, tables)


def _d2(result: DigitsResult) -> Section:
    found, classes = result.d2, short_classes(result.data.classes)
    panels = [
        codes.scatter(
            f"D2-codes-{name}",
            f"codes of the {_names(result)[name]}" if name != "pca" else f"codes of {result.pca_name}",
            found.test[name],
            found.labels,
            classes,
        )
        for name in ("lab", "strong", "pca")
    ]
    if found.overlap is not None:
        panels.append(
            codes.class_table(
                "D2-overlap",
                "overlap in the lab's code (%)",
                found.overlap,
                classes,
                rows="class",
                columns="class",
            )
        )
    head = ["axis of the lab's code", "clipped codes", "dead"]
    rows = [
        [str(i + 1), findings.percent(float(share), 2), "yes" if found.clipping.dead[i] else "no"]
        for i, share in enumerate(found.clipping.share)
    ]
    note = (
        "Overlap: twice the balanced error of a nearest neighbour that knows two classes alone; 0\u00a0% apart, "
        "100\u00a0% on top of each other."
    )
    tables = [Table("Clipping by the ReLU on the code", head, rows, [note] if found.overlap is not None else [])]
    asked = "Scatter the codes; say which classes overlap, and why codes are clipped."
    return Section("D2", "The code", asked, findings.d2(result), panels, tables)


def _d3(result: DigitsResult) -> Section:
    assert result.d3 is not None
    found, classes = result.d3, short_classes(result.data.classes)
    series: dict[str, tuple[NDArray[np.float64] | Sequence[float], str]] = {
        "lab, clean": (found["lab.clean"].per_class, BLUE),
        "lab, noisy": (found["lab.noisy"].per_class, PURPLE),
        "strong, clean": (found["strong.clean"].per_class, ORANGE),
        f"{result.pca_name}, clean": (found["pca.clean"].per_class, MODEL_COLOURS["pca"]),
    }
    if result.are_digits:
        series["published"] = (PUBLISHED_1NN, RED)
    chance = result.chance
    panels = [
        curves.by_class("D3-neighbours", "1-nearest neighbour in the code", classes, series, level=("chance", chance)),
        codes.class_table(
            "D3-confusion",
            "neighbours in the lab's code, clean (counts)",
            found["lab.clean"].confusion,
            classes,
            rows="true class",
            columns="class of the nearest neighbour",
        ),
    ]
    rows = [["published", *_shares(PUBLISHED_1NN)]] if result.are_digits else []
    rows += [
        [f"{_names(result)[n]}, {kind}", *_shares(found[f"{n}.{kind}"].per_class)]
        for n in ("lab", "strong", "pca")
        for kind in ("clean", "noisy")
    ]
    rows.append(["chance", *_shares([chance] * len(classes))])
    notes = [
        "References: codes of the training images; queries: codes of the test images. Noisy: trained on clean "
        "images, references and queries both noisy.",
        *([SOURCE] if result.are_digits else []),
    ]
    asked = "Classify by the nearest neighbour in the code and report the accuracy of each class beside chance."
    return Section(
        "D3",
        "Neighbours",
        asked,
        findings.d3(result),
        panels,
        [Table("Accuracy of 1-NN (%)", ["", *result.data.classes, "mean"], rows, notes)],
    )


def _d4(result: DigitsResult) -> Section:
    assert result.d4 is not None
    found, classes = result.d4, short_classes(result.data.classes)
    titles = {"classifier": "plain classifier", "classifier-remedy": f"remedy: {found.remedy}"}
    panels = [
        curves.accuracy_curves(f"D4-{name}", titles[name], run.epochs, best=run.best_epoch)
        for name, run in found.runs.items()
    ]
    series: dict[str, tuple[NDArray[np.float64] | Sequence[float], str]] = {
        titles[found.chosen].partition(":")[0]: (list(found.per_class), BLUE)
    }
    if result.are_digits:
        series["published"] = (PUBLISHED_CLASSIFIER, RED)
    lowest = np.floor(20 * min(min(shares) for shares, _ in series.values()) - 0.2) / 20
    panels.append(curves.by_class("D4-accuracy", "test accuracy", classes, series, lowest=max(0.0, float(lowest))))
    panels.append(
        codes.class_table(
            "D4-confusion",
            f"{titles[found.chosen].partition(':')[0]}, test images (counts)",
            found.confusion,
            classes,
            rows="true class",
            columns="predicted class",
        )
    )
    rows = [["published", *_shares(PUBLISHED_CLASSIFIER)]] if result.are_digits else []
    rows.append([titles[found.chosen].partition(":")[0], *_shares(found.per_class)])
    asked = (
        "Train a classifier, report its accuracy on each class, judge its capacity by the curves, and apply the "
        "remedy they call for."
    )
    notes = [SOURCE] if result.are_digits else []
    return Section(
        "D4",
        "Classifier",
        asked,
        findings.d4(result),
        panels,
        [Table("Test accuracy (%)", ["", *result.data.classes, "mean"], rows, notes)],
    )


def _d5(result: DigitsResult) -> Section:
    found = result.d5
    panels = [
        images.manifold("D5-manifold", "what the lab's decoder draws", found.grid, found.images, found.strip_codes)
    ]
    if found.strip is not None and found.ends is not None:
        panels.append(
            images.strip("D5-strip", f"the strip from {found.ends[0]} to {found.ends[1]}", found.strip, found.passes)
        )
    asked = (
        "Decode a regular grid of codes; say where the pictures make sense and where they do not, and what lies "
        "between."
    )
    return Section("D5", "The manifold", asked, findings.d5(result), panels)


def _d6(result: DigitsResult) -> Section:
    found = result.d6
    pictures = {
        "noisy": found.noisy,
        **{_short(n): found.restored[n] for n in AUTOENCODERS},
        "clean": found.clean,
    }
    panels = [
        images.rows(
            "D6-denoising", f"noise of standard deviation {found.sigma}, restored", columns_of(result), pictures
        )
    ]
    rows, columns = [], []
    for name, quality in found.quality.items():
        kept = [] if found.kept is None else [found.kept[name]]
        columns.append([quality.psnr, quality.ssim, *kept])
        rows.append(
            [_names(result)[name], f"{quality.psnr:.2f}", f"{quality.ssim:.3f}", *(findings.percent(k) for k in kept)]
        )
    strong = {(int(row), column + 1) for column, row in enumerate(np.argmax(columns, axis=0))}
    head = ["", "PSNR (dB)", "SSIM", *([] if found.kept is None else ["class kept"])]
    notes = [
        "Means over all test images, against the clean ones. Restored images are clipped to [0, 1], noisy ones are not."
    ]
    asked = "Push noisy images through the autoencoder trained on clean ones: does the noise pass, and does the image?"
    return Section(
        "D6",
        "Noise",
        asked,
        findings.d6(result),
        panels,
        [Table("Restoration of the test images", head, rows, notes, frozenset(strong))],
    )


def _names(result: DigitsResult) -> dict[str, str]:
    return {"noisy": "noisy image", "pca": result.pca_name, "lab": "lab's network", "strong": "stronger network"}


def _short(name: str) -> str:
    return {"pca": "PCA"}.get(name, name)


def _shares(shares: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [f"{100 * s:.1f}" for s in shares] + [f"{100 * float(np.nanmean(shares)):.1f}"]


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
