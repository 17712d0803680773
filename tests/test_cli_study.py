"""A whole study from the command line: what it writes, how it is taken up again, and images that are no digits."""

import contextlib
import io
import json
import signal
import tomllib

import numpy as np
import pytest
import torch

from command_line import PROMISED, SMALL, content, start, toy, wait_until
from isthmus.cli.main import run
from isthmus.data.catalog import load
from isthmus.data.split import split
from isthmus.runs import Run
from isthmus.settings import validate
from isthmus.studies.built_in import in_file_terms
from isthmus.studies.study import DigitsSettings, budget
from isthmus.studies.study_file import planned
from isthmus.studies.study_text import as_toml
from isthmus.training.evaluation import chosen_images


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory):
    images = load("mnist-5k")
    chosen = np.concatenate([np.flatnonzero(images.labels == k)[:7] for k in range(10)])
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, images=images.images[chosen], labels=images.labels[chosen])
    return path


@pytest.fixture(scope="session")
def finished(digits_file, tmp_path_factory):
    """A finished study and what it printed: (folder, command, stdout, stderr)."""
    folder = tmp_path_factory.mktemp("study") / "digits"
    command = ("study", "digits", "--data", digits_file, "--out", folder, "--fast", *SMALL, "--json")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("sys.argv", ["isthmus", *map(str, command)])
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as end:
            run()
        signal.signal(signal.SIGTERM, handler)
    assert end.value.code == 0, err.getvalue()
    return folder, command, out.getvalue(), err.getvalue()


@pytest.fixture
def brief(monkeypatch):
    """One epoch a training, for studies of which only the outcome's form matters."""

    def one_epoch(training, **more):
        return budget(training, **more).model_copy(update={"epochs": 1})

    monkeypatch.setattr("isthmus.studies.digits.budget", one_epoch)


def test_the_promised_figures_are_printed_and_written(finished):
    folder, _, out, _ = finished
    summary = json.loads(out)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert set(PROMISED) <= set(summary["figures"])
    assert all(value is None or isinstance(value, float) for value in summary["figures"].values())
    assert all(summary["figures"][name] is not None for name in PROMISED)


def test_the_folder_of_a_study(finished):
    folder, *_ = finished
    names = {path.name for path in folder.iterdir()} - {".lock"}
    files = {"study.toml", "env.json", "status.json", "log.txt", "summary.json", "report.html"}
    assert names == files | {"figures", "runs"}
    assert {"lab", "strong", "classifier"} <= {path.name for path in (folder / "runs").iterdir()}
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_the_study_trains_what_its_toml_says(finished):
    """But for the remedy of the classifier, which its curves decide."""
    folder = finished[0]
    settings = validate(DigitsSettings, tomllib.loads((folder / "study.toml").read_text()))
    images = chosen_images(settings.data)
    training = len(split(images, seed=settings.seed).train)
    plans = {plan.name: plan for plan in planned(in_file_terms(settings, images.shape), images=training)}
    runs = {path.name: Run(path).settings() for path in (folder / "runs").iterdir()}
    assert set(runs) - {"classifier-remedy"} == set(plans)
    for name, asked in plans.items():
        done = runs[name]
        said = (asked.plan.model, asked.plan.training, asked.plan.seed, asked.start)
        assert (done.model, done.training, done.seed, done.start) == said


def test_the_toml_of_a_study_trains_the_same_to_the_last_bit(isthmus, finished, tmp_path):
    """Three networks of the printed file, one of which begins with another, trained from that file alone."""
    folder, command, *_ = finished
    code, out, err = isthmus("study", "digits", "--data", command[3], "--fast", *SMALL, "--print-toml")
    assert code == 0, err
    tree = tomllib.loads(out)
    brief = {name: tree["networks"][name] for name in ("lab", "vae2-sum", "vae2")}
    (tmp_path / "my.toml").write_text(as_toml({**tree, "networks": brief, "analyses": []}))
    code, out, err = isthmus("study", tmp_path / "my.toml", "--out", tmp_path / "own", "--workers", "1")
    assert code == 0, err
    for name in brief:
        before, now = (Run(place / "runs" / name).network().state_dict() for place in (folder, tmp_path / "own"))
        assert all(torch.equal(weights, now[key]) for key, weights in before.items()), name


def test_a_fast_study_says_so(finished):
    folder, _, _, err = finished
    assert "a fast run: every training has a third of its updates" in err
    assert "A fast run" in (folder / "report.html").read_text()


def test_a_finished_study_is_refused_or_left_alone(isthmus, finished):
    folder, command, out, _ = finished
    before = content(folder)
    code, answer, err = isthmus(*command)
    assert (code, answer) == (2, "")
    assert "exists already; add --resume to go on, --overwrite to start anew, or another --out" in err
    code, answer, err = isthmus(*command, "--resume")
    assert (code, answer) == (0, out)
    assert "finished before, nothing to do" in err
    assert content(folder) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--seed", "1"), "seed was 0, now 1"),
        (("--data", "mnist-5k"), "now 'mnist-5k'"),
        (("--set", "noise=0.5"), "noise was 0.25, now 0.5"),
    ],
)
def test_a_study_is_not_resumed_with_other_settings(isthmus, finished, change, words):
    folder, command, *_ = finished
    before = content(folder)
    code, _, err = isthmus(*command, "--resume", *change)
    assert code == 2
    assert "was begun with other settings" in err
    assert words in err
    assert content(folder) == before


def test_a_run_of_a_study_can_be_evaluated_and_a_study_cannot(isthmus, finished):
    folder, command, *_ = finished
    code, out, _ = isthmus("evaluate", folder / "runs/lab", command[3], "--json")
    assert code == 0
    assert json.loads(out)["figures"]["mse"] > 0
    code, _, err = isthmus("evaluate", folder, command[3])
    assert code == 2
    assert "runs fit; name one of them" in err


@pytest.mark.slow
def test_an_unlabelled_study_survives_ctrl_c_and_kill_9(isthmus, tmp_path):
    data, folder = toy(tmp_path / "plain.npz", count=120, labels=False), tmp_path / "study"
    command = ("study", "digits", "--data", data, "--out", folder, *SMALL, "--json")
    strong = folder / "runs/strong"

    process = start(*command, "--fast")
    wait_until((strong / "metrics.jsonl").exists, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("interrupted; finished runs are kept, the same command with --resume does the rest\n")
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    lab = content(folder / "runs/lab")

    process = start(*command, "--fast", "--resume")
    changed = (strong / "run.json").stat().st_mtime_ns
    wait_until(lambda: (strong / "run.json").stat().st_mtime_ns != changed, process)
    process.kill()
    process.communicate()
    assert not (strong / "model").exists()
    assert not (folder / "summary.json").exists()

    code, out, err = isthmus(*command, "--fast", "--resume")
    assert code == 0, err
    assert "lab: finished before, taken as it is" in err
    assert content(folder / "runs/lab") == lab
    names = set(json.loads(out)["figures"])
    assert {"D1.lab.test_mse", "D6.bottleneck.psnr", "study.seconds"} <= names
    assert not [name for name in names if name.startswith(("D3", "D4"))]
    assert not (folder / "runs/classifier").exists()
    assert "The images have no labels" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_colours_and_twelve_classes_named_by_words(isthmus, brief, tmp_path):
    names = ["naïve <b>", "zz & co", "größe", *(f"class {k}" for k in range(9))]
    data = toy(tmp_path / "my words.npz", count=96, classes=12, channels=3, names=names)
    code, out, err = isthmus("study", "digits", "--data", data, "--out", tmp_path / "s p", *SMALL, "--json")
    assert code == 0, err
    assert {f"D4.accuracy.{name}" for name in names} <= set(json.loads(out)["figures"])
    page = (tmp_path / "s p/report.html").read_text()
    assert "naïve &lt;b&gt;" in page
    assert "naïve <b>" not in page


@pytest.mark.slow
def test_classes_may_be_numbered_from_one(isthmus, brief, tmp_path):
    data = toy(tmp_path / "from1.npz")
    arrays = dict(np.load(data))
    np.savez(data, images=arrays["images"], labels=arrays["labels"] + 1)
    code, out, err = isthmus("study", "digits", "--data", data, "--out", tmp_path / "s", *SMALL, "--json")
    assert code == 0, err
    assert json.loads(out)["figures"]["D4.accuracy_mean"] is not None
    assert json.loads(out)["figures"]["D4.accuracy.0"] is None


@pytest.mark.slow
def test_images_that_are_all_alike(isthmus, brief, tmp_path):
    data = tmp_path / "black.npz"
    np.savez(data, images=np.zeros((60, 16, 16), np.uint8), labels=np.arange(60) % 3)
    code, out, err = isthmus("study", "digits", "--data", data, "--out", tmp_path / "s", *SMALL, "--json")
    assert code == 0, err
    assert json.loads(out)["figures"]["D1.pca.test_mse"] == 0
