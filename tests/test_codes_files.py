"""Files of codes: what is written is read back, from which model it says, and what is wrong with a damaged one."""

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from command_line import toy
from isthmus.errors import InputError
from isthmus.runs import Run
from isthmus.studies.single import train_one
from isthmus.training.codes import (
    CodesFile,
    check_model,
    codes_file,
    encode_into,
    holds_codes,
    read_codes,
    weights_fingerprint,
    write_codes,
)
from isthmus.training.predict import encode_images

SUFFIXES = [".npz", ".csv", *([".parquet"] if importlib.util.find_spec("pyarrow") else [])]
MODEL = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two autoencoders of one size, and one of another, on tiny images."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz"))
    for name, more in {"a": [], "b": [], "wide": ["model.latent_dim=5"]}.items():
        train_one("linear", data, folder / name, changes=["training.epochs=1", *more], seed=len(name) + ord(name[0]))
    return folder


def codes(count=7, size=3, *, seed=0):
    """Codes of all magnitudes, with everything a file may hold."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, size)) * 10.0 ** generator.integers(-30, 30, (count, size))
    return CodesFile(
        values.astype(np.float32),
        tuple(f"Ordner/ü, {i}.png" for i in range(count)),
        np.arange(count, dtype=np.int64) % 2,
        ("9", "10"),
        generator.random((count, size)).astype(np.float32),
        MODEL,
    )


def same(a, b):
    for name in ("codes", "std"):
        first, second = getattr(a, name), getattr(b, name)
        assert (first is None) == (second is None), name
        assert first is None or (np.array_equal(first, second, equal_nan=True) and first.dtype == second.dtype), name
    classes = [[each.label(i) for i in range(len(each))] for each in (a, b)]  # a table names no class without images
    assert (a.paths, a.run, classes[0]) == (b.paths, b.run, classes[1])
    return True


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    for written in (
        codes(),
        codes(1, 1),
        codes(200, 12),
        replace(codes(), labels=None, classes=(), std=None, run=None),
        replace(codes(), codes=np.array([[np.nan, np.inf, -np.inf]] * 7, np.float32)),
        replace(codes(3), paths=("nan", "NA", ""), classes=("None", "null")),
    ):
        write_codes(path, written)
        assert same(read_codes(path), written)
        assert holds_codes(path)


def test_plain_arrays_are_codes_without_names(tmp_path):
    values = codes().codes
    np.save(tmp_path / "plain.npy", values.astype(np.float64))
    np.savez(tmp_path / "plain.npz", values)
    np.savez(tmp_path / "generated.npz", codes=values, log_prob=np.zeros(7))
    for name in ("plain.npy", "plain.npz", "generated.npz"):
        found = read_codes(tmp_path / name)
        assert np.array_equal(found.codes, values)
        assert (found.paths, found.run, found.names()[6]) == (None, None, "6")


def test_codes_are_told_from_images(tmp_path):
    assert not holds_codes(toy(tmp_path / "images.npz"))
    np.savez(tmp_path / "both.npz", images=np.zeros((2, 16, 16)), codes=np.zeros((2, 3)))
    (tmp_path / "pixels.csv").write_text("label,pixel1,pixel2\n0,1,2\n")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nonsense")
    for name in ("both.npz", "pixels.csv", "cut.npz", "missing.npz", "photograph.png", "."):
        assert not holds_codes(tmp_path / name)


def test_places_and_masks_choose_codes():
    found = codes()
    chosen = found.take(np.array([4, 1]))
    assert np.array_equal(chosen.codes, found.codes[[4, 1]])
    assert chosen.paths == ("Ordner/ü, 4.png", "Ordner/ü, 1.png")
    assert [chosen.label(i) for i in range(2)] == ["9", "10"]
    assert same(found.take(np.arange(7) < 2), found.take(np.array([0, 1])))
    assert replace(found, labels=None).label(0) is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_codes_say_which_model_made_them(runs, tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    encode_into(path, runs / "a", runs / "toy.npz")
    found = read_codes(path)
    assert found.run == weights_fingerprint(Run(runs / "a"))
    assert same(found, codes_file(encode_images(runs / "a", runs / "toy.npz"), Run(runs / "a")))
    check_model(path, found, Run(runs / "a"))
    with pytest.raises(InputError, match=r"written by another model than .*b \(its weights are .*codes of two models"):
        check_model(path, found, Run(runs / "b"))
    with pytest.raises(InputError, match=r"codes of 2 numbers, those of .*wide have 5: name the run that made them"):
        check_model(path, found, Run(runs / "wide"))
    check_model(path, replace(found, run=None), Run(runs / "b"))  # nothing says otherwise


def test_a_copy_of_a_model_takes_its_codes_and_so_does_a_run_without_checksums(runs, tmp_path):
    Run(runs / "a").save_pretrained(tmp_path / "copy")
    assert weights_fingerprint(Run(tmp_path / "copy")) == weights_fingerprint(Run(runs / "a"))
    shutil.copytree(runs / "a", tmp_path / "old")
    config = tmp_path / "old/model/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "checksums": {}}))
    assert weights_fingerprint(Run(tmp_path / "old")) == weights_fingerprint(Run(runs / "a"))
    (tmp_path / "old/model/model.safetensors").unlink()
    with pytest.raises(InputError, match="is not a finished run: it has no weights"):
        weights_fingerprint(Run(tmp_path / "old"))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train": np.zeros((3, 2)), "test": np.zeros((3, 2))}, r"holds train, test; needed is an array called codes"),
        ({"codes": np.zeros((3, 2, 2))}, r"float64 of shape \(3, 2, 2\); needed are floats \(N, D\)"),
        ({"codes": np.zeros((0, 2))}, r"of shape \(0, 2\); needed are floats"),
        ({"codes": np.zeros((3, 2), np.int64)}, "int64 of shape"),
        (
            {"codes": np.zeros((3, 2)), "paths": np.array(["a", "b"])},
            r"paths: <U1 of shape \(2,\) beside codes \(3, 2\)",
        ),
        ({"codes": np.zeros((3, 2)), "std": np.zeros((3, 1))}, r"std: float64 of shape \(3, 1\) beside"),
        ({"codes": np.zeros((3, 2)), "labels": np.arange(3)}, "labels from 0 to 2 and no classes"),
        (
            {"codes": np.zeros((3, 2)), "labels": np.arange(3), "classes": np.array(["a", "b"])},
            "labels from 0 to 2 and 2 classes",
        ),
    ],
)
def test_archives_that_do_not_fit_together_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "codes.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_codes(tmp_path / "codes.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_or_of_another_kind_is_refused(tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    write_codes(path, codes(50))
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-20]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=str(path)):
            read_codes(path)


def test_a_table_cut_anywhere_in_its_last_line_is_refused(tmp_path):
    path = tmp_path / "codes.csv"
    write_codes(path, codes(3))
    whole = path.read_bytes().rstrip(b"\n")
    last = whole.rindex(b"\n") + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut short"):
            read_codes(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,code_0,code_2\na,1,2\n", "has the columns path, code_0, code_2; needed are path and code_0, code_1"),
        ("code_0\n1\n", "has the columns code_0; needed are path"),
        ("path,code_0,std_0,std_1\na,1,2,3\n", "needed are path and code_0"),
        ("path,code_0\n", "holds no codes, only a header"),
        ("path,code_0\na,one\n", "cannot be read as codes .*one"),
        ("path,code_0\na,1,2,3\nb,1\n", "cannot be read as codes|holds"),
        ("path,code_0,model\na,1,first\nb,2,second\n", "names 2 models ('first', 'second'): .* files were joined"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, text, words):
    (tmp_path / "codes.csv").write_text(text)
    with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
        read_codes(tmp_path / "codes.csv")


def test_files_that_are_not_there_or_not_readable_are_refused(tmp_path, monkeypatch):
    for name, words in (("codes.pkl", "ends in .pkl; codes are read from .npz, .csv, .parquet, .npy"),
                        ("none.npz", "none.npz does not exist"), ("codes", "ends in nothing")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            read_codes(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder; name a file of codes"):
        read_codes(tmp_path / "folder.csv")
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"pickled.npy cannot be read as codes"):
        read_codes(tmp_path / "pickled.npy")
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else there(name))
    (tmp_path / "codes.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"`pip install pyarrow`, or write the codes as \.npz or \.csv"):
        read_codes(tmp_path / "codes.parquet")
