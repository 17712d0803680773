"""Laws of an ImageSet: a split loses and repeats nothing, a fingerprint tells sets apart, and so on."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.data.imageset import ImageSet
from isthmus.data.split import hold_out, split
from isthmus.errors import DataError


def random_set(count=40, channels=1, height=6, width=5, classes=4, seed=0, **more):
    """Random uint8 images, no two alike, with labels 0, 1, ... in turn."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    labels = np.arange(count) % classes
    return ImageSet(pixels, labels, tuple(f"c{label}" for label in range(classes)), **more)


# Arrays in, images out


def test_every_layout_gives_the_same_images():
    pixels = random_set(channels=3).images
    last = np.moveaxis(pixels, 1, 3)
    assert np.array_equal(ImageSet.from_arrays(pixels).images, pixels)
    assert np.array_equal(ImageSet.from_arrays(last).images, pixels)
    assert np.array_equal(ImageSet.from_arrays(pixels[:, 0]).images, pixels[:, :1])
    assert ImageSet.from_arrays(last).images.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_float32_and_keep_their_values(dtype):
    values = np.linspace(0, 1, 2 * 5 * 4, dtype=dtype).reshape(2, 5, 4)
    images = ImageSet.from_arrays(values).images
    assert images.dtype == np.float32
    assert np.array_equal(images[:, 0], values.astype(np.float32))


def test_a_torch_tensor_is_an_array_too():
    assert ImageSet.from_arrays(torch.zeros(2, 1, 4, 4)).shape == (1, 4, 4)


def test_names_become_sorted_classes_and_come_back():
    names = np.array(["two", "one", "three", "one"])
    images = ImageSet.from_arrays(np.zeros((4, 3, 3)), names)
    assert images.classes == ("one", "three", "two")
    assert [images.classes[label] for label in images.labels] == list(names)
    assert ImageSet.from_arrays(np.zeros((2, 3, 3)), ["10", "9"]).classes == ("9", "10")
    assert ImageSet.from_arrays(np.zeros((2, 3, 3)), np.array(["b", "a"], object)).labels.tolist() == [1, 0]


def test_integers_stay_the_numbers_they_are():
    images = ImageSet.from_arrays(np.zeros((2, 3, 3)), np.array([[4], [1]], np.uint8))
    assert images.labels.tolist() == [4, 1]
    assert images.labels.dtype == np.int64
    assert images.classes == ("0", "1", "2", "3", "4")


def test_given_classes_fix_the_numbers():
    images = ImageSet.from_arrays(np.zeros((2, 3, 3)), ["a", "b"], classes=("b", "c", "a"))
    assert images.labels.tolist() == [2, 0]
    assert images.classes == ("b", "c", "a")


def test_take_follows_indices_and_masks():
    images = random_set(published_test=5)
    assert np.array_equal(images.take([3, 1]).images, images.images[[3, 1]])
    assert images.take([3, 1]).labels.tolist() == [3, 1]
    mask = images.labels == 2
    assert images.take(mask).fingerprint == images.take(np.flatnonzero(mask)).fingerprint
    assert images.take(np.arange(40)).published_test == 0


# Size and colour


def test_resizing_to_the_same_size_changes_nothing():
    images = random_set()
    assert images.resize(6, 5) is images


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_keeps_a_constant_image_and_all_else_about_the_set(channels):
    images = replace(random_set(channels=channels, published_test=7), notes=("kept",))
    flat = replace(images, images=np.full_like(images.images, 77))
    resized = flat.resize(9, 13)
    assert resized.shape == (channels, 9, 13)
    assert (resized.images == 77).all()
    assert (resized.published_test, resized.notes, resized.name) == (7, ("kept",), "images")


def test_resizing_by_half_is_pillows_antialiased_bilinear_to_one_grey_level():
    images = random_set(count=5, height=32, width=24)
    resized = images.resize(16, 12).images
    for before, after in zip(images.images, resized, strict=True):
        expected = np.asarray(Image.fromarray(before[0]).resize((12, 16), Image.Resampling.BILINEAR), int)
        assert abs(after[0].astype(int) - expected).max() <= 1


def test_resizing_does_not_depend_on_the_chunks(monkeypatch):
    images = random_set()
    whole = images.resize(9, 9)
    monkeypatch.setattr("isthmus.data.imageset.CHUNK_VALUES", 200)
    assert images.resize(9, 9).fingerprint == whole.fingerprint


def test_resized_floats_stay_in_range():
    images = ImageSet.from_arrays(random_set().images / 255)
    resized = images.resize(17, 3).images
    assert resized.dtype == np.float32
    assert resized.min() >= 0
    assert resized.max() <= 1


def test_grey_is_pillows_luma():
    images = random_set(channels=3)
    for before, after in zip(images.images, images.grey().images, strict=True):
        assert np.array_equal(after[0], np.asarray(Image.fromarray(before.transpose(1, 2, 0)).convert("L")))


def test_grey_of_equal_channels_is_that_channel_and_grey_twice_is_grey_once():
    one = random_set()
    three = replace(one, images=np.repeat(one.images, 3, axis=1))
    assert three.grey().fingerprint == one.fingerprint
    assert one.grey() is one
    floats = ImageSet.from_arrays(np.full((1, 3, 2, 2), 0.25))
    assert np.allclose(floats.grey().images, 0.25)


# Fingerprint and hashes


def test_any_pixel_label_or_class_changes_the_fingerprint():
    images = random_set(count=10)
    prints = {images.fingerprint}
    for position in ((0, 0, 0, 0), (9, 0, 5, 4), (4, 0, 2, 2)):
        pixels = images.images.copy()
        pixels[position] ^= 1
        prints.add(replace(images, images=pixels).fingerprint)
    labels = images.labels.copy()
    labels[3] = 0
    prints.add(replace(images, labels=labels).fingerprint)
    prints.add(replace(images, labels=None, classes=()).fingerprint)
    prints.add(replace(images, classes=("a", "b", "c", "d")).fingerprint)
    prints.add(replace(images, images=images.images.reshape(10, 1, 5, 6)).fingerprint)
    assert len(prints) == 8


def test_nothing_else_changes_the_fingerprint():
    images = random_set(channels=3)
    strided = np.asfortranarray(images.images)
    for same in (
        replace(images, name="other", notes=("a note",), published_test=3),
        replace(images, images=strided),
        images.take(np.arange(40)),
    ):
        assert same.fingerprint == images.fingerprint


def test_equal_images_and_no_others_have_equal_hashes():
    images = random_set()
    hashes = images.image_hashes()
    assert hashes.shape == (40,)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == 40
    assert np.array_equal(images.take([5, 2]).image_hashes(), hashes[[5, 2]])


def test_shared_images_are_counted():
    images, other = random_set(), random_set(seed=1)
    joined = ImageSet(np.concatenate([images.images[:7], other.images]), None)
    assert joined.count_shared(images.image_hashes()) == 7
    assert images.count_shared(other.image_hashes()) == 0


def test_hashing_60000_images_takes_well_under_a_second():
    images = ImageSet(np.zeros((60_000, 1, 32, 32), np.uint8), None)
    images.images[:, 0, 0, 0] = np.arange(60_000) % 251
    start = time.perf_counter()
    hashes = images.image_hashes()
    assert time.perf_counter() - start < 1
    assert len(np.unique(hashes)) == 251


# Split


def parts_of(images, seed=0):
    parts = split(images, seed=seed)
    return parts.train, parts.validation, parts.test


@pytest.mark.parametrize("labelled", [True, False])
def test_a_split_is_disjoint_and_exhaustive(labelled):
    images = random_set(count=200)
    images = images if labelled else replace(images, labels=None, classes=())
    parts = parts_of(images)
    assert [len(part) for part in parts] == [140, 30, 30]
    assert sorted(np.concatenate([part.image_hashes() for part in parts])) == sorted(images.image_hashes())


def test_labels_travel_with_their_images():
    images = random_set(count=200)
    label_of = dict(zip(images.image_hashes().tolist(), images.labels.tolist(), strict=True))
    for part in parts_of(images):
        assert [label_of[key] for key in part.image_hashes().tolist()] == part.labels.tolist()


@pytest.mark.parametrize("count", [12, 37, 101, 1000])
def test_a_split_has_exact_sizes_and_even_shares(count):
    labels = np.random.default_rng(count).permutation(np.arange(count) % 3)
    images = replace(random_set(count=count), labels=labels)
    parts = parts_of(images)
    assert sum(map(len, parts)) == count
    assert len(parts[1]) == len(parts[2]) == max(3, round(0.15 * count))
    for part in parts:
        shares = np.bincount(part.labels, minlength=3)
        assert shares.max() - shares.min() <= 2


def test_the_smallest_set_that_can_be_split_has_every_class_everywhere():
    images = random_set(count=36, classes=12)
    assert all(set(part.labels) == set(range(12)) for part in parts_of(images))


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_part_however_rare(seed):
    rng = np.random.default_rng(seed)
    counts = rng.permutation([3, 3, 4, 7, *rng.integers(3, 200, rng.integers(1, 9))])
    labels = np.repeat(np.arange(len(counts)), counts)
    images = replace(random_set(len(labels), classes=len(counts)), labels=labels)
    parts = parts_of(images, seed)
    assert all(set(part.labels) == set(range(len(counts))) for part in parts)
    assert len(parts[1]) == len(parts[2]) == max(len(counts), round(0.15 * len(labels)))
    assert len(set().union(*(part.image_hashes().tolist() for part in parts))) == len(labels)


def test_a_split_is_a_function_of_images_and_seed():
    images = random_set(count=100)
    again, other = random_set(count=100), parts_of(images, seed=1)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - global state must not matter
    first = [part.fingerprint for part in parts_of(images)]
    assert [part.fingerprint for part in parts_of(again)] == first
    assert all(part.fingerprint != print_ for part, print_ in zip(other, first, strict=True))
    assert len(split(images, seed=2**63 - 1).train) == 70


def test_a_set_sorted_by_label_comes_out_shuffled():
    images = random_set(count=200)
    images = images.take(np.argsort(images.labels, kind="stable"))
    for part in parts_of(images):
        assert (np.diff(part.labels) < 0).any()


def test_a_published_test_set_stays_the_test_set_and_a_sixth_of_the_rest_is_for_validation():
    images = random_set(count=70, published_test=10)
    parts = parts_of(images)
    assert [len(part) for part in parts] == [50, 10, 10]
    assert set(parts[2].image_hashes()) == set(images.image_hashes()[-10:])
    assert len(set(parts[0].image_hashes()) | set(parts[1].image_hashes())) == 60


def test_a_class_without_images_does_not_hinder_a_split():
    images = random_set(count=20, classes=2)
    assert len(split(replace(images, classes=("a", "b", "never"))).train) == 14


# Words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ImageSet.from_arrays(np.zeros((4, 4))), r"shape \(4, 4\); needed is \(N, C, H, W\)"),
        (lambda: ImageSet.from_arrays(np.zeros((4, 8, 8, 4))), r"C of 1 \(grey\) or 3 \(RGB\)"),
        (lambda: ImageSet.from_arrays(np.zeros((0, 8, 8))), "there are no images"),
        (lambda: ImageSet.from_arrays(np.zeros((3, 0, 8))), "hold no pixels"),
        (lambda: ImageSet.from_arrays(np.zeros((3, 8, 8), int)), r"images are int64; .*astype\('uint8'\)"),
        (lambda: ImageSet(np.zeros((3, 1, 8, 8), np.float16), None), "images are float16; needed is uint8"),
        (lambda: ImageSet.from_arrays(np.full((3, 8, 8), np.nan)), "NaN or infinite"),
        (lambda: ImageSet.from_arrays(np.full((3, 8, 8), np.inf)), "NaN or infinite"),
        (lambda: ImageSet.from_arrays(np.full((3, 8, 8), 255.0)), "floats from 255 to 255; .* divide by"),
        (lambda: ImageSet.from_arrays(np.full((3, 8, 8), -0.5)), "floats from -0.5 to -0.5"),
        (lambda: ImageSet.from_arrays(np.zeros((3, 8, 8)), [0, 1]), "3 images but 2 labels"),
        (lambda: ImageSet.from_arrays(np.zeros((3, 8, 8)), []), "3 images but 0 labels"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), [0, -1]), "labels run from -1 to 0"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), [0, 10**9]), "give other labels as strings"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), [0.0, 1.0]), "labels are float64"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), np.eye(2, dtype=int)), r"shape \(2, 2\)"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), [0, 2], classes=["a", "b"]), "2 classes are"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), ["a", "x"], classes=["a"]), "'x', not among"),
        (lambda: ImageSet.from_arrays(np.zeros((2, 8, 8)), classes=["a"]), "labels is None"),
        (lambda: ImageSet(np.zeros((2, 1, 8, 8), np.uint8), None, ("a",)), "there are no labels"),
        (lambda: replace(random_set(), classes=("a", "b", "a", "c")), "occur twice"),
        (lambda: random_set(published_test=40), "published_test is 40"),
        (lambda: random_set().take([]), "there are no images"),
        (lambda: random_set().resize(0, 5), "size is 0 x 5"),
        (lambda: split(random_set(count=9)), "9 images to divide .* at least 10"),
        (lambda: split(random_set(count=14, classes=5)), "'c4' has 2; at least 3 images a class"),
        (lambda: split(random_set(count=70, published_test=65)), "has 5 images to divide"),
    ],
)
def test_errors_say_what_was_found_and_what_is_needed(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_float64_is_kept_where_a_set_is_made_directly_and_cast_where_it_is_taken_from_arrays() -> None:
    rows = np.random.default_rng(0).random((5, 1, 1, 7))
    images = ImageSet(rows, None)
    assert images.images.dtype == np.float64
    assert images.take([1, 2]).images.dtype == np.float64
    assert ImageSet.from_arrays(rows).images.dtype == np.float32
    with pytest.raises(DataError, match=r"floats from .* to .*; needed is \[0, 1\]"):
        ImageSet(2 * rows, None)


@pytest.mark.parametrize(
    ("counts", "share", "held"),
    [((20, 20), 0.1, (2, 2)), ((3, 30), 0.1, (1, 3)), ((2, 5), 0.1, (1, 1)), ((1, 9), 0.9, (0, 8))],
)
def test_hold_out_takes_a_share_of_each_class_and_never_all(
    counts: tuple[int, int], share: float, held: tuple[int, int]
) -> None:
    labels = np.repeat([0, 1], counts)
    images = ImageSet.from_arrays(
        np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8), labels
    )
    training, validation = hold_out(images, share, seed=3)
    assert tuple(np.bincount(validation.labels, minlength=2)) == held
    both = np.concatenate([training.images, validation.images])[:, 0, 0, 0]
    assert sorted(both) == list(range(len(labels)))


def test_hold_out_gives_all_images_twice_where_none_can_be_spared() -> None:
    images = ImageSet.from_arrays(np.zeros((4, 4, 4)))
    singles = ImageSet.from_arrays(np.zeros((4, 4, 4)), [0, 1, 2, 3])
    for whole, share in ((images, 0.0), (images.take([0, 1]), 0.5), (singles, 0.5)):
        assert all(part is whole for part in hold_out(whole, share))
    for share, sizes in ((0.01, (3, 1)), (0.99, (2, 2))):
        training, validation = hold_out(images, share)
        assert (len(training), len(validation)) == sizes
