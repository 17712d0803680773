"""Photographs of hand signs: fetched whole or not at all, decoded once, and never changed by the cache."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import os
import shutil
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import cache, catalog, download, folders
from isthmus.data.catalog import load
from isthmus.data.download import Archive, obtain_folder
from isthmus.data.files import load_path
from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.errors import DataError

DATA = os.environ.get("ISTHMUS_DATA")
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 10, 8, 3), dtype=np.uint8)
TOP = "Sign-Language-Digits-Dataset-4b09433/"


def photographs(folder: Path, count: int = 6) -> Path:
    """Photographs in classes 0 to 2, JPEGs as the set has them."""
    for i in range(count):
        path = folder / str(i % 3) / f"IMG_{1000 + i}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[i % 6]).save(path)
    return folder


def members(folder: Path) -> dict[str, bytes]:
    """The content of the published archive: its Dataset, and what lies beside it."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.JPG"))}
    return {
        f"{TOP}README.md": b"hands",
        f"{TOP}Examples/example_1.JPG": b"",
        **{f"{TOP}Dataset/{n}": files[n] for n in files},
    }


def pack(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


@dataclasses.dataclass
class Place:
    """A web server for a small `sign-digits`: its folder, what was asked for, and where the cache is."""

    www: Path
    asked: list[str]
    home: Path
    whole: Path
    archive: Archive

    @property
    def packed(self) -> Path:
        return self.www / "abc.zip"

    def left(self) -> set[str]:
        return {path.name for path in (self.home / "data").iterdir()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, nothing set, and a folder of our own to stand in."""
    for name in ("ISTHMUS_DATA", "ISTHMUS_OFFLINE", "ISTHMUS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    www, asked = tmp_path / "www", []
    www.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(www)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    whole = photographs(tmp_path / "whole")
    checksum = cache.content_sum(whole, whole.rglob("*.JPG"))
    url = f"http://127.0.0.1:{server.server_port}/abc.zip"
    archive = Archive("sign-digits", url, "Dataset", 6, checksum, "drawn-hands")
    monkeypatch.setattr(catalog, "SIGN_DIGITS", archive)
    table = tuple(
        dataclasses.replace(entry, published=archive) if entry.name == "sign-digits" else entry
        for entry in catalog.CATALOG
    )
    monkeypatch.setattr(catalog, "CATALOG", table)
    yield Place(www, asked, home, whole, archive)
    server.shutdown()
    server.server_close()
    thread.join()


def origin() -> str:
    return next(row.origin for row in catalog.entries() if row.name == "sign-digits")


def same(one: ImageSet, other: ImageSet) -> bool:
    return (one.fingerprint, one.notes, one.classes, one.name) == (
        other.fingerprint,
        other.notes,
        other.classes,
        other.name,
    )


def refused(words: str, name: str | Path = "sign-digits", **options: bool) -> str:
    with pytest.raises(DataError, match=words) as caught:
        load(name, **options)
    return str(caught.value)


# The checksum


def test_the_sum_is_that_of_the_sorted_lines(tmp_path: Path) -> None:
    """As the set's publisher would compute it with sha256sum and sort."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    expected = hashlib.sha256(f"a {empty}\nb/x {abc}\n".encode()).hexdigest()
    files = [tmp_path / "b" / "x", tmp_path / "a"]
    assert cache.content_sum(tmp_path, files) == cache.content_sum(tmp_path, files[::-1]) == expected


# Fetched


def test_the_set_is_fetched_once_and_is_what_the_folder_gives(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(place.packed, members(place.whole))
    assert origin() == "download"
    images = load("sign-digits", size=(5, 5))
    assert np.array_equal(images.images, load_path(place.whole, size=(5, 5)).images)
    assert (images.classes, images.name) == (("0", "1", "2"), "sign-digits")
    assert origin() == "cache"
    monkeypatch.setenv("ISTHMUS_OFFLINE", "1")
    assert same(load("sign-digits", size=(5, 5)), images)
    assert place.asked == ["/abc.zip"]
    assert place.left() == {"sign-digits", ".sign-digits.lock"}


def test_a_mirror_serves_the_same_file_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(place.packed, members(place.whole))
    monkeypatch.setenv("ISTHMUS_MIRROR", place.archive.url.rsplit("/", 1)[0] + "/")
    elsewhere = dataclasses.replace(place.archive, url="http://127.0.0.1:9/abc.zip")
    assert obtain_folder(elsewhere) == (place.home / "data" / "sign-digits", ())


def changed(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data + b"\0" if name.endswith("0/IMG_1000.JPG") else data for name, data in content.items()}


def short(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content[name] for name in list(content)[:-1]}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (changed, "the sha256 of its names and contents differs"),
        (short, "its folder Dataset holds 5 files, not 6"),
        (lambda content: {**content, f"{TOP}Dataset/0/more.JPG": b""}, "holds 7 files, not 6"),
        (lambda content: {**content, "../../escaped.JPG": b""}, r"would leave the folder, '../../escaped.JPG'"),
        (lambda content: {**content, "/escaped.JPG": b""}, "would leave the folder, '/escaped.JPG'"),
        (lambda content: {**content, f"{TOP}Dataset/0/..\\x.JPG": b""}, "would leave the folder"),
        (lambda content: {**short(content), f"{TOP}Dataset/0/../x.JPG": b""}, "would leave the folder"),
        (lambda content: {**content, "C:x.JPG": b""}, "would leave the folder, 'C:x.JPG'"),
        (lambda _: {}, "its folder Dataset holds 0 files"),
    ],
)
def test_another_archive_is_refused_and_leaves_nothing(
    place: Place, edit: Callable[[dict[str, bytes]], dict[str, bytes]], words: str
) -> None:
    pack(place.packed, edit(members(place.whole)))
    message = refused(f"http://127.*/abc.zip is not the published sign-digits: .*{words}.*; nothing of it was kept")
    assert "or use drawn-hands, which needs no download" in message
    assert place.left() == {".sign-digits.lock"}
    assert not list(place.home.rglob("*escaped*")) + list(place.home.parent.glob("*escaped*"))


def test_an_archive_that_unpacks_to_too_much_is_refused_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(place.packed, members(place.whole))
    monkeypatch.setattr(download, "MOST_BYTES", 1000)
    refused(r"it would unpack to [\d,]+ bytes, more than 1,000; nothing of it was kept")


def test_an_archive_cut_short_or_changed_anywhere_is_refused(place: Place) -> None:
    whole = pack(place.packed, members(place.whole)).read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        place.packed.write_bytes(whole[:cut])
        refused("the archive is cut short or damaged .*; nothing of it was kept")
    for position in range(0, len(whole), 301):
        place.packed.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        refusal = ""
        try:  # the byte may carry nothing
            folder, _ = obtain_folder(place.archive)
            assert cache.content_sum(folder, folder.rglob("*.JPG")) == place.archive.checksum
            shutil.rmtree(folder)
        except DataError as error:
            refusal = str(error)
        assert not refusal or "nothing of it was kept" in refusal
        assert place.left() == {".sign-digits.lock"}


def test_what_a_killed_process_left_is_no_hindrance(place: Place) -> None:
    pack(place.packed, members(place.whole))
    photographs(place.home / "data" / ".sign-digits.part", 2)
    (place.home / "data" / ".sign-digits.zip.part").write_bytes(b"half")
    assert len(load("sign-digits")) == 6
    assert place.left() == {"sign-digits", ".sign-digits.lock"}


def test_readers_at_once_fetch_once(place: Place) -> None:
    pack(place.packed, members(place.whole))
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(len(load("sign-digits")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [6, 6, 6]
    assert place.asked == ["/abc.zip"]


def test_a_cached_set_that_was_changed_is_named(place: Place) -> None:
    pack(place.packed, members(place.whole))
    folder = place.home / "data" / "sign-digits"
    load("sign-digits")
    (folder / "0" / "IMG_1000.JPG").write_bytes(COLOURS[0].tobytes())
    refused("is not the published sign-digits any more: the sha256 .* differs; remove it, so that it is fetched again")
    (folder / "0" / "IMG_1000.JPG").unlink()
    refused("any more: it holds 5 images instead of 6; remove it")


def test_offline_and_without_an_answer_what_to_do_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = f"put the folder Dataset of {place.archive.url} at {place.home / 'data' / 'sign-digits'} or, called"
    assert by_hand in refused("sign-digits cannot be fetched from http://127.0.0.1:.*abc.zip .404")
    monkeypatch.setenv("ISTHMUS_OFFLINE", "1")
    assert by_hand in refused("sign-digits is not on this machine, and ISTHMUS_OFFLINE forbids to fetch it")
    assert place.asked == ["/abc.zip"] * len(place.asked)


# In ISTHMUS_DATA


def test_a_part_of_the_set_in_isthmus_data_is_taken_and_noted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_DATA", str(place.home.parent / "data"))
    own = photographs(place.home.parent / "data" / "sign-digits", 5)
    assert origin() == "ISTHMUS_DATA"
    note = "sign-digits in ISTHMUS_DATA is not the published set: it holds 5 images instead of 6."
    assert load("sign-digits").notes == (note,)
    photographs(own)
    assert load("sign-digits").notes == ()
    Image.fromarray(COLOURS[1]).save(own / "0" / "IMG_1000.JPG")
    assert "the sha256 of its names and contents differs" in load("sign-digits").notes[0]
    (own / "0" / "IMG_1000.JPG").write_bytes(b"")
    refused("1 of 6 image files .* cannot be used")
    assert len(load("sign-digits", skip_bad=True)) == 5
    assert place.asked == []


# The cache of decoded images


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs that are worth keeping decoded, with something to note, outside any cache."""
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    path = photographs(tmp_path / "photographs")
    (path / "none").mkdir()
    (path / "notes.txt").write_text("")
    Image.fromarray(COLOURS[0][:, :, 0]).resize((30, 20)).save(path / "0" / "grey.png")
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is decoded from now on."""
    files: list[str] = []

    def watched(paths: list[str], shape: object, **options: int) -> object:
        files.extend(paths if shape is not None else ())
        return read_parts(paths, shape, **options)

    read_parts = folders.read_parts
    monkeypatch.setattr(folders, "read_parts", watched)
    return files


def meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have something done after the files were read, before the images are put together."""

    def watched(paths: list[str], shape: object, **options: int) -> Iterator[object]:
        yield from read_parts(paths, shape, **options)
        if shape is not None:
            change()

    read_parts = folders.read_parts
    monkeypatch.setattr(folders, "read_parts", watched)


def kept(home: Path) -> list[Path]:
    """The images of every entry; what is known of them lies beside it."""
    return sorted((home / "cache").glob("*.npy"))


@pytest.mark.parametrize("size", [None, (7, 9)])
def test_the_second_reading_decodes_nothing_and_gives_the_same(
    folder: Path, decoded: list[str], size: tuple[int, int] | None
) -> None:
    first = load_path(folder, size=size)
    assert len(decoded) == 7
    second = load_path(folder, size=size, skip_bad=True)
    assert len(decoded) == 7
    assert same(first, second)
    assert "1 file ignored for not ending in an image suffix." in first.notes
    second.images[0] = 0  # it belongs to the caller
    assert same(first, load_path(folder, size=size))


def test_an_unlabelled_folder_is_kept_too_and_every_folder_has_its_own_name(folder: Path, home: Path) -> None:
    first = load_path(folder / "0")
    again = shutil.copytree(folder / "0", folder.parent / "copy")
    second = load_path(again)
    assert (first.labels, second.labels, first.name, second.name) == (None, None, "0", "copy")
    assert first.fingerprint == second.fingerprint
    assert len(kept(home)) == 1  # the key is what the files hold, not where they lie


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: Image.fromarray(COLOURS[1]).save(folder / "0" / "IMG_1000.JPG"),
        lambda folder: (folder / "0" / "IMG_1000.JPG").rename(folder / "1" / "IMG_1000.JPG"),
        lambda folder: (folder / "0" / "IMG_1000.JPG").unlink(),
        lambda folder: (folder / "more.txt").write_text(""),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "1").rename(folder / "9"),
    ],
)
def test_whatever_changes_the_result_changes_the_key(
    folder: Path, home: Path, change: Callable[[Path], object]
) -> None:
    before = load_path(folder)
    change(folder)
    with_cache = load_path(folder)
    shutil.rmtree(home)
    assert same(load_path(folder), with_cache)
    assert not same(before, with_cache)


def test_classes_that_change_places_in_the_folder_one_stands_in_are_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = load_path(Path("."), size=(5, 5))
    (folder / "0").rename(folder / "x")
    (folder / "1").rename(folder / "0")
    (folder / "x").rename(folder / "1")
    after = load_path(Path("."), size=(5, 5))
    assert before.images[before.labels == 0].tolist() == after.images[after.labels == 1].tolist()


def test_a_file_that_goes_away_after_it_was_read_costs_the_cache_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(load_path(folder, size=(5, 5)))
    meanwhile(monkeypatch, (folder / "0" / "grey.png").unlink)
    assert len(load_path(folder, size=(6, 6))) == count


def test_a_file_changed_back_in_time_is_seen(folder: Path) -> None:
    """Neither its length nor its date tells."""
    for path in folder.rglob("*.JPG"):
        path.unlink()
    path, before = folder / "0" / "grey.png", (folder / "0" / "grey.png").stat()
    Image.fromarray(COLOURS[0][:, :, 1]).save(folder / "1" / "other.bmp")
    for value in (1, 2):
        Image.new("L", (30, 20), value).save(path, "BMP")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (load_path(folder, size=(5, 5)).images[0] == value).all()


def test_a_file_that_changes_after_it_was_read_is_seen_the_next_time(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "0" / "grey.png"
    with monkeypatch.context() as inner:
        meanwhile(inner, lambda: Image.new("L", (30, 20), 7).save(path))
        before = load_path(folder)
    after = load_path(folder)
    assert not same(before, after)
    shutil.rmtree(home)
    assert same(load_path(folder), after)


def test_a_version_of_our_own_makes_old_entries_unused(
    folder: Path, home: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_path(folder)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    load_path(folder)
    assert (len(decoded), len(kept(home))) == (14, 2)


def test_a_damaged_entry_is_decoded_and_written_again_wherever_it_is_damaged(folder: Path, home: Path) -> None:
    for part in (folder, folder / "0"):
        shutil.rmtree(home, ignore_errors=True)
        first = load_path(part, size=(2, 2))
        for entry in (home / "cache").iterdir():
            whole = entry.read_bytes()
            for position in range(0, len(whole), 5):
                entry.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5F]) + whole[position + 1 :])
                assert same(load_path(part, size=(2, 2)), first)
            for cut in (0, 1, len(whole) // 2, len(whole) - 1):
                entry.write_bytes(whole[:cut])
                assert same(load_path(part, size=(2, 2)), first)
                assert len(entry.read_bytes()) == len(whole)
            entry.unlink()
            assert same(load_path(part, size=(2, 2)), first)


def test_an_entry_of_other_images_under_this_name_is_not_taken(folder: Path, home: Path) -> None:
    first = load_path(folder)
    (entry,) = kept(home)
    load_path(folder / "0")
    (other,) = set(kept(home)) - {entry}
    shutil.copy(other, entry)
    assert same(load_path(folder), first)
    shutil.copy(other.with_suffix(".json"), entry.with_suffix(".json"))
    assert same(load_path(folder), first)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_bad_files_are_named_the_same_every_time_and_nothing_is_kept(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, skip_bad: bool
) -> None:
    def answer() -> object:
        if skip_bad:
            return load_path(folder, skip_bad=True).notes
        with pytest.raises(DataError, match=r"1 of 8 image files .* 0/bad.JPG is empty") as caught:
            load_path(folder)
        return str(caught.value)

    load_path(folder)
    (folder / "0" / "bad.JPG").write_bytes(b"")
    answers = [answer(), answer()]
    monkeypatch.setattr(folders, "place_for", lambda *_, **__: None)
    assert answers == [answer()] * 2
    assert len(kept(home)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_files_that_cannot_be_hashed_are_still_named(folder: Path) -> None:
    os.mkfifo(folder / "0" / "pipe.JPG")
    refused("0/pipe.JPG is not a regular file", folder)
    (folder / "0" / "pipe.JPG").unlink()
    (folder / "0" / "gone.JPG").symlink_to(folder / "nothing")
    refused("0/gone.JPG cannot be read .No such file", folder)


@pytest.mark.parametrize("home_is", ["a file", "below a file"])
def test_where_nothing_can_be_written_images_are_read_all_the_same(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, home_is: str
) -> None:
    expected = load_path(folder)
    (folder.parent / "occupied").write_text("")
    monkeypatch.setenv("ISTHMUS_HOME", str(folder.parent / "occupied" / ("" if home_is == "a file" else "below")))
    assert same(load_path(folder), expected)


def test_a_full_disk_leaves_no_part_behind(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    assert len(load_path(folder)) == 7
    assert list((home / "cache").iterdir()) == []


def test_small_folders_are_not_kept(home: Path, tmp_path: Path) -> None:
    load_path(photographs(tmp_path / "few"))
    assert not home.exists()


def test_what_was_used_longest_ago_goes_first(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, side in ((300, 4), (200, 5), (100, 6)):
        known = set(kept(home))
        load_path(folder, size=(side, side))
        (entry,) = set(kept(home)) - known
        for file in (entry, entry.with_suffix(".json")):
            os.utime(file, (entry.stat().st_atime, entry.stat().st_mtime - age))
    oldest = min(kept(home), key=lambda path: path.stat().st_mtime)
    load_path(folder, size=(4, 4))  # used again, it is the newest
    monkeypatch.setattr(cache, "KEPT_BYTES", sum(path.stat().st_size for path in (home / "cache").iterdir()))
    load_path(folder, size=(1, 1))
    assert oldest in kept(home)
    assert len(kept(home)) == 3
    monkeypatch.setattr(cache, "KEPT_BYTES", 100)
    load_path(folder, size=(20, 20))  # like all of them larger than what may be kept: the last such stays
    assert [np.load(path).shape[2:] for path in kept(home)] == [(20, 20)]


def test_several_readers_at_once_agree(folder: Path, home: Path) -> None:
    """As in several processes: nothing is shared but the disk."""
    expected = load_path(folder).fingerprint
    for content in (None, b"damaged"):
        for path in kept(home):
            path.unlink() if content is None else path.write_bytes(content)
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(lambda _: load_path(folder).fingerprint, range(12))) == {expected}
        assert sorted(path.suffix for path in (home / "cache").iterdir()) == [".json", ".npy"]


# Photographs of every kind


def test_an_animation_is_its_first_frame_and_that_is_noted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black", "red")]
    for suffix in ("gif", "webp", "png", "tif"):
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
        frames[0].save(tmp_path / f"still.{suffix}", **options)
    images = load_path(tmp_path)
    assert (images.images == 255).all()
    assert "4 files of several pictures or frames: the first was taken." in images.notes


def png_of_16_bits(path: Path, values: np.ndarray, kind: int) -> None:
    """A PNG as no Pillow writes it: `values` (H, W, C) of 16 bits, colour type `kind`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bits_a_channel_become_8_where_8_were_widened(tmp_path: Path, kind: int, channels: int) -> None:
    narrow = COLOURS[0, :, :, :1] if channels == 2 else COLOURS[0]
    opaque = np.concatenate([narrow, np.full((*narrow.shape[:2], channels - narrow.shape[2]), 255)], axis=2)
    png_of_16_bits(tmp_path / "a.png", opaque * 257, kind)
    images = load_path(tmp_path)
    assert (images.images[0].transpose(1, 2, 0) == narrow).all()
    assert images.notes == ("1 image converted from 16 bits a channel.",)


def test_sets_that_cannot_be_divided_say_why(tmp_path: Path) -> None:
    two = photographs(tmp_path / "two", 2)
    with pytest.raises(DataError, match=r"two has 2 images to divide .*at least 10 are needed"):
        split(load_path(two))
    for i in range(12):
        (tmp_path / "single" / f"class {i}").mkdir(parents=True)
        shutil.copy(two / "0" / "IMG_1000.JPG", tmp_path / "single" / f"class {i}")
    with pytest.raises(DataError, match=r"'class 0' has 1, .*at least 3 images a class are needed"):
        split(load_path(tmp_path / "single"))


# The real photographs


@pytest.mark.skipif(not DATA or not Path(DATA, "sign-digits").is_dir(), reason="ISTHMUS_DATA does not hold sign-digits")
def test_the_photographs_at_hand_are_the_same_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    first, second = (load("sign-digits", size=(64, 64)) for _ in range(2))
    assert len(decoded) == len(first)
    assert same(first, second)
    assert first.classes == tuple("0123456789")
    published = len(first) == catalog.SIGN_DIGITS.count
    assert published or first.notes[0].endswith(f"it holds {len(first):,} images instead of 2,062.")
