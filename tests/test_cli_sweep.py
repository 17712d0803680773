"""`isthmus sweep`: the networks of a study file trained, a table of what became of them, and what is refused."""

import csv
import importlib.util
import json

import pytest
import torch

from command_line import check_refused, content, toy
from isthmus.cli.sweep import _device
from isthmus.errors import InputError
from isthmus.runs import Run
from isthmus.studies.sweeping import Row, table

FILE = """
analyses = ["reconstruction"]

[data]
name = "{data}"

[networks.conv]
model = {{ name = "lab", width = 4, latent_dim = 2 }}
training = {{ epochs = 2, batch_size = 16 }}
sweep.model.latent_dim = [2, 3]
sweep.seed = [0, 1]

[networks.flat]
model = {{ name = "linear", latent_dim = 2 }}
training = {{ epochs = 2, batch_size = 16, learning_rate = {rate} }}

[networks.tuned]
model = {{ name = "linear", latent_dim = 2 }}
training = {{ epochs = 1, batch_size = 16 }}
start = "flat"
"""
NAMES = ["conv-2-0", "conv-2-1", "conv-3-0", "conv-3-1", "flat", "tuned"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def file(tmp_path, data):
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(data=data, rate=1e-3))
    return path


def trials_of(folder):
    return {row["name"]: row for row in json.loads((folder / "sweep.json").read_text())["trials"]}


def test_every_network_is_trained_and_has_a_row(isthmus, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = isthmus("sweep", file, "--json")
    assert code == 0, err
    folder = tmp_path / "sweeps/mine"
    answer = json.loads(out)
    assert answer == {"folder": "sweeps/mine", "trials": list(trials_of(folder).values())}
    assert [row["name"] for row in answer["trials"]] == NAMES
    assert {row["status"] for row in answer["trials"]} == {"finished"}
    assert trials_of(folder)["conv-3-1"]["swept"] == {"model.latent_dim": 3, "seed": 1}
    for name, row in trials_of(folder).items():
        run = Run(folder / "runs" / name)
        assert run.finished
        best = run.history()[run.status()["best_epoch"] - 1]
        assert row["figures"]["validation_loss"] == best["validation_loss"]
        assert row["seconds"] == sum(epoch["seconds"] for epoch in run.history())
    with (folder / "sweep.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["name"] for row in rows] == NAMES
    assert rows[3]["model.latent_dim"] == "3"
    assert float(rows[3]["validation_loss"]) == trials_of(folder)["conv-3-1"]["figures"]["validation_loss"]
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert {"study.toml", "env.json", "log.txt"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "report.html").exists()

    before = content(folder)
    check_refused(isthmus("sweep", file), "sweeps/mine exists already; add --resume to go on, --overwrite to start")
    code, again, err = isthmus("sweep", file, "--json", "--resume")
    assert (code, json.loads(again)) == (0, answer)
    assert "sweeps/mine: finished before, nothing to do" in err
    assert content(folder) == before


def test_the_table_shows_what_was_swept_and_what_came_of_it(isthmus, file, tmp_path):
    code, out, err = isthmus("sweep", file, "--out", tmp_path / "s", "--workers", 1, "-q")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["run", "status", "latent_dim", "seed", "validation_loss", "seconds"]
    assert [line.split()[0] for line in lines[:6]] == NAMES
    assert lines[2].split()[:4] == ["conv-3-0", "finished", "3", "0"]
    assert lines[-1] == f"sweep: {tmp_path / 's'}"


def test_a_network_that_begins_with_another_follows_it(isthmus, file, tmp_path):
    assert (
        isthmus("sweep", file, "--out", tmp_path / "s", "--set", "networks.tuned.training.learning_rate=1e-30")[0] == 0
    )
    first, then = (Run(tmp_path / "s/runs" / name) for name in ("flat", "tuned"))
    assert then.settings().start == "flat"
    weights = first.network().state_dict()
    assert all(torch.allclose(value, weights[name]) for name, value in then.network().state_dict().items())


def test_a_divergence_is_an_answer(isthmus, tmp_path, data):
    file = tmp_path / "wild.toml"
    file.write_text(FILE.format(data=data, rate=1e30))
    code, out, err = isthmus("sweep", file, "--out", tmp_path / "s", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)["trials"]}
    assert [rows[name]["status"] for name in ("conv-2-0", "flat", "tuned")] == ["finished", "diverged", "diverged"]
    assert rows["flat"]["figures"] == {}
    assert rows["flat"]["error"].startswith("the loss was not finite at step")
    assert rows["tuned"]["error"] == "it begins with the weights of flat, which diverged"
    assert "tuned: not trained, since it begins with the weights of flat, which diverged" in err
    assert not (tmp_path / "s/runs/tuned").exists()


def test_a_failed_training_leaves_the_others_alone_and_is_tried_again(isthmus, file, tmp_path):
    folder = tmp_path / "s"
    isthmus("sweep", file, "--out", folder)
    for name in ("sweep.json", "runs/conv-2-0/status.json"):
        (folder / name).unlink()
    weights = folder / "runs/conv-2-0/model"
    for path in weights.iterdir():
        path.unlink()
    weights.rmdir()
    weights.write_text("in the way")
    code, out, err = isthmus("sweep", file, "--out", folder, "--resume")
    assert code == 3
    assert err.splitlines()[-2] == "error: 1 of 6 trainings failed; --resume tries them again:"
    assert err.splitlines()[-1].startswith("  conv-2-0: Could not write ")
    assert [line.split()[1] for line in out.splitlines()[1:7]] == ["failed", *["finished"] * 5]
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", "1 of 6 failed: conv-2-0")
    weights.unlink()
    assert isthmus("sweep", file, "--out", folder, "--resume")[0] == 0
    assert trials_of(folder)["conv-2-0"]["status"] == "finished"


def test_a_dry_run_times_and_writes_nothing(isthmus, file, tmp_path):
    code, out, err = isthmus("sweep", file, "--out", tmp_path / "s", "--dry-run")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("6 trainings: about ")
    assert "report" not in out
    assert not (tmp_path / "s").exists()
    code, out, err = isthmus("sweep", file, "--dry-run", "--json")
    assert [run["run"] for run in json.loads(out)["runs"]] == NAMES


def test_what_cannot_be_done_is_refused(isthmus, file, tmp_path):
    out = ("--out", tmp_path / "s")
    check_refused(
        isthmus("sweep", file, *out, "--engine", "stacked"),
        "--engine stacked, several networks in one pass on a GPU, is not built: there was no GPU to measure it on.",
        "Take process; or ray, which with --device cuda trains several networks on one GPU",
    )
    check_refused(isthmus("sweep", file, *out, "--engine", "slurm"), "--engine 'slurm' is not known; choose process")
    check_refused(isthmus("sweep", tmp_path / "no.toml", *out), "no.toml does not exist; `isthmus study --init")
    check_refused(isthmus("sweep", file, *out, "--set", "networks.conv.model.width=no"), "networks.conv.model.width")
    check_refused(isthmus("sweep", file, *out, "--resume", "--overwrite"), "--resume and --overwrite exclude each")
    file.write_text('study = "digits"\n')
    check_refused(
        isthmus("sweep", file, *out),
        "names the study of digits, whose exercises `isthmus study` does",
        "`isthmus study digits --print-toml > my.toml` writes them as a file",
    )
    assert not (tmp_path / "s").exists()


def test_a_cluster_that_does_not_answer_is_refused(isthmus, file, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    words = (
        "No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"
        if importlib.util.find_spec("ray")
        else 'pip install "isthmus[ray]"'
    )
    check_refused(isthmus("sweep", file, "--out", tmp_path / "s", "--engine", "ray", "-q"), words)
    assert not (tmp_path / "s").exists()


def test_other_settings_are_not_taken_up(isthmus, file, tmp_path):
    isthmus("sweep", file, "--out", tmp_path / "s")
    before = content(tmp_path / "s")
    changed = ("--set", "networks.flat.training.epochs=3")
    check_refused(isthmus("sweep", file, "--out", tmp_path / "s", "--resume", *changed), "begun with other settings")
    assert content(tmp_path / "s") == before


def test_a_classifier_is_left_out_of_images_without_labels(isthmus, tmp_path):
    file = tmp_path / "s.toml"
    data = toy(tmp_path / "plain.npz", labels=False)
    judge = '[networks.judge]\nmodel = { name = "classifier" }\n'
    file.write_text(FILE.format(data=data, rate=1e-3) + judge)
    code, out, err = isthmus("sweep", file, "--out", tmp_path / "s", "--json")
    assert code == 0, err
    assert [row["name"] for row in json.loads(out)["trials"]] == NAMES
    assert "Left out, since the images have no labels: the classifier judge." in err


def test_a_table_has_a_column_for_all_that_any_run_has():
    rows = [
        Row("a", "a", "finished", {"seed": 1}, {"validation_loss": 0.5, "validation_accuracy": None}, 1.5),
        Row("b", "b", "failed", {"model.width": 4}, {}, 0.0, "Traceback\nlines\nMemoryError: none, left"),
    ]
    head, first, second = csv.reader(table(rows).splitlines())
    assert head == [
        *("name", "network", "status", "seed", "model.width"),
        *("validation_loss", "validation_accuracy", "seconds", "error"),
    ]
    assert first == ["a", "a", "finished", "1", "", "0.5", "", "1.5", ""]
    assert second == ["b", "b", "failed", "", "4", "", "", "0.0", "MemoryError: none, left"]


def test_the_workers_of_a_cluster_have_devices_of_their_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [_device(name, "ray") for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert [_device(name, "ray") for name in ("auto", "cuda")] == ["cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device("cuda", "ray") == "cuda"
    with pytest.raises(InputError, match="this machine has no such device"):
        _device("cuda", "process")


def test_a_study_takes_up_what_a_sweep_of_its_file_has_trained(isthmus, file, tmp_path):
    folder = tmp_path / "swept"
    assert isthmus("sweep", file, "--out", folder, "-q")[0] == 0
    trained = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    code, _, err = isthmus("study", file, "--out", folder, "--resume")
    assert code == 0, err
    assert (folder / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
