"""The benchmark suite: its table, its guard against a busy machine, its contestants, and that the plain networks of the
peers are ours. Nothing is timed, and no peer has to be installed."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.latent.neighbours import nearest
from isthmus.networks.catalog import build
from isthmus.settings import ClassifierSettings, LabSettings, ModelSettings, VAESettings

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = (
    "train.lab.b64 train.lab.b256 train.vae train.classifier time_to_99.0 time_to_99.4 sweep pca "
    "knn.2 knn.16 knn.250 map encode load_folder"
)
FAST = {"train.lab.b64", "time_to_99.0", "sweep", "map"}
MODELS: dict[str, ModelSettings] = {
    "lab": LabSettings(),
    "vae": VAESettings(sigma=1.0),
    "classifier": ClassifierSettings(),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Modules of the suite."""
    names = ("common", "contestants", "peer_environment", "suite", "table", "workloads.plan", "workloads.accuracy")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = {name.rpartition(".")[2]: importlib.import_module(name) for name in names}
        networks = importlib.import_module("peers.networks")
        yield SimpleNamespace(**found, networks=networks)
    finally:
        sys.path.remove(str(BENCHMARKS))


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BENCHMARKS / "results.json").read_text())
    return found


def test_the_table_of_the_readme_is_made_from_the_results(bench: SimpleNamespace) -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert bench.table.written(text, results()) == text, "run python benchmarks/table.py"


def test_the_table_says_what_is_known_as_a_bound_only_and_what_was_missed(bench: SimpleNamespace) -> None:
    facts = {"ours_s": 2.0, "peers_s": {"a": 50.0}, "ratio": {"a": 25.0}, "clean": 3, "discarded": 1, "commit": "abc"}
    row = bench.table.row("x", {**facts, "at_least": ["a"], "missed": ["y"]})
    assert "a at least 25.00" in row
    assert "`x` (missed)" in row
    assert "at least" not in bench.table.row("x", facts)
    assert "missed" not in bench.table.row("x", facts)


def test_a_text_without_markers_has_no_place_for_the_table(bench: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="needs the markers"):
        bench.table.written("# Benchmarks", results())


def test_every_promised_name_is_measured_once(bench: SimpleNamespace) -> None:
    names = [name for workload in bench.suite.WORKLOADS for name in workload.names]
    assert set(NAMES.split()) <= set(names)
    assert len(set(names)) == len(names)
    fast, scripts = bench.suite.chosen([], "fast")
    assert {name for _, found in fast for name in found} == FAST
    assert not scripts
    assert all((BENCHMARKS / f"{name}.py").exists() for name in bench.suite.SCRIPTS)


def test_an_unknown_name_ends_the_suite_with_the_known_ones(bench: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match=r"there is no train\.lap; known are .*train\.lab\.b64"):
        bench.suite.chosen(["train.lap"], "full")


def test_peers_are_pinned_and_bring_no_torchvision(bench: SimpleNamespace) -> None:
    lines = (BENCHMARKS / "peers" / "requirements.txt").read_text().splitlines()
    assert all(line.startswith("#") or line.count("==") == 1 for line in lines)
    assert {"lightning", "skorch", "accelerate", "pythae", "scikit-learn", "faiss-cpu"} == set(
        bench.peer_environment.versions()
    )


def disturbed(monkeypatch: pytest.MonkeyPatch, common: Any, probes: Callable[[], float], others: float = 0.0) -> None:
    """A machine whose probes take so long, and where others use so many processors."""
    clock = SimpleNamespace(now=0.0)

    def tick() -> float:
        clock.now += 1.0
        return clock.now

    monkeypatch.setattr(common, "probe", probes)
    monkeypatch.setattr(common.time, "perf_counter", tick)
    monkeypatch.setattr(common, "others_used", lambda: others * clock.now)


def test_samples_beside_others_are_counted_and_left_out(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fifth to eighth probe begin the run, the two after them surround the first sample: that one is disturbed.
    probes = iter([1.0] * 5 + [9.0, 1.0] + [1.0] * 100)
    disturbed(monkeypatch, bench.common, lambda: next(probes))
    turns = bench.common.in_turns({"ours": lambda: {"seconds": 2.0}, "peer": lambda: {"seconds": 5.0}}, 2)
    assert turns.discarded == 1
    assert len(turns.samples["ours"]) == 2  # a further round was made for it
    facts = bench.common.compared(turns)
    assert facts["ratio"] == {"peer": 2.5}
    assert facts["clean"] == 5


def test_a_processor_used_by_others_disturbs_and_too_much_of_it_ends_the_workload(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed(monkeypatch, bench.common, lambda: 1.0, others=0.5)
    with pytest.raises(bench.common.NotMeasured, match="too busy: no clean sample of ours"):
        bench.common.in_turns({"ours": lambda: {"seconds": 2.0}}, 2)
    kept = bench.common.in_turns({"ours": lambda: {"seconds": 2.0}}, 2, any_machine=True)
    assert len(kept.samples["ours"]) == 2


def test_own_processes_are_not_others(bench: SimpleNamespace) -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("needs /proc")
    before = bench.common._ours()
    np.linalg.svd(np.random.default_rng(0).normal(size=(400, 400)))
    assert bench.common._ours() > before


def test_saving_keeps_what_other_workloads_have_written(bench: SimpleNamespace, tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    bench.common.save("a", {"ours_s": 1}, place)
    bench.common.save("b", {"ours_s": 2}, place)
    found = json.loads(place.read_text())
    assert {name: facts["ours_s"] for name, facts in found["workloads"].items()} == {"a": 1, "b": 2}
    assert {"machine", "commit"} < set(found)


@pytest.mark.slow
def test_a_contestant_answers_orders_and_says_why_it_ended(bench: SimpleNamespace, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.save(tmp_path / "references.npy", generator.normal(size=(600, 3)).astype(np.float32))
    np.save(tmp_path / "queries.npy", generator.normal(size=(60, 3)).astype(np.float32))
    with bench.contestants.running({"ours": "workloads.neighbours:ours"}, tmp_path) as running:
        answer = running["ours"].ask()
    references, queries = np.load(tmp_path / "references.npy"), np.load(tmp_path / "queries.npy")
    least = np.sqrt(np.square(references[None].astype(float) - queries[:, None]).sum(2)).min(1)
    assert answer["distances"] == pytest.approx(least)
    (tmp_path / "queries.npy").unlink()
    with (
        pytest.raises(bench.common.NotMeasured, match=r"ours ended with exit code 1:[\s\S]*queries\.npy"),
        bench.contestants.running({"ours": "workloads.neighbours:ours"}, tmp_path),
    ):
        pass


@pytest.mark.parametrize("kind", MODELS)
def test_the_plain_networks_of_the_peers_compute_what_ours_do(bench: SimpleNamespace, kind: str) -> None:
    ours = build(MODELS[kind], (1, 32, 32), classes=10).double()
    plain = bench.networks.NETWORKS[kind]().double()
    with torch.no_grad():
        for own, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            theirs.copy_(own)
    images = torch.rand(20, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 10
    torch.manual_seed(3)
    own = ours.loss(images, labels if kind == "classifier" else images)
    if kind == "vae":
        plain.generator.manual_seed(3)
        own = own - 512 * np.log(2 * np.pi)
    theirs = plain.loss(images, labels)
    torch.testing.assert_close(own, theirs, rtol=1e-12, atol=0)
    own.backward()
    theirs.backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


def test_a_peer_that_was_stopped_counts_as_25_at_least(bench: SimpleNamespace) -> None:
    def sample(**answer: Any) -> Any:
        return bench.common.Sample(answer, 1.0, 1.0, 0.0)

    ours = [sample(seconds=2.0, accuracy=0.991), sample(seconds=2.0, accuracy=0.989)]
    late = sample(seconds=50.0, reached={"0.99": None}, accuracies=[0.98])
    facts = bench.accuracy.facts_of("time_to_99.0", bench.common.Turns({"time_to_99.0": ours, "example": [late]}, 0))
    assert facts["ratio"] == {"example": 25.0}
    assert facts["at_least"] == ["example"]
    assert facts["missed"] == ["ours reached 98.90% only"]
    there = sample(seconds=30.0, reached={"0.99": 30.0}, accuracies=[0.98, 0.9901])
    facts = bench.accuracy.facts_of(
        "time_to_99.0", bench.common.Turns({"time_to_99.0": ours[:1], "example": [there]}, 0)
    )
    assert facts["ratio"] == {"example": 15.0}
    assert not facts["at_least"]
    assert bench.plan.behind(facts, {"example": 20.0}) == ["15.00 times example, aim 20"]


@pytest.mark.parametrize("size", [2, 8, 9, 250])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ours_finds_the_nearest_in_any_number_of_dimensions(size: int, kind: type) -> None:
    generator = np.random.default_rng(size)
    references = (100 + generator.normal(size=(2600, size))).astype(kind)  # far from the origin, in three blocks
    queries = (100 + generator.normal(size=(1100, size))).astype(kind)
    found = nearest(references, queries)
    asked = queries[:40].astype(float)
    distances = np.square(references[None].astype(float) - asked[:, None]).sum(2)
    np.testing.assert_allclose(distances[np.arange(40), found[:40]], distances.min(1), rtol=1e-5)
    np.testing.assert_array_equal(nearest(references, references), np.arange(len(references)))


@pytest.mark.parametrize("size", [2, 9])
def test_neighbours_of_what_is_not_finite_are_refused(size: int) -> None:
    queries = np.zeros((3, size))
    queries[1, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        nearest(np.ones((5, size)), queries)
