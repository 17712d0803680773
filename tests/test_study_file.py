"""Study files: what they ask for, and every mistake in them at once."""

from __future__ import annotations

import pytest

from command_line import check_refused
from isthmus.errors import SettingsError
from isthmus.networks.catalog import NETWORKS
from isthmus.settings import MODELS
from isthmus.studies.study import budget
from isthmus.studies.study_file import ANALYSES, LONGEST, MOST_RUNS, CustomSettings, planned
from isthmus.studies.study_reading import study_settings

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


def settings(networks: dict[str, object], **more: object) -> CustomSettings:
    return study_settings({"data": {"name": "mnist-5k"}, "networks": networks, **more})


def refused(networks: dict[str, object], **more: object) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(networks, **more)
    return str(caught.value)


LAB, VAE, JUDGE = ({"model": {"name": name}} for name in ("lab", "vae", "classifier"))


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
        ({"a": LAB | {"sweep": {"model": {"width": 8}}}}, {}, "sweep.model.width: input should be a list"),
        ({"a": LAB | {"sweep": {"seed": [1, 1]}}}, {}, "sweep.seed: has a value twice (1, 1)"),
        ({"a": LAB | {"sweep": {"seed": [1]}}, "a-1": LAB}, {}, "two runs would be called a-1; rename a network"),
        ({"Conv": LAB, "conv": LAB}, {}, "networks: two runs would be called Conv, conv; rename a network"),
        ({"con": LAB}, {}, "networks.con: is a name that Windows keeps for itself"),
        ({"../a": LAB}, {}, "networks.../a: is no name for a folder"),
        ({"conv": LAB, "cnv": {"training": {"epochs": 3}}}, {}, "networks.cnv.model: is missing; did you mean 'conv'?"),
        ({"a": VAE | {"sweep": {"training": {"frozen": ["decoder"]}}}}, {}, "a.sweep.training.frozen: decoder keeps"),
        (
            {"a": JUDGE | {"training": {"frozen": "decoder"}}},
            {},
            "training.frozen: a classifier has no decoder to keep",
        ),
        (
            {"a": LAB | {"sweep": {"model": {"latent_dim": [8]}}}},
            {"analyses": ["code-size"]},
            "code-size needs 3 sizes",
        ),
    ],
)
def test_what_no_type_tells_is_told_too(networks, more, words):
    assert words in refused(networks, **more)


@pytest.mark.parametrize(
    ("networks", "more", "words"),
    [
        ({"a": LAB}, {"degradations": "noise:0.25"}, "degradations: input should be a list (given 'noise:0.25')"),
        ({"a": LAB}, {"analyses": 3}, "analyses: input should be a list (given 3)"),
        ({"a": LAB}, {"title": 3}, "title: input should be a text in quotes (given 3)"),
        ({"a": LAB}, {"fast": "perhaps"}, "fast: input should be true or false (given 'perhaps')"),
        ({"a": LAB}, {"seed": True}, "seed: input should be a number (given true)"),
        ({"a": LAB | {"training": {"epochs": 0}}}, {}, "training.epochs: input should be greater than 0 (given 0)"),
        (
            {"a": LAB | {"training": {"epochs": 2.5}}},
            {},
            "training.epochs: input should be a whole number, got a number",
        ),
        ({"a": LAB | {"training": {"epochs": True}}}, {}, "training.epochs: input should be a number (given true)"),
        ({"a": LAB | {"training": {"noise": float("nan")}}}, {}, "noise: input should be a finite number (given nan)"),
        (
            {"a": LAB | {"training": {"epochs": 10**400}}},
            {},
            "training.epochs: is too large: whole numbers in TOML are",
        ),
        ({"a": LAB | {"meant_for": 2**63}}, {}, "networks.a.meant_for: is too large"),
        ({"a": LAB | {"sweep": [1]}}, {}, "networks.a.sweep: is no table of settings (given [1])"),
        ({"a": LAB | {"sweep": {"seed": [0, True]}}}, {}, "sweep.seed.1: input should be a number (given true)"),
    ],
)
def test_a_value_of_another_type_is_told_in_the_words_of_toml(networks, more, words):
    assert words in refused(networks, **more)


def test_truths_may_be_given_where_they_are_meant():
    swept = LAB | {"sweep": {"model": {"code_relu": [True, False]}}}
    found = planned(settings({"a": swept}, fast=True), images=100)
    assert [run.name for run in found] == ["a-true", "a-false"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"data": {"seed": 3}}, "data.seed: no such setting in a table; seed stands at the top, before the first"),
        (
            {"networks": {"a": LAB | {"epochs": 3}}},
            "networks.a.epochs: no such setting; did you mean 'training.epochs'?",
        ),
        ({"networks": {"a": LAB | {"wdith": 3}}}, "networks.a.wdith: no such setting; did you mean 'model.width'?"),
        ({"networks": {"a": LAB | {"training": {"latent_dim": 3}}}}, "did you mean 'model.latent_dim'?"),
        ({"networks": {"a": {"model": {"name": "lab", "epochs": 3}}}}, "did you mean 'training.epochs'?"),
        ({"networks": {"a": LAB | {"strat": "b"}}}, "networks.a.strat: no such setting; did you mean 'start'?"),
    ],
)
def test_a_key_in_the_wrong_table_is_sent_to_the_right_one(tree, words):
    whole = {"networks": {"a": LAB}, **tree, "data": {"name": "mnist-5k", **tree.get("data", {})}}
    with pytest.raises(SettingsError) as caught:
        study_settings(whole)
    assert words in str(caught.value)
    assert str(caught.value).startswith("1 setting(s)")


def test_mistakes_in_one_network_do_not_hide_those_of_the_others_together():
    """Two runs of one name, and a broken network beside them: three mistakes, of three sorts, told at once."""
    networks = {"a": LAB | {"sweep": {"seed": [1]}}, "a-1": LAB, "b": {"model": {"name": "vea"}, "start": "a"}}
    text = refused(networks, degradations=["blur:0"])
    for words in ("two runs would be called a-1", "there is no network 'vea'", "degradations.0: 'blur:0'"):
        assert words in text
    assert "is swept, so it is several runs" in text
    assert text.startswith("4 setting(s)")


def test_a_sweep_without_end_is_refused_before_it_is_laid_out():
    lists = {"model": {"latent_dim": [*range(1, 61)], "width": [*range(1, 61)]}, "seed": [*range(60)]}
    words = f"networks.a.sweep: asks for 216,000 runs; a study takes {MOST_RUNS:,} at most"
    assert words in refused({"a": LAB | {"sweep": lists}})
    half = LAB | {"sweep": {"seed": [*range(MOST_RUNS // 2 + 1)]}}
    assert "networks: ask for 1,002 runs together" in refused({"a": half, "b": half})


def test_a_run_has_a_name_that_file_systems_take():
    long = {"model": {"name": "strong"}, "sweep": {"model": {"hidden": [[1000] * 60, [10]]}}}
    text = refused({"a": long})
    assert f"networks.a.sweep: would make a run whose name has 301 characters, and {LONGEST} are the most" in text


def test_numbers_that_differ_make_runs_that_differ():
    rates = [1e-3, 1.0000001e-3, 0.1 + 0.2]
    found = planned(settings({"a": LAB | {"sweep": {"training": {"learning_rate": rates}}}}), images=100)
    assert [run.plan.training.learning_rate for run in found] == rates
    assert [run.name for run in found] == ["a-0.001", "a-0.0010000001", "a-0.30000000000000004"]


def test_a_union_is_one_mistake():
    assert refused({"a": {"model": {"name": "vae", "sigma": "learnt"}}}).startswith("1 setting(s) cannot be used:\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "my.toml does not exist; `isthmus study --init my.toml` writes a study file to start from"),
        (b"title = Bars\n", "my.toml is not TOML: Invalid value (at line 1, column 9). Texts stand in quotes"),
        (b"title = '\xff'\n", "my.toml is not UTF-8 text (invalid start byte), as TOML has to be; save it as UTF-8."),
        ("title = 'x'".encode("utf-16"), "my.toml is not UTF-8 text"),
        (b"", "networks: is missing; add one, as [networks.conv] with model.name"),
        (b'[data]\nname = "C:\\Users"\n', r"A path with \ stands in single quotes: 'C:\images'."),
        (b"[networks.a]\n[networks.a]\n", "Each table and each key stands once: give another name to the second"),
        (b"a = " + 5000 * b"[" + 5000 * b"]", "my.toml is not a study file: its lists lie too deep in each other."),
        (b"a" + 5000 * b".a" + b" = 1", "its tables lie too deep in each other; those of a study go 4 deep."),
        (b"seed = 1" + 5000 * b"0", "my.toml is not TOML: Exceeds the limit (4300 digits)"),
        (b"seed = 0x1" + 5000 * b"0", "seed: is too large: whole numbers in TOML are below 2 to the power 63"),
        (b"study = 'custum'\n", "study: input should be 'custom' (given 'custum'); did you mean 'custom'?"),
        (b"networks = 3\n", "data.name: is missing; give a folder of images, or a name from `isthmus data list`"),
    ],
)
def test_a_file_that_is_none(isthmus, tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "my.toml").write_bytes(content)
    code, out, err = isthmus("study", "my.toml")
    assert (code, out) == (2, "")
    assert words in err


def test_a_folder_is_no_study_file(isthmus, tmp_path):
    (tmp_path / "my.toml").mkdir()
    check_refused(isthmus("study", tmp_path / "my.toml"), "my.toml is a folder; name the study file itself.")


def test_a_file_may_begin_with_a_byte_order_mark(isthmus, tmp_path):
    (tmp_path / "my.toml").write_bytes(
        b"\xef\xbb\xbfseed = 3\r\n[data]\r\nname = 'x'\r\n[networks.a]\r\nmodel.name='lab'"
    )
    code, out, err = isthmus("study", tmp_path / "my.toml", "--print-toml")
    assert code == 0, err
    assert "seed = 3" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("networks.cnv.training.epochs=3", "networks.cnv.model: is missing; did you mean 'conv'?"),
        ("networks.conv.training.epoch=3", "networks.conv.training.epoch: no such setting; did you mean 'epochs'?"),
        ("seed.x=1", "seed: input should be a whole number (given {'x': 1})"),
        ("data=3", "data: is no table of settings (given 3)"),
        ("seed=0x" + 60 * "1", "seed: is too large"),
        ("seed", "--set 'seed' is not KEY=VALUE"),
    ],
)
def test_set_is_held_to_the_same_rules(isthmus, tmp_path, change, words):
    (tmp_path / "my.toml").write_text("[data]\nname = 'mnist-5k'\n[networks.conv]\nmodel.name = 'lab'\n")
    check_refused(isthmus("study", tmp_path / "my.toml", "--set", change), words)


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
    tables = {f"c{size}": {"model": {"name": "lab", "latent_dim": size}} for size in (2, 4, 8)}
    assert settings(tables).analyses == settings({"a": LAB | sweep}).analyses
    assert "code-size" in settings(tables).analyses
    assert settings({"a": {"model": {"name": "denoiser"}}}).analyses == ("restoration",)
    assert settings({"a": LAB}, analyses=[]).analyses == ()


def test_models_of_the_settings_are_those_of_the_catalogue():
    assert list(MODELS) == list(NETWORKS)
    assert all(kind().name == name for name, kind in MODELS.items())
