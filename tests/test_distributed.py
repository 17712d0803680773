"""One training in several processes gives what one process gives, and ends in words when one of them is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from command_line import BRIEF, ENDLESS, STARTED
from isthmus.errors import InputError
from isthmus.networks.sharing import batch_mean, drawn, share_of, synchronised
from isthmus.training import distributed
from isthmus.training.distributed import Group, current, from_all, from_leader, joined, launched, leads, together
from shared_training import CASES

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or os.name == "nt", reason="needs torch.distributed and torchrun"
)
WORKER = Path(__file__).parent / "shared_training.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")
ALONE = {name: value for name, value in os.environ.items() if name not in distributed.TOLD}


def start(*command: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [str(word) for word in command],
        env={**ALONE, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def run(*command: object) -> tuple[int, str, str]:
    process = start(*command)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each of three processes found, and what one found alone."""
    folder = tmp_path_factory.mktemp("shared")
    for command in ((*TORCHRUN, 3, WORKER, folder), (sys.executable, WORKER, folder)):
        code, _, err = run(*command)
        assert code == 0, err
    return {path.stem: torch.load(path, weights_only=False) for path in folder.glob("*.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_processes_that_share_a_batch_learn_what_one_learns(trainings: dict[str, dict[str, Any]], case: str) -> None:
    alone, *others = (trainings[name][case] for name in ("alone", "0", "1", "2"))
    for other in others:
        assert other["best"] == alone["best"]
        for epoch, expected in zip(other["epochs"], alone["epochs"], strict=True):
            del epoch["seconds"], expected["seconds"]
            assert epoch == pytest.approx(expected, rel=1e-6)
            expected["seconds"] = 0.0
        for name, tensor in alone["weights"].items():
            torch.testing.assert_close(other["weights"][name], tensor, rtol=1e-9, atol=1e-9)
            assert torch.equal(other["weights"][name], others[0]["weights"][name])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lab", "vae", "classifier"])
def test_in_single_precision_the_losses_are_equal_to_1e_5(trainings: dict[str, dict[str, Any]], case: str) -> None:
    alone, *others = (trainings[name][f"{case}, single"]["epochs"] for name in ("alone", "0", "1", "2"))
    for other in others:
        for epoch, expected in zip(other, alone, strict=True):
            assert epoch["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert epoch["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-4)


def test_the_parts_of_a_batch_are_all_of_it_once() -> None:
    for processes in (1, 2, 3, 5):
        for count in range(processes, 20):
            shares = [share_of(count, rank, processes) for rank in range(processes)]
            assert [i for share in shares for i in range(share.begin, share.end)] == list(range(count))
            assert max(s.end - s.begin for s in shares) - min(s.end - s.begin for s in shares) <= 1
    few = [share_of(2, rank, 4) for rank in range(4)]
    assert sum((share.end - share.begin) * share.weight for share in few) == 2


def test_alone_a_mean_is_a_mean_and_layers_are_themselves() -> None:
    values = torch.rand(7, 3)
    assert torch.equal(batch_mean(values), values.mean(0))
    assert drawn(values.shape, torch.zeros).shape == values.shape
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    expected, names = list(network), list(network.state_dict())
    with synchronised(network):
        assert [type(layer).__name__ for layer in network] == ["Linear", "_Norm", "_Dropout"]
        assert list(network.state_dict()) == names
    assert list(network) == expected


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in distributed.TOLD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some schedulers set it for other purposes
    assert launched() is None
    with joined("cuda:1") as place:
        assert place == "cuda:1"
        assert current() is None
        assert leads()
    assert (from_leader("x"), from_all("x")) == ("x", ["x"])


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "1")


@pytest.mark.usefixtures("of_two")
@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("mps", "--device mps cannot be used under torchrun, where each process takes a GPU of its own: give cuda"),
        ("cuda:0", "--device cuda:0 cannot be used under torchrun"),
        ("cuda", r"torchrun started more processes than this machine has GPUs, 1: give --nproc-per-node 1\."),
    ],
)
def test_devices_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch, device: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=words), joined(device):
        pass


def test_a_batch_of_fewer_images_than_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "current", lambda: Group(0, 8))
    with pytest.raises(InputError, match=r"batch_size is 4, which 8 processes cannot share: .* at least 8"):
        together(CASES["lab"][0]((1, 16, 16)), 4).__enter__()


def test_only_what_a_lost_process_causes_is_called_so() -> None:
    words = "Another process of this training ended before its time"
    with pytest.raises(distributed.ProcessLostError, match=words), distributed.told_of_losses():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), distributed.told_of_losses():
        raise RuntimeError("shapes do not fit")


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_one_writes(data: Path, tmp_path: Path) -> None:
    settings = ("--set", "training.batch_size=16", "--device", "cpu", *BRIEF)
    code, alone, err = run(sys.executable, "-m", "isthmus", "train", "linear", data, "-o", tmp_path / "1", *settings)
    assert code == 0, err
    shared = (*TORCHRUN, 2, "-m", "isthmus", "train", "linear", data, "-o", tmp_path / "2", *settings, "--json")
    code, out, err = run(*shared)
    assert code == 0, err
    figures = json.loads(out)["figures"]  # printed once
    expected = {line.split()[0]: float(line.split()[1]) for line in alone.splitlines()[:3]}
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in "12"]
    assert names[0] == names[1]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "12"]
    assert len(lines[0]) == len(lines[1]) == 1
    assert json.loads(lines[1][0])["loss"] == pytest.approx(json.loads(lines[0][0])["loss"], rel=1e-5)
    code, again, err = run(*shared, "--resume")  # finished: both processes take it as it is
    assert code == 0, err
    assert json.loads(again)["figures"]["test_mse"] == figures["test_mse"]
    code, out, err = run(*shared)
    assert code != 0
    assert "exists already" in err


def ranks(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that torchrun started: rank -> process."""
    found: dict[int, int] = {}
    for process in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        environment = Path(f"/proc/{process}/environ").read_text().split("\0")
        found |= {int(word[5:]): int(process) for word in environment if word.startswith("RANK=")}
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_others_end_and_say_so(data: Path, tmp_path: Path, killed: int) -> None:
    launcher = start(
        *(*TORCHRUN, 2, "-m", "isthmus", "train", "linear", data, "-o", tmp_path / "run", "--device", "cpu", *ENDLESS)
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(ranks(launcher)[killed], signal.SIGKILL)
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    # Whichever comes first: the end of the connection, or the word of torchrun.
    assert (
        "Another process of this training ended before its time" in err or "terminated; finished runs are kept" in err
    )
    if killed == 1:  # the leader leaves the run as any that was cut short
        state = json.loads((tmp_path / "run" / "status.json").read_text())["state"]
        assert state in ("failed", "interrupted")
        assert (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
