"""Where a curve of error against code size has its elbow, and runs that make such a curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isthmus.errors import SettingsError
from isthmus.studies.code_size import elbow
from isthmus.studies.study_file import families, planned
from isthmus.studies.study_reading import study_settings

SIZES = [2, 4, 8, 16, 32, 64]


def test_a_power_law_has_no_elbow() -> None:
    """A straight line on logarithmic axes bends nowhere, whatever its slope."""
    for slope in (0.1, 1.0, 2.0):
        found = elbow(SIZES, [[0.1 * size**-slope] for size in SIZES])
        assert (found.size, found.reason) == (None, "none")
        assert found.depth == pytest.approx(0, abs=1e-12)


def test_two_lines_bend_where_they_meet() -> None:
    """Falling to 8, then level: the corner is deepest, and by how much is known."""
    errors = [[0.1 * min(size, 8) ** -1.0] for size in SIZES]
    found = elbow(SIZES, errors)
    assert (found.size, found.reason, found.spread, found.gain) == (8, "bend", None, 0.0)
    chord = math.log(0.1 / 2) + (math.log(0.1 / 8) - math.log(0.1 / 2)) * math.log(8 / 2) / math.log(64 / 2)
    assert found.depth == pytest.approx(1 - (0.1 / 8) / math.exp(chord))


def test_the_elbow_does_not_depend_on_the_unit_of_the_error() -> None:
    errors = [[0.05, 0.052], [0.02], [0.011], [0.009], [0.0085], [0.0084]]
    first = elbow(SIZES, errors)
    second = elbow(SIZES, [[1000 * error for error in each] for each in errors])
    assert first.size == second.size
    assert first.depth == pytest.approx(second.depth)
    assert first.spread == pytest.approx(second.spread)


def test_a_plateau_begins_where_no_larger_size_gains_more_than_chance() -> None:
    """With two runs 10 % apart, sizes within 10 % of the best are as good as the best."""
    found = elbow(SIZES, [[0.08], [0.04], [0.0105, 0.01155], [0.0104], [0.0103], [0.0101]])
    assert found.spread == pytest.approx(0.1)
    assert (found.size, found.reason) == (8, "plateau")
    assert found.gain == pytest.approx(1 - 0.0101 / np.mean([0.0105, 0.01155]))
    # The same means without a second run: nothing is known of chance, so the bend decides.
    assert elbow(SIZES, [[0.08], [0.04], [0.011025], [0.0104], [0.0103], [0.0101]]).reason == "bend"


def test_the_last_size_is_no_plateau() -> None:
    """Nothing larger was tried, so that nothing is known of what larger ones gain."""
    found = elbow([2, 4, 8], [[0.08, 0.081], [0.04], [0.02]])
    assert found.reason == "none"


def test_a_curve_that_rises_is_a_plateau_from_the_start() -> None:
    found = elbow([2, 4, 8], [[0.01, 0.0101], [0.02], [0.03]])
    assert (found.size, found.reason, found.gain) == (2, "plateau", 0.0)


def test_the_spread_is_the_root_mean_square_over_sizes() -> None:
    found = elbow([2, 4, 8], [[1.0, 1.1], [0.5, 0.5], [0.25]])
    assert found.spread == pytest.approx(math.exp(math.log(1.1) / math.sqrt(2)) - 1)


@pytest.mark.parametrize("errors", [[[0.1], [0.0], [0.1]], [[0.1], [math.nan], [0.1]], [[0.1], [0.1]]])
def test_an_elbow_needs_three_errors_above_zero(errors: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"errors above 0 of at least 3 sizes"):
        elbow([2, 4, 8][: len(errors)], errors)


def settings(networks: dict[str, object], **more: object) -> dict[str, object]:
    return {"data": {"name": "mnist-5k"}, "networks": networks, **more}


def test_runs_alike_but_for_size_and_seed_are_one_family() -> None:
    sweep = {"model": {"latent_dim": [2, 4, 8]}, "training": {"learning_rate": [1e-3, 1e-2]}, "seed": [0, 1]}
    tree = settings(
        {
            "conv": {"model": {"name": "lab"}, "sweep": sweep},
            "also": {"model": {"name": "lab", "latent_dim": 16}, "training": {"learning_rate": 1e-2}},
            "few": {"model": {"name": "vae"}, "sweep": {"model": {"latent_dim": [2, 4]}}},
            "judge": {"model": {"name": "classifier"}},
        }
    )
    found = families(planned(study_settings(tree), images=100))
    assert list(found) == ["conv, learning_rate 0.001", "conv, learning_rate 0.01"]
    assert [len(group) for group in found.values()] == [6, 7]
    assert {run.name for run in found["conv, learning_rate 0.01"]} >= {"conv-2-0.01-0", "conv-8-0.01-1", "also"}


def test_code_size_needs_three_sizes() -> None:
    tree = settings({"a": {"model": {"name": "lab"}}}, analyses=["reconstruction", "code-size"])
    with pytest.raises(SettingsError, match=r"analyses\.1: code-size needs 3 sizes of one network or more; sweep them"):
        study_settings(tree)
