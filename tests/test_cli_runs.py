"""`isthmus runs`: every run is listed with what it is, damaged ones too, and only what is ours is ever removed."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest

from command_line import check_refused, content, toy
from isthmus import removal, run_table
from isthmus.cli import runs as command
from isthmus.data.catalog import load
from isthmus.data.split import split
from isthmus.errors import StorageError
from isthmus.removal import remove
from isthmus.runs import Run
from isthmus.settings import DataSettings, LinearSettings, RunSettings
from isthmus.studies.single import train_one


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = str(toy(folder / "toy.npz"))
    train_one("linear", data, folder / "runs/linear", changes=["training.epochs=12"])
    train_one("linear", data, folder / "runs/wide", changes=["training.epochs=2", "model.latent_dim=5"])
    train_one("classifier", data, folder / "runs/classifier", changes=["training.epochs=2"])
    return folder


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of these runs to spoil, in the folder that is worked in."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def begun(folder, state):
    """A run that never ended."""
    training = split(load(folder.parents[1] / "toy.npz")).train
    run = Run(folder)
    run.begin(RunSettings(data=DataSettings(name="toy.npz"), model=LinearSettings()), training)
    run.set_status(state)
    return run


def listed(isthmus, *arguments):
    code, out, err = isthmus("runs", "list", *arguments, "--json")
    assert code == 0, err
    return {row["folder"]: row for row in json.loads(out)}


# list


def test_a_row_says_what_the_run_is_and_how_good(isthmus, home):
    rows = listed(isthmus)
    assert list(rows) == ["runs/classifier", "runs/linear", "runs/wide"]
    row, history = rows["runs/linear"], Run(home / "runs/linear").history()
    assert (row["network"], row["code_size"], row["data"], row["state"]) == ("linear", 2, "toy", "finished")
    assert (row["epochs"], row["of"]) == (12, 12)
    assert row["loss"] == min(epoch["validation_loss"] for epoch in history)
    assert row["accuracy"] is None
    assert row["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in history))
    assert row["when"] == Run(home / "runs/linear").status()["time"]
    accuracies = [epoch["validation_accuracy"] for epoch in Run(home / "runs/classifier").history()]
    assert rows["runs/classifier"]["accuracy"] == max(accuracies)
    assert rows["runs/classifier"]["code_size"] is None


def test_the_table_has_a_line_for_each_run(isthmus, home):
    code, out, _ = isthmus("runs", "list", "runs")
    assert code == 0
    titles, *lines = out.splitlines()
    assert titles.split() == [
        "run",
        "network",
        "code",
        "data",
        "state",
        "epochs",
        "loss",
        "accuracy",
        "seconds",
        "when",
    ]
    assert [line.split()[0] for line in lines] == ["runs/classifier", "runs/linear", "runs/wide"]
    assert [line.split()[5] for line in lines] == ["2/2", "12/12", "2/2"]
    assert "\x1b" not in out
    code, out, _ = isthmus("runs", "list", home / "empty" if (home / "empty").mkdir() is None else "")
    assert (code, out.split()[:3]) == (0, ["no", "runs", "below"])
    check_refused(isthmus("runs", "list", "nowhere"), "nowhere is not a folder")


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("arguments", ["list", "show runs/linear", "compare runs/linear runs/wide runs/classifier"])
def test_narrow_terminals_get_short_lines(isthmus, home, monkeypatch, width, arguments):
    monkeypatch.setattr(command, "_width", lambda: width)
    (home / "runs/wide/metrics.jsonl").write_text("{}\n" if arguments == "list" else "")
    code, out, err = isthmus("runs", *arguments.split())
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= width
    for name in ("runs/linear", *(() if "show" in arguments else ("runs/wide", "runs/classifier"))):
        assert name in out


@pytest.mark.parametrize("state", ["interrupted", "diverged", "failed"])
def test_unfinished_runs_are_listed_with_their_state(isthmus, home, state):
    begun(home / "runs/other", state)
    row = listed(isthmus)["runs/other"]
    assert (row["state"], row["epochs"], row["loss"]) == (state, 0, None)


def test_a_run_is_running_only_while_its_folder_or_its_study_is_held(isthmus, home):
    begun(home / "runs/other", "running")
    assert listed(isthmus)["runs/other"]["state"] == "stopped"
    with filelock.FileLock(home / "runs/other/.lock"):
        assert listed(isthmus)["runs/other"]["state"] == "running"
    (home / "study.toml").write_text("seed = 0\n")
    assert listed(isthmus)["runs/other"]["state"] == "stopped"
    with filelock.FileLock(home / ".lock"):
        assert listed(isthmus)["runs/other"]["state"] == "running"


DAMAGE = {
    "run.json": ("{", "run.json cannot be read as JSON"),
    "status.json": ("[]", "status.json holds no JSON object"),
    "metrics.jsonl": ("nonsense\n", "Expecting value"),
    "model/config.json": ("{", "config.json cannot be read as JSON"),
    "model/model.safetensors": (None, "model.safetensors"),
    "model/trained_on.npy": ("", "trained_on.npy"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_listed_and_shown_as_damaged(isthmus, home, name):
    text, words = DAMAGE[name]
    path = home / "runs/linear" / name
    path.unlink() if text is None else path.write_text(text)
    row = listed(isthmus)["runs/linear"]
    assert row["state"] == "damaged"
    assert words in row["problem"]
    assert words in isthmus("runs", "list")[1]
    code, out, _ = isthmus("runs", "show", "runs/linear")
    assert code == 0
    assert words in out
    assert "metrics.jsonl" in out
    check_refused(isthmus("runs", "compare", "runs/linear", "runs/wide"), "runs/linear is damaged", "leave it out")
    if name != "run.json":
        assert row["network"] == "linear"


def test_weights_cut_short_are_damage(isthmus, home):
    path = home / "runs/linear/model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    row = listed(isthmus)["runs/linear"]
    assert row["state"] == "damaged"
    assert "model.safetensors cannot be read" in row["problem"]


def test_models_alone_are_listed_and_those_of_other_programs_are_not(isthmus, home):
    shutil.copytree("runs/linear/model", "kept")
    shutil.copytree("runs/linear/model", "copy/model")
    (home / "other").mkdir()
    (home / "other/config.json").write_text('{"architectures": []}')
    (home / "other/model.safetensors").write_bytes(b"")
    shutil.copytree("runs/linear", ".hidden/linear")
    os.symlink(home / "runs/linear", home / "link")
    rows = listed(isthmus)
    assert list(rows) == ["copy", "kept", "runs/classifier", "runs/linear", "runs/wide"]
    for name in ("copy", "kept"):
        assert (rows[name]["state"], rows[name]["network"], rows[name]["code_size"]) == ("model", "linear", 2)
    assert isthmus("runs", "show", "kept")[0] == 0


def test_facts_of_another_kind_are_damage_too(isthmus, home):
    run = Run(home / "runs/linear")
    status, path = run.status(), home / "runs/linear/status.json"
    path.write_text(json.dumps({**status, "time": 5}))
    assert (listed(isthmus)["runs/linear"]["state"], listed(isthmus)["runs/linear"]["when"]) == ("finished", "5")
    path.write_text(json.dumps({**status, "seconds": "long"}))
    row = listed(isthmus)["runs/linear"]
    assert (row["state"], row["problem"]) == ("damaged", "could not convert string to float: 'long'")
    path.write_text(json.dumps(status))
    (run.folder / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 1, "validation_loss": "low"}\n')
    row = listed(isthmus)["runs/linear"]
    assert (row["state"], row["loss"]) == ("damaged", None)
    assert "runs/linear/metrics.jsonl holds what is no number" in row["problem"]
    assert isthmus("runs", "list")[0] == isthmus("runs", "show", "runs/linear")[0] == 0


def test_a_folder_that_cannot_be_entered_is_named_by_list(isthmus, home, monkeypatch):
    (home / "shut").mkdir()
    is_file = Path.is_file

    def refuse(path):
        if path.parent.name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    code, out, err = isthmus("runs", "list")
    assert code == 0
    assert err == "not looked into: shut: Permission denied\n"
    assert "runs/linear" in out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not text")
def test_names_that_are_no_text_are_printed_escaped(isthmus, home):
    name = os.fsdecode(b"runs/\xff")
    shutil.copytree("runs/linear", name)
    assert name in listed(isthmus)
    for arguments in (["list"], ["show", name], ["compare", name, "runs/wide"], ["rm", name, "--yes"]):
        code, out, err = isthmus("runs", *arguments)
        assert code == 0, err
        assert "runs/\\udcff" in out


def test_listing_counts_no_files(isthmus, home, monkeypatch):
    monkeypatch.delattr(run_table, "file_sizes")
    assert len(listed(isthmus)) == 3


# show


def test_show_tells_settings_versions_data_history_and_files(isthmus, home):
    code, out, err = isthmus("runs", "show", "runs/linear", "--json")
    assert code == 0, err
    found, run = json.loads(out), Run(home / "runs/linear")
    assert found["settings"]["training.epochs"] == 12
    assert found["settings"]["model.name"] == "linear"
    assert found["versions"]["isthmus"]
    assert found["data"]["fingerprint"] == run.fingerprint()
    assert found["history"] == run.history()
    assert found["best"] == run.status()["best_epoch"]
    kept = run.history()[found["best"] - 1]
    assert found["figures"]["validation_loss"] == kept["validation_loss"]
    sizes = {p.relative_to(run.folder).as_posix(): p.stat().st_size for p in run.folder.rglob("*") if p.is_file()}
    assert found["files"] == sizes
    code, out, _ = isthmus("runs", "show", "runs/linear")
    assert code == 0
    for word in ("settings", "training.epochs", "versions", "fingerprint", "history", "best", "model/config.json"):
        assert word in out
    history = out.split("history\n")[1].split("\n\n")[0].splitlines()
    assert len(history) < 12
    assert {"1", "12", str(found["best"])} <= {line.split()[0] for line in history}


def test_a_file_that_is_being_written_may_vanish(isthmus, home, monkeypatch):
    (home / "runs/linear/.codes.npz.abc.writing").write_text("")
    lstat = Path.lstat

    def vanish(path):
        if path.name.endswith(".writing"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    code, out, err = isthmus("runs", "show", "runs/linear", "--json")
    assert code == 0, err
    ended = {name for name in content(home / "runs/linear") if "writing" not in name}
    assert set(json.loads(out)["files"]) == {*ended, ".lock"}
    code, _, err = isthmus("runs", "rm", "runs/linear", "--yes")
    assert (code, "Could not look into runs/linear/.codes.npz.abc.writing: No such file" in err) == (1, True)


def test_what_is_no_run_is_named(isthmus, home):
    check_refused(isthmus("runs", "show", "nowhere"), "nowhere is not a run", "`isthmus runs list`")
    check_refused(isthmus("runs", "show", "."), "is a study; name one of its runs", "./runs/linear")


# compare


def test_compare_gives_the_settings_that_differ_and_all_figures(isthmus, home):
    code, out, err = isthmus("runs", "compare", "runs/linear", "runs/wide", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["runs"] == ["runs/linear", "runs/wide"]
    assert found["settings"] == {"model.latent_dim": [2, 5], "training.epochs": [12, 2]}
    rows = listed(isthmus)
    assert found["figures"]["validation_loss"] == [rows[name]["loss"] for name in found["runs"]]
    code, out, _ = isthmus("runs", "compare", "runs/linear", "runs/wide")
    titles, *lines = out.splitlines()
    assert titles.split() == ["runs/linear", "runs/wide"]
    assert lines[0].split() == ["model.latent_dim", "2", "5"]


def test_what_a_run_lacks_is_none(isthmus, home):
    found = json.loads(isthmus("runs", "compare", "runs/linear", "runs/classifier", "--json")[1])
    assert found["settings"]["model.latent_dim"] == [2, None]
    assert found["settings"]["model.name"] == ["linear", "classifier"]
    assert found["figures"]["validation_accuracy"][0] is None
    same = isthmus("runs", "compare", "runs/linear", "runs/linear")
    assert same[1].splitlines()[1].split() == ["settings", "the", "same", "the", "same"]


def test_what_is_no_number_is_null_in_json_and_never_the_best_epoch(isthmus, home):
    path = home / "runs/wide/metrics.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    first["validation_loss"] = first["train_loss"] = float("nan")
    first["seconds"] = float("inf")
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert "NaN" in path.read_text()

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    for words in (("list",), ("show", "runs/wide"), ("compare", "runs/linear", "runs/wide")):
        code, out, err = isthmus("runs", *words, "--json")
        assert code == 0, err
        found = json.loads(out, parse_constant=refuse)
        if words[0] == "show":
            assert [epoch["validation_loss"] for epoch in found["history"]] == [None, second["validation_loss"]]
            assert found["row"]["loss"] == second["validation_loss"]
        assert isthmus("runs", *words)[0] == 0


def test_names_that_no_disk_takes_are_no_runs(isthmus, home):
    name = "x" * 300
    check_refused(isthmus("runs", "list", name), "is not a folder; name one to look for runs in")
    check_refused(isthmus("runs", "show", name), "is not a run (it has neither run.json nor model/config.json)")
    check_refused(isthmus("runs", "compare", "runs/wide", name), "is not a run")
    check_refused(isthmus("runs", "rm", name, "--yes"), "is not a run, a model or a study that Isthmus wrote")


def test_one_run_is_not_compared(isthmus, home):
    check_refused(isthmus("runs", "compare", "runs/linear"), "at least two runs, got 1")


# rm


def test_a_run_is_removed_and_nothing_else(isthmus, home):
    (home / "runs/linear/.run.json.abc.writing").write_text("left by a process that was killed")
    paths = [path for path in (home / "runs/linear").rglob("*") if path.is_file() and path.name != ".lock"]
    files, size = len(paths), sum(path.stat().st_size for path in paths)
    before = {name: time for name, time in content(home).items() if not name.startswith("runs/linear/")}
    code, out, err = isthmus("runs", "rm", "runs/linear", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out) == {"removed": "runs/linear", "kind": "run", "files": files, "bytes": size}
    assert not (home / "runs/linear").exists()
    assert content(home) == before


@pytest.mark.parametrize(("inside", "name"), [("runs/linear", "."), ("runs/linear/model", "..")])
def test_the_folder_one_works_in_can_be_removed(isthmus, home, monkeypatch, inside, name):
    monkeypatch.chdir(home / inside)
    code, _, err = isthmus("runs", "rm", name, "--yes")
    monkeypatch.chdir(home)
    assert code == 0, err
    assert sorted(path.name for path in (home / "runs").iterdir()) == ["classifier", "wide"]


@pytest.mark.parametrize("layout", ["runs/linear", "study"])
def test_the_lock_of_a_model_is_ours_and_a_model_in_use_keeps_its_run(isthmus, home, layout):
    if layout == "study":
        (home / "study").mkdir()
        (home / "runs").rename(home / "study/runs")
        for name in ("study.toml", "env.json"):
            (home / "study" / name).write_text("")
    inner = home / layout / ("runs/linear/model" if layout == "study" else "model")
    words = ("runs", "rm", layout, "--yes", *(["--study"] if layout == "study" else []))
    with filelock.FileLock(inner / ".lock"):
        check_refused(isthmus(*words), "is in use by another process")
    assert (inner / ".lock").exists()
    code, _, err = isthmus(*words)
    assert code == 0, err
    assert not (home / layout).exists()


def test_a_model_alone_is_removed(isthmus, home):
    shutil.copytree("runs/linear/model", "kept")
    (home / "kept/onnx").mkdir()
    (home / "kept/onnx/encoder.onnx").write_text("")
    check_refused(isthmus("runs", "rm", "kept", "--study", "--yes"), "kept is a model, not a study")
    code, out, err = isthmus("runs", "rm", "kept", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "model"
    assert not (home / "kept").exists()
    before = content(home)
    words = f"runs/linear/model is a part of the run {home}/runs/linear; name that"
    check_refused(isthmus("runs", "rm", "runs/linear/model", "--yes"), words)
    assert content(home) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model/config.json", '{"architectures": []}'),
        ("config.json", '{"architectures": []}'),
        ("model/config.json", "{"),
        ("run.json", '{"settings": {}}'),
        ("run.json", "[]"),
        ("study.toml", "seed = 0\n"),
    ],
)
def test_what_other_programs_or_people_wrote_is_not_removed(isthmus, home, name, text):
    path = home / "other" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for beside in ("model.safetensors", "README.md") if path.name == "config.json" else ():
        (path.parent / beside).write_text("")
    before = content(home)
    for study in ([], ["--study"]):
        words = ("other is not a run, a model or a study that Isthmus wrote", "nothing was removed")
        check_refused(isthmus("runs", "rm", "other", "--yes", *study), *words)
    assert content(home) == before


@pytest.mark.parametrize("answer", [True, False])
def test_it_asks_first(isthmus, home, monkeypatch, answer):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answer)
    code, _, _ = isthmus("runs", "rm", "runs/linear")
    assert code == (0 if answer else 1)
    assert (home / "runs/linear").exists() is not answer
    assert asked[0].startswith("Remove the run runs/linear (")


def test_without_a_terminal_it_needs_yes(isthmus, home, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    check_refused(isthmus("runs", "rm", "runs/linear"), "nobody can answer here: add --yes")
    assert (home / "runs/linear").exists()


def foreign(home):
    (home / "runs/linear/notes.txt").write_text("mine")


def foreign_folder(home):
    (home / "runs/linear/mine").mkdir()


def foreign_in_model(home):
    (home / "runs/linear/model/weights.bin").write_text("mine")


def nameless(home):
    (home / "runs/linear/.writing").write_text("mine")


def like_one_being_written(home):
    for name in (".notes.writing", ".notes.abc.writing", "model/..abc.writing"):
        (home / "runs/linear" / name).write_text("mine")


def inner_link(home):
    (home / "toy.txt").write_text("mine")
    (home / "runs/linear/codes.npz").unlink()
    os.symlink(home / "toy.txt", home / "runs/linear/codes.npz")


def inner_folder_link(home):
    shutil.rmtree(home / "runs/linear/checkpoints", ignore_errors=True)
    os.symlink(home / "runs/wide", home / "runs/linear/checkpoints")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (foreign, ("holds what Isthmus did not write (notes.txt)", "move that elsewhere")),
        (foreign_folder, ("(mine)",)),
        (foreign_in_model, ("model/weights.bin",)),
        (nameless, ("(.writing)",)),
        (like_one_being_written, (".notes.writing", ".notes.abc.writing", "model/..abc.writing")),
        (inner_link, ("codes.npz, a link",)),
        (inner_folder_link, ("checkpoints, a link",)),
    ],
)
def test_what_is_not_ours_keeps_a_run(isthmus, home, spoil, words):
    spoil(home)
    before = content(home)
    check_refused(isthmus("runs", "rm", "runs/linear", "--yes"), *words)
    assert content(home) == before


@pytest.mark.parametrize(("name", "words"), [("checkpoints", "(checkpoints, a link)"), ("linear", "linear is a link")])
def test_a_junction_of_windows_is_a_link(isthmus, home, monkeypatch, name, words):
    (home / "runs/linear/checkpoints").mkdir(exist_ok=True)
    (home / "runs/linear/checkpoints/mine.txt").write_text("mine")
    lstat = Path.lstat

    def of_windows(path):
        facts = lstat(path)
        attributes = 0x410 if path.name == name else 0x10
        return SimpleNamespace(st_mode=facts.st_mode, st_size=facts.st_size, st_file_attributes=attributes)

    monkeypatch.setattr(Path, "lstat", of_windows)
    before = content(home)
    answer = isthmus("runs", "rm", "runs/linear", "--yes")
    check_refused(answer, words)
    assert "mine" not in answer[2]
    assert content(home) == before


def test_links_and_what_is_no_run_are_not_removed(isthmus, home):
    os.symlink(home / "runs/linear", home / "link")
    (home / "empty").mkdir()
    before = content(home)
    check_refused(isthmus("runs", "rm", "link", "--yes"), "link is a link, and links are not followed")
    check_refused(isthmus("runs", "rm", "empty", "--yes"), "empty is not a run", "nothing was removed")
    check_refused(isthmus("runs", "rm", "nowhere", "--yes"), "nowhere is not a run")
    check_refused(isthmus("runs", "rm", "runs/linear", "--study", "--yes"), "is a run, not a study")
    assert content(home) == before
    assert (home / "empty").exists()


def test_a_run_in_use_is_not_removed(isthmus, home):
    with filelock.FileLock(home / "runs/linear/.lock"):
        check_refused(isthmus("runs", "rm", "runs/linear", "--yes"), "is in use by another process")
        (home / "runs/linear/notes.txt").write_text("mine")  # what a run in use holds is not looked at
        check_refused(isthmus("runs", "rm", "runs/linear", "--yes"), "is in use by another process")
    (home / "runs/linear/notes.txt").unlink()
    (home / "study.toml").write_text("seed = 0\n")
    with filelock.FileLock(home / ".lock"):
        check_refused(isthmus("runs", "rm", "runs/linear", "--yes"), "is in use by another process")
    assert Run(home / "runs/linear").finished
    assert isthmus("runs", "rm", "runs/linear", "--yes")[0] == 0


def test_a_study_is_removed_only_when_named_as_one(isthmus, home, monkeypatch, tmp_path):
    study = tmp_path / "home/digits"
    shutil.copytree(home / "runs", study / "runs")
    for name in ("study.toml", "env.json", "status.json", "log.txt", "summary.json", "report.html", "figures/D1.png"):
        (study / name).parent.mkdir(exist_ok=True)
        (study / name).write_text("")
    check_refused(isthmus("runs", "rm", "digits", "--yes"), "digits is a whole study; add --study")
    (study / "runs/linear/mine.txt").write_text("mine")
    check_refused(isthmus("runs", "rm", "digits", "--study", "--yes"), "runs/linear/mine.txt")
    (study / "runs/linear/mine.txt").unlink()
    with filelock.FileLock(study / ".lock"):
        check_refused(isthmus("runs", "rm", "digits", "--study", "--yes"), "is in use")
    with monkeypatch.context() as patch, filelock.FileLock(study / "runs/linear/.lock"):
        check_refused(isthmus("runs", "rm", "digits", "--study", "--yes"), "is in use")
        patch.setattr(removal, "in_use", lambda _: False)  # begun just after it was looked at
        check_refused(isthmus("runs", "rm", "digits", "--study", "--yes"), "is in use")
    code, _, err = isthmus("runs", "rm", "digits", "--study", "--yes")
    assert code == 0, err
    assert not study.exists()
    assert (home / "runs/linear").exists()


def test_what_is_left_of_a_run_is_listed_and_can_be_removed(isthmus, home):
    for name in ("status.json", "metrics.jsonl", "codes.npz", "model/model.safetensors"):
        (home / "runs/linear" / name).unlink(missing_ok=True)
    assert listed(isthmus)["runs/linear"]["state"] == "stopped"
    assert isthmus("runs", "rm", "runs/linear", "--yes")[0] == 0
    assert not (home / "runs/linear").exists()


LAYOUTS = {"run": "runs/linear", "copy/model": "runs/linear/model", "flat": "runs/linear/model", "study/runs": "runs"}


def removal_stops(monkeypatch, after):
    """Only so many files and folders can be removed."""
    allowed = iter(range(after))

    def stop(act):
        def act_or_stop(path, **options):
            if next(allowed, None) is None:
                raise PermissionError(13, "Permission denied", str(path))
            act(path, **options)

        return act_or_stop

    monkeypatch.setattr(Path, "unlink", stop(Path.unlink))
    monkeypatch.setattr(Path, "rmdir", stop(Path.rmdir))


def what_stopped(folder, study):
    try:
        remove(folder, study=study)
    except StorageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wherever_it_is_interrupted_the_same_command_goes_on(home, monkeypatch, layout):
    folder, study = home / layout.split("/")[0], layout.startswith("study")
    for after in range(100):
        shutil.copytree(LAYOUTS[layout], home / layout)
        for name in ("study.toml", "env.json") if study else ():
            (folder / name).write_text("")
        with monkeypatch.context() as patch:
            removal_stops(patch, after)
            told = what_stopped(folder, study)
        if told is None:
            break
        goes_on = "The same command removes what is left." in told
        assert goes_on or "What is left of it is empty: remove it by hand." in told
        if goes_on:
            remove(folder, study=study)
            assert not folder.exists()
        else:
            assert not content(folder)
            shutil.rmtree(folder)
    assert not folder.exists()
    assert 5 < after < 99


def test_a_file_that_stays_is_named_and_the_same_command_goes_on(isthmus, home, monkeypatch):
    unlink = Path.unlink

    def refuse(path, **options):
        if path.name == "codes.npz":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    code, out, err = isthmus("runs", "rm", "runs/linear", "--yes")
    assert (code, out) == (1, "")
    assert "Could not remove runs/linear/codes.npz: Permission denied. The same command removes what is left." in err
    monkeypatch.undo()
    monkeypatch.chdir(home)
    assert isthmus("runs", "rm", "runs/linear", "--yes")[0] == 0
    assert not (home / "runs/linear").exists()


def test_a_closed_folder_is_named_by_list_and_stops_rm(isthmus, home, monkeypatch):
    (home / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) in ("closed", "model"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, out, err = isthmus("runs", "list")
    assert code == 0
    assert "not looked into: closed: Permission denied" in err
    assert "runs/linear" in out
    before = content(home)
    code, _, err = isthmus("runs", "rm", "runs/linear", "--yes")
    assert code == 1
    assert "Could not look into runs/linear/model: Permission denied; nothing was removed" in err
    assert content(home) == before
