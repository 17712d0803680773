"""The section of a study of one's own that chooses a code size."""

from __future__ import annotations

import numpy as np

from isthmus.figures.labels import short_names
from isthmus.figures.sizes import against_size
from isthmus.figures.style import Panel
from isthmus.report.page import Section, Table
from isthmus.studies.code_size import AtSize, CodeSizes, Curve
from isthmus.studies.custom import CustomResult
from isthmus.studies.findings import percent, times
from isthmus.studies.findings_sizes import code_size, distance


def code_size_section(result: CustomResult) -> Section:
    """Error, exact PCA, neighbours and samples against size, with the elbow marked."""
    found = result.code_size
    assert found is not None
    asked = "How many numbers are enough? Error, neighbours and drawn images against the size of the code."
    tables = [_table(result, name, curve) for name, curve in found.curves.items()]
    panels = _panels(result, found) if found.curves else []
    return Section("", "Code size", asked, code_size(result), panels, tables)


def _panels(result: CustomResult, found: CodeSizes) -> list[Panel]:
    curves = dict(zip(short_names(list(found.curves), 30), found.curves.values(), strict=True))
    elbows = [curve.elbow.size for curve in curves.values() if curve.elbow.size is not None]
    sizes = sorted({size for curve in curves.values() for size in curve.sizes})
    pca = {size: result.bench.optimum(size) for size in range(sizes[0], sizes[-1] + 1)}
    known = {size: error for size, error in pca.items() if error is not None}
    panels = [
        against_size(
            "code-size-error",
            "error against code size",
            "squared error per pixel (test)",
            {name: (c.sizes, [float(np.mean(p.test)) for p in c.points]) for name, c in curves.items()},
            dots={
                name: ([p.size for p in c.points for _ in p.test], [error for p in c.points for error in p.test])
                for name, c in curves.items()
                if any(len(p.test) > 1 for p in c.points)
            },
            pca=(list(known), list(known.values())),
            elbows=elbows,
            logarithmic=True,
        )
    ]
    if result.bench.labelled:
        pixels = {} if result.neighbours is None else {"on the pixels": result.neighbours.pixels}
        panels.append(
            against_size(
                "code-size-neighbours",
                "nearest neighbour against code size",
                "1-NN accuracy (test)",
                {name: (c.sizes, [float(np.mean(p.neighbours)) for p in c.points]) for name, c in curves.items()},
                levels={**pixels, "chance": result.bench.chance},
                elbows=elbows,
                shares=True,
            )
        )
    drawn = {name: [(p.size, p.samples) for p in c.points if p.samples is not None] for name, c in curves.items()}
    if found.floor is not None and any(drawn.values()):
        panels.append(
            against_size(
                "code-size-samples",
                "drawn images against code size",
                "Fréchet distance to real images",
                {name: ([s for s, _ in points], [v for _, v in points]) for name, points in drawn.items() if points},
                levels={"real to real": found.floor},
                elbows=elbows,
                logarithmic=True,
            )
        )
    return panels


def _table(result: CustomResult, name: str, curve: Curve) -> Table:
    judged, labelled = bool(curve.points[0].frechet), bool(curve.points[0].neighbours)
    head = ["numbers in the code", "runs", "validation error", "test error", f"{result.bench.pca_name}, test"]
    head += ["error / PCA's", *(["1-NN"] if labelled else []), *(["Fréchet distance"] if judged else [])]
    rows = [_row(point, labelled=labelled, judged=judged) for point in curve.points]
    strong = {(i, j) for i, p in enumerate(curve.points) if p.size == curve.elbow.size for j in range(1, len(head))}
    notes = [
        "Errors: mean squared per pixel, means over the runs of a size. The elbow (bold) is decided on the validation "
        "errors: the smallest size that no larger one beats by more than two runs of one size differ, or else the size "
        "farthest below the straight line between the first and the last on logarithmic axes."
    ]
    if judged:
        notes.append(
            f"Fréchet distance of images drawn from the code ({curve.density}) in the features of the judge; empty "
            f"where no density could be fitted."
        )
    return Table(f"{name}: sizes of the code", head, rows, notes, frozenset(strong))


def _row(point: AtSize, *, labelled: bool, judged: bool) -> list[str]:
    test = float(np.mean(point.test))
    pca = ["", ""] if point.pca is None else [f"{point.pca:.5f}", f"{times(test, point.pca):.2f}"]
    row = [f"{point.size}", f"{len(point.runs)}", f"{np.mean(point.validation):.5f}", f"{test:.5f}", *pca]
    row += [percent(float(np.mean(point.neighbours)))] if labelled else []
    return row + (["" if point.samples is None else distance(point.samples)] if judged else [])
