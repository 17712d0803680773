"""Sweeps with real processes: the same weights as in one, and what an interrupt, a kill and a divergence leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from command_line import toy, wait_until
from isthmus.data.catalog import load
from isthmus.data.imageset import Split
from isthmus.data.split import split
from isthmus.errors import InputError
from isthmus.runs import Run
from isthmus.settings import (
    ClassifierSettings,
    DataSettings,
    LabSettings,
    LinearSettings,
    ModelSettings,
    RunSettings,
    TrainingSettings,
)
from isthmus.training.duration import cost
from isthmus.training.sweep import Outcome, Trial, sweep
from isthmus.training.trial import run_trial

BRIEF = TrainingSettings(epochs=2, batch_size=16)
ENDLESS = TrainingSettings(epochs=1_000_000, batch_size=16)
SMALL = LabSettings(width=4, latent_dim=3)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """60 images of 16 x 16 in three classes, divided."""
    return split(load(toy(tmp_path_factory.mktemp("data") / "toy.npz")))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trial(folder: Path, name: str, model: ModelSettings = SMALL, training: TrainingSettings = BRIEF) -> Trial:
    return Trial(name, folder / name, RunSettings(data=DataSettings(name="toy"), model=model, training=training))


def three(folder: Path) -> list[Trial]:
    """Trials of three kinds, the cheapest first."""
    augmented = BRIEF.model_copy(update={"rotation": 10.0, "shift": 1, "epochs": 4})
    return [
        trial(folder, "linear", LinearSettings(latent_dim=2)),
        trial(folder, "lab"),
        trial(folder, "classifier", ClassifierSettings(dropout=0.3), augmented),
    ]


def diverging(folder: Path) -> Trial:
    return trial(folder, "wild", LinearSettings(latent_dim=2), BRIEF.model_copy(update={"learning_rate": 1e30}))


def weights(trials: list[Trial]) -> dict[str, dict[str, torch.Tensor]]:
    return {trial.name: Run(trial.folder).network().state_dict() for trial in trials}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(process: int) -> bool:
    """Whether a process, which need not be a child of ours, has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_two_processes_give_the_bits_of_one_in_any_order(toys: Split, tmp_path: Path, one_thread: None) -> None:
    here, beside = three(tmp_path / "here"), three(tmp_path / "beside")[::-1]
    lines: list[str] = []
    alone = sweep(here, toys, workers=1)
    seen: list[tuple[int, int, str]] = []
    together = sweep(beside, toys, workers=2, say=lines.append, progress=lambda *news: seen.append(news))
    assert list(alone) == ["linear", "lab", "classifier"]
    assert list(together) == ["classifier", "lab", "linear"]
    for name in alone:
        assert together[name].status == "finished"
        assert together[name].figures == alone[name].figures
    first, second = weights(here), weights(beside)
    assert all(torch.equal(first[name][key], second[name][key]) for name in first for key in first[name])
    assert sorted(line.partition(" in ")[0] for line in lines) == [
        "classifier: 4 epochs",
        "lab: 2 epochs",
        "linear: 2 epochs",
    ]
    shares = [done / total for done, total, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert seen[-1][2].startswith("3 of 3 done; ")


def test_a_sweep_taken_up_again_trains_only_what_is_missing(toys: Split, tmp_path: Path) -> None:
    trials = [*three(tmp_path), diverging(tmp_path)]
    first = sweep(trials[1:], toys, workers=2)
    assert [outcome.status for outcome in first.values()] == ["finished", "finished", "diverged"]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")}
    lines: list[str] = []
    again = sweep(trials, toys, workers=2, say=lines.append)
    assert {name: again[name] for name in first} == first
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert lines[:3] == [
        "lab: finished before, taken as it is",
        "classifier: finished before, taken as it is",
        "wild: diverged before, taken as it is",
    ]
    assert lines[3].startswith("linear: 2 epochs in ")


def test_the_longest_trial_comes_first(toys: Split, tmp_path: Path) -> None:
    lines: list[str] = []
    sweep(three(tmp_path), toys, workers=1, say=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["classifier", "lab", "linear"]


def test_cost_counts_epochs_images_and_multiplications(toys: Split) -> None:
    def of(model: ModelSettings, training: TrainingSettings = BRIEF) -> float:
        return cost(RunSettings(data=DataSettings(name="toy"), model=model, training=training), toys.train)

    # Forward, and backward to the weights; the decoder also to its input.
    assert of(LinearSettings(latent_dim=5)) == 2 * len(toys.train) * (2 + 3) * 256 * 5
    assert of(SMALL, BRIEF.model_copy(update={"epochs": 6})) == 3 * of(SMALL)


def test_divergence_is_an_answer_and_stays_one(toys: Split, tmp_path: Path) -> None:
    trials = [diverging(tmp_path), trial(tmp_path, "lab")]
    lines: list[str] = []
    outcome = sweep(trials, toys, workers=1, say=lines.append)["wild"]
    assert outcome.status == "diverged"
    assert outcome.figures is None
    assert outcome.figure("validation_loss") is None
    assert outcome.error is not None
    assert outcome.error.startswith("the loss was not finite at step ")
    assert "with learning rate 1e+30" in outcome.error
    assert any(line.startswith("wild: 0 epochs in 0 s, then diverged: the loss was not finite") for line in lines)
    assert Run(trials[0].folder).status()["state"] == "diverged"
    before = (trials[0].folder / "status.json").stat().st_mtime_ns
    assert Outcome(**run_trial(trials[0], toys)) == outcome
    assert (trials[0].folder / "status.json").stat().st_mtime_ns == before


def test_a_failing_trial_is_reported_and_the_others_go_on(toys: Split, tmp_path: Path) -> None:
    # A file where the run's folder of weights should be: found only when the training has ended.
    blocked, other = trial(tmp_path, "blocked"), trial(tmp_path, "other")
    blocked.folder.mkdir()
    (blocked.folder / "model").write_text("in the way")
    too_deep = trial(tmp_path, "deep", ClassifierSettings(blocks=5))
    lines: list[str] = []
    outcomes = sweep([blocked, too_deep, other], toys, workers=2, say=lines.append)
    assert [outcome.status for outcome in outcomes.values()] == ["failed", "failed", "finished"]
    assert "Could not write" in str(outcomes["blocked"].error)
    assert "model.blocks is 5, but images of 16 x 16 can be halved 4 times" in str(outcomes["deep"].error)
    assert any(line.startswith("blocked: failed: Could not write") for line in lines)
    (blocked.folder / "model").unlink()
    assert sweep([blocked], toys, workers=1)["blocked"].status == "finished"


def test_an_unexpected_failure_keeps_its_traceback(toys: Split, tmp_path: Path) -> None:
    broken = trial(tmp_path, "lab")
    sweep([broken], toys, workers=1)
    (broken.folder / "metrics.jsonl").write_text("no JSON\n")
    lines: list[str] = []
    outcome = sweep([broken], toys, workers=1, say=lines.append)["lab"]
    assert outcome.status == "failed"
    assert str(outcome.error).startswith("Traceback")
    assert "JSONDecodeError" in str(outcome.error).splitlines()[-1]
    assert [line.partition(": Expecting")[0] for line in lines] == ["lab: failed: json.decoder.JSONDecodeError"]


def test_a_folder_of_other_settings_is_a_failure_that_says_so(toys: Split, tmp_path: Path) -> None:
    sweep([trial(tmp_path, "lab")], toys, workers=1)
    longer = trial(tmp_path, "lab", training=BRIEF.model_copy(update={"epochs": 3}))
    outcome = sweep([longer], toys, workers=2)["lab"]
    assert outcome.status == "failed"
    assert "begun with other settings (training.epochs was 2, now 3)" in str(outcome.error)


def test_what_cannot_be_swept_is_refused(toys: Split, tmp_path: Path) -> None:
    lab = trial(tmp_path, "lab")
    with pytest.raises(InputError, match=r"workers is 0; a sweep needs at least 1"):
        sweep([lab], toys, workers=0)
    with pytest.raises(InputError, match=r"Two trials of the sweep have the name lab; give each its own"):
        sweep([lab, trial(tmp_path / "other", "lab")], toys)
    with pytest.raises(InputError, match=r"Two trials of the sweep have the folder .*lab; give each its own"):
        sweep([lab, Trial("second", lab.folder, lab.settings)], toys)
    begun = Trial("lab", lab.folder, lab.settings.model_copy(update={"start": "elsewhere"}))
    with pytest.raises(InputError, match=r"trial lab starts with the weights of elsewhere.*leave `start` out"):
        sweep([begun], toys)
    assert not lab.folder.exists()


def test_a_killed_worker_costs_its_trial_alone_and_is_replaced(toys: Split, tmp_path: Path) -> None:
    endless = [trial(tmp_path, name, training=ENDLESS) for name in ("a", "b")]
    brief = [trial(tmp_path, name) for name in ("c", "d")]
    still_at_work: list[list[str]] = []
    ended = threading.Event()

    def kill_one_after_the_other() -> None:
        try:
            wait_for(lambda: all(Run(e.folder).history() for e in endless))
            multiprocessing.active_children()[0].kill()
            wait_for(lambda: all(Run(b.folder).finished for b in brief))
            still_at_work.append([e.name for e in endless if Run(e.folder).status()["state"] == "running"])
        finally:  # whatever went wrong above, the sweep comes to an end
            while not ended.wait(0.2):
                for process in multiprocessing.active_children():
                    process.kill()

    killer = threading.Thread(target=kill_one_after_the_other)
    killer.start()
    lines: list[str] = []
    outcomes = sweep([*endless, *brief], toys, workers=2, say=lines.append)
    ended.set()
    killer.join()
    assert [outcome.status for outcome in outcomes.values()] == ["failed", "failed", "finished", "finished"]
    assert len(still_at_work[0]) == 1
    assert [line[0] for line in lines[1:]] == ["c", "d", *still_at_work[0]]
    for made in endless:
        reason = str(outcomes[made.name].error)
        assert reason.startswith("its process was ended by signal 9 (SIGKILL); the system does that when memory runs")
        assert Run(made.folder).status()["state"] == "failed"
        assert Run(made.folder).status()["error"] == reason
        assert outcomes[made.name].seconds > 0
    assert not multiprocessing.active_children()


SCRIPT = """
import multiprocessing, signal, sys
from pathlib import Path
import test_sweep
from isthmus.data.catalog import load
from isthmus.data.split import split
from isthmus.training.sweep import sweep

def terminate(number, frame):
    raise KeyboardInterrupt  # as cli/main.py does

def show(done, total, text):
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    folder = Path(sys.argv[1])
    trials = [test_sweep.trial(folder, name, training=test_sweep.ENDLESS) for name in ("a", "b")]
    trials.append(test_sweep.trial(folder, "brief"))
    try:
        sweep(trials, split(load(sys.argv[2])), workers=2, progress=show)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[int]]]]:
    """Starts a script that sweeps "a" and "b", which never end, and "brief"; gives it with the numbers of its workers
    when "a" and "b" are in their second epoch."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> tuple[subprocess.Popen[str], list[int]]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        data = toy(tmp_path / "toy.npz")
        command = [sys.executable, str(script), str(tmp_path), str(data)]
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            process = subprocess.Popen(
                command, stdout=out, stderr=err, text=True, env=environment, preexec_fn=attend, start_new_session=True
            )
        started.append(process)
        wait_until(lambda: all(len(Run(tmp_path / name).history()) > 1 for name in "ab"), process)
        numbers = {int(number) for line in (tmp_path / "out").read_text().splitlines() for number in line.split()}
        return process, sorted(numbers)

    yield begin
    for process in started:
        process.kill()
        process.wait()


# A terminal sends Ctrl-C to all of its processes, `kill` to the one named.
@pytest.mark.slow
@pytest.mark.parametrize(("number", "everybody"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupt_ends_the_workers_and_keeps_their_best_weights(
    begun: Callable[[], tuple[subprocess.Popen[str], list[int]]],
    tmp_path: Path,
    number: signal.Signals,
    everybody: bool,
) -> None:
    process, workers = begun()
    assert len(workers) == 2
    (os.killpg if everybody else os.kill)(process.pid, number)
    assert process.wait(timeout=20) == 130
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert (tmp_path / "err").read_text() == ""
    for name in "ab":
        assert Run(tmp_path / name).status()["state"] == "interrupted"
        assert Run(tmp_path / name).checkpoint.exists()
    assert not (tmp_path / "brief").exists()


def test_an_interrupt_of_a_sweep_in_one_process_goes_up(toys: Split, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if "validation loss" in text:
            raise KeyboardInterrupt

    made = trial(tmp_path, "a", training=ENDLESS)
    with pytest.raises(KeyboardInterrupt):
        sweep([made], toys, workers=1, progress=interrupt)
    assert Run(made.folder).status()["state"] == "interrupted"
    assert Run(made.folder).checkpoint.exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
def test_workers_end_when_their_parent_is_killed(
    begun: Callable[[], tuple[subprocess.Popen[str], list[int]]], tmp_path: Path
) -> None:
    process, workers = begun()
    process.kill()
    wait_for(lambda: all(gone(worker) for worker in workers), seconds=10)
    assert [Run(tmp_path / name).status()["state"] for name in "ab"] == ["interrupted"] * 2
