"""Sets that stay on disk and folders read by processes: the same images as in memory and by threads."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.data import cache, contents, decoding, folders, stored
from isthmus.data.arrays import Pixels
from isthmus.data.decoding import following, processes_for, read_parts
from isthmus.data.files import load_path
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.photographs import decode, read_header
from isthmus.data.split import split
from isthmus.data.stored import Stored, Storing, free_memory, open_stored
from isthmus.errors import DataError, IsthmusError
from isthmus.networks.autoencoder import lab
from isthmus.networks.classifier import classifier
from isthmus.settings import TrainingSettings
from isthmus.training.loop import train

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (50, 3, 6, 5), dtype=np.uint8)


def put(path: Path, images: np.ndarray) -> Stored:
    """Images as they lie on disk."""
    writing = Storing(path, images.shape[1:])
    for start in range(0, len(images), 7):
        writing.append(images[start : start + 7])
    return writing.finish()


@pytest.fixture
def on_disk(tmp_path: Path) -> Stored:
    return put(tmp_path / "images.npy", COLOURS)


def photographs(folder: Path, count: int = 40, *, side: int = 9, suffix: str = "png") -> Path:
    """Grey images in two classes."""
    pixels = RNG.integers(0, 256, (count, side, side), dtype=np.uint8)
    for i in range(count):
        path = folder / ("a", "b")[i % 2] / f"{i:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(path)
    return folder


def same(first: ImageSet, second: ImageSet) -> bool:
    equal = first.fingerprint == second.fingerprint and (first.classes, first.notes) == (second.classes, second.notes)
    return equal and np.array_equal(np.asarray(first.images), np.asarray(second.images))


# Images on disk


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(None),
        slice(3, 40, 4),
        slice(None, None, -1),
        [5],
        [],
        [7, 3, 3, -2, 49],
        list(range(10, 30)),
        np.arange(50) % 3 == 1,
    ],
)
def test_images_on_disk_are_read_as_an_array_would_give_them(on_disk: Stored, index: object) -> None:
    key = np.asarray(index, np.int64) if isinstance(index, list) else index
    assert np.array_equal(on_disk[key], COLOURS[key])


def test_a_part_of_a_part_and_its_grey_are_those_of_the_array(on_disk: Stored) -> None:
    whole = ImageSet(COLOURS, None)
    part = on_disk.select(RNG.permutation(50)[:30]).select(np.arange(30) % 2 == 0)
    expected = ImageSet(np.asarray(part), None)
    assert part.shape == (15, 3, 6, 5)
    assert np.array_equal(on_disk.grey()[:], whole.grey().images)
    assert np.array_equal(part.grey()[2:9], expected.grey().images[2:9])
    assert part.grey().shape == (15, 1, 6, 5)
    assert part.grey().nbytes == part.nbytes // 3


def test_what_numpy_wrote_can_stay_on_disk_and_what_we_wrote_numpy_reads(tmp_path: Path, on_disk: Stored) -> None:
    assert np.array_equal(np.load(on_disk.path, mmap_mode="r"), COLOURS)
    np.save(tmp_path / "theirs.npy", COLOURS)
    assert np.array_equal(open_stored(tmp_path / "theirs.npy")[:], COLOURS)
    for array in (COLOURS[0], COLOURS.astype(np.float32), np.asfortranarray(COLOURS)):
        np.save(tmp_path / "theirs.npy", array)
        with pytest.raises(ValueError, match="holds"):
            open_stored(tmp_path / "theirs.npy")


def test_positions_that_are_not_there_are_refused(on_disk: Stored) -> None:
    for index in (50, -51, [3, 60]):
        with pytest.raises(IndexError, match="of 50"):
            on_disk[index]
    assert len(list(on_disk)) == 50  # as a sequence, it ends


def test_several_threads_and_processes_read_the_same_file(on_disk: Stored) -> None:
    orders = [RNG.permutation(50) for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(on_disk.__getitem__, orders), strict=True):
            assert np.array_equal(found, COLOURS[order])
    other = pickle.loads(pickle.dumps(on_disk.select([4, 2]).grey()))
    assert np.array_equal(other[:], ImageSet(COLOURS[[4, 2]], None).grey().images)
    assert len(pickle.dumps(on_disk)) < 1000


def test_batches_come_in_order_and_are_read_ahead(on_disk: Stored) -> None:
    chosen = [RNG.permutation(50)[:8] for _ in range(30)]
    asked = []

    def asking():
        for index in chosen:
            asked.append(index)
            yield index

    for i, batch in enumerate(on_disk.batches(asking())):
        assert np.array_equal(batch, COLOURS[chosen[i]])
        assert len(asked) == min(i + 1 + stored.AHEAD, 30)  # memory does not grow with their number


def test_a_file_that_was_cut_is_named(on_disk: Stored) -> None:
    os.truncate(on_disk.path, 500)
    with pytest.raises(DataError, match=r"images.npy ends before image \d+: it was changed; load the set again"):
        on_disk[40:]
    on_disk.path.unlink()
    with pytest.raises(DataError, match=r"images.npy, where the images of this set lie, cannot be read"):
        pickle.loads(pickle.dumps(on_disk))[0]


def test_a_temporary_file_lives_as_long_as_any_part_of_its_set(tmp_path: Path) -> None:
    writing = Storing(tmp_path / "x.npy", (3, 6, 5))
    writing.append(COLOURS)
    whole = writing.finish(temporary=True)
    part = whole.select([1, 2])
    del whole
    assert np.array_equal(part[:], COLOURS[[1, 2]])
    del part
    assert not (tmp_path / "x.npy").exists()


def test_a_set_on_disk_is_the_set_in_memory(on_disk: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.imageset.CHUNK_VALUES", 700)
    labels = np.arange(50) % 4
    memory = ImageSet(COLOURS, labels, tuple("abcd"))
    disk = ImageSet(cast(Pixels, on_disk), labels, tuple("abcd"))
    index = RNG.permutation(50)[:20]
    for change in (
        lambda images: images,
        lambda images: images.grey(),
        lambda images: images.take(index),
        lambda images: images.take(index).grey().take(np.arange(15)),
        lambda images: images.resize(4, 4),
        lambda images: split(images).train,
    ):
        assert same(change(memory), change(disk))
        assert np.array_equal(change(memory).image_hashes(), change(disk).image_hashes())
    assert isinstance(disk.grey().images, Stored)
    assert isinstance(disk.take(index).images, Stored)
    assert isinstance(disk.take(index[:3]).images, np.ndarray)  # a few are an array as any other


@pytest.mark.parametrize("classes", [0, 10])
def test_training_from_disk_gives_the_same_weights(parts: Split, tmp_path: Path, classes: int) -> None:
    settings = TrainingSettings(epochs=2, batch_size=32, noise=0.1)

    def trained(training: ImageSet, validation: ImageSet) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
        torch.manual_seed(0)
        network = classifier(training.shape, classes=classes) if classes else lab(training.shape)
        history = train(network, training, validation, settings, seed=3)
        return network.state_dict(), [{k: v for k, v in e.items() if k != "seconds"} for e in history.epochs]

    def moved(images: ImageSet, name: str) -> ImageSet:
        kept = put(tmp_path / name, images.images)
        return ImageSet(cast(Pixels, kept), images.labels, images.classes, images.name)

    weights, epochs = trained(parts.train, parts.validation)
    others, again = trained(moved(parts.train, "train.npy"), moved(parts.validation, "validation.npy"))
    assert epochs == again
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


def test_free_memory_is_below_what_the_process_may_take() -> None:
    if sys.platform != "linux":
        pytest.skip("reads Linux's own account")
    free = free_memory()
    assert free is not None
    assert 0 < free < 2**50
    code = "import resource as r; r.setrlimit(r.RLIMIT_AS, (2**31, 2**31)); "
    code += "from isthmus.data.stored import free_memory; print(free_memory())"
    left = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 2**28 < left < 2**31


# Folders that are too large for memory


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_folder_too_large_for_memory_stays_on_disk(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    expected = load_path(folder)
    for path in (home / "cache").iterdir():
        path.unlink()
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    first = load_path(folder)
    assert isinstance(first.images, Stored)
    assert same(first, expected)
    assert sorted(path.suffix for path in (home / "cache").iterdir()) == [".json", ".npy"]
    monkeypatch.setattr(folders, "read_parts", None)  # nothing is decoded again
    second = load_path(folder)
    assert isinstance(second.images, Stored)
    assert second.images.path.parent == home / "cache"
    assert same(second, expected)
    monkeypatch.setattr(stored, "free_memory", lambda: 2**40)
    assert isinstance(load_path(folder).images, np.ndarray)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
@pytest.mark.parametrize("when", ["decoding", "loaded", "loaded again"])
def test_the_cache_may_be_deleted_while_a_large_set_is_in_use(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    expected = split(load_path(folder))
    shutil.rmtree(home)
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    append = Storing.append

    def losing(self: Storing, images: np.ndarray) -> None:
        append(self, images)
        shutil.rmtree(home)

    if when == "decoding":
        monkeypatch.setattr(Storing, "append", losing)
    images = load_path(folder)
    if when == "loaded again":
        images = load_path(folder)
    if when != "decoding":
        shutil.rmtree(home)
    assert isinstance(images.images, Stored)
    parts = split(images)
    del images
    assert not list(home.glob("cache/*.npy"))
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(parts, name).images[:], getattr(expected, name).images)


def test_bad_files_are_left_out_of_a_large_set_and_its_file_is_temporary(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photographs(tmp_path / "set")
    (folder / "a" / "000.png").write_bytes(b"")
    expected = load_path(folder, skip_bad=True)
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    images = load_path(folder, skip_bad=True)
    assert same(images, expected)
    assert len(list((home / "cache").iterdir())) == 1
    del images
    assert list((home / "cache").iterdir()) == []
    with pytest.raises(DataError, match="1 of 40 image files"):
        load_path(folder)
    assert list((home / "cache").iterdir()) == []


def test_a_large_set_without_room_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photographs(tmp_path / "set")
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: full)
    words = r"take 3,240 bytes, too much for the memory .* only 1,000 bytes are free there\. Set ISTHMUS_HOME"
    with pytest.raises(DataError, match=words):
        load_path(folder)
    assert list((home / "cache").iterdir()) == []
    home.rename(tmp_path / "aside")
    home.write_text("a file")
    with pytest.raises(DataError, match=r"are to lie in .*: .*Set ISTHMUS_HOME to a folder on a larger disk"):
        load_path(folder)


# Decoding by processes


@pytest.fixture
def by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FEW", 1)
    if processes_for(10, 10) == 0:
        pytest.skip("needs two processors")


@pytest.mark.parametrize("size", [None, (7, 8)])
def test_processes_and_threads_give_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] | None, by_processes: None
) -> None:
    folder = photographs(tmp_path / "set", suffix="png")
    Image.fromarray(COLOURS[0].transpose(1, 2, 0)).save(folder / "a" / "colour.jpg")
    Image.fromarray(RNG.integers(0, 2**16, (9, 9), dtype=np.uint16)).save(folder / "b" / "deep.png")
    started = []

    class Watched(decoding._Child):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(decoding, "_Child", Watched)
    found = load_path(folder, size=size)
    count = len(started)
    monkeypatch.setattr(folders, "processes_for", lambda *_: 0)
    assert same(found, load_path(folder, size=size))
    assert len(started) == count > 0


def test_bad_files_are_named_by_processes_too(home: Path, tmp_path: Path, by_processes: None) -> None:
    folder = photographs(tmp_path / "set")
    (folder / "a" / "bad.png").write_bytes(b"no image")
    (folder / "b" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 42 .* a/bad.png is not an image .*, b/empty.png is empty"):
        load_path(folder)
    assert len(load_path(folder, skip_bad=True)) == 40


def test_progress_counts_to_the_end_whoever_reads(tmp_path: Path, home: Path, by_processes: None) -> None:
    folder = photographs(tmp_path / "set", 300)
    told: list[tuple[int, int, str]] = []
    with following(lambda *news: told.append(news)):
        load_path(folder)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (300, 300, "300 of 300 files")
    load_path(folder, size=(5, 5))
    assert told[-1][:2] == (300, 300)


def test_a_process_that_dies_is_an_error_that_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_processes: None
) -> None:
    paths = sorted(str(path) for path in photographs(tmp_path / "set").rglob("*.png"))
    monkeypatch.setattr(decoding, "_CHILD", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(IsthmusError, match=r"ended with signal 9 at one of .*000.png to .*\.png; .* Free some memory"):
        list(read_parts(paths, (1, 9, 9), processes=2))


def test_no_process_is_left_when_reading_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_processes: None
) -> None:
    monkeypatch.setattr(decoding, "PART", 4)
    started: list[decoding._Child] = []

    class Watched(decoding._Child):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(decoding, "_Child", Watched)
    paths = sorted(str(path) for path in photographs(tmp_path / "set", 200).rglob("*.png"))
    reading = read_parts(paths, (1, 9, 9), processes=2)
    next(reading)
    reading.close()
    assert [child.process.poll() is not None for child in started] == [True, True]


def test_a_script_needs_no_guard_and_ctrl_c_ends_the_processes(tmp_path: Path, by_processes: None) -> None:
    folder = photographs(tmp_path / "set", 30)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import isthmus.data.decoding as decoding
            decoding.FEW = 1
            from isthmus.data.files import load_path
            print(len(load_path({str(folder)!r})), flush=True)
            """
        )
    )
    environment = {**os.environ, "ISTHMUS_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("30\n", "")


def test_processes_are_for_many_files_or_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert processes_for(10, 1000) == 0
    assert processes_for(decoding.FEW, 1000) == 2
    assert processes_for(10, decoding.FEW_BYTES) == 2
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert processes_for(10**6, 10**9) == 0


# One look at a file, and what is remembered of it


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp", "ppm"])
def test_a_file_read_in_one_go_is_what_header_and_decoding_give(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.fromarray(COLOURS[i].transpose(1, 2, 0)) for i in range(2)]
    pictures[0].save(tmp_path / f"a.{suffix}")
    pictures[0].convert("L").save(tmp_path / f"b.{suffix}")
    if suffix in ("gif", "webp", "tif", "png"):
        pictures[0].save(tmp_path / f"c.{suffix}", save_all=True, append_images=pictures[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    if suffix in ("png", "jpg", "webp", "tif"):
        pictures[0].save(tmp_path / f"d.{suffix}", exif=exif)
    for path in sorted(tmp_path.iterdir()):
        (part,) = read_parts([str(path)], (3, 4, 7))
        assert part.headers == [read_header(path)]
        expected = np.atleast_3d(decode(path, 4, 7)).transpose(2, 0, 1)
        assert np.array_equal(part.pixels[0], np.broadcast_to(expected, (3, 4, 7)))
        assert part.sums.tobytes() == hashlib.sha256(path.read_bytes()).digest()


def test_large_files_are_summed_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.photographs.SMALL", 10)
    monkeypatch.setattr(contents, "SMALL", 10)
    folder = photographs(tmp_path / "set", 6)
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    (part,) = read_parts(paths, (1, 9, 9))
    expected = [hashlib.sha256(Path(path).read_bytes()).digest() for path in paths]
    assert part.sums.tobytes() == contents.file_sums(paths)[0].tobytes() == b"".join(expected)


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is read for its sum alone from now on."""
    files: list[str] = []
    file_sums = contents.file_sums

    def watched(paths: list[str]) -> object:
        files.extend(paths)
        return file_sums(paths)

    monkeypatch.setattr(contents, "file_sums", watched)
    return files


needs_times = pytest.mark.skipif(os.name == "nt", reason="needs a time of change that no program sets")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: the clock of the test is not that of the file system."""
    monkeypatch.setattr(contents, "SETTLED", -(10**9))


@needs_times
@pytest.mark.usefixtures("settled")
def test_files_that_did_not_change_are_not_read_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[str]
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    first = load_path(folder)
    monkeypatch.setattr(folders, "read_parts", None)
    assert same(load_path(folder), first)
    assert summed == []
    changed = folder / "a" / "000.png"
    before, content = changed.stat(), changed.read_bytes()
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert same(load_path(folder), first)
    assert summed == [str(changed)]  # its date is as before, and yet it was written to


@needs_times
def test_files_that_changed_a_moment_ago_are_read_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[str]
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    first = load_path(folder)
    assert same(load_path(folder), first)
    assert len(summed) == 40
    monkeypatch.setattr(time, "time_ns", lambda: 2**62)  # long after
    load_path(folder)
    assert len(summed) == 80
    load_path(folder)
    assert len(summed) == 80


def test_a_folder_of_other_names_is_decoded_without_being_read_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[str]
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    load_path(folder)
    (folder / "a" / "000.png").rename(folder / "a" / "new.png")
    load_path(folder)
    load_path(folder, size=(5, 5))
    assert summed == []


@needs_times
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_what_is_remembered_may_be_lost(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    summed: list[str],
    damage: Callable[[Path], object],
) -> None:
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    folder = photographs(tmp_path / "set")
    first = load_path(folder)
    (ledger,) = (home / "states").iterdir()
    damage(ledger)
    assert same(load_path(folder), first)
    assert len(summed) == 40
    assert same(load_path(folder), first)
    assert len(summed) == 40


def test_a_set_larger_than_the_cache_stays_until_another_such_comes(tmp_path: Path) -> None:
    def entry(name: str, size: int, age: int) -> None:
        for suffix, bytes_ in ((".npy", size), (".json", 1)):
            (tmp_path / f"{name}{suffix}").write_bytes(bytes(bytes_))
            os.utime(tmp_path / f"{name}{suffix}", (time.time() - age, time.time() - age))

    for name, size, age in (("large", 500, 50), ("larger", 600, 60), ("old", 60, 70), ("new", 30, 10), ("mid", 30, 20)):
        entry(name, size, age)
    contents.remove_oldest(tmp_path, 100)
    assert {path.stem for path in tmp_path.iterdir()} == {"large", "new", "mid"}
    assert len(list(tmp_path.iterdir())) == 6
