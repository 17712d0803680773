"""What a folder holds is found in order, and seen again without being read: the same whoever looks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import cache, contents, folders, states
from isthmus.data.contents import file_states
from isthmus.data.files import load_path
from isthmus.data.folders import find_images
from isthmus.data.imageset import ImageSet
from isthmus.data.photographs import SUFFIXES
from isthmus.data.states import state_of
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
    monkeypatch.setattr(contents, "MANY", 1)
    monkeypatch.setattr(contents, "_may_start_another", lambda: True)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the second process has answered, each time."""
    told: list[bool] = []
    elsewhere = contents._states_elsewhere

    def watched(root: str, names: list[bytes]) -> object:
        found = elsewhere(root, names)
        told.append(found is not None)
        return found

    monkeypatch.setattr(contents, "_states_elsewhere", watched)
    return told


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool], relative: bool, opens_folders: bool
) -> None:
    names = files_in(tmp_path)
    if not opens_folders:
        monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.chdir(tmp_path)
    root = "" if relative else str(tmp_path) + os.sep
    assert file_states(root, names).tolist() == by_hand(tmp_path, names)
    assert answers == [True]
    monkeypatch.setattr(contents, "_may_start_another", lambda: False)
    assert file_states(root, names).tolist() == by_hand(tmp_path, names)
    assert answers == [True]
    assert file_states(root, []).shape == (0, 5)


@needs_links
@pytest.mark.usefixtures("many")
def test_the_state_of_a_link_is_that_of_what_it_leads_to(tmp_path: Path, answers: list[bool]) -> None:
    names = files_in(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / os.fsdecode(names[5]))
    for order in ([b"link", *names], [*names, b"link"]):  # this process sees it, then the other
        found = file_states(str(tmp_path), order).tolist()
        assert found[order.index(b"link")] == found[order.index(names[5])]
    assert answers == [True, True]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("program", ["", "/nowhere/python", shutil.which("false") or ""])
def test_without_a_second_process_one_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool], program: str
) -> None:
    names = files_in(tmp_path)
    monkeypatch.setattr(sys, "executable", program)
    assert file_states(str(tmp_path), names).tolist() == by_hand(tmp_path, names)
    assert answers == [False]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("cut", [0, 39, 41])
def test_an_answer_that_is_cut_short_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool], cut: int
) -> None:
    names, run = files_in(tmp_path), subprocess.run

    def broken(*command: object, **options: object) -> object:
        done = run(*command, **options)  # type: ignore[call-overload]
        done.stdout = done.stdout[:cut]
        return done

    monkeypatch.setattr(contents.subprocess, "run", broken)
    assert file_states(str(tmp_path), names).tolist() == by_hand(tmp_path, names)
    assert answers == [False]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("position", [0, 8])
def test_a_file_that_is_gone_is_an_error_whoever_looks(tmp_path: Path, position: int) -> None:
    names = files_in(tmp_path)
    (tmp_path / os.fsdecode(names[position])).unlink()
    with pytest.raises(FileNotFoundError):
        file_states(str(tmp_path), names)


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
    monkeypatch.setattr(contents, "MANY", 1)
    monkeypatch.setattr(contents, "_may_start_another", lambda: True)
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
