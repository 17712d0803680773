"""What a study of one's own says in words: each verdict where its numbers call for it, and the pictures of sizes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from isthmus.figures.sizes import against_size
from isthmus.studies import findings_custom, findings_sizes
from isthmus.studies.code_size import AtSize, CodeSizes, Curve, elbow
from isthmus.studies.redrawn import Drawn, Generation

SIZES = [2, 4, 8, 16]
FLAT = [[0.08, 0.081], [0.0799, 0.0801], [0.08, 0.0802], [0.0801, 0.0799]]
FALLING = [[0.1], [0.05], [0.0125], [0.012]]


def study(errors: list[list[float]], pca: list[float | None], *, labels: bool = True, judge: bool = True) -> object:
    """A result that holds one curve, whose test errors are those of validation."""
    points = tuple(
        AtSize(
            size,
            tuple(f"c-{size}-{k}" for k in range(len(each))),
            tuple(each),
            tuple(each),
            least,
            (0.5 + size / 100,) if labels else (),
            (100.0 / size,) if judge else (),
        )
        for size, each, least in zip(SIZES, errors, pca, strict=True)
    )
    found = CodeSizes({"conv": Curve(points, elbow(SIZES, errors), "mixture")}, 1.5 if judge else None, ())
    train = SimpleNamespace(labels=np.array([0, 1]) if labels else None)
    bench = SimpleNamespace(pca_name="exact PCA", labelled=labels)
    return SimpleNamespace(code_size=found, bench=bench, parts=SimpleNamespace(train=train))


def said(result: object) -> str:
    return "\n".join(findings_sizes.code_size(result))  # type: ignore[arg-type]


def test_a_plateau_names_its_size_and_why() -> None:
    words = said(study(FLAT, [0.2, 0.2, 0.2, 0.2]))
    assert words.startswith(
        "conv: 2 numbers are enough, from 2 to 16 numbers: beyond it the best larger code gains 0.6"
    )
    assert "no more than two runs of one size differ by (0.7\u00a0%)" in words
    assert "limit of the training" not in words
    assert "the nearest neighbour is right in 52.0\u00a0% there, and most often with 16 numbers, 66.0\u00a0%" in words
    assert "the Fréchet distance of drawn images is 50 there, and least with 16 numbers, 6.25" in words


def test_a_plateau_above_pca_is_one_of_the_training() -> None:
    """PCA of 16 numbers goes where no network does: the codes could hold more."""
    words = said(study(FLAT, [0.06, 0.04, 0.02, 0.01]))
    assert "That is a limit of the training rather than of the code, since exact PCA of 16 numbers reaches" in words
    assert "a test error of 0.01000, and conv 0.08000: train longer" in words


def test_a_network_that_beats_pca_is_not_said_to_be_undertrained() -> None:
    assert "limit of the training" not in said(study(FALLING, [0.2, 0.1, 0.05, 0.02]))
    assert "limit of the training" not in said(study(FLAT, [0.06, None, None, None]))


def test_a_bend_says_how_deep_it_is() -> None:
    words = said(study(FALLING, [0.2, 0.1, 0.05, 0.02]))
    assert words.startswith(
        "conv: 8 numbers are enough, from 2 to 16 numbers: there the validation error lies farthest"
    )
    depth = elbow(SIZES, FALLING).depth
    assert f"{100 * depth:.0f}\u00a0%; the best larger code gains another 4\u00a0%" in words


def test_no_elbow_says_what_a_doubling_gains() -> None:
    words = said(study([[0.08], [0.04], [0.02], [0.01]], [0.2] * 4))
    assert (
        "conv has no elbow from 2 to 16 numbers: each doubling of the code takes the validation error to about 0.50"
        in words
    )


def test_errors_of_zero_are_no_reason_to_fail() -> None:
    result = study([[1e-12]] * 4, [0.0] * 4)
    curve = next(iter(result.code_size.curves.values()))  # type: ignore[attr-defined]
    zero = tuple(AtSize(p.size, p.runs, (0.0,), (0.0,), 0.0, (), ()) for p in curve.points)
    result.code_size = CodeSizes({"conv": Curve(zero, curve.elbow, "mixture")}, None, ())  # type: ignore[attr-defined]
    assert "the validation error hardly depends on the size of the code." in said(result)


def test_a_flat_curve_is_not_called_a_question_of_cost() -> None:
    """Without a second seed nothing is known of chance; PCA still tells that the networks learnt too little."""
    words = said(study([[0.08], [0.081], [0.0805], [0.08]], [0.06, 0.04, 0.02, 0.01]))
    assert "conv has no elbow from 2 to 16 numbers: the validation error hardly depends on the size" in words
    assert "That is a limit of the training" in words
    assert "afford" not in words


@pytest.mark.parametrize(("labels", "why"), [(False, "the images have no labels"), (True, "no classifier was trained")])
def test_what_has_no_judge_says_so(labels: bool, why: str) -> None:
    words = said(study(FLAT, [0.2] * 4, labels=labels, judge=False))
    assert f"How good drawn images are at each size is left out, since {why}." in words
    assert "Fréchet" not in words
    assert ("nearest neighbour" in words) == labels


def generated(copied: float, smooth: float) -> str:
    drawn = Drawn(torch.zeros(1, 1, 4, 4), 3.0, -2.0, copied, smooth, torch.zeros(1, dtype=torch.int64))
    found = Generation({"vae": {"normal": drawn}}, {"a": {"histogram": "Why."}, "b": {"histogram": "No."}}, 1.5, 10)
    return "\n".join(findings_custom.generation(SimpleNamespace(generation=found)))  # type: ignore[arg-type]


def test_copies_are_held_against_what_is_as_smooth() -> None:
    """Blurred images lie near to everything: only what lies nearer than reconstructions do is suspected."""
    assert "a Fréchet distance of 3, 2.0 times the 1.5 between two halves of real images" in generated(0.9, 0.9)
    assert generated(0.9, 0.9).count("no sign of copying") == 1
    assert "look whether these are copies" in generated(0.9, 0.5)
    assert "no sign of copying" in generated(0.5, 0.9)
    assert "No histogram over the codes of a and b. Of a: Why." in generated(0.5, 0.5)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.011, 0.0115, 0.012], [1e-6, 0.1, 10.0]])
def test_a_picture_of_sizes_can_be_drawn_of_any_errors(values: list[float]) -> None:
    """Each has labels on its axis, and PCA far below does not press the curves together."""
    drawn = against_size(
        "x", "x", "error", {"a" * 40: ([1, 2, 60], values)}, pca=([1, 2], [0.1, 1e-17]), logarithmic=True
    )
    drawn.figure.canvas.draw()
    axes = drawn.figure.axes[0]
    assert len([label for label in axes.get_yticklabels() if label.get_text()]) >= 2
    bottom = axes.get_ylim()[0]
    assert min(values) == 0 or bottom >= min(values) / 1001
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "60"]
