"""A study of one's own from its file to its report: trained, measured, resumed, foreseen."""

from __future__ import annotations

import json
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import check_refused, content, start, toy, wait_until
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError
from isthmus.report.studies import Request, foresee, run_study
from isthmus.runs import Run
from isthmus.studies.custom import check_custom, trainable
from isthmus.studies.estimate import estimate, side_by_side
from isthmus.studies.study_file import CustomSettings, planned
from isthmus.studies.study_reading import study_settings
from isthmus.studies.study_text import schema

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


LAB = {"model": {"name": "lab"}}


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
        "restoration.noise:0.2.vae.MAP.seconds",
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


def test_a_finished_study_takes_another_title(isthmus, tmp_path):
    """Its page is written anew, and nothing is trained again."""
    data = toy(tmp_path / "bars.npz", count=60)
    (tmp_path / "my.toml").write_text(
        f"title = 'first'\nanalyses = ['codes']\n[data]\nname = '{data}'\n[networks.a]\nmodel.name = 'linear'\n"
        "training.epochs = 1\n"
    )
    folder = tmp_path / "out"
    command = ("study", tmp_path / "my.toml", "--out", folder, "--workers", "1")
    assert isthmus(*command)[0] == 0
    before = content(folder / "runs/a")
    code, _, err = isthmus(*command, "--resume", "--set", "title=second")
    assert code == 0, err
    assert "<h1>second</h1>" in (folder / "report.html").read_text()
    assert content(folder / "runs/a") == before
    assert "finished before, nothing to do" in isthmus(*command, "--resume", "--set", "title=second")[2]


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


def test_what_begins_with_a_run_that_diverged_is_left_out_and_said(isthmus, tmp_path):
    """So is what begins with that in turn; the rest is done."""
    data = toy(tmp_path / "bars.npz")
    text = f"analyses = ['reconstruction']\n[data]\nname = '{data}'\n"
    for name, more in (
        ("good", ""),
        ("first", "training.learning_rate = 1e30\n"),
        ("second", "start = 'first'\n"),
        ("third", "start = 'second'\n"),
    ):
        text += f"[networks.{name}]\nmodel.name = 'linear'\ntraining.epochs = 1\n{more}"
    (tmp_path / "my.toml").write_text(text)
    code, _, err = isthmus("study", tmp_path / "my.toml", "--workers", "1", "--out", tmp_path / "out")
    assert code == 0, err
    assert "third: not trained, since it begins with the weights of second, and there are none" in err
    page = (tmp_path / "out/report.html").read_text()
    for words in ("first is left out: it diverged at step", "second is left out: it begins with the weights of first"):
        assert words in page
    assert page.count("<td>not trained</td>") == 2
    assert not (tmp_path / "out/runs/second").exists()


def test_pixels_that_no_bernoulli_draws_are_refused_before_a_folder_is_made(isthmus, tmp_path):
    data = toy(tmp_path / "bars.npz")
    (tmp_path / "my.toml").write_text(
        f"[data]\nname = '{data}'\n[networks.v]\nmodel.name = 'vae'\nmodel.likelihood = 'bernoulli'\n"
    )
    answer = isthmus("study", tmp_path / "my.toml", "--out", tmp_path / "out")
    check_refused(
        answer, "networks.v.model.likelihood: bernoulli is for black and white alone, and bars has grey values"
    )
    assert not (tmp_path / "out").exists()
    black = ImageSet.from_arrays(np.tile(np.array([0, 255], np.uint8), (20, 16, 8)))
    check_custom(settings({"v": {"model": {"name": "vae", "likelihood": "bernoulli"}}}), black)


def test_images_that_are_all_alike_are_no_reason_to_fail(isthmus, tmp_path):
    """Errors of zero, distances of zero, infinite ratios: a report all the same, and null where there is no number."""
    np.savez(tmp_path / "black.npz", images=np.zeros((60, 16, 16), np.uint8), labels=np.arange(60) % 3)
    (tmp_path / "my.toml").write_text(
        STUDY.format(data=tmp_path / "black.npz") + "[networks.zero]\nmodel.name = 'lab'\ntraining.epochs = 1\n"
    )
    asked = ["reconstruction", "codes", "neighbours", "accuracy", "generation", "code-size"]
    brief = ("--set", f"analyses={asked}", "--workers", "1", "--json")
    code, out, err = isthmus("study", tmp_path / "my.toml", "--out", tmp_path / "out", *brief)
    assert code == 0, err
    assert json.loads(out)["figures"]["code-size.line.pca_mse.3"] is not None
    assert " nan" not in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_a_study_of_ones_own_survives_ctrl_c(isthmus, tmp_path):
    """What is finished is kept, and the rest is done after --resume."""
    data = toy(tmp_path / "bars.npz", count=120)
    (tmp_path / "my.toml").write_text(
        f"analyses = ['reconstruction']\n[data]\nname = '{data}'\n[networks.short]\nmodel.name = 'linear'\n"
        "training.epochs = 1\n[networks.long]\nmodel.name = 'linear'\nstart = 'short'\ntraining.epochs = 2000\n"
        "training.patience = 2000\n"
    )
    folder = tmp_path / "out"
    command = ("study", tmp_path / "my.toml", "--out", folder, "--workers", "1")
    process = start(*command)
    wait_until((folder / "runs/long/metrics.jsonl").exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "finished runs are kept, the same command with --resume does the rest" in err
    short = content(folder / "runs/short")
    check_refused(isthmus(*command), "exists already; add --resume to go on")
    shorter = ("--resume", "--set", "networks.long.training.epochs=3")
    check_refused(isthmus(*command, *shorter), "networks.long.training.epochs was 2000, now 3")
    code, _, err = isthmus(*command, "--resume")
    assert code == 0, err
    assert "short: finished before, taken as it is" in err
    assert content(folder / "runs/short") == short


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
    (tmp_path / "folder.toml").mkdir()
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
        (("digits", "--schema"), "--schema has no use for digits; leave that out"),
        (("--schema", "--out", "x"), "--schema has no use for --out; leave that out"),
        (("--init", "x.toml", "--set", "seed=3", "--json"), "--init has no use for --set, --json; leave that out"),
        (("digits", "--print-toml", "--workers", "3"), "--print-toml has no use for --workers; leave that out"),
        (("--init", "folder.toml"), "folder.toml is a folder; name a file to write"),
        ((), "Name a study: digits, signs, or a file"),
        (("my.tmol",), "There is no study 'my.tmol'"),
    ):
        code, _, err = isthmus("study", *command)
        assert (code, words in err) == (2, True), err
