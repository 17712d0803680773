"""What bad input gets: one sentence that names the thing and the next step, an exit code, and nothing half-written."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import BRIEF, check_refused, start, toy
from isthmus.runs import Run


def pictures(folder, names=("a", "b"), count=8):
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((16, 16), 9 * i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


def empty_folder(place):
    (place / "data").mkdir()
    return place / "data"


def one_class(place):
    return pictures(place / "data", ["hand"])


def no_bytes(place):
    (pictures(place / "data") / "a/3.png").write_bytes(b"")
    return place / "data"


def truncated(place):
    path = toy(place / "data.npz")
    path.write_bytes(path.read_bytes()[:2000])
    return path


def other_length(place):
    np.savez(place / "data.npz", images=np.zeros((30, 16, 16), np.uint8), labels=np.zeros(29, int))
    return place / "data.npz"


def too_few(place):
    return toy(place / "data.npz", count=5)


def too_few_in_a_class(place):
    return toy(place / "data.npz", count=20, classes=10)


def one_class_in_an_archive(place):
    return toy(place / "data.npz", classes=1)


BAD_DATA = {
    empty_folder: ("data holds no images", "put images", "in one subfolder per class, or directly in the folder"),
    one_class: ("images in one subfolder only, 'hand'", "itself for an unlabelled set, or add a second class"),
    no_bytes: ("1 of 16 image files", "a/3.png is empty (0 bytes)", "leave them out with --skip-bad"),
    truncated: ("data.npz is empty, cut short or not an .npz archive", "fetch it again"),
    other_length: ("data.npz, images and labels: there are 30 images but 29 labels; give one per image",),
    too_few: ("data has 5 images to divide", "at least 10 are needed: add images"),
    too_few_in_a_class: (
        "classes too small to divide",
        "'0' has 2",
        "at least 3 images a class are needed: add images",
    ),
    one_class_in_an_archive: ("at least two classes; these have one class only", "into a folder of its own"),
}


@pytest.mark.parametrize("command", [("train", "classifier"), ("study", "digits", "--data")], ids=["train", "study"])
@pytest.mark.parametrize("make", BAD_DATA, ids=lambda make: make.__name__)
def test_images_that_cannot_be_used_are_named(isthmus, tmp_path, command, make):
    out = tmp_path / "out"
    check_refused(isthmus(*command, make(tmp_path), "--out", out, "--json"), *BAD_DATA[make])
    assert not out.exists()


def test_bad_files_can_be_left_out(isthmus, tmp_path):
    code, _, err = isthmus("train", "linear", no_bytes(tmp_path), "--out", tmp_path / "run", *BRIEF, "--skip-bad")
    assert code == 0
    assert "1 unreadable file left out: a/3.png is empty (0 bytes)" in err


@pytest.mark.parametrize("network", ["lab", "classifier"])
def test_images_that_cannot_be_halved_enough_are_refused(isthmus, tmp_path, network):
    answer = isthmus("train", network, toy(tmp_path / "small.npz", size=8), "--out", tmp_path / "run")
    check_refused(answer, "8 x 8 cannot be halved enough", "at least 16 pixels", "--set data.height=32")
    assert not (tmp_path / "run").exists()


def test_a_classifier_wants_labels(isthmus, tmp_path):
    answer = isthmus("train", "classifier", toy(tmp_path / "u.npz", labels=False), "--out", tmp_path / "run")
    check_refused(answer, "at least two classes; these have no labels to learn from", "into a folder of its own")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("train", "lab", "mnist5k"), ("'mnist5k' is neither a set", "Did you mean mnist-5k?")),
        (("study", "digits", "--data", "mnst"), ("'mnst' is neither a set", "Did you mean mnist?")),
        (("train", "lab", "no/such"), ("no/such does not exist; give a folder of images",)),
        (("train", "lab", "x" * 300), ("x' is neither a set of the catalogue nor a file or folder here",)),
        (("train", "linaer", "mnist-5k"), ("There is no network 'linaer'; did you mean 'linear'?",)),
        (("study", "digit"), ("There is no study 'digit'; did you mean 'digits'?",)),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(isthmus, tmp_path, command, words):
    check_refused(isthmus(*command, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.epochs=-1", "training.epochs: input should be greater than 0 (given -1)"),
        ("training.epoch=3", "training.epoch: no such setting; did you mean 'epochs'?"),
        ("model.latent_dim=0", "model.latent_dim: input should be greater than 0 (given 0)"),
        ("model.latent_dim=two", "model.latent_dim: input should be a valid integer"),
        ("model.name=strong", "--set model.name=strong contradicts `train linear`; name one network."),
        ("training.learning_rate=inf", "training.learning_rate: input should be a finite number (given inf)"),
        ("training.noise=nan", "training.noise: input should be a finite number (given nan)"),
        ("data.height=16", "data.height and data.width go together: give both or neither"),
        ("data.height=8", "data.height: input should be greater than or equal to 16 (given 8)"),
        ("seed=-1", "seed: input should be greater than or equal to 0"),
        ("training", "--set 'training' is not KEY=VALUE; write for example training.epochs=3."),
        ("=3", "--set '=3' is not KEY=VALUE"),
        ("colour=3", "colour: no such setting; there are: data, model, seed, start, training."),
    ],
)
def test_settings_that_cannot_be_used_are_named(isthmus, data, tmp_path, change, words):
    check_refused(isthmus("train", "linear", data, "--out", tmp_path / "run", "--set", change), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("noise=-1", "noise: input should be greater than 0 (given -1)"),
        ("noise=nan", "noise: input should be a finite number (given nan)"),
        ("training.epochs=1", "training: no such setting; there are: data, fast, noise, seed, study."),
    ],
)
def test_a_study_names_its_settings(isthmus, data, tmp_path, change, words):
    check_refused(isthmus("study", "digits", "--data", data, "--out", tmp_path / "s", "--set", change), words)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("words", [["bogus"], ["train", "lab"], ["evaluate"], ["data", "list", "--seed"]])
def test_wrong_usage_is_exit_code_2(isthmus, words):
    code, out, err = isthmus(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: isthmus")


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_refused(isthmus, data, tmp_path, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = (
        "is not known; choose auto, cpu" if device == "tpu" else "no such device; `isthmus doctor` lists what it has"
    )
    check_refused(isthmus("train", "linear", data, "--out", tmp_path / "run", "--device", device), words)


def unwritable(place, kind):
    (place / "file").write_text("mine")
    (place / "shut").mkdir(mode=0o500)
    choices = {"a file": "file", "below a file": "file/run", "a long name": "x" * 300, "shut": "shut/run"}
    return Path("/proc/nowhere") if kind == "in /proc" else place / choices[kind]


@pytest.mark.parametrize("command", [("train", "linear"), ("study", "digits", "--data")], ids=["train", "study"])
@pytest.mark.parametrize("kind", ["a file", "below a file", "a long name", "in /proc", "shut"])
def test_a_folder_that_cannot_be_written_is_named(isthmus, data, tmp_path, command, kind):
    out = unwritable(tmp_path, kind)
    if kind == "in /proc" and not Path("/proc").is_dir():
        pytest.skip("there is no /proc here")
    if kind == "shut" and os.access(out.parent, os.W_OK):
        pytest.skip("root may write anywhere")
    words = "is a file; choose another --out" if kind == "a file" else f"Cannot write to {out}: "
    check_refused(isthmus(*command, data, "--out", out), words, "hoose another --out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("choice", [[], ["--resume"], ["--overwrite"]], ids=["", "resume", "overwrite"])
@pytest.mark.parametrize("command", [("train", "linear"), ("study", "digits", "--data")], ids=["train", "study"])
def test_a_foreign_folder_is_left_as_it_was(isthmus, data, tmp_path, monkeypatch, command, choice):
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    check_refused(isthmus(*command, data, "--out", ".", *choice), ". holds other files", "choose another --out")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def mount_small(folder):
    """A real small disk, where that is allowed."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True)
    return made.returncode == 0


def test_a_full_disk_is_said_and_leaves_nothing_under_a_final_name(isthmus, data, tmp_path):
    disk = tmp_path / "disk"
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not mount_small(disk):
        pytest.skip("needs the right to mount a small disk")
    try:
        run = Run(disk / "run")
        command = ("train", "strong", data, "--out", run.folder, *BRIEF)
        code, out, err = isthmus(*command, "--json")
        assert (code, out) == (1, "")
        assert err.startswith(f"error: Could not write {run.folder}/model/model.safetensors: No space left on device.")
        assert "Free some space or choose another folder, then do it again" in err
        assert len(err.splitlines()) == 1
        assert not (run.folder / "model/model.safetensors").exists()
        assert not [path for path in run.folder.rglob(".*") if path.name != ".lock"]
        remounted = subprocess.run(["mount", "-o", "remount,size=40m", disk], capture_output=True)
        if remounted.returncode == 0:
            assert isthmus(*command, "--resume")[0] == 0
            assert run.finished
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(os.name != "posix", reason="needs limits on the size of files")
def test_a_file_that_cannot_grow_is_a_sentence_too(data, tmp_path):
    import resource

    folder = tmp_path / "run"
    changes = ("--set", "training.epochs=2", "--set", "model.hidden=[512]")
    process = start(
        "train", "strong", data, "--out", folder, *changes,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert err.startswith(f"error: Could not write {folder}/model/model.safetensors: ")
    assert "Traceback" not in err
    assert not (folder / "model/model.safetensors").exists()
