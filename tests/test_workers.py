"""Worker processes: where and how they are started, and what a job costs whose worker cannot begin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from isthmus.training.loop import Progress
from isthmus.training.workers import Died, Orders, Work, in_processes, own_processors


def done(work: Work, jobs: list[str]) -> dict[int, str | None]:
    return dict(in_processes(Orders(work), jobs, None, workers=1, follow=print))


def test_a_worker_that_cannot_begin_costs_its_job() -> None:
    orders = Orders(divmod, prepare=partial(os._exit, 3))
    reason = (
        "its process ended with exit code 3 before the work was done; a script that starts workers needs "
        '`if __name__ == "__main__":`'
    )
    assert list(in_processes(orders, ["job"], None, workers=1, follow=print)) == [(0, Died(reason))]


def test_workers_are_held_to_processors_only_where_they_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {4, 5, 6, 7}, raising=False)
    assert own_processors(4, 1) == [[4], [5], [6], [7]]
    assert own_processors(2, 2) == [[4, 5], [6, 7]]
    assert own_processors(2, 1) == own_processors(3, 2) == []


def whereabouts(job: object, shared: object, progress: Progress) -> list[int]:
    """Waits long enough for the others to begin too."""
    time.sleep(0.3)
    return sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say where a process may run")
def test_each_worker_stays_where_it_is_held() -> None:
    ours = sorted(os.sched_getaffinity(0))
    places = [[ours[0]], [ours[-1]]]
    found = dict(in_processes(Orders(whereabouts, places=places), range(4), None, workers=2, follow=print))
    assert sorted(found) == [0, 1, 2, 3]
    assert {tuple(place) for place in found.values()} == {tuple(place) for place in places}


def surroundings(job: str, shared: object, progress: Progress) -> str | None:
    return os.environ.get(job)


def test_a_worker_has_the_environment_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("ISTHMUS_TRIED", value)
        assert done(surroundings, ["ISTHMUS_TRIED", "PYTHONSAFEPATH"]) == {0: value, 1: None}
    monkeypatch.delenv("ISTHMUS_TRIED")
    assert done(surroundings, ["ISTHMUS_TRIED"]) == {0: None}


def test_where_no_socket_can_be_made_workers_start_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long() -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(forkserver, "ensure_running", too_long)
    monkeypatch.setenv("ISTHMUS_TRIED", "here")
    assert done(surroundings, ["ISTHMUS_TRIED"]) == {0: "here"}


SCRIPT = """
from isthmus.training.workers import Orders, in_processes
from test_workers import surroundings

if __name__ == "__main__":
    print(list(in_processes(Orders(surroundings), ["ISTHMUS_TRIED"], None, workers=1, follow=print)))
"""


def test_a_file_that_lies_about_is_no_module_of_a_worker(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "script.py").write_text(SCRIPT)
    for name in ("token", "random", "torch", "isthmus"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "ISTHMUS_TRIED": "mine"}
    command = [sys.executable, str(tmp_path / "code" / "script.py")]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[(0, 'mine')]\n", "")
