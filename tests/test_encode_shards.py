"""`isthmus encode` of shards: the codes of one file each, whatever dies, is damaged or was there before."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, content, start, toy, wait_until
from isthmus.errors import DataError, InputError, RunExistsError
from isthmus.runs import Run
from isthmus.studies.single import train_one
from isthmus.training import shard_encoding, shard_engines
from isthmus.training.codes import holds_codes, read_codes
from isthmus.training.joined_codes import holds_joined_codes, read_joined_codes
from isthmus.training.shard_encoding import Job, encode_shard
from isthmus.training.shard_engines import EncodedShards, _coder, encode_shards
from isthmus.training.shard_finding import MARKER, find_shards
from isthmus.training.shard_reading import NAMED, count_images, open_shard
from isthmus.training.shard_writing import read_note
from isthmus.training.workers import Died

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 16, 16), dtype=np.uint8)
CLASSES = ["9", "10", "eel"]
LABELS = np.arange(200) % 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on tiny images of 16 x 16, in a study's folder."""
    folder = tmp_path_factory.mktemp("study")
    data = str(toy(folder / "toy.npz"))
    for name, more in {"linear": [], "vae": ["model.latent_dim=3"], "classifier": []}.items():
        train_one(name, data, folder / "runs" / name, changes=["training.epochs=1", *more])
    train_one("linear", data, folder / "other", changes=["training.epochs=1"], seed=7)
    return folder / "runs"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, images: Any = IMAGES, labels: Any = LABELS, **options: Any) -> Path:
    """A shard of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, images)
    elif path.suffix == ".npz":
        known = {} if labels is None else {"labels": np.asarray(labels)[: len(images)], "classes": np.array(CLASSES)}
        np.savez_compressed(path, images=images, **known)
    else:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        rows = [{"bytes": png(image) if isinstance(image, np.ndarray) else image, "path": None} for image in images]
        columns = {"image": pa.array(rows, kind)}
        noted: dict[str, Any] = {"image": {"_type": "Image"}}
        if labels is not None:
            columns["label"] = pa.array(list(labels[: len(images)]))
            noted["label"] = {"names": CLASSES, "_type": "ClassLabel"}
        about = {"huggingface": json.dumps({"info": {"features": noted}})}
        options = {"row_group_size": 50, "write_page_checksum": True, **options}
        pq.write_table(pa.table(columns).replace_schema_metadata(about), path, **options)
    return path


def some_shards(folder: Path, count: int, *, each: int = 40) -> Path:
    """Shards of different images, in order .parquet, .npy, .npz, .parquet and so on."""
    for i in range(count):
        rows = np.arange(i, i + each) % len(IMAGES)
        shard(folder / f"{i:04d}{('.parquet', '.npy', '.npz')[i % 3]}", IMAGES[rows], LABELS[rows])
    return folder


def encoded(runs: Path, sources: Any, out: Path, name: str = "linear", **options: Any) -> EncodedShards:
    """Encode by one worker in this process, which takes no time to start."""
    named = [str(source) for source in (sources if isinstance(sources, list) else [sources])]
    return encode_shards(runs / name, named, out, **options)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of worker processes, this one: what is not about processes is tested in no time."""

    def in_this_process(orders: Any, jobs: Any, shared: Any, *, workers: int, follow: Any) -> Any:
        for number, job in enumerate(jobs):
            yield number, orders.work(job, shared, lambda *news, number=number: follow(number, *news))

    monkeypatch.setattr(shard_engines, "in_processes", in_this_process)


def states(found: EncodedShards) -> list[str]:
    return [each.status for each in found.shards]


# -- the codes


@pytest.mark.parametrize(("name", "posterior"), [("linear", False), ("vae", False), ("vae", True)])
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_a_shard_becomes_what_one_file_of_all_codes_is(
    isthmus: Any, runs: Path, tmp_path: Path, here: None, name: str, posterior: bool, suffix: str
) -> None:
    source = shard(tmp_path / f"a-b.c{suffix}")
    flag = ["--posterior"] if posterior else []
    assert isthmus("encode", runs / name, source, "--out", tmp_path / "one.parquet", *flag)[0] == 0
    code, out, err = isthmus("encode", runs / name, source, "--engine", "process", "--out", tmp_path / "all", *flag)
    assert code == 0, err
    assert out.startswith("shards: 1 (1 encoded)\n")
    one, other = (
        pq.read_table(path).to_pandas() for path in (tmp_path / "one.parquet", tmp_path / "all/a-b.c.parquet")
    )
    assert one.columns.tolist() == other.columns.tolist()
    assert ("std_2" in one) == posterior
    for column in one:
        if one[column].dtype.kind == "f":
            assert np.allclose(one[column], other[column], atol=1e-6), column
        else:
            assert one[column].tolist() == other[column].tolist(), column


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "N, H, W": lambda images: images,
    "N, C, H, W": lambda images: images[:, None],
    "N, H, W, C": lambda images: images[..., None],
    "floats": lambda images: images.astype(np.float32) / 255,
    "doubles of the other byte order": lambda images: (images / 255).astype(">f8"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_every_layout_give_the_same_codes(
    runs: Path, tmp_path: Path, here: None, layout: str, suffix: str
) -> None:
    expected = encoded(runs, shard(tmp_path / "a/x.parquet", labels=None), tmp_path / "a-codes")
    found = encoded(runs, shard(tmp_path / f"b/x{suffix}", LAYOUTS[layout](IMAGES)), tmp_path / "b-codes")
    first, second = (read_codes(each.shards[0].shard.target) for each in (expected, found))
    assert np.allclose(first.codes, second.codes, atol=1e-5)
    assert first.paths == second.paths
    assert (second.labels is None) == (suffix == ".npy")


def test_images_of_another_shape_are_brought_to_that_of_the_training(runs: Path, tmp_path: Path, here: None) -> None:
    colour = np.repeat(np.kron(IMAGES[:30], np.ones((1, 2, 2), np.uint8))[..., None], 3, 3)
    shard(tmp_path / "s/a.npy", colour)
    shard(tmp_path / "s/b.parquet", list(colour), labels=None)
    found = encoded(runs, tmp_path / "s", tmp_path / "codes")
    for note in ("30 images scaled from 32 x 32 to 16 x 16, as in training.", "60 images turned from colour to grey."):
        assert note in found.notes, found.notes
    codes = [read_codes(each.shard.target).codes for each in found.shards]
    assert np.allclose(*codes, atol=1e-2)


def test_an_archive_of_two_parts_is_read_through(runs: Path, tmp_path: Path, here: None) -> None:
    names = np.array(CLASSES)[LABELS]
    np.savez(tmp_path / "x.npz", x_train=IMAGES[:150], y_train=names[:150], x_test=IMAGES[150:], y_test=names[150:])
    found = read_codes(encoded(runs, tmp_path / "x.npz", tmp_path / "codes").shards[0].shard.target)
    assert len(found) == 200
    assert [found.label(i) for i in (0, 1, 149, 150, 199)] == [names[i] for i in (0, 1, 149, 150, 199)]
    assert found.names()[199] == "x-199"


def test_rows_without_a_class_are_encoded_and_the_file_is_read_as_without(
    runs: Path, tmp_path: Path, here: None
) -> None:
    source = shard(tmp_path / "x.parquet", labels=[0, -1, None, *LABELS[3:]])
    found = encoded(runs, source, tmp_path / "codes").shards[0]
    table = pq.read_table(found.shard.target)
    assert table["label"].to_pylist()[:4] == ["9", "", "", "9"]
    assert read_codes(found.shard.target).labels is None
    assert found.images == 200


# -- which shards, and where to


def targets(sources: list[Path | str], out: Path) -> list[str]:
    return [each.target.relative_to(out).as_posix() for each in find_shards([str(source) for source in sources], out)]


def test_shards_keep_their_path_below_what_they_have_in_common(tmp_path: Path) -> None:
    for name in ("train/1.parquet", "train/0.npy", "test/0.npz", "test/.hidden.npy", "test/notes.txt", ".git/0.npy"):
        shard(tmp_path / "set" / name, IMAGES[:1]) if "notes" not in name else (tmp_path / "set" / name).touch()
    top, out = tmp_path / "set", tmp_path / "out"
    everything = ["test/0.parquet", "train/0.parquet", "train/1.parquet"]
    assert targets([top], out) == everything
    assert targets([top / "train", top / "test"], out) == everything
    assert targets([f"{top}/*/*.np?", f"{top}/**/*.parquet"], out) == everything
    assert targets([top / "train"], out) == ["0.parquet", "1.parquet"]
    assert targets([f"{top}/train/*"], out) == ["0.parquet", "1.parquet"]
    assert targets([top / "train/0.npy", f"{top}/train/[0]*", top / "train/0.npy"], out) == ["0.parquet"]
    assert targets([top / "train/0.npy", top / "test/0.npz"], out) == everything[:2]
    assert [each.name for each in find_shards([str(top)], out)] == [name[:-8] for name in everything]


def test_a_file_with_signs_of_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    for name in ("a[1].npy", "a1.npy"):
        shard(tmp_path / name, IMAGES[:1])
    assert targets([tmp_path / "a[1].npy"], tmp_path / "out") == ["a[1].parquet"]


def test_two_shards_that_would_become_one_file_are_refused(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    for name in ("a.npy", "a.parquet"):
        shard(tmp_path / "s" / name, IMAGES[:2])
    answer = isthmus("encode", runs / "linear", tmp_path / "s", "--engine", "process", "--out", tmp_path / "out")
    check_refused(answer, "a.npy and", "a.parquet would both become", "rename one of them")
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_codes_may_lie_among_the_shards(runs: Path, tmp_path: Path, here: None) -> None:
    top = some_shards(tmp_path / "s", 3)
    for _ in range(2):
        found = encoded(runs, top, top / "codes")
        assert [each.shard.name for each in found.shards] == ["0000", "0001", "0002"]
    assert states(found) == ["done before"] * 3
    again = encoded(runs, f"{top}/**/*.parquet", top / "codes")
    assert [each.shard.name for each in again.shards] == ["0000"]


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("s", "s", ("0000.parquet lies in --out", "choose another folder")),
        ("s", ".", ("0000.parquet lies in --out", "choose another folder")),
        ("s/0000.parquet", "s", ("0000.parquet lies in --out",)),
        ("s/*.parquet", "codes.parquet", ("codes.parquet is named as a file", "name a folder")),
        ("s/*.parquet", "file", ("file is a file", "name a folder")),
        ("s/*.parquet", "full", ("full holds other files", f"there is no {MARKER} in it")),
        ("s/*.jpg", "out", ("s/*.jpg matches no file of .parquet, .npy, .npz",)),
        ("t/*.npy", "out", ("t/*.npy matches no file",)),
        ("empty", "out", ("empty holds no file of .parquet, .npy, .npz",)),
        ("nothing", "out", ("nothing does not exist", "a pattern in quotes")),
        ("file", "out", ("file is no shard of images", ".parquet, .npy, .npz")),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    isthmus: Any,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    out: str,
    words: tuple[str, ...],
) -> None:
    some_shards(tmp_path / "s", 2)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    before = content(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_refused(isthmus("encode", runs / "linear", source, "--engine", "process", "--out", out), *words)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("linear", ("--posterior",), ("is not a VAE", "leave out --posterior")),
        ("linear", ("--thumbnails",), ("--thumbnails needs the codes of all images at once",)),
        ("classifier", (), ("`classifier`, which has no decoder", "`isthmus classify`")),
        ("missing", (), ("is not a finished run",)),
    ],
)
def test_runs_and_options_that_do_not_go_with_shards_are_refused(
    isthmus: Any, runs: Path, tmp_path: Path, run: str, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    source = some_shards(tmp_path / "s", 2)
    check_refused(isthmus("encode", runs / run, f"{source}/*", "--out", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


def test_workers_without_shards_are_refused(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    source = shard(tmp_path / "x.npz")
    answer = isthmus("encode", runs / "linear", source, "--workers", 2, "--out", tmp_path / "codes.npz")
    check_refused(answer, "--workers is for shards", "--engine process")


def test_a_missing_package_is_named(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else there(name))
    with pytest.raises(InputError, match="needs a package: `pip install pyarrow`"):
        encoded(runs, shard(tmp_path / "x.npy"), tmp_path / "codes")


@pytest.mark.parametrize("source", ["s", "s/*.npy", "s/**"])
def test_a_folder_that_cannot_be_read_is_named(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    some_shards(tmp_path / "s/sub", 2)
    if os.geteuid():
        (tmp_path / "s").chmod(0)
    else:  # nothing is closed to the administrator
        scan = os.scandir

        def refuse(path: Any = ".") -> Any:
            if str(path).rstrip("/") == str(tmp_path / "s"):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
    try:
        with pytest.raises(InputError, match=r"s cannot be read \(Permission denied\): allow it"):
            encoded(runs, tmp_path / source, tmp_path / "codes")
    finally:
        (tmp_path / "s").chmod(0o755)


# -- what was done before


def test_what_is_done_is_not_done_again(runs: Path, tmp_path: Path, here: None) -> None:
    source, out = some_shards(tmp_path / "s", 5), tmp_path / "codes"
    assert states(encoded(runs, source, out)) == ["encoded"] * 5
    before = content(out)
    found = encoded(runs, source, out)
    assert states(found) == ["done before"] * 5
    assert (found.images, found.images_per_second) == (200, None)
    after = content(out)
    del before[MARKER], after[MARKER]
    assert after == before
    shard(source / "0007.npy", IMAGES[:3])
    assert states(encoded(runs, source, out)) == ["done before"] * 5 + ["encoded"]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_shard_that_was_changed_is_done_again_whatever_its_date_says(
    runs: Path, tmp_path: Path, here: None, suffix: str
) -> None:
    source, out = tmp_path / "s", tmp_path / "codes"
    for name in ("0", "1"):
        shard(source / f"{name}{suffix}", IMAGES[:40], labels=None)
    encoded(runs, source, out)
    changed = source / f"1{suffix}"
    status = changed.stat()
    shard(changed, IMAGES[40:80], labels=None)
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = encoded(runs, source, out)
    assert states(found) == ["done before", "encoded"]
    expected = encoded(runs, changed, tmp_path / "anew").shards[0].shard.target
    assert np.array_equal(read_codes(out / "1.parquet").codes, read_codes(expected).codes)
    assert not np.array_equal(read_codes(out / "1.parquet").codes, read_codes(out / "0.parquet").codes)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 700), "other"])
def test_codes_that_are_lost_or_damaged_are_made_again(runs: Path, tmp_path: Path, here: None, damage: Any) -> None:
    source, out = some_shards(tmp_path / "s", 3), tmp_path / "codes"
    encoded(runs, source, out)
    expected = read_codes(out / "0001.parquet")
    if damage == "other":
        shutil.copy(source / "0000.parquet", out / "0001.parquet")
    else:
        damage(out / "0001.parquet")
    assert states(encoded(runs, source, out)) == ["done before", "encoded", "done before"]
    assert np.array_equal(read_codes(out / "0001.parquet").codes, expected.codes)


def test_codes_of_another_model_are_refused_unless_told(isthmus: Any, runs: Path, tmp_path: Path, here: None) -> None:
    source, out = some_shards(tmp_path / "s", 2), tmp_path / "codes"
    encoded(runs, source, out)
    before = content(out)
    arguments = ("encode", runs.parent / "other", source, "--engine", "process", "--out", out)
    check_refused(isthmus(*arguments), "codes holds codes by another model", "--overwrite")
    assert content(out) == before
    shutil.copy(out / "0000.parquet", out / "old.parquet")
    assert isthmus(*arguments, "--overwrite")[0] == 0
    own = Run(runs.parent / "other").config()["checksums"]["model.safetensors"]
    assert {read_codes(path).run for path in out.glob("*.parquet")} == {own}
    assert sorted(path.name for path in out.glob("*.parquet")) == ["0000.parquet", "0001.parquet"]


def test_another_shard_of_the_same_name_does_not_take_its_place(runs: Path, tmp_path: Path, here: None) -> None:
    out = tmp_path / "codes"
    encoded(runs, shard(tmp_path / "a/x.npy"), out)
    before = content(out)
    with pytest.raises(RunExistsError, match=r"x.parquet holds the codes of .*a/x.npy, and .*b/x.npy is another shard"):
        encoded(runs, shard(tmp_path / "b/x.npy", IMAGES[:50]), out)
    assert content(out) == before
    (tmp_path / "a").rename(tmp_path / "c")  # but the same shards may move
    assert states(encoded(runs, tmp_path / "c", out)) == ["done before"]


def test_codes_with_and_without_deviations_do_not_mix(runs: Path, tmp_path: Path, here: None) -> None:
    source, out = some_shards(tmp_path / "s", 1), tmp_path / "codes"
    encoded(runs, source, out, "vae", posterior=True)
    with pytest.raises(RunExistsError, match="holds codes with standard deviations: give --posterior as then"):
        encoded(runs, source, out, "vae")


def test_what_is_refused_leaves_a_whole_set_whole(runs: Path, tmp_path: Path, here: None) -> None:
    out = tmp_path / "codes"
    encoded(runs, shard(tmp_path / "a/x.npy"), out)
    with pytest.raises(RunExistsError):
        encoded(runs, shard(tmp_path / "b/x.npy", IMAGES[:50]), out)
    assert len(read_joined_codes(out)) == 200


def test_a_folder_in_use_is_refused(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = some_shards(tmp_path / "s", 2), tmp_path / "codes"

    def meanwhile(*_: Any, **__: Any) -> Any:
        with pytest.raises(RunExistsError, match="codes is in use by another process"):
            encoded(runs, source, out)
        yield from ()

    monkeypatch.setattr(shard_engines, "in_processes", meanwhile)
    with pytest.raises(KeyError):
        encoded(runs, source, out)


# -- what is damaged


def test_bad_rows_are_named_and_the_others_encoded(isthmus: Any, runs: Path, tmp_path: Path, here: None) -> None:
    good = [png(image) for image in IMAGES[:6]]
    source = shard(tmp_path / "s/x.parquet", [good[0], b"no image", None, *good[1:]], labels=None)
    odd = IMAGES[:4].astype(np.float32) / 255
    odd[1, 3, 3] = np.nan
    shard(tmp_path / "s/y.npy", odd)
    for state in ("encoded", "done before"):  # and whoever asks again is told again
        code, out, err = isthmus("encode", runs / "linear", f"{source.parent}/*", "--out", tmp_path / "out", "--json")
        assert code == 1
        facts = json.loads(out)
        assert [each["status"] for each in facts["shards"]] == [state] * 2
        assert [(each["images"], each["left_out"]) for each in facts["shards"]] == [(6, 2), (3, 1)]
        assert facts["left_out"] == {
            "x-1": "is not an image of a known format, or its header is damaged",
            "x-2": "names a file and holds none; write the set with the files in it",
            "y-1": "holds NaN or infinite pixels",
        }
        assert "left out: y-1 holds NaN" in err
    assert read_codes(tmp_path / "out/x.parquet").names() == ("x-0", "x-3", "x-4", "x-5", "x-6", "x-7")


def test_of_very_many_bad_rows_the_first_are_named_and_all_counted(
    isthmus: Any, runs: Path, tmp_path: Path, here: None
) -> None:
    source = shard(tmp_path / "x.parquet", [png(IMAGES[0]), *[b"-"] * (NAMED + 5)], labels=None)
    code, out, err = isthmus(
        "encode", runs / "linear", source, "--engine", "process", "--out", tmp_path / "c", "--json"
    )
    assert code == 1
    facts = json.loads(out)
    assert (len(facts["left_out"]), facts["shards"][0]["left_out"]) == (NAMED, NAMED + 5)
    assert f"left out: 5 more images of {source}" in err


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 300):
        content[place] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("b.parquet", cut, "cannot be read as Parquet"),
        ("b.parquet", lambda path: path.write_bytes(b""), "cannot be read as Parquet"),
        ("b.parquet", lambda path: pq.write_table(pa.table({"x": [1]}), path), "images in none of them"),
        ("b.parquet", lambda path: shard(path, [b"-"] * 3), "None of the 3 image(s)"),
        ("b.parquet", lambda path: shard(path, [], labels=None), "holds no rows"),
        ("b.npy", cut, "cannot be read (34,090 bytes are there for uint8 of shape (200, 16, 16))"),
        ("b.npy", lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        ("b.npy", lambda path: np.save(path, IMAGES.astype(int)), "b.npy: int64 of shape (200, 16, 16); needed are"),
        ("b.npy", lambda path: np.save(path, IMAGES[:, :0]), "b.npy: uint8 of shape (200, 0, 16); needed are"),
        ("b.npy", lambda path: np.save(path, IMAGES.reshape(100, 2, 16, 16)), "with C of 1 (grey) or 3 (RGB)"),
        ("b.npy", lambda path: np.save(path, np.asfortranarray(IMAGES)), "lies in Fortran order"),
        ("b.npy", lambda path: np.save(path, np.array([{}, {}])), "holds pickled objects, which are never loaded"),
        ("b.npz", cut, "cannot be read"),
        ("b.npz", spoil, "cannot be read"),
        ("b.npz", lambda path: np.savez(path, codes=IMAGES), "holds codes; needed is one called images"),
        ("b.npz", lambda path: np.savez(path, images=IMAGES, labels=LABELS[:3]), "b.npz, labels: int64 of shape (3,)"),
        ("b.npz", lambda path: np.savez(path, x=IMAGES, y=LABELS, classes=["a"]), "b.npz, y: labels run from 0 to 2"),
    ],
)
def test_a_damaged_shard_is_named_and_the_others_are_done(
    isthmus: Any, runs: Path, tmp_path: Path, here: None, name: str, damage: Callable[[Path], object], words: str
) -> None:
    for each in ("a.npy", name, "c.parquet"):
        shard(tmp_path / "s" / each)
    damage(tmp_path / "s" / name)
    arguments = ("encode", runs / "linear", tmp_path / "s", "--engine", "process", "--out", tmp_path / "out")
    code, out, err = isthmus(*arguments, "--json")
    assert code == 1
    first, bad, last = json.loads(out)["shards"]
    assert [each["status"] for each in (first, bad, last)] == ["encoded", "failed", "encoded"]
    assert words in bad["error"]
    assert f"failed: {tmp_path / 's' / name}" in err or f"failed: None of the 3 image(s) of {tmp_path}" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "a.parquet", "c.parquet", MARKER]
    assert list(json.loads((tmp_path / "out" / MARKER).read_text())["failed"]) == ["b"]
    shard(tmp_path / "s" / name)  # it was fetched again
    code, out, _ = isthmus(*arguments)
    assert code == 0
    assert out.startswith("shards: 3 (1 encoded, 2 done before)\n")


def test_pages_that_are_damaged_cost_their_rows(runs: Path, tmp_path: Path, here: None) -> None:
    source = shard(tmp_path / "x.parquet", compression="none", use_dictionary=False)
    spoil(source)
    found = encoded(runs, source, tmp_path / "codes").shards[0]
    assert found.status == "encoded"
    assert 0 < found.left_out_count < 200
    assert found.images + found.left_out_count == 200
    assert all("cannot be read" in reason for reason in found.left_out.values())


def test_a_shard_that_changes_while_it_is_encoded_is_not_written(
    runs: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, marks = shard(tmp_path / "x.npy"), iter(range(9))
    monkeypatch.setattr(shard_encoding, "content_mark", lambda path: {"bytes": next(marks)})
    found = encoded(runs, source, tmp_path / "codes").shards[0]
    assert found.error == f"{source} was changed while it was encoded; run the command again"
    assert not found.shard.target.exists()


def test_a_mistake_of_ours_ends_one_shard_with_its_traceback(
    runs: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, marks = some_shards(tmp_path / "s", 2), iter([1 / 1, ""])
    there = shard_encoding.open_shard
    monkeypatch.setattr(shard_encoding, "open_shard", lambda *a: there(*a) if next(marks) else 1 / 0)
    found = encoded(runs, source, tmp_path / "codes")
    assert states(found) == ["encoded", "failed"]
    assert "ZeroDivisionError" in str(found.shards[1].error)
    assert str(found.shards[1].error).startswith(str(source / "0001.npy"))


def test_a_full_disk_is_named(runs: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isthmus.writing.os.fsync", full)
    source = shard(tmp_path / "x.npy")
    coder = _coder(runs / "linear", False, "cpu")[1]
    found = encode_shard(Job(str(source), str(tmp_path / "codes/x.parquet"), "x"), coder, lambda *_: None)
    assert "Could not write" in found["error"]
    assert "No space left on device" in found["error"]
    assert list((tmp_path / "codes").iterdir()) == []


# -- processes


def workers_of(process: Any) -> list[int]:
    """The worker processes of a program: the children of its child that forks them."""
    parents, forking = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes():
                forking.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [number for number, parent in parents.items() if parent in forking and parents.get(parent) == process.pid]


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def large_shards(folder: Path, count: int) -> Path:
    """Shards that take a good part of a second each."""
    large = np.kron(IMAGES[:50], np.ones((1, 12, 12), np.uint8))
    contents = [png(image) for image in large]
    for i in range(count):
        shard(folder / f"{i:02d}.parquet", [contents[j % 50] for j in range(i, i + 400)], labels=None)
    return folder


@needs_proc
@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(runs: Path, tmp_path: Path) -> None:
    source, out = large_shards(tmp_path / "s", 6), tmp_path / "codes"
    process = start("encode", runs / "linear", f"{source}/*.parquet", "--out", out, "--workers", 2, "--json")
    wait_until(lambda: list(out.glob(".*.parquet.*.writing")), process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    facts = json.loads(stdout)
    assert [each["status"] for each in facts["shards"]] == ["encoded"] * 6
    assert (facts["images"], facts["left_out"]) == (2400, {})
    assert list(out.glob(".*.parquet.*.writing")) == []
    for path in sorted(source.iterdir()):
        alone = tmp_path / "alone" / path.name
        job = Job(str(path), str(alone), path.stem)
        assert "error" not in encode_shard(job, _coder(runs / "linear", False, "cpu")[1], lambda *_: None)
        first, second = read_codes(alone), read_codes(out / path.name)
        assert np.allclose(first.codes, second.codes, atol=1e-6)
        assert first.paths == second.paths


@needs_proc
@pytest.mark.slow
def test_after_everything_was_killed_the_same_command_does_the_rest(runs: Path, tmp_path: Path) -> None:
    source, out = large_shards(tmp_path / "s", 6), tmp_path / "codes"
    arguments = ("encode", runs / "linear", f"{source}/*.parquet", "--out", out, "--workers", 1, "--json")
    process = start(*arguments)
    wait_until(lambda: list(out.glob("*.parquet")) and list(out.glob(".*.parquet.*.writing")), process)
    workers = workers_of(process)
    process.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    process.communicate()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert 0 < len(done) < 6
    assert list(out.glob(".*.parquet.*.writing"))  # half a file is left behind
    with pytest.raises(InputError, match="codes is not complete: its encoding was cut short"):
        read_joined_codes(out)
    again = start(*arguments)
    stdout, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    before = [each["status"] for each in json.loads(stdout)["shards"]].count("done before")
    assert before == len(done)
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert sorted(path.name for path in out.iterdir()) == [".lock", *(f"{i:02d}.parquet" for i in range(6)), MARKER]
    assert len(read_joined_codes(out)) == 2400


@needs_proc
@pytest.mark.slow
def test_an_interrupt_ends_all_and_keeps_what_is_done(runs: Path, tmp_path: Path) -> None:
    source, out = large_shards(tmp_path / "s", 8), tmp_path / "codes"
    process = start("encode", runs / "linear", source, "--engine", "process", "--out", out, "--workers", 1)
    wait_until(lambda: list(out.glob("*.parquet")), process)
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the shards that are done are kept; the same command does the rest" in stderr
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert list(out.glob(".*.parquet.*.writing")) == []
    assert all(holds_codes(path) for path in out.glob("*.parquet"))


def test_a_shard_that_kills_every_worker_is_given_up_and_the_others_done(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, tried = some_shards(tmp_path / "s", 3), list[str]()

    def deadly(orders: Any, jobs: Any, shared: Any, *, workers: int, follow: Any) -> Any:
        for number, job in enumerate(jobs):
            tried.append(job.name)
            if job.name == "0001":
                (tmp_path / "codes/.0001.parquet.ab.writing").write_bytes(b"PAR1")
                yield number, Died("its process was ended by signal 9 (SIGKILL)")
            else:
                yield number, orders.work(job, shared, lambda *_: None)

    monkeypatch.setattr(shard_engines, "in_processes", deadly)
    found = encoded(runs, source, tmp_path / "codes")
    assert states(found) == ["encoded", "failed", "encoded"]
    assert found.shards[1].error == f"{source / '0001.npy'}: its process was ended by signal 9 (SIGKILL)"
    assert tried == ["0000", "0001", "0002", "0001", "0001"]
    assert list((tmp_path / "codes").glob(".*.writing")) == []


@pytest.mark.slow
def test_fifty_shards_by_two_workers_give_what_one_gives(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    source = some_shards(tmp_path / "s", 50)
    told: list[tuple[int, int, str]] = []
    kept: dict[int, dict[str, Any]] = {}
    for workers in (1, 2):
        out = tmp_path / f"codes-{workers}"
        found = encoded(runs, source, out, workers=workers, progress=lambda *news: told.append(news))
        assert states(found) == ["encoded"] * 50
        kept[workers] = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
        assert told[-1] == (2000, 2000, "2,000 of 2,000 images, 50 of 50 shards")
    assert kept[1] == kept[2]
    code, out, _ = isthmus("encode", runs / "linear", source, "--engine", "process", "--out", tmp_path / "codes-2")
    assert (code, out.splitlines()[0]) == (0, "shards: 50 (50 done before)")


RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None and os.environ.get("ISTHMUS_REQUIRE_RAY") != "1",
    reason="needs Ray: pip install 'isthmus[ray]'",
)


@RAY
@pytest.mark.slow
def test_ray_gives_the_bits_of_processes(runs: Path, tmp_path: Path) -> None:
    source = some_shards(tmp_path / "s", 9)
    (source / "bad.npy").write_bytes(b"")
    kept = {}
    for engine in ("process", "ray"):
        out = tmp_path / engine
        found = encoded(runs, source, out, engine=engine, workers=2)
        assert states(found) == ["encoded"] * 9 + ["failed"]
        assert "cannot be read" in str(found.shards[9].error)
        kept[engine] = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    assert kept["process"] == kept["ray"]


@needs_proc
@RAY
@pytest.mark.slow
def test_a_worker_of_ray_that_is_killed_costs_nothing_but_time(runs: Path, tmp_path: Path) -> None:
    source, out, killed = large_shards(tmp_path / "s", 6), tmp_path / "codes", list[int]()

    def kill() -> None:
        while not killed:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if b"ray::_do" in (folder / "cmdline").read_bytes() and list(out.glob(".*.parquet.*.writing")):
                        os.kill(int(folder.name), signal.SIGKILL)
                        killed.append(int(folder.name))
                        return
                except (FileNotFoundError, ProcessLookupError):
                    continue
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = encoded(runs, source, out, engine="ray", workers=2)
    killer.join(5)
    assert killed
    assert states(found) == ["encoded"] * 6
    assert found.images == 2400


def test_codes_that_another_machine_kept_for_itself_are_said_to_be_missing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(orders: Any, jobs: Any, shared: Any, **_: Any) -> Any:
        for number, job in enumerate(jobs):
            result = orders.work(job, shared, lambda *_: None)
            Path(job.target).unlink()
            yield number, result

    monkeypatch.setattr(shard_engines, "on_cluster", elsewhere)
    found = encoded(runs, shard(tmp_path / "x.npy"), tmp_path / "codes", engine="ray")
    assert "on another machine, and is not there on this one: choose an --out that all machines share" in str(
        found.shards[0].error
    )


# -- memory


MEASURE = """
import resource, sys
from pathlib import Path
from isthmus.training.shard_encoding import Job, encode_shard
from isthmus.training.shard_engines import _coder
coder = _coder(Path(sys.argv[1]), False, "cpu")[1]
found = encode_shard(Job(sys.argv[2], sys.argv[3], "x"), coder, lambda *_: None)
assert found["images"] == int(sys.argv[4]), found
status = Path("/proc/self/status")  # what getrusage says counts the process that started this one too
lines = status.read_text().splitlines() if status.exists() else []
told = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
unit = 1 if sys.platform == "darwin" else 1024
print(told[0] if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""

# Buffers go back to the system when they are freed, so that the peak is what was held, not what an allocator keeps.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def peak(run: Path, source: Path, out: Path, images: int) -> int:
    """Bytes that a process has held at most that encoded a shard."""
    command = [sys.executable, "-c", MEASURE, str(run), str(source), str(out), str(images)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **GIVEN_BACK}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks the system for the peak as Unix tells it")
@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".npz"])
def test_many_times_the_rows_take_no_more_memory(runs: Path, tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 96, 96), dtype=np.uint8)  # three batches
    contents = [png(image) for image in noise[:100]]
    peaks, sizes = [], []
    for times in (1, 24):
        source, count = tmp_path / f"{times}{suffix}", len(noise) * times
        if suffix == ".parquet":
            rows, plain = [contents[i % 100] for i in range(count)], {"compression": "none", "use_dictionary": False}
            shard(source, rows, [i % 3 for i in range(count)], row_group_size=10**6, **plain)
        elif suffix == ".npy":
            np.save(source, np.tile(noise, (times, 1, 1)))
        else:
            np.savez(source, images=np.tile(noise, (times, 1, 1)), labels=np.arange(count) % 3)
        sizes.append(source.stat().st_size)
        peaks.append(peak(runs / "linear", source, tmp_path / "codes.parquet", count))
        source.unlink()
    assert sizes[1] > 20 * sizes[0]
    assert peaks[1] < peaks[0] + (sizes[1] - sizes[0]) / 16, (peaks, sizes)


# -- codes in several files


def test_a_folder_of_codes_is_searched_scored_and_drawn_as_one_file(
    isthmus: Any, runs: Path, tmp_path: Path, here: None
) -> None:
    source, out = some_shards(tmp_path / "s", 3), tmp_path / "codes"
    encoded(runs, source, out)
    whole = read_joined_codes(out)
    assert len(whole) == 120
    assert holds_joined_codes(out)
    assert whole.names()[:2] == ("0000-00", "0000-01")
    assert whole.labels is None  # the second shard knows no classes
    query = next(out.glob("0001.parquet"))
    for among in (out, f"{out}/*.parquet"):
        found = isthmus(
            "search", runs / "linear", query, among, "--json", "-n", 1, "--out", tmp_path / "found", "--overwrite"
        )
        assert found[0] == 0, found[2]
        facts = json.loads(found[1])
        assert facts["images"] == 120
        assert all(each["found"][0]["distance"] == 0 for each in facts["found"])
    code, text, err = isthmus("outliers", runs / "linear", out, "--json", "--out", tmp_path / "odd")
    assert code == 0, err
    assert json.loads(text)["figures"]["images"] == 120
    code, text, err = isthmus("decode", runs / "linear", out, "--json", "--out", tmp_path / "drawn")
    assert code == 0, err
    assert json.loads(text)["images"] == 120


def test_classes_of_several_files_are_those_of_all(runs: Path, tmp_path: Path, here: None) -> None:
    shard(tmp_path / "s/a.parquet", labels=[0] * 200)
    shard(tmp_path / "s/b.parquet", labels=[2, 1] * 100)
    encoded(runs, tmp_path / "s", tmp_path / "codes", "vae", posterior=True)
    whole = read_joined_codes(tmp_path / "codes")
    assert whole.classes == ("10", "9", "eel")
    assert [whole.label(i) for i in (0, 199, 200, 201)] == ["9", "9", "eel", "10"]
    assert whole.std is not None
    assert whole.std.shape == (400, 3)


def test_files_that_do_not_go_together_are_refused(runs: Path, tmp_path: Path, here: None) -> None:
    source = shard(tmp_path / "x.npy")
    for name, run, options in (
        ("a", "linear", {}),
        ("b", "../other", {}),
        ("c", "vae", {}),
        ("d", "vae", {"posterior": True}),
    ):
        encoded(runs, source, tmp_path / name, run, **options)
    for names, words in (
        ("ab", "were written by different models"),
        ("bc", "holds codes of 2 numbers, .*c/x.parquet of 3"),
        ("cd", "d/x.parquet holds standard deviations and .*c/x.parquet none"),
    ):
        with pytest.raises(InputError, match=words):
            read_joined_codes(tmp_path / f"[{names}]/x.parquet")


def test_what_is_no_set_of_codes_is_named(runs: Path, tmp_path: Path, here: None) -> None:
    for source, words in (
        (tmp_path, f"no `isthmus encode` wrote (there is no {MARKER} in it)"),
        (tmp_path / "*.csv", "*.csv matches no file"),
        (tmp_path / "nothing.npz", "does not exist"),
    ):
        assert not holds_joined_codes(source)
        with pytest.raises(InputError, match=re.escape(words)):
            read_joined_codes(source)
    (tmp_path / "s").mkdir()
    (tmp_path / "s/bad.npy").write_bytes(b"")
    assert states(encoded(runs, tmp_path / "s", tmp_path / "codes")) == ["failed"]
    with pytest.raises(InputError, match="codes holds no codes: every shard failed"):
        read_joined_codes(tmp_path / "codes")


def test_a_file_of_codes_names_what_it_was_made_from(runs: Path, tmp_path: Path, here: None) -> None:
    source = shard(tmp_path / "x.npy")
    note = read_note(encoded(runs, source, tmp_path / "codes").shards[0].shard.target)
    assert note["source"]["bytes"] == source.stat().st_size
    assert note["model"] == Run(runs / "linear").config()["checksums"]["model.safetensors"]
    assert (note["images"], note["left_out"]) == (200, {})
    assert read_note(source) == {}
    assert read_note(tmp_path / "missing") == {}


def test_the_page_on_scale_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.syspath_prepend(root / "docs/tools")
    scale: Any = importlib.import_module("scale")
    page = scale.PAGE.read_text(encoding="utf-8")
    assert page == scale.with_section(page, json.loads(scale.RESULTS.read_text())), "run docs/tools/scale.py"
    results = {
        "machine": {"cores": 2, "versions": {"torch": "2"}},
        "workloads": {
            "encode_shards": {
                "commit": "abc",
                "images": 1000,
                "images_a_shard": 100_000,
                "clean": 3,
                "discarded": 1,
                "driver_ms_a_shard": 6.0,
                "bytes_a_code_in_memory": {"16": 200.0},
                "encoding": {
                    "npy.16.cores": {
                        "us_an_image": {"reading": 10.0, "network": 80.0, "writing": 10.0, "all": 100.0},
                        "images_a_second_a_core": 10_000,
                        "bytes_in": 1024.0,
                        "bytes_out": 70.0,
                        "workers": 2,
                    }
                },
            }
        },
    }
    made = scale.section(results)
    row = "| `.npy` | 16 | 1.02 TB | 70 GB | 28 | 1.7 | 0.43 | 0.11 | 164 MB/s |"  # 1e9 / 10,000 / 3600 hours
    assert row in made
    assert "a billion would take 200 GB, and 64 GB are full at 320 million images" in made
    assert "1,000,000 shards of 1,000 images take 1.7 h" in made


def test_rows_are_counted_without_being_read(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz", ".parquet"):
        assert count_images(shard(tmp_path / f"x{suffix}", IMAGES[:70])) == 70
    assert count_images(tmp_path / "missing.npy") == 0
    with pytest.raises(DataError, match="does not exist any more"):
        open_shard(tmp_path / "missing.npy", "missing", (1, 16, 16))
