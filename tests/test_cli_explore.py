"""`isthmus explore`: shown by a server, as a folder, as one file, and what bad input gets."""

import _thread
import json
import os
import signal
import threading
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from command_line import check_refused, content, start
from explorer_runs import manifest_of, needs_onnx, pictures, real_page, stand_in, trained
from isthmus.explorer import layout, page
from isthmus.explorer.serve import Server
from isthmus.report.page import Page, render
from isthmus.runs import Run
from isthmus.training.evaluation import held_out

pytestmark = [pytest.mark.slow, needs_onnx]


@pytest.fixture(autouse=True)
def _page(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(page, "STATIC", stand_in(tmp_path_factory.mktemp("page") / "static"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with a report, a vae of two numbers and a classifier."""
    folder = tmp_path_factory.mktemp("study")
    data = pictures(folder / "grey.npz", (1, 16, 16))
    trained("vae", data, folder / "runs/vae", "model.latent_dim=2", "model.architecture=mlp", "model.hidden=[20,10]")
    trained("classifier", data, folder / "runs/classifier")
    (folder / "study.toml").write_text("")
    (folder / "report.html").write_text(render(Page("t", [], [], {}, [])))
    return folder


def ours(folder):
    """Temporary folders of ours; PyTorch leaves one of its own."""
    return [name for name in os.listdir(folder) if name.startswith("isthmus-")]


def test_a_folder_is_written_and_replaced_only_when_told(isthmus, study, tmp_path):
    out = tmp_path / "new/out"
    code, stdout, err = isthmus("explore", study / "runs/vae", "--export", out, "--json")
    assert code == 0, err
    facts = json.loads(stdout)
    assert facts["out"] == str(out)
    assert facts["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert facts["images"] == manifest_of(out)["count"]
    assert facts["missing"] == []
    assert "exporting the networks" in err
    before = content(out)
    check_refused(isthmus("explore", study / "runs/vae", "--export", out), "exists already", "--overwrite")
    assert content(out) == before
    code, stdout, err = isthmus("explore", study, study / "grey.npz", "--export", out, "--overwrite", "--quiet")
    assert (code, err) == (0, "")  # of a study with one run that has codes
    assert stdout.startswith(f"explorer: {out} (")
    assert manifest_of(out)["count"] == 90
    assert os.listdir(out.parent) == ["out"]


def test_a_single_file_beside_the_report_is_linked_in_it(isthmus, study, tmp_path):
    out = study / "explorer.html"
    code, stdout, err = isthmus("explore", study / "runs/vae", "--single-file", out, "--no-progress")
    assert code == 0, err
    assert stdout.splitlines()[1] == f"linked in: {study / 'report.html'}"
    assert 'href="explorer.html">Explore the codes of vae in the browser</a>' in (study / "report.html").read_text()
    check_refused(isthmus("explore", study / "runs/vae", "--single-file", out), "exists already", "--overwrite")
    other = tmp_path / "explorer.html"
    code, stdout, err = isthmus("explore", study / "runs/classifier", "--single-file", other, "--json")
    assert code == 0, err
    facts = json.loads(stdout)
    assert facts["linked_in"] is None
    assert facts["bytes"] == other.stat().st_size
    assert "it has no codes" in facts["missing"][0]
    assert facts["missing"][0] in err


@pytest.fixture
def _ctrl_c():
    """Ctrl-C is heard: a test run in the background is begun with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.usefixtures("_ctrl_c")
def test_it_is_served_until_interrupted_and_nothing_is_left(isthmus, study, tmp_path, monkeypatch, opens):
    """The browser that is opened reads the page, and then Ctrl-C is pressed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen = {}

    def read(address):
        try:
            for name in ("", "data/manifest.json"):
                with urllib.request.urlopen(address + name, timeout=30) as answer:
                    seen[name] = answer.read()
            seen["left"] = ours(tmp_path)
        finally:  # whatever was found, the server is to end
            _thread.interrupt_main()

    def browse(address):
        threading.Thread(target=read, args=(address,), daemon=True).start()
        return opens

    monkeypatch.setattr(webbrowser, "open", browse)
    code, stdout, err = isthmus("explore", study / "runs/vae")
    assert code == 130
    assert err.endswith("interrupted\n")
    assert ("no browser could be opened from here; open http://127.0.0.1:" in err) != opens
    assert stdout.startswith("explorer: http://127.0.0.1:")
    assert b"<main>" in seen[""]
    assert json.loads(seen["data/manifest.json"])["title"] == "vae"
    assert len(seen["left"]) == 1
    assert ours(tmp_path) == []


def test_a_process_of_its_own_ends_when_it_is_told_to(study, tmp_path):
    real_page()
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    process = start("explore", study / "runs/vae", "--no-browser", "--json", env=place)
    address = json.loads(process.stdout.readline())["address"]
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'wasm-")
    assert len(ours(tmp_path)) == 1
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err.endswith("terminated\n")
    assert ours(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--export", "a", "--single-file", "b.html"), ("--export writes a folder, --single-file a file: give one",)),
        (("--export", "a", "--port", "8000"), ("--port and --no-browser belong to the server", "leave them out")),
        (("--single-file", "a.html", "--no-browser"), ("belong to the server",)),
        (("--overwrite",), ("--overwrite belongs to --export or --single-file",)),
        (("--single-file", "a.pdf"), ("ends in .pdf; name a file that ends in .html",)),
        (("--port", "70000"), ("--port is a number from 0, for any free one, to 65535; got 70000",)),
        (("none.npz",), ("none.npz",)),
        (("--classifier", "nowhere"), ("nowhere is not a finished run", "isthmus train")),
    ],
)
def test_options_that_make_no_sense_are_refused(isthmus, study, tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    check_refused(isthmus("explore", study / "runs/vae", "--quiet", *given), *words)
    assert os.listdir(tmp_path) == []


def test_runs_that_cannot_be_shown_are_refused(isthmus, tmp_path):
    check_refused(isthmus("explore", tmp_path, "--export", tmp_path / "out"), "is not a finished run")
    rows = Path(__file__).parent / "data/version-1/rows"
    check_refused(isthmus("explore", rows, "--export", tmp_path / "out"), "takes rows of", "not images")
    assert os.listdir(tmp_path) == []


def test_a_port_in_use_is_said_before_any_work(isthmus, study, tmp_path):
    with Server(tmp_path) as taken:
        check_refused(
            isthmus("explore", study / "runs/vae", "--port", taken.port), f"Port {taken.port} of", "choose another"
        )


def test_what_has_to_be_installed_is_said(isthmus, study, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "PACKAGE", "no_such_package")
    check_refused(isthmus("explore", study / "runs/vae", "--layout", "tsne"), "pip install", "isthmus[tsne]")
    monkeypatch.setattr("isthmus.export.PACKAGES", ("no_such_package",))
    check_refused(isthmus("explore", study / "runs/vae"), "no_such_package", 'pip install "isthmus[onnx]"')
    monkeypatch.setattr(page, "STATIC", tmp_path / "src/isthmus/explorer/static")
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer/package.json").write_text("{}")
    check_refused(isthmus("explore", study / "runs/vae"), "page is not built yet", f"run `make explorer` in {tmp_path}")


def test_a_test_part_that_is_gone_is_asked_for(isthmus, study, tmp_path):
    run = trained("linear", pictures(tmp_path / "gone.npz", (1, 16, 16)), tmp_path / "run")
    count = len(held_out(Run(run)))
    (tmp_path / "gone.npz").unlink()
    check_refused(isthmus("explore", run, "--export", tmp_path / "out", "--quiet"), "cannot be loaded again", "as DATA")
    code, stdout, err = isthmus("explore", run, study / "grey.npz", "--export", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(stdout)["images"] == 90 > count
