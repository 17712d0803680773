"""Sweeps on a real Ray cluster of two workers: the same bits as in processes, each result once whatever is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from command_line import start, toy, wait_until
from isthmus.data.catalog import load
from isthmus.data.imageset import Split
from isthmus.data.split import split
from isthmus.errors import InputError
from isthmus.runs import Run
from isthmus.settings import LinearSettings
from isthmus.training.carried import check_within_reach, packed, unpack, what_was_begun
from isthmus.training.sweep import Trial, sweep
from isthmus.training.trial import train_away
from ray_clusters import SETTINGS, at_work, below, plain_environment, require_ray
from test_sweep import BRIEF, ENDLESS, diverging, three, trial, weights


@pytest.fixture(autouse=True)
def _one_thread_and_no_cluster_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """60 images of 16 x 16 in three classes, divided."""
    return split(load(toy(tmp_path_factory.mktemp("data") / "toy.npz")))


def silent(done: int, total: int, text: str) -> None:
    pass


# -- what goes to a worker and comes back


def test_a_run_comes_back_as_it_was_trained(toys: Split, tmp_path: Path) -> None:
    made = trial(tmp_path, "lab")
    here = sweep([made], toys, workers=1)["lab"]
    away = Trial("lab", tmp_path / "away", made.settings)
    found, files = train_away((away, {}), toys, silent, device="cpu")
    assert not away.folder.exists()
    unpack(Run(away.folder), files)
    assert sweep([away], toys)["lab"].figures == here.figures == found["figures"]
    assert packed(Run(away.folder)).keys() == packed(Run(made.folder)).keys()
    for name in ("model/model.safetensors", "run.json", "codes.npz"):
        assert (away.folder / name).read_bytes() == (made.folder / name).read_bytes(), name


def test_the_path_of_the_images_begins_where_they_were_read(
    toys: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trial(tmp_path, "lab")
    _, files = train_away((made, {}), toys, silent, device="cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    unpack(Run(made.folder), files)
    assert f'"named_from": "{tmp_path}"' in (made.folder / "run.json").read_text()


def test_weights_and_status_are_written_last(toys: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trial(tmp_path, "lab")
    _, files = train_away((made, {}), toys, silent, device="cpu")
    written: list[str] = []
    monkeypatch.setattr("isthmus.training.carried.write_bytes", lambda path, content: written.append(path.name))
    unpack(Run(made.folder), files)
    assert written[-2:] == ["model.safetensors", "status.json"]
    assert len(written) == len(files)


def test_a_run_of_other_settings_is_neither_trained_nor_touched(toys: Split, tmp_path: Path) -> None:
    sweep([trial(tmp_path, "lab", training=BRIEF)], toys, workers=1)
    before = packed(Run(tmp_path / "lab"))
    longer = trial(tmp_path, "lab", training=BRIEF.model_copy(update={"epochs": 3}))
    found, files = train_away((longer, what_was_begun(Run(longer.folder))), toys, silent, device="cpu")
    assert found["status"] == "failed"
    assert found["error"].startswith(f"{tmp_path / 'lab'} was begun with other settings (training.epochs was 2, now 3)")
    assert files == {}
    unpack(Run(longer.folder), files)
    assert packed(Run(tmp_path / "lab")) == before


def test_images_on_a_disk_that_a_worker_does_not_see_are_a_failure_that_says_so(
    toys: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        path = tmp_path / "gone.npy"

    monkeypatch.setattr("isthmus.training.carried.stored_in", lambda images: Elsewhere())
    found, files = train_away((trial(tmp_path, "lab"), {}), toys, silent, device="cpu")
    assert (found["status"], files) == ("failed", {})
    assert f"too large for memory and stay in {tmp_path / 'gone.npy'}, which the machine" in found["error"]
    assert "set ISTHMUS_HOME to a folder that all machines share" in found["error"]
    Elsewhere.path.touch()
    check_within_reach(toys)


def test_a_gpu_of_a_cluster_has_no_number(toys: Split, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"device is 'cuda:1'; on a Ray cluster it is cpu or cuda, and Ray says which"):
        sweep([trial(tmp_path, "lab")], toys, engine="ray", device="cuda:1")


def test_a_sweep_that_is_done_starts_no_cluster(toys: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep([trial(tmp_path, "lab")], toys, workers=1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert sweep([trial(tmp_path, "lab")], toys, engine="ray") == first


# -- on a cluster


@pytest.mark.slow
def test_a_cluster_gives_the_bits_of_processes_and_goes_on_past_failures(toys: Split, tmp_path: Path) -> None:
    require_ray()
    blocked = trial(tmp_path / "ray", "blocked")
    blocked.folder.mkdir(parents=True)
    (blocked.folder / "model").write_text("in the way")
    lines: list[str] = []
    news: list[tuple[int, int, str]] = []
    trials = [blocked, diverging(tmp_path / "ray"), *three(tmp_path / "ray")]
    found = sweep(trials, toys, engine="ray", workers=1, say=lines.append, progress=lambda *told: news.append(told))
    assert [outcome.status for outcome in found.values()] == ["failed", "diverged", *["finished"] * 3]
    assert "Could not write" in str(found["blocked"].error)
    assert any(line.startswith("blocked: failed: Could not write") for line in lines)
    beside = three(tmp_path / "process")
    assert {name: found[name].figures for name in ("linear", "lab", "classifier")} == {
        name: outcome.figures for name, outcome in sweep(beside, toys, workers=1).items()
    }
    first, second = weights(trials[2:]), weights(beside)
    assert all(torch.equal(first[name][key], second[name][key]) for name in first for key in first[name])
    assert news[-1][2].startswith("5 of 5 done; ")
    again = sweep(trials[1:], toys, engine="ray", workers=2)
    assert again == {name: found[name] for name in again}


@pytest.mark.slow
def test_a_hundred_trials_and_a_killed_worker_give_a_hundred_results(toys: Split, tmp_path: Path) -> None:
    require_ray()
    short = BRIEF.model_copy(update={"epochs": 20})
    trials = [trial(tmp_path, f"t{i:02}", LinearSettings(latent_dim=1 + i % 5), short) for i in range(100)]
    lines: list[str] = []
    killed: list[int] = []
    ended = threading.Event()

    def kill_one() -> None:
        while not ended.wait(0.02):
            if len(lines) >= 30 and (working := at_work(os.getpid())):
                os.kill(working[0], signal.SIGKILL)
                killed.append(working[0])
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        found = sweep(trials, toys, engine="ray", workers=2, say=lines.append)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 1
    assert list(found) == [trial.name for trial in trials]
    assert {outcome.status for outcome in found.values()} == {"finished"}
    assert sorted(line.partition(":")[0] for line in lines) == sorted(found)
    assert all(Run(trial.folder).finished for trial in trials)
    end = time.monotonic() + 20
    while any("ray::" in command for command in below(os.getpid()).values()):
        assert time.monotonic() < end
        time.sleep(0.1)


STUDY = """
[data]
name = "{data}"
[networks.long]
model = {{ name = "linear", latent_dim = 2 }}
training = {{ epochs = {epochs}, batch_size = 16 }}
[networks.short]
model = {{ name = "linear", latent_dim = 3 }}
training = {{ epochs = 2, batch_size = 16 }}
"""


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [True, False])
def test_ctrl_c_ends_a_sweep_on_a_cluster_and_what_is_finished_is_kept(tmp_path: Path, everybody: bool) -> None:
    require_ray()
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(STUDY.format(data=toy(tmp_path / "toy.npz"), epochs=ENDLESS.epochs))
    command = ("sweep", file, "--engine", "ray", "--workers", 2, "--out", out)
    process = start(*command, env=plain_environment(), start_new_session=True)
    wait_until(lambda: (out / "runs/short/status.json").exists(), process, seconds=120)
    wait_until(lambda: len(at_work(process.pid)) == 1, process)
    living = list(below(process.pid))
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    end = time.monotonic() + 20
    while any(Path(f"/proc/{number}/cmdline").exists() for number in living):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert Run(out / "runs/short").finished
    assert not (out / "runs/long").exists()
    assert '"interrupted"' in (out / "status.json").read_text()
