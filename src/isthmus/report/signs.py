"""The report of the study of hand signs: S1 and S2, and the page; S3 is laid out in `signs_codes`."""

from __future__ import annotations

import numpy as np
import torch

from isthmus.data.drawn_hands import NOTE as DRAWN
from isthmus.figures import codes, convolution, curves, densities, images
from isthmus.figures.labels import short_classes
from isthmus.figures.style import BLUE
from isthmus.networks.apply import to_float
from isthmus.networks.convolution import insertion, output_size
from isthmus.report.digits import duration
from isthmus.report.page import Derived, Page, Section, Table
from isthmus.report.signs_codes import clusters_section, drawing_section, linear_section, sizes_section
from isthmus.runs import versions
from isthmus.studies import convolution as sums
from isthmus.studies import findings_signs as findings
from isthmus.studies.findings import percent
from isthmus.studies.rates import PLAIN
from isthmus.studies.signs import SignsResult
from isthmus.studies.study import SignsSettings, Study

WRONG_ACROSS = 10  # pictures in a row


def signs_page(study: Study[SignsSettings], result: SignsResult) -> Page:
    """Lay out the page."""
    sections = [_s1_densities(result), _s1_sizes(result), _s2(study, result)]
    sections += [sizes_section(result), linear_section(result), clusters_section(result), drawing_section(result)]
    made = versions()
    return Page(
        title="What a few numbers keep of a hand sign",
        lead=_lead(study, result),
        found=findings.summary(result),
        facts=_facts(study, result),
        sections=sections,
        tables=[_runs_table(study, result)],
        footer=[
            f"Made by Isthmus {made['isthmus']} with Python {made['python']}, torch {made['torch']}, numpy "
            f"{made['numpy']}. Exercises after sheet 06 of Machine Learning Essentials (Heidelberg, 2025)."
        ],
    )


def _lead(study: Study[SignsSettings], result: SignsResult) -> list[str]:
    channels, height, width = result.data.shape
    kind = "grey" if channels == 1 else "colour"
    drawn = result.data.name == "drawn-hands"
    lead = [
        f"{len(result.data):,} {kind} {'drawings' if drawn else 'images'} of {height} x {width} pixels in "
        f"{len(result.data.classes)} classes, {result.data.name}: a classifier learns to tell them apart at four "
        f"learning rates, and autoencoders squeeze them through codes of 3 to 250 numbers, beside exact PCA, the "
        f"best any linear network can do."
    ]
    if drawn:
        lead.insert(
            0,
            f"{DRAWN} They stand in where no photographs are at hand: what is found here holds for drawings. For "
            f"photographs, give --data sign-digits (a download) or a folder with a class in each subfolder.",
        )
    if study.settings.fast:
        lead.insert(
            0 if not drawn else 1,
            "A fast run: every training had about a third of its updates.",
        )
    if result.duplicates:
        lead.append(
            f"{result.duplicates} of the test images equal a training image pixel by pixel: "
            "the test figures may flatter by as much."
        )
    return lead


def _facts(study: Study[SignsSettings], result: SignsResult) -> dict[str, str]:
    parts = result.parts
    facts = {
        "Images": f"{len(parts.train):,} to train, {len(parts.validation):,} to choose by, {len(parts.test):,} to test",
        "Classes": ", ".join(result.data.classes),
        "Training": (
            f"{duration(sum(run.seconds for run in result.runs.values()))} of steps, all runs added up, on "
            f"{study.device}, seed {study.settings.seed}"
        ),
        "Fingerprint": result.data.fingerprint[:16],
    }
    if result.data.notes:
        facts["Reading"] = " ".join(result.data.notes)
    return facts


def _runs_table(study: Study[SignsSettings], result: SignsResult) -> Table:
    rows = [
        [name, f"{run.parameters:,}", f"{len(run.epochs)}", f"{run.best_epoch}", duration(run.seconds)]
        for name, run in result.runs.items()
    ]
    note = (
        "Kept: the epoch best on the validation images, whose weights are used. Nothing was chosen on the test images."
    )
    if sum(run.seconds for run in result.runs.values()) > study.seconds:
        note += " Runs were trained side by side, so their times add up to more than the study took."
    return Table("What was trained", ["run", "parameters", "epochs", "kept", "training"], rows, [note])


def _s1_densities(result: SignsResult) -> Section:
    found = result.s1
    panels = [densities.sums(f"S1-gauss-{i}", [each]) for i, each in enumerate(found.gaussian, 1)]
    panels.append(densities.sums("S1-others", found.others))
    rows = [[s.name, s.law, f"{s.max_error:.1e}", f"{s.deviation:.1f}", f"{s.p_value:.2g}"] for s in found.sums]
    head = ["sum", "exact density", "largest error of the convolution", "histogram: worst bin (standard errors)", "p"]
    return Section(
        "S1.1",
        "The sum of two variables",
        "Show that the convolution of two Gaussian densities is Gaussian, and find its mean and variance.",
        sums.findings(found),
        panels,
        [Table("Computed and sampled sums against their exact densities", head, rows)],
        [Derived(step.text, step.mathml) for step in found.derivation.steps],
    )


def _s1_sizes(result: SignsResult) -> Section:
    picture = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    kernel = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [2.0, 0.0, 1.0]]).reshape(1, 1, 3, 3)
    shown = insertion(picture, kernel, stride=2, padding=1, output_padding=1)
    panel = convolution.zero_insertion("S1-transposed", "a transposed convolution, step by step", shown)
    rows = [
        [
            row.name or "total",
            row.kind,
            " x ".join(map(str, row.output)),
            row.receptive_field
            if isinstance(row.receptive_field, str)
            else ""
            if row.receptive_field is None
            else " x ".join(map(str, row.receptive_field)),
            f"{row.parameters:,}",
            f"{row.multiply_adds:,}",
        ]
        for row in result.shapes
    ]
    height = result.data.shape[1]
    example = output_size(height, 5, stride=3, padding=1)
    found = [
        f"Along each side, a kernel of K pixels on an image of H, padded by p on both sides and moved by s, has "
        f"H_out = floor((H + 2p \u2212 K) / s) + 1 places: the padded side holds H + 2p \u2212 K + 1 places for it, of "
        f"which every s-th is taken. With H = {height}, K = 5, p = 1, s = 3 these are {example}.",
        f"The picture inserts {shown.stride[0] - 1} zero between neighbouring pixels and pads, then convolves: the "
        f"{picture.shape[2]} x {picture.shape[3]} input becomes {shown.output.shape[2]} x {shown.output.shape[3]}.",
        f"The classifier of S2 has {sum(row.parameters for row in result.shapes):,} parameters and takes "
        f"{sum(row.multiply_adds for row in result.shapes):,} multiplications and additions an image.",
    ]
    head = ["layer", "kind", "output", "receptive field", "parameters", "multiply-adds"]
    note = (
        "Receptive field: pixels of the image that one number of the output may depend on. The command isthmus shapes "
        "prints this table for any network or run; docs/convolution.md derives the formulas."
    )
    return Section(
        "S1.2",
        "Sizes in a convolutional network",
        "Derive the height and width that a convolution with padding p and stride s puts out.",
        found,
        [panel],
        [Table("The classifier of S2, layer by layer", head, rows, [note])],
    )


def _s2(study: Study[SignsSettings], result: SignsResult) -> Section:
    found, classes = result.s2, short_classes(result.data.classes)
    runs = {
        rate + (" (diverged)" if reading.run is None else ""): reading.epochs
        for rate, reading in found.readings.items()
    }
    strong = next(iter(found.strong.runs.values()))
    panels = [
        curves.compared_curves("S2-rates", "one network, four learning rates", runs),
        curves.accuracy_curves("S2-strong", "the stronger recipe, first seed", strong.epochs, best=strong.best_epoch),
        codes.class_table(
            "S2-confusion",
            f"test images read by {found.best} (counts)",
            found.counts,
            classes,
            rows="true class",
            columns="read as",
        ),
        curves.by_class(
            "S2-classes",
            "test accuracy by class",
            classes,
            {found.best: (found.per_class, BLUE)},
            lowest=float(max(0, np.floor(10 * np.nanmin(found.per_class) - 0.5) / 10)),
        ),
    ]
    if found.errors:
        wrong = found.wrong
        labels = [
            f"{classes[a]} as {classes[b]}, {percent(float(p), 0)}"
            for a, b, p in zip(wrong.true, wrong.predicted, wrong.probability, strict=True)
        ]
        shown = to_float(torch.from_numpy(wrong.images))
        panels.append(images.gallery("S2-wrong", "test images read wrong, the surest first", shown, labels))
    asked = (
        f"Train a classifier at learning rates 1e-1, 1e-3, 1e-4 and 1e-5 ({PLAIN.optimizer.capitalize()}, batches of "
        f"{PLAIN.batch_size}); compare the curves, choose on validation, test the best."
    )
    return Section("S2", "A classifier at four learning rates", asked, findings.s2(result), panels, [_rates(result)])


def _rates(result: SignsResult) -> Table:
    found = result.s2
    rows, strong = [], set()
    for i, (rate, reading) in enumerate(found.readings.items()):
        chosen = rate == found.best
        interval = f"{percent(found.test.value)} ({percent(found.test.low)} to {percent(found.test.high)})"
        accuracy = "" if reading.accuracy is None else percent(reading.accuracy)
        last = f"{reading.epochs[-1]['validation_loss']:.4f}" if reading.epochs else ""
        rows.append([f"plain, {rate}", accuracy, last, reading.verdict, interval if chosen else ""])
        if chosen:
            strong |= {(i, column) for column in range(1, 5)}
    shares = zip(found.strong.runs.values(), found.strong.validation, found.strong.test, strict=True)
    for i, (run, validation, share) in enumerate(shares):
        interval = f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
        last = f"{run.epochs[-1]['validation_loss']:.4f}"
        rows.append([f"stronger recipe, seed +{i}", percent(validation.value), last, "", interval])
    head = ["run", "validation accuracy", "last validation loss", "verdict", "test accuracy (95 % interval)"]
    note = (
        "Stronger recipe: four blocks, dropout, images standardised one by one, AdamW with a one-cycle rate, label "
        "smoothing, and training images shifted, turned, scaled, mirrored and changed in contrast and brightness. Only "
        "the chosen plain run is tested, so that the test images choose nothing."
    )
    return Table("Learning rates", head, rows, [note], frozenset(strong))
