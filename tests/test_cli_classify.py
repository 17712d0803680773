"""`isthmus classify`: on files of every sort, against the same network in Python, and what bad input gets."""

import csv
import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, toy
from isthmus.data.batches import as_trained, open_images
from isthmus.data.catalog import load
from isthmus.data.imageset import ImageSet
from isthmus.metrics import wilson_interval
from isthmus.networks.apply import classify
from isthmus.runs import Run
from isthmus.studies.single import train_one

CLASSES = ("fist", "open hand", "ü")


def photographs(folder, *, seed=0, classes=CLASSES, count=5, size=(16, 16), mode="L"):
    """Bars at a row that tells the class, with noise: a class a folder."""
    generator = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        for i in range(count):
            pixels = generator.integers(0, 60, size, dtype=np.uint8)
            pixels[k * size[0] // 3 : (k + 1) * size[0] // 3] += 150
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).convert(mode).save(path)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A study's folder: classifiers of grey and of colour photographs, and other networks."""
    folder = tmp_path_factory.mktemp("study")
    grey, colour = str(photographs(folder / "grey")), str(photographs(folder / "colour", mode="RGB"))
    for name, data in (("classifier", grey), ("colour", colour), ("lab", grey), ("denoiser", grey)):
        network = "classifier" if name == "colour" else name
        epochs = "training.epochs=30" if network == "classifier" else "training.epochs=1"
        train_one(network, data, folder / "runs" / name, changes=[epochs])
    return folder / "runs"


def answer_of(isthmus, *arguments):
    code, out, err = isthmus("classify", *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_json_is_a_record_an_image_in_order_as_python_says_it(isthmus, runs, tmp_path):
    new = photographs(tmp_path / "neue Bilder ü", seed=1)
    records, err = answer_of(isthmus, runs / "classifier", new)
    assert [r["path"] for r in records] == [f"{name}/{i}.png" for name in CLASSES for i in range(5)]
    assert all(list(r) == ["path", "class", "probabilities"] for r in records)
    images = load(new)
    expected = classify(Run(runs / "classifier").network(), images.images).numpy()
    found = np.array([[r["probabilities"][name] for name in CLASSES] for r in records])
    assert np.allclose(found, expected, atol=1e-6)
    assert [r["class"] for r in records] == [CLASSES[k] for k in expected.argmax(1)]
    right = int((expected.argmax(1) == images.labels).sum())
    low, high = wilson_interval(right, 15)
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    assert f"15 images; of 15 with a known class, {right} are right ({100 * right / 15:.1f} %, {interval})" in err


def test_the_table_has_a_line_an_image_and_is_never_cut(isthmus, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    folder = photographs(tmp_path / "new", seed=1, count=1)
    long = "a very long name " * 8 + "手.png"
    (folder / "fist/0.png").rename(folder / "fist" / long)
    code, out, err = isthmus("classify", runs / "classifier", folder)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["path", "class", "probability"]
    assert lines[1].startswith(f"fist/{long}  ")
    assert len(lines) == 5
    assert lines[-1].startswith("3 images; ")
    places = [line.rindex("  ") for line in lines[:4]]
    assert places == [places[0], places[0] - 1, places[0], places[0]]  # one sign of the long name is two columns wide


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file name must be text")
def test_names_that_would_upset_a_terminal_are_escaped(isthmus, runs, tmp_path):
    folder = photographs(tmp_path / "new", classes=["one"], count=2) / "one"
    (folder / "0.png").rename(folder / "a\n\x1b[31m.png")
    os.rename(folder / "1.png", os.fsencode(folder) + b"/\xff.png")
    code, out, _ = isthmus("classify", runs / "classifier", folder)
    assert code == 0
    assert "a\\n\\x1b[31m.png" in out
    assert "\\udcff.png" in out
    records, _ = answer_of(isthmus, runs / "classifier", folder)
    assert {r["path"] for r in records} == {"a\n\x1b[31m.png", "\udcff.png"}


def test_images_get_the_pixels_they_had_in_training(tmp_path):
    folder = photographs(tmp_path / "set", size=(37, 50), mode="RGB", count=3)
    generator = np.random.default_rng(0)
    colour = generator.integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "fist/photograph.jpg")
    Image.fromarray(colour).quantize(16).save(folder / "fist/palette.png")
    Image.fromarray(colour).convert("RGBA").save(folder / "fist/alpha.png")
    Image.fromarray(colour[..., 0]).save(folder / "open hand/grey.png")
    trained = load(folder, size=(24, 20))
    for images, channels in ((trained, 3), (trained.grey(), 1)):
        stream = open_images(folder, (channels, 24, 20))
        found = np.concatenate([batch.images for batch in stream.batches])
        assert np.array_equal(found, images.images)
    assert stream.notes() == [
        "13 images resized to 24 x 20, as in training.",
        "13 images cropped at the centre to these proportions.",
        "12 images turned from colour to grey.",
    ]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_get_the_pixels_they_had_in_training(kind, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 17, 13)).astype(kind)
    images = images if kind is np.uint8 else images / np.float32(255)
    trained = ImageSet(images, None).resize(20, 16)
    trained = trained.grey() if channels == 1 else trained
    assert np.array_equal(as_trained(images, (channels, 20, 16)), trained.images)


def test_noisy_floats_are_scaled_as_any_others():
    images = np.random.default_rng(0).random((4, 3, 17, 13), dtype=np.float32)
    inside, outside = as_trained(images, (1, 20, 16)), as_trained(3 * images - 1, (1, 20, 16))
    assert np.allclose(outside, 3 * inside - 1, atol=1e-5)


def test_grey_images_are_repeated_and_colours_turned_grey(isthmus, runs, tmp_path):
    grey = photographs(tmp_path / "grey", seed=1, count=1)
    colour = photographs(tmp_path / "colour", seed=1, count=1, mode="RGB")
    for run, given, word in (("colour", grey, "in grey repeated over 3"), ("classifier", colour, "turned from colour")):
        records, err = answer_of(isthmus, runs / run, given)
        same, quiet = answer_of(isthmus, runs / run, colour if given is grey else grey)
        assert records == same
        assert f"3 images {word}" in err
        assert word not in quiet


def test_a_size_of_its_own_is_brought_to_that_of_the_run(isthmus, runs, tmp_path):
    folder = photographs(tmp_path / "large", seed=1, size=(48, 60))
    _, err = answer_of(isthmus, runs / "classifier", folder)
    assert "15 images resized to 16 x 16, as in training." in err
    assert "15 images cropped at the centre" in err
    code, _, err = isthmus("classify", runs / "classifier", folder, "--quiet")
    assert (code, err) == (0, "")
    _, err = answer_of(isthmus, runs / "classifier", toy(tmp_path / "toy.npz", size=20))
    assert "60 images scaled from 20 x 20 to 16 x 16, as in training." in err


def test_one_photograph_is_classified(isthmus, runs, tmp_path):
    path = photographs(tmp_path / "a b", classes=["é"], count=1) / "é/0.png"
    records, err = answer_of(isthmus, runs / "classifier", path)
    assert [r["path"] for r in records] == ["0.png"]
    assert sum(records[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "right" not in err


def test_labels_of_arrays_count_by_name(isthmus, runs, tmp_path):
    named = toy(tmp_path / "named.npz", names=CLASSES)
    assert "; of 60 with a known class, " in answer_of(isthmus, runs / "classifier", named)[1]
    other = toy(tmp_path / "other.npz", names=["x", "y", CLASSES[0]])
    assert "; of 20 with a known class, " in answer_of(isthmus, runs / "classifier", other)[1]
    records, err = answer_of(isthmus, runs / "classifier", toy(tmp_path / "numbers.npz"))
    assert "right" not in err
    assert [r["path"] for r in records[::59]] == ["numbers-00", "numbers-59"]


def test_images_trained_on_count_neither_as_right_nor_as_wrong(isthmus, runs, tmp_path):
    trained = Run(runs / "classifier").trained_on()
    _, err = answer_of(isthmus, runs / "classifier", runs.parent / "grey")
    assert f"warning: {len(trained)} of the 15 images" in err
    assert f"; of {15 - len(trained)} with a known class and not trained on, " in err
    images = load(runs.parent / "grey")
    known = np.flatnonzero(np.isin(images.image_hashes(), trained))
    np.savez(tmp_path / "seen.npz", images=images.images[known], y=images.labels[known], classes=np.array(CLASSES))
    _, err = answer_of(isthmus, runs / "classifier", tmp_path / "seen.npz")
    assert "all with a known class were trained on, so no share" in err
    np.savez(tmp_path / "plain.npz", images=images.images[known])
    assert "trained on" not in answer_of(isthmus, runs / "classifier", tmp_path / "plain.npz")[1]


def test_a_study_stands_for_its_only_classifier(isthmus, runs, tmp_path):
    new = photographs(tmp_path / "new", seed=1)
    check_refused(
        isthmus("classify", runs.parent, new), "of which 2 runs fit", str(runs / "classifier"), str(runs / "colour")
    )
    for name in ("classifier", "lab"):
        shutil.copytree(runs / name, tmp_path / "study/runs" / name)
    assert answer_of(isthmus, tmp_path / "study", new)[0] == answer_of(isthmus, runs / "classifier", new)[0]
    shutil.rmtree(tmp_path / "study/runs/classifier")
    check_refused(
        isthmus("classify", tmp_path / "study", new), "without a run that fits", str(tmp_path / "study/runs/lab")
    )


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("lab", ("a run of `lab`, which has no classes", "`isthmus encode`", "`isthmus train classifier`")),
        ("denoiser", ("a run of `denoiser`, which has no classes", "`isthmus denoise`")),
        ("nothing", ("is not a finished run", "`isthmus train`")),
    ],
)
def test_runs_that_cannot_do_it_are_refused(isthmus, runs, run, words):
    check_refused(isthmus("classify", runs / run, runs.parent / "grey"), *words)


def test_bad_photographs_are_named_and_the_others_done(isthmus, runs, tmp_path):
    folder = photographs(tmp_path / "some", seed=1, classes=["inner"])
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "empty.jpg").touch()
    (folder / "cut.png").write_bytes((folder / "inner/0.png").read_bytes()[:-90])
    (folder / "link.png").symlink_to(folder / "nothing.png")
    (folder / "notes.txt").write_text("notes")
    code, out, err = isthmus("classify", runs / "classifier", folder, "--json", "-q")
    assert code == 1
    assert [r["path"] for r in json.loads(out)] == [f"inner/{i}.png" for i in range(5)]
    assert "left out: broken.png is not an image of a known format" in err
    assert "left out: empty.jpg is empty" in err
    assert "left out: cut.png is damaged" in err
    assert "left out: link.png cannot be read (No such file" in err
    assert "notes.txt" not in err
    shutil.rmtree(folder / "inner")
    answer = isthmus("classify", runs / "classifier", folder)
    check_refused(answer, "None of the 4 image(s)", "and 1 more")


def test_bad_arrays_are_named_and_the_others_done(isthmus, runs, tmp_path):
    images = np.random.default_rng(0).random((12, 16, 16), dtype=np.float32)
    images[7, 3, 3], images[9], images[10] = np.nan, 200, images[10] * 2 - 0.5
    labels = np.array(CLASSES)[np.arange(12) % 3]
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    code, out, err = isthmus("classify", runs / "classifier", tmp_path / "some.npz", "--json")
    assert code == 1
    assert [r["path"] for r in json.loads(out)] == [f"some-{i:02d}" for i in range(12) if i not in (7, 9)]
    assert "left out: some-07 holds NaN" in err
    assert "left out: some-09 has pixels up to 200" in err
    assert "; of 10 with a known class, " in err
    np.savez(tmp_path / "more.npz", images=images, labels=labels[:-1])
    check_refused(isthmus("classify", runs / "classifier", tmp_path / "more.npz"), "11 labels", "more.npz")


def test_what_holds_no_images_is_refused(isthmus, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link.png").symlink_to(runs.parent / "grey/fist/0.png")
    for name, words in {
        "empty": ("holds no images",),
        "notes.txt": ("of a type not read here",),
        "nowhere.png": ("does not exist",),
        "out": ("1 link leading out",),
    }.items():
        check_refused(isthmus("classify", runs / "classifier", tmp_path / name), *words)
    check_refused(isthmus("classify", runs / "classifier", "mnist-5"), "Did you mean mnist-5k")


def test_of_an_animation_the_first_frame_is_classified(isthmus, runs, tmp_path):
    folder = photographs(tmp_path / "new", seed=1, count=1)
    first, *rest = (Image.open(folder / name / "0.png").copy() for name in CLASSES)
    for path in list(folder.iterdir()):
        shutil.rmtree(path)
    first.save(folder / "moving.gif", save_all=True, append_images=rest)
    first.save(folder / "still.gif")
    (moving, still), err = answer_of(isthmus, runs / "classifier", folder)
    assert moving["probabilities"] == still["probabilities"]
    assert "1 image of several pictures or frames: the first was taken." in err


def test_a_csv_of_pixels_is_classified(isthmus, runs, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    head = ",".join(f"pixel{i + 1}" for i in range(256))
    lines = [",".join(map(str, image.ravel())) for image in pixels]
    (tmp_path / "some.csv").write_text("\n".join([head, *lines]) + "\n")
    np.savez(tmp_path / "same.npz", images=pixels)
    found, same = (answer_of(isthmus, runs / "classifier", tmp_path / name)[0] for name in ("some.csv", "same.npz"))
    assert [r["path"] for r in found] == ["some-0", "some-1", "some-2"]
    assert [r["probabilities"] for r in found] == [r["probabilities"] for r in same]


def test_many_images_are_done_in_parts(isthmus, runs, tmp_path, monkeypatch):
    new = photographs(tmp_path / "new", seed=1)
    whole, _ = answer_of(isthmus, runs / "classifier", new)
    monkeypatch.setattr("isthmus.data.batches.MOST", 4)
    assert [len(batch.names) for batch in open_images(new, (1, 16, 16)).batches] == [4, 4, 4, 3]
    parts, _ = answer_of(isthmus, runs / "classifier", new)
    for one, other in zip(whole, parts, strict=True):
        assert one["path"] == other["path"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


def test_no_more_than_one_batch_of_photographs_is_decoded_at_once(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr("isthmus.data.batches.MOST", 4)
    monkeypatch.setattr(
        "isthmus.data.batches.decode", lambda path, h, w: decoded.append(path) or np.zeros((h, w), "u1")
    )
    batches = iter(open_images(photographs(tmp_path / "new"), (1, 16, 16)).batches)
    for done in (4, 8, 12):
        next(batches)
        assert len(decoded) == done


def test_a_folder_gets_a_table_of_all_and_a_sheet_of_the_least_sure(isthmus, runs, tmp_path):
    data, run = photographs(tmp_path / "new", seed=5, count=20), runs / "classifier"
    code, plain, _ = isthmus("classify", run, data, "--json")
    assert code == 0
    code, out, err = isthmus("classify", run, data, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert out == plain
    with (tmp_path / "out/table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, json.loads(plain), strict=True):
        assert (row["path"], row["class"]) == (record["path"], record["class"])
        highest = max(record["probabilities"].values())
        assert float(row["probability"]) == pytest.approx(highest, rel=1e-4)
        for name, probability in record["probabilities"].items():
            assert float(row[f"p_{name}"]) == pytest.approx(probability, rel=1e-4, abs=1e-9)
    assert {row["known"] for row in rows} == set(CLASSES)
    assert [row["known"] for row in rows] == [row["path"].split("/")[0] for row in rows]
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 1000
    refused = isthmus("classify", run, data, "--out", tmp_path / "out")
    check_refused(refused, "exists already", "--overwrite")
    check_refused(isthmus("classify", run, data, "--overwrite"), "--overwrite says what to do", "give --out too")
    code, out, _ = isthmus("classify", run, data, "--out", tmp_path / "out", "--overwrite")
    assert code == 0
    assert out.endswith(f"sheet: {tmp_path / 'out/sheet.png'}, table: {tmp_path / 'out/table.csv'}\n")
