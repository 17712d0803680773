"""What a folder holds is found in order, and seen again without being read: the same whoever looks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.data import cache, contents, folders, looking, states
from isthmus.data.files import load_path
from isthmus.data.folders import find_images
from isthmus.data.imageset import ImageSet
from isthmus.data.looking import Looker, file_states
from isthmus.data.photographs import SUFFIXES
from isthmus.data.states import state_of, states_of
from isthmus.errors import DataError

RNG = np.random.default_rng(0)
NAMES = [
    "b",
    "b.png",
    "B1.PNG",
    "a.jpeg",
    "a.jpeg.txt",
    "c.",
    "c.Tiff",
    ".d.png",
    "png",
    "é.pGm",
    "z.png.PNG",
    "b0.gif",
]

needs_links = pytest.mark.skipif(os.name == "nt", reason="needs links and named pipes")


def expected(folder: Path) -> list[Path]:
    """Every image at or below a folder: one entry after the other, by name."""
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or (path.is_dir() and path.is_symlink()):
            continue
        if path.is_dir():
            found += expected(path)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
    return found


@needs_links
def test_images_are_found_in_the_order_of_names_with_folders_and_links_among_them(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "b1", tmp_path / "b1" / "b.x", tmp_path / "zz", tmp_path / ".hidden"):
        place.mkdir(exist_ok=True)
        for name in NAMES:
            (place / f"{name}{RNG.integers(10)}").write_bytes(b"")
            (place / name).write_bytes(b"")
    os.mkdir(tmp_path / "folder.png")
    odd = os.fsdecode(b"\xff.png") if sys.platform == "linux" else "odd.png"  # no name in Unicode
    (tmp_path / "folder.png" / odd).write_bytes(b"")
    (tmp_path / "ba.png").symlink_to(tmp_path / "zz" / "a.jpeg")
    (tmp_path / "b1" / "back.png").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "bb.png")
    found = find_images(tmp_path)
    assert found == expected(tmp_path)
    assert len(found) == 4 * 7 + 3


def test_of_every_kind_of_entry_as_many_are_counted_as_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("L", (3, 3)).save(tmp_path / name / "A.PNG")
        (tmp_path / name / "notes.txt").write_text("")
        (tmp_path / name / "rows.Parquet").write_text("")
        (tmp_path / name / ".hidden").write_text("")
    images = load_path(tmp_path)
    assert len(images) == 2
    assert images.notes == ("4 files ignored for not ending in an image suffix.",)


# What the system says of files


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process looks at files however few they are."""
    monkeypatch.setattr(looking, "MANY", 1)
    monkeypatch.setattr(looking, "_may_start_another", lambda: True)


def all_seen(looker: Looker | None, count: int) -> Looker:
    """The second process when it has seen so many files."""
    assert looker is not None
    end = time.monotonic() + 30
    while looker.seen < count and time.monotonic() < end:
        time.sleep(0.01)
    assert looker.seen == count
    return looker


def files_in(folder: Path, count: int = 9) -> list[bytes]:
    """Names of new files of different lengths, in two folders."""
    names = []
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(i))
        names.append(os.fsencode(path.relative_to(folder).as_posix()))
    return names


def by_hand(folder: Path, names: list[bytes]) -> list[list[int]]:
    return [list(state_of((folder / os.fsdecode(name)).stat())) for name in names]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("opens_folders", [True, False])
@pytest.mark.usefixtures("many")
def test_two_processes_see_what_one_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, opens_folders: bool
) -> None:
    names = files_in(tmp_path)
    if not opens_folders:
        monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.chdir(tmp_path)
    root = "" if relative else str(tmp_path) + os.sep
    with looking.looking(root, names) as looker:
        all_seen(looker, len(names))
        with monkeypatch.context() as inner:
            inner.setattr(looking, "states_of", None)  # this process asks for nothing
            assert file_states(root, names, looker).tolist() == by_hand(tmp_path, names)
    assert file_states(root, names).tolist() == by_hand(tmp_path, names)
    monkeypatch.setattr(looking, "_may_start_another", lambda: False)
    with looking.looking(root, names) as looker:
        assert looker is None
        assert file_states(root, names, looker).tolist() == by_hand(tmp_path, names)
    assert file_states(root, []).shape == (0, 5)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_the_two_meet_wherever_that_is(tmp_path: Path, seen: int) -> None:
    names = files_in(tmp_path, 2 * states.AT_ONCE + 7)
    expected = by_hand(tmp_path, names)
    with looking.looking(str(tmp_path), names) as looker:
        parts = all_seen(looker, len(names))._parts
        assert [len(part) // 5 for part in parts] == [states.AT_ONCE, states.AT_ONCE, 7]
        del parts[seen:]
        assert file_states(str(tmp_path), names, looker).tolist() == expected


@pytest.mark.usefixtures("many")
def test_who_looks_at_other_files_does_not_count(tmp_path: Path) -> None:
    names = files_in(tmp_path)
    with looking.looking(str(tmp_path), names[1:]) as looker:
        all_seen(looker, len(names) - 1)
        assert file_states(str(tmp_path), names, looker).tolist() == by_hand(tmp_path, names)


@needs_links
@pytest.mark.usefixtures("many")
def test_the_state_of_a_link_is_that_of_what_it_leads_to(tmp_path: Path) -> None:
    names = files_in(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / os.fsdecode(names[5]))
    names.append(b"link")
    with looking.looking(str(tmp_path), names) as looker:
        all_seen(looker, len(names))
        for found in (file_states(str(tmp_path), names, looker), np.reshape(states_of(str(tmp_path), names), (-1, 5))):
            assert found[-1].tolist() == found[5].tolist()


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("program", ["", "/nowhere/python", shutil.which("false") or ""])
def test_without_a_second_process_one_sees_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    names = files_in(tmp_path)
    monkeypatch.setattr(sys, "executable", program)
    with looking.looking(str(tmp_path), names) as looker:
        assert file_states(str(tmp_path), names, looker).tolist() == by_hand(tmp_path, names)
        assert looker is not None
        looker._thread.join()
        assert looker.seen == 0


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("answered", [0, 39, 9 * 40 - 1])
def test_an_answer_that_is_cut_short_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    names, start = files_in(tmp_path), subprocess.Popen
    short = f"import sys; sys.stdin.buffer.read(); sys.stdout.buffer.write(bytes({answered}))"

    def broken(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", short], **options)

    monkeypatch.setattr(looking.subprocess, "Popen", broken)
    with looking.looking(str(tmp_path), names) as looker:
        assert looker is not None
        looker._thread.join()
        assert looker.seen == 0
        assert file_states(str(tmp_path), names, looker).tolist() == by_hand(tmp_path, names)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("position", [0, 8])
def test_a_file_that_is_gone_is_an_error_whoever_looks(tmp_path: Path, position: int) -> None:
    names = files_in(tmp_path)
    (tmp_path / os.fsdecode(names[position])).unlink()
    with looking.looking(str(tmp_path), names) as looker:
        assert looker is not None
        looker._thread.join()
        with pytest.raises(FileNotFoundError):
            file_states(str(tmp_path), names, looker)


@pytest.mark.usefixtures("many")
def test_the_second_process_ends_whether_it_was_of_use_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, start = files_in(tmp_path), subprocess.Popen

    def endless(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", "import time; time.sleep(1000)"], **options)

    monkeypatch.setattr(looking.subprocess, "Popen", endless)
    with pytest.raises(DataError, match="mended"), looking.looking(str(tmp_path), names * 50_000) as looker:
        raise DataError("mended")  # names are more than a pipe holds: they are being sent
    assert looker is not None
    assert looker._process is not None
    assert looker._process.returncode is not None
    assert not looker._thread.is_alive()


def test_numbers_larger_than_eight_bytes_hold_are_cut(tmp_path: Path) -> None:
    facts = [0] * 10
    facts[1] = 2**64 - 2  # the inode
    status = os.stat_result([*facts, 0, 0, 0, 1, 2, 3])
    assert state_of(status) == (0, 2**63 - 2, 0, 2, 3 if states.TIMES_TELL else -1)


# A folder that is read again


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images in two classes that are worth keeping and may be seen by two, and a clock that makes files settled."""
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    monkeypatch.setattr(contents, "SETTLED", -(10**9))
    monkeypatch.setattr(looking, "MANY", 1)
    monkeypatch.setattr(looking, "_may_start_another", lambda: True)
    for i in range(12):
        path = tmp_path / "set" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (5, 4), dtype=np.uint8)).save(path)
    return tmp_path / "set"


def same(first: ImageSet, second: ImageSet) -> bool:
    equal = first.fingerprint == second.fingerprint and (first.classes, first.notes) == (second.classes, second.notes)
    return equal and np.array_equal(first.images, second.images)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entry of the cache that is read, each time."""
    files: list[str] = []
    read_entry = cache._read

    def watched(path: Path, name: str) -> object:
        files.append(path.name)
        return read_entry(path, name)

    monkeypatch.setattr(cache, "_read", watched)
    return files


def write_over(path: Path) -> None:
    """Another image of the same length, with the date the file had."""
    before, image = path.stat(), np.asarray(Image.open(path))
    for value in range(256):
        changed = image.copy()
        changed.flat[value % changed.size] = value
        if not np.array_equal(changed, image):
            Image.fromarray(changed).save(path)
            if path.stat().st_size == before.st_size:
                break
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.skipif(os.name == "nt", reason="files are read again there")
@pytest.mark.parametrize("position", [0, 11])
def test_images_are_read_once_while_the_files_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, read: list[str], position: int
) -> None:
    first = load_path(folder)
    with monkeypatch.context() as inner:
        inner.setattr(folders, "read_parts", None)  # nothing is decoded
        inner.setattr(contents, "file_sums", None)  # and no file read
        assert same(load_path(folder), first)
        assert len(read) == 1
    write_over(sorted(folder.rglob("*.png"))[position])
    second = load_path(folder)
    assert first.fingerprint != second.fingerprint
    assert len(set(read)) == 2  # those of the files as they had been were of no use
    assert same(load_path(folder), second)
    shutil.rmtree(cache.home_folder())
    assert same(load_path(folder), second)


@pytest.mark.skipif(os.name == "nt", reason="nothing is remembered there")
def test_the_files_of_the_last_time_are_looked_at_before_the_folder_is_searched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, search, seen = load_path(folder), folders._find, []

    def slow(place: Path) -> object:
        found = search(place)
        end = time.monotonic() + 30
        while not ahead[-1].seen and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(ahead[-1].seen)
        return found

    ahead: list[Looker] = []
    begin = Looker.__init__

    def watched(looker: Looker, root: str, names: list[bytes]) -> None:
        ahead.append(looker)
        begin(looker, root, names)

    monkeypatch.setattr(Looker, "__init__", watched)
    monkeypatch.setattr(folders, "_find", slow)
    monkeypatch.setattr(looking, "states_of", None)
    assert same(load_path(folder), first)
    assert seen == [12]
    assert len(ahead) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "a" / "0.png", folder / "b" / "99.png"),
        lambda folder: (folder / "a" / "0.png").unlink(),
        lambda folder: os.replace(folder / "a" / "0.png", folder / "b" / "1.png"),
        lambda folder: (folder / "b" / "11.png").rename(folder / "b" / "x.png"),
        lambda folder: (folder / "b" / "more").mkdir(),
        lambda folder: (folder / "c").mkdir(),
        lambda folder: (folder / "b" / "11.png").write_bytes((folder / "a" / "0.png").read_bytes()),
        lambda folder: write_over(folder / "a" / "0.png"),
    ],
)
def test_whatever_changes_between_two_readings_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    first = load_path(folder)
    assert same(load_path(folder), first)
    change(folder)
    second = load_path(folder)
    shutil.rmtree(cache.home_folder())
    assert same(load_path(folder), second)


@needs_links
def test_a_file_that_became_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    load_path(folder)
    shutil.move(folder / "a" / "0.png", tmp_path / "0.png")
    (folder / "a" / "0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"1 link leading out of .*: a/0.png; copy what is meant"):
        load_path(folder)


def test_a_damaged_entry_that_was_read_ahead_is_decoded_anew(folder: Path) -> None:
    first = load_path(folder)
    (entry,) = (cache.home_folder() / "cache").glob("*.npy")
    content = entry.read_bytes()
    entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert same(load_path(folder), first)
    assert same(load_path(folder), first)
