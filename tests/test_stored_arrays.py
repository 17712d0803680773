"""Sets in .npy files, in memory and on disk, and parts that share the array of the whole: the same images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from isthmus.data import stored
from isthmus.data.arrays import Pixels
from isthmus.data.files import load_path
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.npy import load_npy
from isthmus.data.selection import Selection
from isthmus.data.split import hold_out, split
from isthmus.data.stored import Stored, StoredShards
from isthmus.errors import DataError
from isthmus.networks import apply
from isthmus.networks.apply import dead_axes, encode
from isthmus.networks.autoencoder import lab
from isthmus.networks.classifier import classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.pca import principal_components
from isthmus.networks.variational import vae
from isthmus.settings import TrainingSettings
from isthmus.training.evaluation import measure
from isthmus.training.loop import train

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (50, 3, 6, 5), dtype=np.uint8)
ORDER = RNG.permutation(50)[:30]


def put_shards(folder: Path, images: np.ndarray, *, labelled: bool = True, count: int = 4) -> Path:
    """Images in several .npy files, the first of one image alone."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [0, 1, *np.linspace(1, len(images), count).round().astype(int)[1:]]
    for i, (begin, end) in enumerate(pairwise(bounds)):
        np.save(folder / f"{i}.npy", images[begin:end])
        if labelled:
            np.save(folder / f"{i}_labels.npy", np.arange(begin, end) % 3)
    return folder


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "free_memory", lambda: 100)


# Parts that share the array of the whole


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_view_of_a_set_is_what_take_gives_without_a_copy(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.imageset.CHUNK_VALUES", 700)
    monkeypatch.setattr("isthmus.data.selection.AT_ONCE", 700)
    pixels = COLOURS if dtype is np.uint8 else COLOURS.astype(np.float32) / 255
    whole = ImageSet(pixels, np.arange(50) % 4, tuple("abcd"))
    for index in (ORDER, np.arange(50) % 3 == 1):
        view, copy = whole.view(index), whole.take(index)
        assert isinstance(view.images, Selection)
        assert view.images.array is whole.images
        assert np.array_equal(np.asarray(view.images), copy.images)
        assert view.fingerprint == copy.fingerprint
        assert np.array_equal(view.image_hashes(), copy.image_hashes())
        assert (view.images.shape, view.images.dtype) == (copy.images.shape, copy.images.dtype)
        assert (view.images.size, view.images.nbytes) == (copy.images.size, copy.images.nbytes)
        assert (view.images.min(), view.images.max()) == (copy.images.min(), copy.images.max())
        for change in (ImageSet.grey, lambda s: s.resize(4, 4), lambda s: s.take([2, 0]), lambda s: s.view([2, 0])):
            assert change(view).fingerprint == change(copy).fingerprint
        assert np.array_equal(view.images[3], copy.images[3])
        assert np.array_equal(view.images[2:9:3], copy.images[2:9:3])
    assert cast(Any, whole.view(ORDER).view([4, 1]).images).array is whole.images
    with pytest.raises(ValueError, match="only by being copied"):
        np.array(whole.view(ORDER).images, copy=False)


def test_parts_that_share_their_array_are_those_that_do_not(parts: Split, digits: ImageSet) -> None:
    shared = split(digits, copy=False)
    for name in ("train", "validation", "test"):
        part = getattr(shared, name)
        assert part.images.array is digits.images
        assert part.fingerprint == getattr(parts, name).fingerprint
    for copied, view in zip(hold_out(digits, 0.1), hold_out(digits, 0.1, copy=False), strict=True):
        assert copied.fingerprint == view.fingerprint


BUILT: dict[str, Callable[[ImageSet], Any]] = {
    "lab": lambda images: lab(images.shape),
    "vae": lambda images: vae(images.shape, units=16),
    "denoiser": lambda images: Denoiser(images.shape, width=4),
    "classifier": lambda images: classifier(images.shape, classes=10),
}


@pytest.mark.parametrize("name", BUILT)
def test_training_and_measuring_shared_parts_gives_the_same_bits(parts: Split, digits: ImageSet, name: str) -> None:
    found = []
    for each in (parts, split(digits, copy=False)):
        torch.manual_seed(0)
        network = BUILT[name](each.train)
        settings = TrainingSettings(epochs=1, batch_size=64, noise=0.1)
        history = train(network, each.train, each.validation, settings, seed=3)
        measured = measure(network, each.test, noise=0.1, samples=2 if name == "vae" else 0)
        found.append((network.state_dict(), history.epochs[0], measured))
    (weights, epoch, measured), (others, again, measured_again) = found
    assert all(torch.equal(tensor, others[key]) for key, tensor in weights.items())
    assert {**epoch, "seconds": 0} == {**again, "seconds": 0}
    assert measured == measured_again


def test_codes_and_components_of_shared_parts_are_the_same(parts: Split, digits: ImageSet) -> None:
    shared, network = split(digits, copy=False).train, lab(digits.shape)
    assert np.array_equal(encode(network, shared.images), encode(network, parts.train.images))
    expected, found = (principal_components(each, 3) for each in (parts.train, shared))
    assert torch.equal(expected.components, found.components)


# .npy files


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (COLOURS, COLOURS),
        (np.moveaxis(COLOURS, 1, 3), COLOURS),
        (COLOURS[:, 0], COLOURS[:, :1]),
        (COLOURS[:, 0].astype(np.float64) / 255, COLOURS[:, :1].astype(np.float32) / np.float32(255)),
    ],
)
def test_an_npy_file_is_a_set(tmp_path: Path, images: np.ndarray, expected: np.ndarray) -> None:
    np.save(tmp_path / "set.npy", np.ascontiguousarray(images))
    found = load_path(tmp_path / "set.npy")
    assert found.name == "set"
    assert found.labels is None
    assert np.allclose(found.images, expected, atol=1e-7)
    np.save(tmp_path / "set-labels.npy", np.array(["b", "a"] * 25))
    assert load_path(tmp_path / "set.npy").classes == ("a", "b")


def test_a_set_larger_than_all_memory_cannot_be_held(tmp_path: Path) -> None:
    side, rows = 2**14, np.zeros(2**20, np.int64)  # one image, many times: 256 TiB
    with (tmp_path / "x.bin").open("wb") as file:
        file.truncate(side**2)
    images = Stored(tmp_path / "x.bin", 0, 1, (1, side, side), rows=rows)
    with pytest.raises(MemoryError, match="no memory for 281,474,976,710,656 bytes of pixels"):
        np.asarray(images)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("last", [False, True])
def test_an_npy_file_too_large_for_memory_stays_where_it_is(tmp_path: Path, last: bool) -> None:
    np.save(tmp_path / "set.npy", np.ascontiguousarray(np.moveaxis(COLOURS, 1, 3)) if last else COLOURS)
    found = load_path(tmp_path / "set.npy").images
    assert isinstance(found, Stored)
    assert found.path == tmp_path / "set.npy"
    for index in (slice(None), slice(3, 40, 5), ORDER, 7):
        assert np.array_equal(found[index], COLOURS[index])
    grey = ImageSet(COLOURS, None).grey().images
    assert np.array_equal(pickle.loads(pickle.dumps(found.select(ORDER).grey()))[:], grey[ORDER])


@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_of_npy_files_is_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool) -> None:
    folder = put_shards(tmp_path / "shards", COLOURS, labelled=labelled)
    (folder / "README.md").write_text("what this is")
    memory = load_path(folder)
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    disk = load_path(folder)
    assert isinstance(memory.images, np.ndarray)
    assert isinstance(disk.images, StoredShards)
    assert np.array_equal(memory.images, COLOURS)
    assert memory.fingerprint == disk.fingerprint
    assert (memory.labels is not None) == labelled
    for index in (slice(3, 40, 5), ORDER, -1, []):
        key = np.asarray(index, np.int64) if isinstance(index, list) else index
        assert np.array_equal(disk.images[key], COLOURS[key])
    part = disk.images.select(ORDER).grey()
    expected = ImageSet(COLOURS[ORDER], None).grey().images
    assert np.array_equal(part[:], expected)
    assert np.array_equal(pickle.loads(pickle.dumps(part))[:], expected)
    batches = [np.arange(5), np.array([29, 0, 3])]
    assert all(np.array_equal(a, expected[b]) for a, b in zip(part.batches(batches), batches, strict=True))


def test_training_from_shards_gives_the_same_weights(parts: Split, tmp_path: Path) -> None:
    training = load_path(put_shards(tmp_path / "shards", parts.train.images, labelled=False))
    files = sorted((tmp_path / "shards").iterdir())
    shards = StoredShards([stored.open_stored(path) for path in files])
    found = []
    for images in (training, ImageSet(cast(Pixels, shards), None)):
        torch.manual_seed(0)
        network = lab(images.shape)
        train(network, images, parts.validation, TrainingSettings(epochs=1, batch_size=32), seed=3)
        found.append(network.state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_path(path)


def test_npy_files_that_are_no_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.npy"
    np.save(path, COLOURS[0])
    np.save(tmp_path / "row.npy", np.zeros(3, np.uint8))
    refused(tmp_path / "row.npy", r"row.npy holds an array of shape \(3,\); needed are images \(N, H, W\)")
    np.save(path, COLOURS.astype(np.int32))
    refused(path, "set.npy: images are int32|images are int32")
    np.save(path, np.array([{}]), allow_pickle=True)
    refused(path, "set.npy holds pickled objects, which are never loaded because they can run code")
    np.save(path, np.asfortranarray(COLOURS))
    refused(path, "its numbers lie column by column")
    np.save(path, COLOURS)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "set.npy cannot be read as .npy .it ends before its numbers do.; fetch it again")
    path.write_bytes(b"no array")
    refused(path, "set.npy cannot be read as .npy")
    np.save(path, COLOURS.astype(np.float32) / 255)
    monkeypatch.setattr(stored, "free_memory", lambda: 100)
    refused(path, "set.npy is too large for memory, and holds float32; only uint8, .* convert it")


def test_shards_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folder = put_shards(tmp_path / "shards", COLOURS)
    (folder / "1_labels.npy").unlink()
    refused(folder, "0_labels.npy gives labels, but there are none beside .*1.npy: add 1_labels.npy, or remove")
    np.save(folder / "1_labels.npy", np.arange(3))
    refused(folder, r"1.npy holds \d+ images, but .*1_labels.npy labels of shape \(3,\); give one per image")
    np.save(folder / "2.npy", COLOURS[:, :1])
    refused(folder, r"0.npy holds uint8 .*, .*2.npy uint8 .*; files of one folder make one set")


def test_a_folder_of_photographs_may_hold_an_npy_file_as_before(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "notes.npy", np.zeros(3))
    refused(tmp_path, "no images|holds no|image")
    assert load_npy([*sorted(put_shards(tmp_path / "b", COLOURS, labelled=False).iterdir())], name="b").name == "b"


@pytest.mark.parametrize("at_once", [7, 100])
def test_axes_are_dead_that_are_the_same_for_every_image(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    numbers = np.arange(21)
    images = np.broadcast_to(numbers[:, None, None, None].astype(np.uint8), (21, 1, 32, 32))
    codes = np.stack([numbers, 0 * numbers, numbers == 20, numbers // 7, 0 * numbers + 3], 1).astype(np.float32)
    monkeypatch.setattr(apply, "BATCH", at_once)
    monkeypatch.setattr(apply, "encode", lambda _, given: codes[given[:, 0, 0, 0]])
    assert dead_axes(lab((1, 32, 32)), images).tolist() == [1, 4]
