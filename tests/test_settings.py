"""Settings: what is refused, and in which words."""

from __future__ import annotations

import pytest

from isthmus.errors import SettingsError
from isthmus.networks.catalog import NETWORKS
from isthmus.settings import DataSettings, RunSettings, merge, nearest, parse_assignments, validate


def settings(*assignments: str, name: str = "lab") -> RunSettings:
    tree = {"data": {"name": "mnist-5k"}, "model": {"name": name}}
    return validate(RunSettings, merge(tree, parse_assignments(assignments)))


def test_assignments_reach_their_setting() -> None:
    changed = settings("training.epochs=3", "model.latent_dim=16", "model.upsample=transposed", "data.grey=true")
    assert changed.training.epochs == 3
    assert changed.model.latent_dim == 16  # type: ignore[union-attr]
    assert changed.model.upsample == "transposed"  # type: ignore[union-attr]
    assert changed.data.grey


def test_all_mistakes_are_reported_at_once_with_their_paths() -> None:
    with pytest.raises(SettingsError) as caught:
        settings("training.epoch=3", "training.batch_size=1", "model.latent_dim=0", "model.hidden=3", "data.height=8")
    message = str(caught.value)
    assert "5 setting(s) cannot be used" in message
    assert "training.epoch: no such setting; did you mean 'epochs'?" in message
    assert "training.batch_size: input should be greater than or equal to 2 (given 1)" in message
    assert "model.latent_dim: input should be greater than 0 (given 0)" in message
    assert "model.hidden: no such setting" in message
    assert "data.height: input should be greater than or equal to 16 (given 8)" in message


def test_an_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(SettingsError, match=r"'training\.epochs' is not KEY=VALUE"):
        parse_assignments(["training.epochs"])


def test_nothing_lies_below_a_value() -> None:
    with pytest.raises(SettingsError, match="'training' was given a value before"):
        parse_assignments(["training=3", "training.epochs=3"])


def test_settings_survive_their_own_json() -> None:
    for name, entry in NETWORKS.items():
        before = settings(name=name).model_copy(update={"training": entry.training})
        assert validate(RunSettings, before.model_dump(mode="json")) == before


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DataSettings(name="x").name = "y"  # type: ignore[misc]


def test_nearest_names_one_or_all() -> None:
    assert nearest("labb", NETWORKS) == "did you mean 'lab'?"
    assert nearest("zzz", NETWORKS) == "there are: lab, strong, linear, vae, denoiser, classifier."
