"""Study files: what they ask for, every mistake in them at once, and a study from its file to its report."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import isthmus
from command_line import toy
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, SettingsError
from isthmus.networks.catalog import NETWORKS
from isthmus.report.studies import STUDIES, Request, _kind, _settings, foresee, run_study
from isthmus.runs import Run
from isthmus.settings import MODELS, DataSettings
from isthmus.studies import signs
from isthmus.studies.built_in import in_file_terms
from isthmus.studies.custom import check_custom, trainable
from isthmus.studies.estimate import estimate, side_by_side
from isthmus.studies.study import DigitsSettings, SignsSettings, budget
from isthmus.studies.study_file import ANALYSES, CustomSettings, planned
from isthmus.studies.study_reading import study_settings
from isthmus.studies.study_text import TABLES, as_toml, keys, schema, schema_text, shortened, tables, template

PACKAGE = Path(isthmus.__file__).parent
DOCS = PACKAGE.parents[1] / "docs/study-file.md"

MISTAKEN = """
seed = -1
analysis = ["reconstruction"]
analyses = ["neighbors", "reconstruction"]
degradations = ["fog:3"]

[data]
name = "mnist-5k"

[networks.conv]
model.name = "labb"

[networks.vae]
model.name = "vae"
training.epoch = 3
start = "conv2"
sweep.model.latent_dim = [2, 0]
sweep.training.learningrate = [1e-3]
"""

STUDY = """
title = "Bars & <lines>"
degradations = ["noise:0.2", "mask:0.3"]
densities = ["normal", "gaussian"]

[data]
name = "{data}"

[networks.line]
model.name = "linear"
training.epochs = 2
sweep.model.latent_dim = [1, 2, 3]

[networks.again]
model.name = "linear"
seed = 1
training.epochs = 2

[networks.vae]
model.name = "vae"
model.latent_dim = 3
model.architecture = "mlp"
model.hidden = [16]
training.epochs = 1

[networks.tuned]
model.name = "vae"
model.latent_dim = 3
model.architecture = "mlp"
model.hidden = [16]
start = "vae"
training.epochs = 1
training.frozen = "decoder"
training.noise = 0.2

[networks.clean]
model.name = "denoiser"
model.width = 4
training.epochs = 1

[networks.judge]
model.name = "classifier"
model.width = 4
training.epochs = 2
"""


def settings(networks: dict[str, object], **more: object) -> CustomSettings:
    return study_settings({"data": {"name": "mnist-5k"}, "networks": networks, **more})


def refused(networks: dict[str, object], **more: object) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(networks, **more)
    return str(caught.value)


LAB = {"model": {"name": "lab"}}


def test_every_mistake_in_a_file_is_told_at_once(isthmus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(MISTAKEN)
    code, out, err = isthmus("study", "my.toml")
    assert (code, out) == (2, "")
    assert err.startswith("error: 9 setting(s) cannot be used:\n")
    for words in (
        "seed: input should be greater than or equal to 0 (given -1)",
        "analysis: no such setting; did you mean 'analyses'?",
        "analyses.0: input should be 'reconstruction', 'codes', 'neighbours'",
        "(given 'neighbors'); did you mean 'neighbours'?",
        "degradations.0: 'fog:3' is not a degradation; write noise:0.25",
        "networks.conv.model.name: there is no network 'labb'; did you mean 'lab'?",
        "networks.vae.training.epoch: no such setting; did you mean 'epochs'?",
        "networks.vae.start: there is no network 'conv2' in this file; did you mean 'conv'?",
        "networks.vae.sweep.model.latent_dim.1: input should be greater than 0 (given 0)",
        "networks.vae.sweep.training.learningrate: no such setting; did you mean 'learning_rate'?",
    ):
        assert words in err
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("networks", "more", "words"),
    [
        ({}, {}, "networks: is empty; add one, as [networks.conv]"),
        ({"a b": LAB}, {}, "networks.a b: is no name for a folder: take letters, digits, - and _"),
        ({"a": {}}, {}, "networks.a.model: is missing"),
        ({"a": 3}, {}, "networks.a: is no table of settings (given 3)"),
        ({"a": {"model": {"width": 3}}}, {}, "networks.a.model.name: is missing; there are: lab, strong"),
        ({"a": LAB}, {"analyses": ["accuracy"]}, "analyses.0: accuracy needs a classifier; add one"),
        ({"a": {"model": {"name": "classifier"}}}, {"analyses": ["codes"]}, "codes needs a network with a code"),
        ({"a": LAB}, {"degradations": ["noise:0.1", "noise:0.1"]}, "degradations.1: stands here twice"),
        ({"a": LAB}, {"degradations": ["noise:0"]}, "noise needs a standard deviation above 0"),
        ({"a": LAB | {"start": "a"}}, {}, "networks.a.start: a would begin with its own weights"),
        ({"a": LAB | {"start": "b"}, "b": LAB | {"start": "a"}}, {}, "networks.b.start: b would begin with its own"),
        ({"a": LAB | {"sweep": {"seed": [0, 1]}}, "b": LAB | {"start": "a"}}, {}, "a is swept, so it is several runs"),
        ({"a": LAB, "b": {"model": {"name": "vae"}, "start": "a"}}, {}, "a is a lab, this a vae; start from one"),
        ({"a": LAB | {"training": {"frozen": "decoder"}}}, {}, "networks.a.training.frozen: decoder keeps the decoder"),
        ({"a": LAB | {"sweep": {"model": {"name": ["vae"]}}}}, {}, "sweep.model.name: cannot be swept"),
        ({"a": LAB | {"sweep": {"model": {"width": []}}}}, {}, "sweep.model.width: is an empty list"),
        ({"a": LAB | {"sweep": {"model": {"width": 8}}}}, {}, "sweep.model.width: input should be a valid list"),
        ({"a": LAB | {"sweep": {"seed": [1, 1]}}}, {}, "sweep.seed: has a value twice (1, 1)"),
        ({"a": LAB | {"sweep": {"seed": [1]}}, "a-1": LAB}, {}, "two runs would be called a-1; rename a network"),
    ],
)
def test_what_no_type_tells_is_told_too(networks, more, words):
    assert words in refused(networks, **more)


def test_a_union_is_one_mistake():
    assert refused({"a": {"model": {"name": "vae", "sigma": "learnt"}}}).startswith("1 setting(s) cannot be used:\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "my.toml does not exist; `isthmus study --init my.toml` writes a study file to start from"),
        (b"title = Bars\n", "my.toml is not TOML: Invalid value (at line 1, column 9). Texts stand in quotes"),
        (b"title = '\xff'\n", "my.toml cannot be read as a study file"),
        (b"study = 'custum'\n", "study: input should be 'custom' (given 'custum'); did you mean 'custom'?"),
        (b"networks = 3\n", "data.name: is missing"),
    ],
)
def test_a_file_that_is_none(isthmus, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "my.toml").write_bytes(content)
    code, out, err = isthmus("study", "my.toml")
    assert (code, out) == (2, "")
    assert words in err


def test_every_combination_of_a_sweep_is_a_run():
    sweep = {"model": {"latent_dim": [2, 4]}, "training": {"learning_rate": [1e-3, 1e-2]}, "seed": [0, 5]}
    found = planned(settings({"a": LAB | {"seed": 3, "sweep": sweep}}, seed=10), images=100)
    assert [run.name for run in found[:3]] == ["a-2-0.001-0", "a-2-0.001-5", "a-2-0.01-0"]
    assert len({run.name for run in found}) == 8
    assert {(run.size, run.plan.training.learning_rate, run.plan.seed) for run in found} == {
        (size, rate, 10 + seed) for size in (2, 4) for rate in (1e-3, 1e-2) for seed in (0, 5)
    }
    plain = planned(settings({"a": LAB | {"seed": 3}}, seed=10), images=100)
    assert [(run.name, run.plan.seed) for run in plain] == [("a", 13)]


def test_training_is_the_networks_own_where_it_is_not_given():
    (run,) = planned(settings({"a": {"model": {"name": "strong"}, "training": {"epochs": 3}}}), images=100)
    assert (run.plan.training.epochs, run.plan.training.batch_size, run.plan.training.learning_rate) == (3, 256, 4e-3)


def test_epochs_are_fitted_only_where_the_file_says_what_they_are_meant_for():
    network = {**LAB, "training": {"epochs": 30}}

    def epochs(fast: bool, **more: object) -> int:
        return planned(settings({"a": {**network, **more}}, fast=fast), images=500)[0].plan.training.epochs

    training = settings({"a": network}).networks["a"].training
    assert (epochs(False), epochs(True)) == (30, 10)
    assert epochs(False, meant_for=5000) == budget(training, images=500, fast=False, meant_for=5000).epochs != 30
    assert epochs(False, meant_for=500) == 30


def test_a_run_stands_after_the_one_it_begins_with():
    networks = {"c": LAB | {"start": "b"}, "b": LAB | {"start": "a"}, "a": LAB}
    assert [run.name for run in planned(settings(networks), images=100)] == ["a", "b", "c"]


def test_analyses_are_all_that_the_networks_allow():
    sweep = {"sweep": {"model": {"latent_dim": [2, 3, 4]}}}
    assert settings({"a": LAB | sweep, "b": {"model": {"name": "classifier"}}}).analyses == ANALYSES
    assert settings({"a": {"model": {"name": "denoiser"}}}).analyses == ("restoration",)
    assert settings({"a": LAB}, analyses=[]).analyses == ()


def test_the_file_to_start_from_is_a_study_and_names_every_key():
    text = template("photos/my 'best'", "x.toml")
    found = study_settings(tomllib.loads(text))
    assert found.data.name == "photos/my 'best'"
    assert found.analyses == ANALYSES
    assert len(planned(found, images=1000)) == 13
    for key in keys():
        assert f"#   {key.path} = {key.default or '(must be given)'}\n" in text
        assert key.what in text


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


def test_the_schema_takes_what_is_right_and_refuses_what_is_not():
    made = schema()
    validator = pytest.importorskip("jsonschema").Draft202012Validator(made)
    validator.validate(tomllib.loads(template()))
    wrong = [error.json_path for error in validator.iter_errors(tomllib.loads(MISTAKEN))]
    assert len(wrong) >= 5


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


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, float | None]]:
    """A finished study of one's own: its file, its folder and its figures."""
    place = tmp_path_factory.mktemp("own")
    file = place / "my.toml"
    file.write_text(STUDY.format(data=toy(place / "bars.npz", count=90)))
    _, summary = run_study(str(file), None, place / "out", workers=1)
    return file, place / "out", summary["figures"]


def test_a_study_of_ones_own_has_all_that_a_study_has(labelled):
    _, folder, figures = labelled
    names = {path.name for path in folder.iterdir()} - {".lock"}
    files = {"study.toml", "env.json", "status.json", "log.txt", "summary.json", "report.html"}
    assert names == files | {"figures", "runs"}
    runs = {"line-1", "line-2", "line-3", "again", "vae", "tuned", "clean", "judge"}
    assert {path.name for path in (folder / "runs").iterdir()} == runs
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert figures == json.loads((folder / "summary.json").read_text())["figures"]
    page = (folder / "report.html").read_text()
    assert "Bars &amp; &lt;lines&gt;" in page
    for title in ("Reconstruction", "Codes", "Neighbours", "Accuracy", "Restoration", "Generation", "Code size"):
        assert f"</span>{title}</a></h2>" in page


def test_the_figures_of_a_study_of_ones_own(labelled):
    figures = labelled[2]
    for name in (
        "reconstruction.line-2.test_mse",
        "reconstruction.vae.pca_mse",
        "codes.vae.active_units",
        "neighbours.pixels.1nn_mean",
        "accuracy.test",
        "restoration.noise:0.2.as-damaged.psnr",
        "restoration.noise:0.2.clean.class_kept",
        "restoration.mask:0.3.vae.MAP.psnr",
        "generation.vae.normal.frechet",
        "generation.line-3.gaussian.heldout_nats",
        "code-size.line.spread",
        "code-size.line.test_mse.3",
        "code-size.line.1nn_mean.1",
        "code-size.real_floor",
        "study.seconds",
    ):
        assert figures[name] is not None, name
    assert "generation.line-3.normal.frechet" not in figures
    assert figures["code-size.line.pca_mse.2"] == figures["reconstruction.again.pca_mse"]
    pair = [figures[f"reconstruction.{name}.test_mse"] for name in ("line-2", "again")]
    assert figures["code-size.line.test_mse.2"] == pytest.approx(np.mean(pair))
    assert figures["code-size.line.test_mse.3"] == pytest.approx(figures["reconstruction.line-3.test_mse"], rel=1e-6)
    errors = [figures[f"code-size.line.pca_mse.{size}"] for size in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)


def test_a_network_that_starts_from_another_keeps_its_decoder(labelled):
    folder = labelled[1]
    weights = [Run(folder / "runs" / name).network().decoder for name in ("vae", "tuned")]
    for first, second in zip(*(part.state_dict().values() for part in weights), strict=True):
        assert torch.equal(first, second)


def test_its_resolved_settings_are_a_study_file_too(labelled, tmp_path):
    file, folder, _ = labelled
    before = study_settings(tomllib.loads(file.read_text()))
    assert study_settings(tomllib.loads((folder / "study.toml").read_text())) == before


def test_a_study_of_ones_own_is_resumed_or_refused(labelled, isthmus):
    file, folder, _ = labelled
    code, out, err = isthmus("study", file, "--out", folder)
    assert (code, out) == (2, "")
    assert "exists already; add --resume to go on" in err
    code, out, err = isthmus("study", file, "--out", folder, "--resume")
    assert (code, out) == (0, f"report: {folder / 'report.html'}\n")
    assert "finished before, nothing to do" in err
    code, _, err = isthmus("study", file, "--out", folder, "--resume", "--set", "networks.vae.training.epochs=2")
    assert code == 2
    assert "was begun with other settings (networks.vae.training.epochs was 1, now 2)" in err


def test_without_labels_what_needs_them_is_left_out_and_said(isthmus, tmp_path):
    data = toy(tmp_path / "plain.npz", labels=False)
    (tmp_path / "my.toml").write_text(STUDY.format(data=data))
    asked = ["reconstruction", "codes", "neighbours", "accuracy", "generation", "code-size"]
    brief = ("--set", f"analyses={asked}", "--json")
    code, out, err = isthmus("study", tmp_path / "my.toml", "--out", tmp_path / "out", "--workers", "1", *brief)
    assert code == 0, err
    said = "Left out, since the images have no labels: the classifier judge, neighbours, accuracy."
    assert said in err
    page = (tmp_path / "out/report.html").read_text()
    assert said in page
    assert "How near drawn images come to real ones is left out, since the images have no labels." in page
    figures = json.loads(out)["figures"]
    assert not [name for name in figures if name.startswith(("neighbours", "accuracy")) or "1nn" in name]
    assert not [name for name in figures if "frechet" in name or "class_kept" in name or "silhouette" in name]
    assert figures["code-size.line.test_mse.3"] > 0
    assert not (tmp_path / "out/runs/judge").exists()


def test_classifiers_alone_need_labels():
    images = ImageSet.from_arrays(np.zeros((20, 16, 16), np.uint8))
    with pytest.raises(InputError, match="the images have no labels, and the study has classifiers alone"):
        check_custom(settings({"a": {"model": {"name": "classifier"}}}), images)
    alike = ImageSet.from_arrays(np.zeros((20, 16, 16), np.uint8), np.zeros(20, int))
    runs, said = trainable(settings({"a": {"model": {"name": "classifier"}}, "b": LAB}), alike, training_images=14)
    assert [run.name for run in runs] == ["b"]
    assert said == ("Left out, since the images are all of one class: the classifier a, neighbours, accuracy.",)


def test_what_does_not_fit_the_images_is_refused_before_a_folder_is_made():
    images = ImageSet.from_arrays(np.zeros((20, 16, 16), np.uint8))
    halved = {"model": {"name": "lab", "halvings": 7}}
    with pytest.raises(InputError, match=r"networks\.a: "):
        check_custom(settings({"a": halved}), images)
    with pytest.raises(InputError, match=r"degradations\.0: Blocks need a side from 2 to 16 pixels"):
        check_custom(settings({"a": LAB}, degradations=["lowres:20"]), images)
    other = {"model": {"name": "lab", "width": 8}, "start": "a"}
    with pytest.raises(InputError, match=r"networks\.b\.start: a has other layers than b"):
        check_custom(settings({"a": LAB, "b": other}), images)


def test_a_run_that_diverges_is_a_result(isthmus, tmp_path):
    data = toy(tmp_path / "bars.npz")
    (tmp_path / "my.toml").write_text(
        f"[data]\nname = '{data}'\n[networks.line]\nmodel.name = 'linear'\ntraining.epochs = 1\n"
        "sweep.training.learning_rate = [1e-3, 1e30]\n"
    )
    command = ("study", tmp_path / "my.toml", "--workers", "1", "--out")
    code, _, err = isthmus(*command, tmp_path / "out")
    assert code == 0, err
    page = (tmp_path / "out/report.html").read_text()
    assert "line-1e+30 is left out: it diverged at step" in page
    assert "diverged at step" in page
    only = ("--set", "networks.line.sweep.training.learning_rate=[1e30]")
    code, _, err = isthmus(*command, tmp_path / "none", *only)
    assert code == 1
    assert "Every training diverged (line-1e+30 at step" in err
    assert "give a smaller training.learning_rate" in err


def test_jobs_side_by_side_end_when_the_last_does():
    assert side_by_side([1.0, 1.0, 1.0], 1) == 3.0
    assert side_by_side([1.0, 1.0, 1.0], 2) == 2.0
    assert side_by_side([5.0, 1.0, 1.0], 3) == 5.0
    assert side_by_side([], 2) == 0.0


def test_an_estimate_counts_updates_and_is_proportional_to_epochs(parts):
    networks = {"a": {**LAB, "training": {"epochs": 1}}, "b": {**LAB, "training": {"epochs": 10}}}
    networks["c"] = {**LAB, "start": "a", "training": {"epochs": 2, "batch_size": 32}}
    runs = planned(settings(networks), images=len(parts.train))
    found = estimate(runs, parts, workers=1)
    one, ten, after = found.runs
    assert (one.updates, ten.updates, after.updates) == (7, 70, 28)  # 420 images in batches of 64, or 32 without a rest
    assert ten.seconds == pytest.approx(10 * one.seconds)
    assert found.seconds == pytest.approx(one.seconds + ten.seconds + after.seconds)
    assert one.parameters == ten.parameters > 0


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(labelled, isthmus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = isthmus("study", labelled[0], "--dry-run", "--workers", "1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "bars: 62 / 14 / 14 images to train, validate, test"
    assert lines[2].split() == ["run", "network", "parameters", "epochs", "updates", "about"]
    assert lines[3].split()[:5] == ["line-1", "linear", "769", "2", "2"]
    assert lines[-1].startswith("8 trainings: about ")
    assert "This is an estimate" in lines[-1]
    code, out, _ = isthmus("study", labelled[0], "--dry-run", "--json")
    found = json.loads(out)
    assert [run["run"] for run in found["runs"]][-1] == "tuned"
    assert found["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_built_in_study(data):
    outlook = foresee(Request("digits", str(data), ["data.height=16", "data.width=16"], fast=True), workers=1)
    names = [each.run for each in outlook.estimates.runs]
    assert {"classifier", "lab", "strong", "vae2", "vae2-sum", "vae2-mean", "vae16", "vae16-noisy"} <= set(names)
    assert names.index("vae2") > names.index("vae2-sum")


def test_the_command_line_writes_prints_and_refuses(isthmus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = isthmus("study", "--init")
    assert (code, out.split()[0]) == (0, "study.toml")
    assert study_settings(tomllib.loads((tmp_path / "study.toml").read_text())).data.name == "mnist-5k"
    code, _, err = isthmus("study", "--init")
    assert code == 2
    assert "study.toml exists already; add --overwrite to replace it, or name another file" in err
    code, *_ = isthmus("study", "--init", "my.toml", "--data", "photos/")
    assert code == 0
    assert tomllib.loads((tmp_path / "my.toml").read_text())["data"]["name"] == "photos/"
    code, out, _ = isthmus("study", "--schema")
    assert json.loads(out) == schema()
    code, out, _ = isthmus("study", "digits", "--print-toml", "--seed", "3")
    assert tomllib.loads(out)["seed"] == 3
    code, out, _ = isthmus("study", "study.toml", "--print-toml", "--set", "networks.vae.model.latent_dim=7")
    assert tomllib.loads(out)["networks"]["vae"]["model"]["latent_dim"] == 7
    for command, words in (
        (("--init", "digits"), "--init writes a TOML file, and digits does not end in .toml"),
        (("--init", "--schema"), "--init and --schema are different things to do: give one of them"),
        (("digits", "--schema"), "--schema is the same for every study file; leave out digits"),
        ((), "Name a study: digits, signs, or a file"),
        (("my.tmol",), "There is no study 'my.tmol'"),
    ):
        code, _, err = isthmus("study", *command)
        assert (code, words in err) == (2, True), err


def test_a_built_in_study_can_be_run_from_a_file(tmp_path):
    (tmp_path / "d.toml").write_text("study = 'digits'\nnoise = 0.5\nseed = 3\n[data]\nname = 'mnist'\n")
    kind, own = _kind(str(tmp_path / "d.toml"))
    assert kind is STUDIES["digits"]
    found = _settings(kind, own, Request("d.toml", seed=4), None)
    assert found == DigitsSettings(data=DataSettings(name="mnist", height=32, width=32), noise=0.5, seed=4)


def test_models_of_the_settings_are_those_of_the_catalogue():
    assert list(MODELS) == list(NETWORKS)
    assert all(kind().name == name for name, kind in MODELS.items())
