"""S3 on the page: codes of several sizes, the linear autoencoder, clusters, and images drawn from densities."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from isthmus.figures import codes, curves, images, spatial
from isthmus.figures.labels import short_classes
from isthmus.figures.style import BLUE, ORANGE, Panel
from isthmus.networks.apply import to_float
from isthmus.report.page import Section, Table
from isthmus.studies import findings_signs as findings
from isthmus.studies.drawing import Drawn
from isthmus.studies.findings import percent, times
from isthmus.studies.signs import SignsResult
from isthmus.studies.sizes import CODES, LINEAR_DIM, Traits

KINDS = {"conv": "convolutional", "linear": "linear, trained", "pca": "PCA"}
NEAREST = 8  # drawn images shown beside the nearest training image
ON_SHEET = 16


def sizes_section(result: SignsResult) -> Section:
    """S3.1 and S3.2."""
    found = result.s3
    examples, named = {"original": found.examples, **found.reconstructed}, short_classes(found.shown)
    points = {
        "convolutional, test": ([*CODES.values()], [found.errors[n].test for n in CODES], BLUE, "o"),
        "convolutional, training": ([*CODES.values()], [found.errors[n].train for n in CODES], BLUE, "_"),
        "linear, trained": ([LINEAR_DIM], [found.linear.test], ORANGE, "s"),
    }
    panels = [
        images.rows("S3-reconstructions", "test images and what is kept of them", named, examples),
        curves.error_by_size("S3-sizes", "error against code size", [found.pca["train"], found.pca["test"]], points),
    ]
    for name, run in found.runs.items():
        optimum = found.optimum(CODES[name])
        level = (f"{found.pca_name} (test)", math.nan if optimum is None else optimum)
        title = f"{CODES[name]} numbers" + (", second seed" if name.endswith("b") else "")
        panels.append(curves.loss_curves(f"S3-loss-{name}", title, run.epochs, best=run.best_epoch, level=level))
    rows, strong = [], set()
    for i, (name, errors) in enumerate(found.errors.items()):
        optimum = found.optimum(CODES[name])
        label = f"{CODES[name]}" + (", second seed" if name.endswith("b") else "")
        cells = ["", ""] if optimum is None else [f"{optimum:.5f}", f"{times(errors.test, optimum):.2f}"]
        rows.append([label, f"{errors.train:.5f}", f"{errors.test:.5f}", *cells])
        strong.add((i, 2 if optimum is None or errors.test < optimum else 3))
    head = ["numbers in the code", "training error", "test error", f"{found.pca_name}, test", "error / PCA's"]
    pixels = int(np.prod(result.data.shape))
    note = (
        f"Error: mean squared per pixel, pixels in [0, 1]; times {pixels:,} it is the sum over pixels of the exercise. "
        f"The better of each row is bold."
    )
    asked = (
        "Train convolutional autoencoders with codes of 3, 10, 10 (a second seed), 100 and 250 numbers; show training "
        "and test loss and reconstructions."
    )
    table = Table("Reconstruction error", head, rows, [note], frozenset(strong))
    return Section("S3.2", "Codes of several sizes", asked, findings.s3_sizes(result), panels, [table])


def linear_section(result: SignsResult) -> Section:
    """S3.3."""
    found = result.s3
    run = found.linear_run
    level = (f"{found.pca_name} (training)", float(found.pca["train"][LINEAR_DIM]))
    chosen = {name: found.reconstructed[name] for name in ("conv 10", "linear 10", "PCA 10")}
    panels = [
        curves.loss_curves("S3-loss-linear", "linear, 10 numbers", run.epochs, best=run.best_epoch, level=level),
        images.rows(
            "S3-linear-reconstructions",
            "10 numbers, three ways",
            short_classes(found.shown),
            {"original": found.examples, **chosen},
        ),
        images.signed("S3-components", "what each number of a linear code draws", found.components),
        images.rows(
            "S3-random",
            "random codes, decoded",
            [str(i + 1) for i in range(len(found.examples))],
            {KINDS[kind]: traits.samples for kind, traits in found.traits.items()},
        ),
    ]
    head = ["", *KINDS.values()]
    table = Table("What tells them apart, with 10 numbers", head, _traits(found.traits), _trait_notes())
    angles = Table(
        "Principal angles between the learnt subspace and that of PCA, in degrees",
        ["", *(str(i + 1) for i in range(len(found.angles)))],
        [["angle", *(f"{angle:.2f}" for angle in found.angles)]],
    )
    asked = "Train a linear autoencoder with 10 numbers by the same function; compare it with the convolutional one."
    return Section("S3.3", "The linear autoencoder and PCA", asked, findings.s3_linear(result), panels, [table, angles])


def _traits(found: dict[str, Traits]) -> list[list[str]]:
    kinds = [found[kind] for kind in KINDS]
    return [
        ["training error per pixel", *(f"{t.errors.train:.5f}" for t in kinds)],
        ["test error per pixel", *(f"{t.errors.test:.5f}" for t in kinds)],
        ["parameters", *(f"{t.parameters:,}" for t in kinds)],
        ["training", *("closed form" if t.training is None else f"{t.training:.0f} s" for t in kinds)],
        ["encoding, an image", *(f"{t.encoding:.0f} \u00b5s" for t in kinds)],
        ["code ordered by variance", *("yes" if t.ordered else "no" for t in kinds)],
        ["largest correlation in the code", *(f"{t.correlation:.3f}" for t in kinds)],
        ["random codes: mean confidence", *(percent(t.confidence, 0) for t in kinds)],
    ]


def _trait_notes() -> list[str]:
    return [
        "Random codes are drawn from a Gaussian fitted to the training codes; confidence is the largest class "
        "probability that the strongest classifier of S2 gives to their images, which says how far they look like "
        "one sign, not whether they look real: S3.note measures that."
    ]


def clusters_section(result: SignsResult) -> Section:
    """S3.4."""
    found, classes = result.s4, short_classes(result.data.classes)
    panels = [
        spatial.stills("S3-scatter", "codes of new images", found.codes, found.labels, classes),
        codes.class_table(
            "S3-separability",
            "accuracy of a plane between two classes (%)",
            found.separability,
            classes,
            rows="class",
            columns="class",
            least=0.5,
        ),
        curves.by_class(
            "S3-neighbours",
            "1-nearest neighbour in the code",
            classes,
            {"three numbers": (found.neighbours.per_class, BLUE)},
            level=("chance", result.chance),
        ),
    ]
    for i, pair in enumerate(found.confused, 1):
        a, b = (classes[k] for k in pair.classes)
        shown = {label: to_float(torch.from_numpy(x)) for label, x in zip((a, b), pair.examples, strict=True)}
        count = min(len(x) for x in shown.values())
        numbered = [str(j + 1) for j in range(count)]
        title = f"{a} and {b}: a plane is right for {percent(pair.separability, 0)}"
        panels.append(images.rows(f"S3-pair-{i}", title, numbered, {k: x[:count] for k, x in shown.items()}))
    scene = spatial.scene("S3-scene", "The codes, to be turned", found.codes, found.labels, classes)
    rows = [
        [
            "1-NN accuracy",
            *("" if np.isnan(s) else percent(float(s), 0) for s in found.neighbours.per_class),
            percent(found.neighbours.mean),
        ],
        ["silhouette", *("" if np.isnan(s) else f"{s:.2f}" for s in found.silhouette), f"{found.silhouette_mean:.2f}"],
    ]
    notes = [
        "1-NN: codes of the training images are the references, of the test images the queries. Silhouette (Rousseeuw "
        "1987): 1 for a tight class far from all others, below 0 for codes nearer to another class than to their own. "
        "Silhouette, planes and the scatter are over validation and test images, none of them trained on; each code is "
        "judged by a logistic regression that did not see it (five folds).",
    ]
    table = Table("Three numbers, class by class", ["", *result.data.classes, "mean"], rows, notes)
    asked = (
        "Encode images with the code of three numbers and draw them, coloured by class. Are the classes apart? Where "
        "they are not, does that agree with the labels?"
    )
    return Section(
        "S3.4", "Clusters in three numbers", asked, findings.s3_clusters(result), panels, [table], scenes=[scene]
    )


def drawing_section(result: SignsResult) -> Section:
    """S3.note."""
    panels = []
    rows = []
    for size, drawn in result.s5.codes.items():
        if drawn.judged:
            sheets = {f"{name} (Fréchet {j.frechet:.1f})": j.images[:ON_SHEET] for name, j in drawn.judged.items()}
            panels.append(images.sheet(f"S3-samples-{size}", f"drawn with {drawn.size} numbers", sheets))
            panels.append(_beside(result, size, drawn))
        for name, j in drawn.judged.items():
            nats = f"{j.heldout_nats:.2f}" if math.isfinite(j.heldout_nats) else "impossible"
            rows.append([f"{name}, {drawn.size} numbers", f"{j.frechet:.1f}", nats, percent(j.copied, 0)])
        rows += [[f"{name}, {drawn.size} numbers", "refused", "", ""] for name in drawn.refused]
    first = next(iter(result.s5.codes.values())).yardstick
    rows.append(["real images against real ones", f"{first.floor:.1f}", "", ""])
    head = ["density", "Fréchet distance", "log p of new codes (nats)", "nearer to a training image than usual"]
    notes = [
        f"Fréchet distance in the features of our own classifier {first.extractor}, {first.size} images against "
        f"{first.size}: it compares within this table alone. Nats compare among codes of one size. The last column is "
        f"the share of drawn images whose nearest training image is nearer than that of half of the real new images.",
    ]
    asked = (
        "Fit a distribution to the codes (a histogram in the simplest case), sample it, decode; say how good the "
        "images are."
    )
    table = Table("Densities on the codes", head, rows, notes)
    return Section("S3.note", "Drawing new images", asked, findings.s3_drawing(result), panels, [table])


def _beside(result: SignsResult, size: str, drawn: Drawn) -> Panel:
    """Samples of each density, each above the training image nearest to it."""
    groups = {}
    for name, judged in drawn.judged.items():
        at = judged.nearest[:NEAREST].numpy()
        nearest: Tensor = to_float(torch.from_numpy(result.parts.train.images[at]))
        groups[name] = {"drawn": judged.images[: len(at)], "nearest": nearest}
    columns = [str(i + 1) for i in range(NEAREST)]
    return images.blocks(f"S3-nearest-{size}", f"{drawn.size} numbers: the nearest training images", columns, groups)
