"""A real Ray cluster as workers: each job once whatever dies, and what is said where a cluster cannot be used."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import isthmus
from isthmus.errors import InputError, IsthmusError
from isthmus.training.cluster import AGAIN, _gpu_share, on_cluster
from isthmus.training.loop import Progress
from isthmus.training.ray_session import _package, connected
from isthmus.training.workers import Died, Orders
from ray_clusters import SETTINGS, TOKEN, bare_python, cluster, plain_environment, require_ray, run_driver


def silent(number: int, done: int, total: int, text: str) -> None:
    pass


def add(job: int, shared: int, progress: Progress) -> tuple[int, int, int]:
    return job + shared, torch.get_num_threads(), os.getpid()


def misbehave(job: str, shared: Path, progress: Progress) -> Any:
    """What the job says; each time it is begun leaves a mark."""
    with (shared / job).open("a") as marks:
        marks.write(f"{os.getpid()}\n")
    if job == "die" or (job == "die-once" and len((shared / job).read_text().splitlines()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "raise":
        raise ValueError("no such luck\nat all")
    if job == "stay":
        try:
            (shared / "staying").write_text("")  # in here, since from now on it may be interrupted
            while True:  # as a training does, it comes back to Python now and then
                time.sleep(0.05)
        except KeyboardInterrupt:
            (shared / "interrupted").write_text("")
            raise
    return job


def follow_along(job: int, shared: None, progress: Progress) -> int:
    for step in range(4):
        time.sleep(0.3)
        progress(step + 1, 4, f"job {job}")
    return job


@pytest.fixture(autouse=True)
def _no_cluster_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def here() -> Iterator[Any]:
    """Ray, connected to a cluster of two CPUs on this machine, which every test below uses.

    It is started as by a program in the background, whose processes a shell tells to ignore SIGINT.
    """
    require_ray()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("PYTHONPATH", plain_environment()["PYTHONPATH"])  # workers import this file
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            ray = stack.enter_context(connected(2))
        finally:
            signal.signal(signal.SIGINT, before)
        yield ray


# -- what cannot be used


def refused(**options: Any) -> str:
    with pytest.raises(InputError) as found:
        list(on_cluster(Orders(add), [1], 0, follow=silent, **options))
    return str(found.value)


def test_without_ray_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = 'The engine ray needs a package that is not installed: `pip install "isthmus[ray]"`, or take the engine'
    assert words in refused()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", r"No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9 (Connection refused); start it with"),
        ("nonsense", "RAY_ADDRESS is 'nonsense'; give HOST:PORT, as `ray start --head` prints it, or unset it"),
        ("host:port", "RAY_ADDRESS is 'host:port'; give HOST:PORT"),
        ("ray://127.0.0.1:9", "a connection from outside of the cluster; run this on a machine of the cluster"),
    ],
)
def test_an_address_where_no_cluster_can_be_is_refused_at_once(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_ray()
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    assert words in refused()
    assert time.monotonic() - started < 20


def test_a_cluster_that_does_not_start_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    require_ray()
    import ray

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Failed to start GCS.\nLast lines")

    monkeypatch.setattr(ray, "init", fail)
    words = (
        r"could not be started on this machine \(Failed to start GCS.\); its logs are in /tmp/ray. The engine process"
    )
    with pytest.raises(IsthmusError, match=words):
        list(on_cluster(Orders(add), [1], 0, follow=silent))
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_the_package_is_sent_as_if_installed_but_not_into_a_job_that_has_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with _package() as place:
        assert place is not None
        assert (Path(place) / "isthmus/training/sweep.py").exists()
        assert not list(Path(place).rglob("*.pyc"))
        assert sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file()) < 5 * 2**20
        found = list(metadata.distributions(name="isthmus", path=[place]))
        assert [each.version for each in found] == [metadata.version("isthmus")]
    assert not Path(place).exists()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "gcs://a.zip"}}')
    with _package() as place:
        assert place is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {}}')
    with _package() as place:
        assert place is not None


# -- on this machine


@pytest.mark.slow
def test_every_job_is_done_once_with_its_threads_and_in_the_order_asked_for(here: Any) -> None:
    done = list(on_cluster(Orders(add), range(6), 100, workers=1, follow=silent, order=lambda: [5, 3, 1, 0, 2, 4]))
    assert [number for number, _ in done] == [5, 3, 1, 0, 2, 4]
    assert all(result[:2] == (number + 100, 1) for number, result in done)
    many = list(on_cluster(Orders(add, threads=2), range(50), 0, follow=silent))
    assert sorted(number for number, _ in many) == list(range(50))
    assert all(result[:2] == (number, 2) for number, result in many)
    assert os.getpid() not in {result[2] for _, result in many}
    assert list(on_cluster(Orders(add), [], 0, follow=silent)) == []


@pytest.mark.slow
def test_progress_of_each_job_comes_while_it_runs(here: Any) -> None:
    news: list[tuple[int, int, int, str]] = []
    assert dict(on_cluster(Orders(follow_along), [0, 1], None, follow=lambda *told: news.append(told))) == {0: 0, 1: 1}
    for job in (0, 1):
        steps = [done for number, done, _, _ in news if number == job]
        assert len(steps) >= 2
        assert steps == sorted(steps)
    assert all(all_of == 4 and text == f"job {number}" for number, _, all_of, text in news)


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing_and_one_that_always_dies_its_job_alone(here: Any, tmp_path: Path) -> None:
    news: list[tuple[int, int, int, str]] = []
    jobs = ["die", "die-once", "raise", *("good" + str(i) for i in range(8))]
    done = list(on_cluster(Orders(misbehave), jobs, tmp_path, workers=2, follow=lambda *told: news.append(told)))
    assert sorted(number for number, _ in done) == list(range(len(jobs)))
    results = {jobs[number]: result for number, result in done}
    assert results["die-once"] == "die-once"
    assert len((tmp_path / "die-once").read_text().splitlines()) == 2
    assert (1, 0, 1, "begun again, since its worker died") in news
    assert all(results[name] == name for name in jobs[3:])
    assert isinstance(results["die"], Died)
    assert results["die"].reason.startswith(f"its worker ended {AGAIN + 1} times before the work was done (")
    assert len((tmp_path / "die").read_text().splitlines()) == AGAIN + 1
    assert results["raise"] == Died("it was left by ValueError: no such luck")


@pytest.mark.slow
def test_leaving_early_interrupts_what_runs(here: Any, tmp_path: Path) -> None:
    work = on_cluster(Orders(misbehave), ["good", "stay", "stay2"], tmp_path, workers=2, follow=silent)
    assert next(work)[1] in ("good", "stay2")
    end = time.monotonic() + 60
    while not (tmp_path / "staying").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    started = time.monotonic()
    work.close()
    assert time.monotonic() - started < 6
    assert (tmp_path / "interrupted").exists()
    assert dict(on_cluster(Orders(add), [1, 2], 1, follow=silent)).keys() == {0, 1}  # the CPUs are free again


@pytest.mark.slow
def test_what_there_is_no_room_for_is_said(here: Any) -> None:
    with pytest.raises(InputError) as found:
        list(on_cluster(Orders(add, threads=3), [1], 0, follow=silent))
    assert str(found.value).startswith(
        "A job takes 3 CPUs, and the largest machine of the Ray cluster has 2: it would wait for ever. Give more "
        "--workers"
    )
    assert "The Ray cluster has no GPU for --device cuda; choose --device cpu" in refused(gpu=True)


def test_a_share_of_a_gpu_is_one_that_ray_can_give() -> None:
    class There:
        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 8.0, "GPU": 2.0}

    assert [_gpu_share(There(), workers) for workers in (None, 1, 2, 3, 4, 5)] == [1, 1, 1, 1 / 2, 1 / 2, 1 / 3]


OWN = """
import os, signal, sys
from test_cluster import add, silent
from isthmus.training.cluster import on_cluster
from isthmus.training.workers import Orders

def mine(number, frame):
    pass

if __name__ == "__main__":
    assert "ray" not in sys.modules
    signal.signal(signal.SIGTERM, mine)
    for _ in range(2):
        done = dict(on_cluster(Orders(add), [1, 2, 3], 10, workers=2, follow=silent))
        assert [done[i][0] for i in range(3)] == [11, 12, 13], done
    assert signal.getsignal(signal.SIGTERM) is mine
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
"""


@pytest.mark.slow
def test_a_cluster_of_its_own_leaves_no_process_signal_or_file_behind(tmp_path: Path) -> None:
    require_ray()
    script, home = tmp_path / "own.py", tmp_path / "home"
    script.write_text(OWN)
    home.mkdir()
    mark = f"mark-{os.getpid()}-{time.time_ns()}"
    done = run_driver(script, environment=plain_environment(HOME=str(home), ISTHMUS_MARK=mark))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == ""
    assert list(home.iterdir()) == []
    end = time.monotonic() + 20
    while any(mark in _environment(entry) for entry in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < end
        time.sleep(0.2)


def _environment(process: Path) -> str:
    try:
        return (process / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


# -- a cluster that knows nothing of this process, on which this package is not installed

ELSEWHERE = """
import os, sys
import numpy as np
from isthmus.errors import IsthmusError
from isthmus.data.imageset import ImageSet, Split
from isthmus.settings import DataSettings, LinearSettings, RunSettings, TrainingSettings
from isthmus.training.sweep import Trial, sweep
from pathlib import Path

if __name__ == "__main__":
    count, size, trials = map(int, sys.argv[2:5])
    images = np.random.default_rng(0).integers(0, 256, (count, 1, size, size), np.uint8)
    parts = Split(*(ImageSet.from_arrays(part) for part in (images[20:], images[:10], images[10:20])))
    short = TrainingSettings(epochs=1, batch_size=max(8, count // 4))
    model = LinearSettings(latent_dim=2)
    settings = RunSettings(data=DataSettings(name="x"), model=model, training=short)
    made = [Trial(str(i), Path(sys.argv[1]) / str(i), settings.model_copy(update={"seed": i})) for i in range(trials)]
    try:
        for name, found in sweep(made, parts, engine="ray").items():
            print(name, found.status, found.error)
    except IsthmusError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "elsewhere.py"
    path.write_text(ELSEWHERE)
    return path


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster with a small object store on a Python that has no isthmus."""
    require_ray()
    python = bare_python(tmp_path_factory.mktemp("bare") / "python")
    with cluster(python, memory=80 * 2**20) as address:
        yield address


def known(address: str, **more: str) -> dict[str, str]:
    return plain_environment(RAY_ADDRESS=address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, **more)


@pytest.mark.slow
def test_the_package_goes_along_and_two_programs_share_a_cluster(elsewhere: str, script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script)]
    both = [
        subprocess.Popen(
            [*command, str(tmp_path / name), "40", "8", "4"],
            env=known(elsewhere),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for name, process in zip("ab", both, strict=True):
        out, err = process.communicate(timeout=300)
        assert out == "".join(f"{i} finished None\n" for i in range(4)), err
        assert len(list((tmp_path / name).rglob("model.safetensors"))) == 4
        assert f'"isthmus": "{isthmus.__version__}"' in (tmp_path / name / "0/run.json").read_text()


@pytest.mark.slow
def test_images_larger_than_the_object_store_are_trained_on_all_the_same(
    elsewhere: str, script: Path, tmp_path: Path
) -> None:
    done = run_driver(script, tmp_path / "runs", 50_000, 64, 1, environment=known(elsewhere))
    assert done.stdout == "0 finished None\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "and RAY_AUTH_MODE is not set"),
        ({"RAY_AUTH_MODE": "token"}, "and neither RAY_AUTH_TOKEN nor RAY_AUTH_TOKEN_PATH is set"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}, "and that in RAY_AUTH_TOKEN is not its own"),
    ],
)
def test_a_cluster_that_asks_for_a_token_says_so(
    elsewhere: str, script: Path, tmp_path: Path, given: dict[str, str], why: str
) -> None:
    environment = plain_environment(RAY_ADDRESS=elsewhere, HOME=str(tmp_path), **given)
    done = run_driver(script, tmp_path / "runs", 40, 8, 1, environment=environment)
    assert done.stdout == (
        f"InputError The Ray cluster at {elsewhere} asks for a token, {why}. Set RAY_AUTH_MODE=token, and "
        f"RAY_AUTH_TOKEN to the cluster's own token or RAY_AUTH_TOKEN_PATH to the file that holds it.\n"
    )


@pytest.mark.slow
def test_a_token_may_lie_in_a_file(elsewhere: str, script: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    environment = plain_environment(
        RAY_ADDRESS=elsewhere, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token")
    )
    done = run_driver(script, tmp_path / "runs", 40, 8, 1, environment=environment)
    assert done.stdout == "0 finished None\n", done.stderr


@pytest.mark.slow
def test_a_cluster_without_what_the_package_needs_says_what(script: Path, tmp_path: Path) -> None:
    require_ray()
    with cluster(bare_python(tmp_path / "python", without="safetensors")) as address:
        done = run_driver(script, tmp_path / "runs", 40, 8, 1, environment=known(address))
    assert done.stdout.startswith("InputError The workers of the Ray cluster lack the package safetensors. Isthmus is")
    assert "install torch, numpy, pydantic, safetensors, filelock, pillow and typer on every machine" in done.stdout
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
