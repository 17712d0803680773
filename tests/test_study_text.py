"""A study file as text: the commented file, the schema, the documentation, and the built-in studies as TOML."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import isthmus
from isthmus.errors import SettingsError
from isthmus.report.studies import STUDIES, Request, _kind, _settings
from isthmus.settings import DataSettings
from isthmus.studies import signs
from isthmus.studies.built_in import in_file_terms
from isthmus.studies.study import DigitsSettings, SignsSettings
from isthmus.studies.study_file import ANALYSES, planned
from isthmus.studies.study_reading import study_settings
from isthmus.studies.study_text import TABLES, as_toml, keys, schema, schema_text, shortened, tables, template

PACKAGE = Path(isthmus.__file__).parent
DOCS = PACKAGE.parents[1] / "docs/study-file.md"


def test_the_file_to_start_from_is_a_study_and_names_every_key():
    text = template("photos/my 'best'", "x.toml")
    found = study_settings(tomllib.loads(text))
    assert found.data.name == "photos/my 'best'"
    assert found.analyses == ANALYSES
    runs = planned(found, images=3500)
    assert len(runs) == 13
    assert {run.plan.training.epochs for run in runs if run.network != "denoiser"} == {10}
    assert min(run.plan.training.epochs for run in planned(found, images=350) if run.network == "conv") > 10
    plain = " ".join(text.replace("#", " ").split())
    assert max(map(len, text.splitlines())) <= 120
    for key in keys():
        assert f"#   {key.path} = {key.default or '(must be given)'}\n" in text
        assert " ".join(key.what.split()) in plain


def test_the_file_to_start_from_quotes_its_own_name():
    for name in ("my study.toml", "a'b.toml"):
        assert f"isthmus study {shlex.quote(name)} --dry-run" in template("x", name)
    assert study_settings(tomllib.loads(template("x", "a\n[b]"))).data.name == "x"


def test_every_key_is_explained_once_and_known():
    named = [(key.table, key.path) for key in keys()]
    assert len(named) == len(set(named))
    for table, kind in TABLES.items():
        listed = {key.path.rpartition(".")[2] for key in keys() if key.table == table}
        assert set(kind.model_fields) - listed <= {"data", "networks", "model", "training", "sweep"}
    assert all(len(key.what) > 10 and key.what.endswith(".") for key in keys())


def test_the_schema_in_the_package_is_up_to_date():
    """If not: isthmus study --schema > src/isthmus/studies/study.schema.json"""
    assert (PACKAGE / "studies/study.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_describes_every_key():
    made = schema()
    for part in (made, *made["$defs"].values()):
        for name, node in part.get("properties", {}).items():
            assert node.get("description"), name


BROKEN = {
    "const": (object, lambda value, given: value != given),
    "enum": (object, lambda value, given: value not in given),
    "pattern": (str, lambda value, given: not re.search(given, value)),
    "minItems": (list, lambda value, given: len(value) < given),
    "minProperties": (dict, lambda value, given: len(value) < given),
    "minimum": ((int, float), lambda value, given: value < given),
    "maximum": ((int, float), lambda value, given: value > given),
    "exclusiveMinimum": ((int, float), lambda value, given: value <= given),
    "exclusiveMaximum": ((int, float), lambda value, given: value >= given),
}
SILENT = {"$schema", "$defs", "default", "description", "title", "discriminator", "properties", "items", "required"}
SILENT |= {"additionalProperties", "propertyNames"}


def wrong(node: Mapping[str, Any], value: Any, whole: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Where a value breaks a schema, of all the words that ours uses; a word not known here fails the test."""
    for word, given in node.items():
        match word:
            case "$ref":
                yield from wrong(whole["$defs"][given.rpartition("/")[2]], value, whole, path)
            case "anyOf" | "oneOf":
                tries = [list(wrong(side, value, whole, path)) for side in given]
                yield from () if [] in tries else min(tries, key=len)
            case "type":
                kinds = {
                    "object": dict,
                    "array": list,
                    "string": str,
                    "boolean": bool,
                    "integer": int,
                    "null": type(None),
                }
                fits = isinstance(value, kinds.get(given, (int, float)))
                yield from () if fits and (given == "boolean" or not isinstance(value, bool)) else [path]
            case "properties" if isinstance(value, dict):
                for key in set(given) & set(value):
                    yield from wrong(given[key], value[key], whole, f"{path}.{key}")
            case "additionalProperties" if isinstance(value, dict):
                for key in set(value) - set(node.get("properties", {})):
                    yield from wrong(given, value[key], whole, f"{path}.{key}") if given else [f"{path}.{key}"]
            case "propertyNames" if isinstance(value, dict):
                yield from (f"{path}.{key}" for key in value if list(wrong(given, key, whole)))
            case "items" if isinstance(value, list):
                for k, item in enumerate(value):
                    yield from wrong(given, item, whole, f"{path}.{k}")
            case "required" if isinstance(value, dict):
                yield from (f"{path}.{key}" for key in given if key not in value)
            case _ if word in BROKEN:
                kind, broken = BROKEN[word]
                if isinstance(value, kind) and not isinstance(value, bool) and broken(value, given):
                    yield path
            case _:
                assert word in SILENT, word


def test_the_schema_takes_what_studies_take():
    made = schema()
    assert list(wrong(made, tomllib.loads(template()), made)) == []
    for kind, side in ((DigitsSettings, 32), (SignsSettings, 64)):
        found = in_file_terms(kind(data=DataSettings(name="x", height=side, width=side)), (1, side, side))
        assert list(wrong(made, tomllib.loads(as_toml(shortened(found))), made)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sed", 3),
        ("seed", -1),
        ("analyses", ["neighbors"]),
        ("data.hight", 32),
        ("data.height", 8),
        ("networks.a b", {"model": {"name": "lab"}}),
        ("networks.conv.model.name", "labb"),
        ("networks.conv.model.latent_dim", 0),
        ("networks.conv.training.epochs", 0),
        ("networks.conv.training.epochs", True),
        ("networks.conv.training.epoch", 3),
        ("networks.conv.training.learning_rate", "fast"),
        ("networks.conv.sweep.model.latentdim", [2]),
        ("networks.conv.sweep.seed", 3),
        ("networks.vae.model.sigma", "learnt"),
    ],
)
def test_what_the_schema_refuses_is_refused_when_read(path, value):
    tree = tomllib.loads(template())
    *parents, leaf = path.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value
    made = schema()
    places = list(wrong(made, tree, made))
    assert places
    assert any(f".{path}".startswith(place) or place.startswith(f".{path}") for place in places), places
    with pytest.raises(SettingsError, match=re.escape(path)):
        study_settings(tree)


def test_the_documentation_lists_every_key():
    """If not: replace what follows <!-- keys --> with the output of isthmus.studies.study_text.tables()."""
    assert DOCS.read_text(encoding="utf-8").partition("<!-- keys -->\n\n")[2] == tables()


@pytest.mark.parametrize("kind", [DigitsSettings, SignsSettings])
def test_a_built_in_study_survives_its_own_toml(kind):
    shape = (1, 32, 32) if kind is DigitsSettings else (1, 64, 64)
    found = in_file_terms(kind(data=DataSettings(name="x", height=shape[1], width=shape[2]), seed=7), shape)
    assert study_settings(tomllib.loads(as_toml(shortened(found)))) == found


def test_the_study_of_signs_trains_what_its_toml_says(parts):
    """Every plan of the study, by what it is and not by its name, is one of the file, and the other way round."""
    study = SimpleNamespace(settings=SignsSettings(data=DataSettings(name="x"), seed=4, fast=True))
    plans = signs._plans(study, parts)
    found = planned(in_file_terms(study.settings, parts.train.shape), images=len(parts.train))
    assert sorted(map(repr, plans.values())) == sorted(repr(run.plan) for run in found)


def test_a_built_in_study_can_be_run_from_a_file(tmp_path):
    (tmp_path / "d.toml").write_text("study = 'digits'\nnoise = 0.5\nseed = 3\n[data]\nname = 'mnist'\n")
    kind, own = _kind(str(tmp_path / "d.toml"))
    assert kind is STUDIES["digits"]
    found = _settings(kind, own, Request("d.toml", seed=4), None)
    assert found == DigitsSettings(data=DataSettings(name="mnist", height=32, width=32), noise=0.5, seed=4)
