"""The program as its users meet it: help, output, exit codes, signals, and runs that are taken up again."""

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from command_line import BRIEF, ENDLESS, PROGRAM, content, start, toy, wait_until
from isthmus.runs import Run

COMMANDS = ([], ["study"], ["train"], ["evaluate"], ["data"], ["data", "list"], ["data", "info"], ["doctor"])
COMMANDS += (["denoise"], ["classify"], ["encode"], ["generate"], ["shapes"], ["export"])
COMMANDS += (["runs"], ["runs", "list"], ["runs", "show"], ["runs", "compare"], ["runs", "rm"])


def has_epochs(run):
    return len(run.history()) > 3


def processor_seconds():
    spent = os.times()
    return spent.children_user + spent.children_system


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_answers_at_once(command):
    """Processor time, the best of a few: what it takes on a machine that does nothing else."""
    seconds = []
    while len(seconds) < 12 and min(seconds, default=1) >= 0.3:
        before = processor_seconds()
        answer = subprocess.run([PROGRAM, *command, "--help"], capture_output=True, text=True, check=True)
        seconds.append(processor_seconds() - before)
    assert "Usage: isthmus" in answer.stdout
    assert min(seconds) < 0.3


def test_help_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'scipy', 'sklearn', 'pandas', 'matplotlib', 'pydantic'}"
    code = f"import sys, isthmus.cli.main; print({heavy} & set(sys.modules))"
    answer = subprocess.run([PROGRAM.parent / "python", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_the_module_is_the_program():
    answer = subprocess.run(
        [PROGRAM.parent / "python", "-m", "isthmus", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("isthmus ")


@pytest.mark.parametrize("network", ["lab", "strong", "linear", "classifier"])
def test_a_network_is_trained_and_evaluated(isthmus, data, tmp_path, network):
    code, out, err = isthmus("train", network, data, "--out", tmp_path / "run", *BRIEF, "--json")
    assert code == 0, err
    figures = json.loads(out)["figures"]
    assert {"test_loss", "test_accuracy"} <= set(figures) if network == "classifier" else "pca.test_mse" in figures
    assert Run(tmp_path / "run").status()["state"] == "finished"
    code, out, err = isthmus("evaluate", tmp_path / "run", data, "--json")
    assert code == 0
    assert set(json.loads(out)["figures"]) == ({"loss", "accuracy"} if network == "classifier" else {"mse", "psnr"})
    assert "42 of the 60 images of toy were trained on by" in err


def test_without_json_the_figures_are_lines(isthmus, data, tmp_path):
    code, out, _ = isthmus("train", "linear", data, "--out", tmp_path / "run", *BRIEF, "-q")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "test_mse",
        "test_psnr",
        "pca.test_mse",
        "train_seconds",
        "run:",
    ]


def test_the_lists_are_json(isthmus, data):
    code, out, _ = isthmus("data", "list", "--json")
    assert code == 0
    assert {"mnist-5k", "mnist"} <= {row["name"] for row in json.loads(out)}
    code, out, _ = isthmus("data", "info", data, "--json")
    assert json.loads(out)["classes"] == {"0": 20, "1": 20, "2": 20}
    code, out, _ = isthmus("doctor", "--json")
    assert json.loads(out)["versions"]["isthmus"]


def test_the_same_seed_gives_the_same_bits(isthmus, data, tmp_path):
    weights = {}
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        assert isthmus("train", "lab", data, "--out", tmp_path / name, *BRIEF, "--seed", seed)[0] == 0
        weights[name] = (tmp_path / name / "model/model.safetensors").read_bytes()
    assert weights["a"] == weights["b"] != weights["c"]


def test_a_finished_run_is_refused_resumed_or_overwritten(isthmus, data, tmp_path):
    command = ("train", "linear", data, "--out", tmp_path / "run", *BRIEF, "--json")
    first = isthmus(*command)
    before = content(tmp_path / "run")
    code, out, err = isthmus(*command)
    assert (code, out) == (2, "")
    assert "exists already; add --resume to go on, --overwrite to start anew, or another --out" in err
    again = isthmus(*command, "--resume")
    assert again[:2] == first[:2]
    assert "finished before, taken as it is" in again[2]
    assert content(tmp_path / "run") == before
    assert isthmus(*command, "--overwrite")[0] == 0
    assert content(tmp_path / "run") != before
    code, _, err = isthmus(*command, "--overwrite", "--resume")
    assert code == 2
    assert "--resume and --overwrite exclude each other" in err


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_resume_without_a_run_starts_one(isthmus, data, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert isthmus("train", "linear", data, "--out", tmp_path / folder, *BRIEF, "--resume")[0] == 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_resumed_with_other_settings_or_images(isthmus, data, tmp_path, finished):
    folder = tmp_path / "run"
    assert isthmus("train", "linear", data, "--out", folder, *BRIEF)[0] == 0
    if not finished:
        (folder / "model/model.safetensors").unlink()
        Run(folder).set_status("interrupted")
    before = content(folder)
    code, _, err = isthmus("train", "linear", data, "--out", folder, *BRIEF, "--resume", "--seed", 1)
    assert code == 2
    assert "was begun with other settings (seed was 0, now 1); give the same ones" in err
    original = data.read_bytes()
    toy(data, seed=1)
    code, _, err = isthmus("train", "linear", data, "--out", folder, *BRIEF, "--resume")
    data.write_bytes(original)
    assert code == 2
    assert "was trained on other images; --overwrite it, or choose another --out" in err
    assert content(folder) == before


def test_an_interrupt_keeps_what_is_done(data, tmp_path):
    ends = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
    jobs = {n: start("train", "linear", data, "--out", tmp_path / n.name, *ENDLESS, "--json") for n in ends}
    for number, (code, word) in ends.items():
        folder, process = tmp_path / number.name, jobs[number]
        wait_until(partial(has_epochs, Run(folder)), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert out == ""
        kept = f"the best weights so far are kept in {folder}/checkpoints/best.safetensors\n"
        assert err == f"{kept}{word}; finished runs are kept, the same command with --resume does the rest\n"
        assert Run(folder).status()["state"] == "interrupted"
        assert (folder / "checkpoints/best.safetensors").exists()
        assert not (folder / "model/model.safetensors").exists()


def test_two_processes_do_not_share_a_folder_and_a_killed_one_frees_it(isthmus, data, tmp_path):
    folder = tmp_path / "run"
    process = start("train", "linear", data, "--out", folder, *ENDLESS)
    try:
        wait_until(partial(has_epochs, Run(folder)), process)
        for choice in ([], ["--resume"], ["--overwrite"]):
            code, _, err = isthmus("train", "linear", data, "--out", folder, *BRIEF, *choice)
            assert code == 2
            assert "is in use by another process; wait for it, or choose another --out" in err
        code, _, err = isthmus("study", "digits", "--data", data, "--out", folder, "--overwrite")
        assert code == 2
        assert "is in use by another process" in err
    finally:
        process.kill()
        process.communicate()
    assert Run(folder).status()["state"] == "running"
    assert not (folder / "model").exists()
    code, _, err = isthmus("evaluate", folder, data)
    assert code == 2
    assert "is not a finished run" in err
    assert isthmus("train", "linear", data, "--out", folder, *BRIEF, "--overwrite")[0] == 0


def test_a_killed_first_write_does_not_bar_the_folder(isthmus, data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.run.json.k1ll3d.writing").write_text("{")
    assert isthmus("train", "linear", data, "--out", tmp_path / "run", *BRIEF)[0] == 0


@pytest.mark.parametrize(("batch_size", "step"), [(64, 1), (8, 2)], ids=["seen in validation", "seen in training"])
def test_a_loss_that_is_not_finite_stops_with_step_and_rate(isthmus, data, tmp_path, batch_size, step):
    settings = ("training.learning_rate=1e30", f"training.batch_size={batch_size}", "training.schedule=constant")
    changes = [word for setting in settings for word in ("--set", setting)]
    code, out, err = isthmus("train", "linear", data, "--out", tmp_path / "run", *changes, "--json")
    assert (code, out) == (1, "")
    assert err.startswith("error: The loss became ")
    assert f"at step {step} with learning rate 1e+30. Lower training.learning_rate" in err
    assert Run(tmp_path / "run").status()["state"] == "diverged"
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("steps", range(1, 6))
def test_any_number_of_updates_can_be_scheduled(isthmus, data, tmp_path, steps):
    changes = ("--set", f"training.epochs={steps}", "--set", "training.batch_size=64")
    assert isthmus("train", "linear", data, "--out", tmp_path / "run", *changes)[0] == 0


def test_paths_may_hold_spaces_and_any_letter(isthmus, tmp_path):
    data = toy(tmp_path / "снимки ü" / "d a.npz")
    folder = tmp_path / "läufe 1"
    code, out, _ = isthmus("train", "linear", data, "--out", folder, *BRIEF, "--json")
    assert code == 0
    assert json.loads(out)["run"] == str(folder)
    assert isthmus("evaluate", folder, data)[0] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_reader_that_is_full_or_gone_is_no_traceback():
    with open("/dev/full", "w") as full:
        process = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 1
    assert "No space left on device" in process.stderr
    assert "Traceback" not in process.stderr
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([PROGRAM, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
