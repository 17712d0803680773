"""Files of every kind become the same ImageSet, and every bad one is named."""

import contextlib
import gzip
import os
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data.files import load_path
from isthmus.data.idx import MNIST_FILES
from isthmus.errors import DataError

DATA = Path(os.environ.get("ISTHMUS_DATA", "/nowhere"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0], np.uint8)
ROTATIONS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def idx_bytes(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(exist_ok=True)
    arrays = PIXELS[:4], LABELS[:4], PIXELS[4:], LABELS[4:]
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        (folder / f"{name}{suffix}").write_bytes(pack(idx_bytes(array)))
    return folder


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def two_classes(folder, images=COLOURS):
    for position, image in enumerate(images):
        save(folder / ("no", "yes")[position % 2] / f"{position}.png", image)
    return folder


def one_pixel_image(folder, value, **options):
    """The single pixel that a 1 x 1 image of this value is read as."""
    save(folder / "a.png", value, **options)
    return load_path(folder).images[0, :, 0, 0].tolist()


def refused(path, words, **options):
    with pytest.raises(DataError, match=words) as caught:
        load_path(path, **options)
    return str(caught.value)


# IDX


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (bytes, ""), (bytes, ".gz")])
def test_a_folder_of_four_idx_files_is_train_then_published_test(tmp_path, pack, suffix):
    images = load_path(write_mnist(tmp_path / "mine", pack, suffix))
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert np.array_equal(images.labels, LABELS)
    assert images.published_test == 2
    assert (images.classes, images.name) == (("0", "1", "2"), "mine")


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte.gz", "train-labels.idx1-ubyte"),
        ("my-images.idx", "my-labels.idx.gz"),
    ],
)
def test_one_idx_file_finds_its_labels_by_name(tmp_path, image_name, label_name):
    for name, array in ((image_name, PIXELS), (label_name, LABELS)):
        content = idx_bytes(array)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    images = load_path(tmp_path / image_name)
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert np.array_equal(images.labels, LABELS)
    assert images.notes == ()


def test_an_idx_file_without_labels_is_unlabelled_and_says_so(tmp_path):
    (tmp_path / "photos.idx").write_bytes(idx_bytes(PIXELS))
    images = load_path(str(tmp_path / "photos.idx"), size=(8, 8))
    assert images.labels is None
    assert images.shape == (1, 8, 8)
    assert images.notes == ("No file of labels lies beside photos.idx: the set is unlabelled.",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG\r\n", "starts with 89 50 4e 47; needed is 00 00 08 03"),
        (b"\0\0\x08\x03\0\0", "header of 16 bytes ends after 6"),
        (b"\0\0\x08\xff" + bytes(2000), "not an IDX file"),
        (idx_bytes(PIXELS)[:-1], "has 135 bytes where its header says 136"),
        (idx_bytes(PIXELS) + b"\0", "has 137 bytes where its header says 136"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "has 16 bytes where"),
        (struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "holds no values"),
        (struct.pack(">HBB3I", 0, 8, 3, 5, 0, 28), "holds no values"),
        (struct.pack(">HBB3I", 0, 13, 3, 1, 1, 1) + struct.pack(">f", 7), "floats from 7 to 7"),
        (gzip.compress(idx_bytes(PIXELS))[:-20], "cut short or damaged"),
        (gzip.compress(idx_bytes(PIXELS))[:30] + bytes(40), "cut short or damaged"),
        (idx_bytes(LABELS), "holds labels .* name the file of images"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, content, words):
    path = tmp_path / "broken.idx.gz"
    path.write_bytes(content)
    assert str(path) in refused(path, words)


def test_labels_of_another_length_are_refused(tmp_path):
    (tmp_path / "images.idx").write_bytes(idx_bytes(PIXELS))
    (tmp_path / "labels.idx").write_bytes(idx_bytes(LABELS[:5]))
    refused(tmp_path / "images.idx", "images.idx: there are 6 images but 5 labels")
    (tmp_path / "labels.idx").write_bytes(idx_bytes(PIXELS))
    refused(tmp_path / "images.idx", "needed is one number per image")


def test_missing_idx_files_of_a_folder_are_named(tmp_path):
    folder = write_mnist(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    refused(folder, "3 of the 4 files of an MNIST-style set; add t10k-labels-idx1-ubyte")


def test_test_images_of_another_size_are_refused(tmp_path):
    folder = write_mnist(tmp_path)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(PIXELS[4:, 1:]))
    refused(folder, "images of 5 x 4 but .* of 4 x 4")


# NumPy archives


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "Y"), ("data", "target"), ("arr_0", "arr_1")])
def test_arrays_under_the_usual_names_are_found(tmp_path, keys):
    np.savez(tmp_path / "set.npz", **dict(zip(keys, (COLOURS, LABELS), strict=True)))
    images = load_path(tmp_path / "set.npz")
    assert np.array_equal(images.images, COLOURS.transpose(0, 3, 1, 2))
    assert np.array_equal(images.labels, LABELS)
    assert images.name == "set"


@pytest.mark.parametrize("labelled", [True, False])
def test_an_archive_round_trips(tmp_path, labelled):
    whole = load_path(two_classes(tmp_path / "folder"))
    more = {"labels": whole.labels, "classes": np.array(whole.classes)} if labelled else {}
    np.savez_compressed(tmp_path / "set.npz", images=whole.images, **more)
    again = load_path(tmp_path / "set.npz")
    assert (again.fingerprint == whole.fingerprint) is labelled
    assert np.array_equal(again.images, whole.images)


def test_keras_archives_have_a_published_test_set(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_test=PIXELS[4:], y_test=LABELS[4:], x_train=PIXELS[:4], y_train=LABELS[:4], extra=LABELS)
    images = load_path(path)
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert np.array_equal(images.labels, LABELS)
    assert images.published_test == 2
    assert images.notes == ("Arrays of mnist.npz left unread: extra.",)


def test_strings_are_class_names(tmp_path):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=np.array(["b", "a", "b", "a", "b", "c"]))
    assert load_path(tmp_path / "set.npz").classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": PIXELS, "names": LABELS}, "holds pictures, names; needed is an array of images called"),
        ({}, "holds no arrays"),
        ({"images": PIXELS[:0]}, "set.npz, images: .* there are no images"),
        ({"images": PIXELS[:, :0]}, "hold no pixels"),
        ({"images": PIXELS.reshape(6, 20)}, r"shape \(6, 20\); needed is"),
        ({"images": PIXELS.astype(float)}, r"floats from \d+ to \d+; needed is \[0, 1\]"),
        ({"images": PIXELS, "labels": LABELS[:2]}, "6 images but 2 labels"),
        ({"images": PIXELS, "labels": np.float64(3)}, "6 images but 1 labels"),
        ({"images": np.array([{}, {}], object)}, "pickled objects, which are never loaded"),
        (
            {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:, 1:], "y_test": LABELS},
            "both need one type and size",
        ),
    ],
)
def test_an_archive_that_does_not_fit_is_named(tmp_path, arrays, words):
    np.savez(tmp_path / "set.npz", **arrays)
    assert "set.npz" in refused(tmp_path / "set.npz", words)


def test_a_damaged_archive_is_refused_wherever_it_is_cut_or_changed(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=PIXELS, labels=LABELS)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        refused(path, "empty, cut short or not an .npz archive")
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with contextlib.suppress(DataError):  # unless the byte carries no data
            assert np.array_equal(load_path(path).images[:, 0], PIXELS)


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000, 28, 28), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refused(path, "not an .npz archive")


# Folders of images


def test_subfolders_are_classes_and_pixels_are_kept(tmp_path):
    images = load_path(two_classes(tmp_path / "set"))
    assert images.classes == ("no", "yes")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(images.images, COLOURS[[0, 2, 4, 1, 3, 5]].transpose(0, 3, 1, 2))
    assert (images.name, images.notes, images.published_test) == ("set", (), 0)


def test_classes_that_are_numbers_are_in_numeric_order_and_deep_files_belong_to_them(tmp_path):
    for name in ("10", "9", "2"):
        save(tmp_path / name / "deep" / "er" / "a.png", PIXELS[0])
        save(tmp_path / name / "b.PNG", PIXELS[1], format="png")
    images = load_path(tmp_path)
    assert images.classes == ("2", "9", "10")
    assert images.labels.tolist() == [2, 2, 0, 0, 1, 1]


def test_images_directly_in_a_folder_are_unlabelled(tmp_path):
    for position, image in enumerate(PIXELS):
        save(tmp_path / f"{position}.png", image)
    (tmp_path / "empty").mkdir()
    images = load_path(tmp_path)
    assert (images.labels, images.classes) == (None, ())
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert images.notes == ("1 subfolder without images ignored: empty.",)


def test_hidden_files_do_not_count_and_others_are_counted(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "readme.txt").write_text("no image")
    (folder / "no" / "Thumbs.db").write_text("no image")
    (folder / "none").mkdir()
    (folder / ".hidden.png").write_text("no image")
    save(folder / ".cache" / "a.png", PIXELS[0])
    save(folder / "yes" / ".thumbnails" / "a.png", PIXELS[0])
    images = load_path(folder)
    assert len(images) == 6
    assert images.notes == (
        "2 files ignored for not ending in an image suffix.",
        "1 subfolder without images ignored: none.",
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tif", "tiff", "ppm", "gif"])
def test_every_lossless_format_gives_the_same_pixels(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    flat = Image.new("RGB", (4, 5), (255, 0, 51))
    save(tmp_path / f"a.{suffix}", flat, **options)
    assert (load_path(tmp_path).images[0].transpose(1, 2, 0) == (255, 0, 51)).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", ROTATIONS)
def test_an_exif_orientation_gives_the_image_that_was_turned_before(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(RNG.integers(0, 2, (3, 2), dtype=np.uint8) * 200, np.ones((16, 16), np.uint8))
    options = {"lossless": True} if suffix == "webp" else {}
    save(tmp_path / "tagged" / f"a.{suffix}", Image.fromarray(blocks).convert("RGB"), exif=exif, **options)
    images = load_path(tmp_path / "tagged")
    expected = ROTATIONS[orientation](blocks)
    assert images.shape == (3, *expected.shape)
    assert abs(images.images[0, 0].astype(int) - expected).max() <= 3
    turned = ("1 image turned upright by EXIF orientation.",)
    assert images.notes == (() if orientation == 1 else turned)


# Modes


def test_16_bits_become_8_exactly_where_8_were_widened(tmp_path):
    every = np.arange(256, dtype=np.uint16).reshape(16, 16)
    save(tmp_path / "a.png", every * 257)
    save(tmp_path / "b.tif", every * 257)
    save(tmp_path / "c.pgm", every * 257)
    images = load_path(tmp_path)
    assert images.shape == (1, 16, 16)
    assert all(np.array_equal(image[0], every) for image in images.images)
    assert images.notes == ("3 images converted from 16-bit grey.",)


def test_a_jpeg_of_several_pictures_is_its_first(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    save(tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    assert load_path(tmp_path).images.min() >= 254


def test_floats_are_scaled(tmp_path):
    save(tmp_path / "a.tif", np.array([[0, 0.5, 1]], np.float32))
    assert load_path(tmp_path).images.ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("image", "options", "pixel"),
    [
        (Image.new("1", (1, 1), 1), {}, [255]),
        (Image.new("L", (1, 1), 9), {}, [9]),
        (Image.new("RGB", (1, 1), (1, 2, 3)), {}, [1, 2, 3]),
        (Image.new("RGB", (1, 1), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), {}, [1, 2, 3]),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 255)), {}, [1, 2, 3]),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 0)), {}, [255, 255, 255]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 51)), {}, [204, 204, 204]),
        (Image.new("LA", (1, 1), (100, 255)), {}, [100]),
        (Image.new("LA", (1, 1), (100, 0)), {}, [255]),
        (Image.new("L", (1, 1), 9), {"transparency": 9}, [255]),
        (Image.new("RGB", (1, 1), (1, 2, 3)), {"transparency": (1, 2, 3)}, [255, 255, 255]),
        (Image.new("P", (1, 1), 0), {"transparency": 0}, [255, 255, 255]),
    ],
)
def test_every_mode_becomes_grey_or_rgb_over_white(tmp_path, image, options, pixel):
    assert one_pixel_image(tmp_path, image, **options) == pixel


def test_cmyk_becomes_rgb(tmp_path):
    save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 0, 0, 0)))
    images = load_path(tmp_path)
    assert images.shape == (3, 8, 8)
    assert images.images.min() >= 254
    assert images.notes == ("1 image converted from CMYK.",)


def test_a_grey_image_among_colours_has_three_equal_channels(tmp_path):
    save(tmp_path / "a.png", PIXELS[0])
    save(tmp_path / "b.png", COLOURS[0])
    images = load_path(tmp_path)
    assert (images.images[0] == PIXELS[0]).all()
    assert images.notes == ("1 grey image repeated over 3 channels.",)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black")]
    save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (load_path(tmp_path).images == 255).all()


# Sizes


def test_the_most_common_size_wins_and_others_are_cropped_at_the_centre(tmp_path):
    striped = np.zeros((10, 30), np.uint8)
    striped[:, 10:20] = 200
    save(tmp_path / "wide.png", striped)
    for name in "ab":
        save(tmp_path / f"{name}.png", np.full((5, 5), 7, np.uint8))
    images = load_path(tmp_path)
    assert images.shape == (1, 5, 5)
    assert (images.images[2, 0, :, 1:-1] == 200).all()
    assert images.images[2, 0].min() > 150  # the filter looks a pixel beyond the crop
    assert images.notes == (
        "1 image resized to 5 x 5.",
        "1 image cropped at the centre to these proportions.",
    )


def test_large_images_are_shrunk_to_fit_256(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.jpg", Image.new("L", (1024, 512), 90))
    images = load_path(tmp_path)
    assert images.shape == (1, 128, 256)
    assert images.notes == ("2 images resized to 128 x 256.",)
    assert abs(images.images.astype(int) - 90).max() <= 1
    assert load_path(tmp_path, size=(300, 600)).shape == (1, 300, 600)


def test_reading_a_large_jpeg_at_a_part_of_its_size_gives_what_scaling_gives(tmp_path):
    smooth = np.add.outer(np.linspace(0, 127, 1600), np.linspace(0, 127, 1600)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth, quality=95)
    whole = Image.open(path).resize((40, 40), Image.Resampling.BILINEAR)
    assert abs(load_path(tmp_path, size=(40, 40)).images[0, 0] - np.asarray(whole, int)).max() <= 3


# What is refused


def test_all_bad_files_are_counted_and_five_are_named(tmp_path):
    folder = two_classes(tmp_path)
    for position in range(7):
        (folder / "no" / f"bad{position}.png").write_bytes(b"")
    words = refused(folder, "7 of 13 image files .* cannot be used: no/bad0.png is empty .0 bytes., no/bad1")
    assert "no/bad4.png" in words
    assert "no/bad5.png" not in words
    assert words.endswith("and 2 more; repair or remove them, or leave them out with --skip-bad")
    images = load_path(folder, skip_bad=True)
    assert images.fingerprint == load_path(two_classes(tmp_path / "good")).fingerprint
    assert images.notes[-1].startswith("7 unreadable files left out: no/bad0.png is empty (0 bytes)")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp", "ppm"])
def test_a_damaged_image_is_named_wherever_it_is_cut(tmp_path, suffix):
    save(tmp_path / "good.png", np.zeros((40, 40, 3), np.uint8))
    path = save(tmp_path / f"torn.{suffix}", RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.7):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(tmp_path, rf"1 of 2 image files .* torn.{suffix} (is|cannot)")
    assert len(load_path(tmp_path, skip_bad=True)) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about tags
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "ppm"])
def test_changed_bytes_never_end_in_a_traceback(tmp_path, suffix):
    save(tmp_path / "good.png", np.zeros((9, 9, 3), np.uint8))
    path = save(tmp_path / f"changed.{suffix}", RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for position in range(0, min(len(whole), 400), 4):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert len(load_path(tmp_path, skip_bad=True, size=(9, 9))) in (1, 2)


def test_text_called_png_and_postscript_called_png_are_not_images(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    refused(tmp_path, "a.png is not an image of a known format.*b.png is not an image")
    refused(tmp_path, "2 of 2 .*; give other files", skip_bad=True)


def test_an_image_over_64_megapixels_is_refused_before_it_is_decoded(tmp_path):
    # A header that claims 9000 x 9000 or 60000 x 60000 and no pixels: decoding would fail differently.
    for name, side in (("a", 9000), ("b", 12000), ("c", 60000)):
        (tmp_path / f"{name}.pgm").write_bytes(b"P5 %d %d 255\n" % (side, side))
    words = refused(tmp_path, "a.pgm is 9000 x 9000: over the limit of 64 megapixels")
    assert "b.pgm is 12000 x 12000: over the limit" in words
    assert "c.pgm is over the limit of 64 megapixels" in words


def test_grey_values_out_of_range_are_refused(tmp_path):
    save(tmp_path / "a.tif", np.array([[0, 300]], np.float32))
    refused(tmp_path, "a.tif has grey values outside 0 to 1")
    save(tmp_path / "a.tif", np.array([[0, 70_000]], np.int32))
    refused(tmp_path, "a.tif has grey values outside 0 to 65535")


def test_links_may_stay_in_the_folder_but_not_leave_it(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "no" / "copy.png").symlink_to(folder / "yes" / "1.png")
    (folder / "yes" / "again").symlink_to(folder)
    images = load_path(folder)
    assert len(images) == 7
    assert images.notes == ("1 link to a folder not followed.",)
    outside = save(tmp_path / "outside" / "secret.png", PIXELS[0])
    (folder / "no" / "leak.png").symlink_to(outside)
    (folder / "other").symlink_to(outside.parent)
    words = "2 links leading out of .*: no/leak.png, other; copy what is meant"
    refused(folder, words)
    refused(folder, words, skip_bad=True)


def test_a_folder_may_itself_be_a_link(tmp_path):
    two_classes(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert load_path(tmp_path / "link").fingerprint == load_path(tmp_path / "set").fingerprint


def test_links_to_nothing_and_to_themselves_are_bad_files(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "no" / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "no" / "self.png").symlink_to(folder / "no" / "self.png")
    refused(folder, "2 of 8 .* no/gone.png cannot be read .No such file.*no/self.png cannot be read")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path, "a.png is not a regular file")


def test_folders_that_are_no_clear_set_are_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, r"empty holds no images \(0 other files\); put images \(.bmp .gif .jpeg")
    (empty / "a").mkdir()
    (empty / "a" / "notes.txt").write_text("")
    refused(empty, r"holds no images and none in its 1 subfolder \(1 other file\)")
    both = two_classes(tmp_path / "both")
    save(both / "stray.png", COLOURS[0])
    refused(both, r"holds 1 image directly \(stray.png\) and also subfolders with images; move")
    one = tmp_path / "one"
    save(one / "only" / "a.png", COLOURS[0])
    words = refused(one, "one subfolder only, 'only', so there is nothing to tell apart; name")
    assert str(one / "only") in words
    for part in ("train", "test"):
        two_classes(tmp_path / "parts" / part)
    refused(tmp_path / "parts", "are test, train: parts of a data set, not classes; name one")


def test_a_class_of_bad_files_only_does_not_count(tmp_path):
    folder = two_classes(tmp_path)
    (folder / "bad").mkdir()
    (folder / "bad" / "a.png").write_bytes(b"")
    assert load_path(folder, skip_bad=True).classes == ("no", "yes")


def test_paths_that_cannot_be_read_are_named_with_the_next_step(tmp_path):
    refused(tmp_path / "nowhere", "nowhere does not exist; give a folder of images")
    (tmp_path / "table.xlsx").write_text("")
    refused(tmp_path / "table.xlsx", "table.xlsx is of a type not read here; give")
    refused(save(tmp_path / "a.png", PIXELS[0]), "a.png is a single image; give the folder")
    refused(tmp_path, "size is 0 x 5", size=(0, 5))


# Real photographs


@pytest.mark.skipif(not (DATA / "sign-digits").is_dir(), reason="ISTHMUS_DATA does not hold sign-digits")
def test_the_photographs_of_signs_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    images = load_path(DATA / "sign-digits", size=(32, 32))
    assert (len(images), images.shape, images.classes) == (1862, (3, 32, 32), tuple("0123456789"))
    assert images.notes[0] == "1,862 images resized to 32 x 32."
