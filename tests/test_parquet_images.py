"""Parquet of images is read as a folder of them would be, and codes with thumbnails are written for other programs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, toy
from isthmus.data import cache, contents, decoding, parquet
from isthmus.data.batches import open_images
from isthmus.data.catalog import load
from isthmus.data.decoding import following, processes_for
from isthmus.data.files import load_path
from isthmus.data.imageset import ImageSet
from isthmus.data.pictures import load_pictures
from isthmus.data.stored import Stored
from isthmus.errors import DataError, InputError
from isthmus.networks.apply import encode
from isthmus.runs import Run
from isthmus.studies.single import train_one
from isthmus.training.codes import holds_codes, read_codes
from isthmus.training.thumbnails import principal_plane

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
NAMES = ["eel", "cat", "dog"]  # not in the order of the alphabet: the numbers decide


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(
    path: Path,
    images: list[Any],
    labels: Any = None,
    *,
    features: dict[str, Any] | None = None,
    columns: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Images as Hugging Face writes them; by default labels are numbers of NAMES."""
    if images and isinstance(images[0], np.ndarray):
        images = [png(image) for image in images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [image if image is None else {"bytes": image, "path": None} for image in images]
    arrays: dict[str, Any] = {"image": pa.array(rows, kind), **(columns or {})}
    noted: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        arrays["label"] = labels if isinstance(labels, pa.Array) else pa.array(labels)
        if pa.types.is_integer(arrays["label"].type):
            noted["label"] = {"names": NAMES, "_type": "ClassLabel"}
    about = noted if features is None else features
    table = pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **{"row_group_size": 10, "write_page_checksum": True, **options})
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """30 images in three row groups, 10 of each class."""
    return write(tmp_path / "set.parquet", list(COLOURS), [i % 3 for i in range(30)])


def refused(path: Path, words: str, **options: Any) -> str:
    with pytest.raises(DataError, match=words) as caught:
        load_path(path, **options)
    return str(caught.value)


def same(first: ImageSet, second: ImageSet) -> bool:
    return first.fingerprint == second.fingerprint and (first.classes, first.notes) == (second.classes, second.notes)


# What is read


def test_rows_are_images_with_the_classes_of_the_schema(file: Path) -> None:
    images = load_path(file)
    assert np.array_equal(images.images, COLOURS.transpose(0, 3, 1, 2))
    assert images.labels is not None
    assert images.labels.tolist() == [i % 3 for i in range(30)]
    assert (images.classes, images.name, images.published_test, images.notes) == (tuple(NAMES), "set", 0, ())
    assert same(load(str(file), size=(6, 5)), images)


def test_what_datasets_writes_is_read_to_the_last_pixel(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"image": [Image.fromarray(image) for image in COLOURS], "label": [i % 3 for i in range(30)]}
    theirs = datasets.Dataset.from_dict(rows, features=features)
    theirs.select(range(20)).to_parquet(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    theirs.select(range(20, 30)).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    images = load_path(tmp_path)
    assert np.array_equal(images.images, COLOURS.transpose(0, 3, 1, 2))
    assert images.labels is not None
    assert [images.classes[label] for label in images.labels] == [NAMES[i % 3] for i in range(30)]
    assert images.published_test == 10


def test_a_table_of_files_is_the_folder_of_them(tmp_path: Path) -> None:
    """Of all formats and sizes, and in the order of the folder: the pixels, the notes and the size are the same."""
    folder = tmp_path / "folder"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(COLOURS[0]).save(folder / "a.jpg", exif=turned)
    Image.fromarray(COLOURS[1]).convert("L").save(folder / "b.bmp")
    Image.fromarray(COLOURS[2]).save(folder / "c.gif", save_all=True, append_images=[Image.fromarray(COLOURS[3])])
    Image.fromarray(RNG.integers(0, 2**16, (7, 9), dtype=np.uint16)).save(folder / "d.png")
    Image.fromarray(COLOURS[4]).convert("RGBA").save(folder / "e.webp", lossless=True)
    path = write(tmp_path / "table.parquet", [each.read_bytes() for each in sorted(folder.iterdir())])
    for size in (None, (4, 8)):
        expected, found = load_path(folder, size=size), load_path(path, size=size)
        assert np.array_equal(found.images, expected.images)
        assert found.notes == expected.notes
        assert found.labels is None


@pytest.mark.parametrize(
    ("labels", "features", "classes", "numbers"),
    [
        (["b", "a", "b"], {}, ("a", "b"), [1, 0, 1]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), {}, ("a", "b"), [1, 0, 1]),
        ([10, 9, 10], {}, ("9", "10"), [1, 0, 1]),
        ([True, False, True], {}, ("False", "True"), [1, 0, 1]),
        (pa.array([2, 0, 2], pa.uint8()), None, tuple(NAMES), [2, 0, 2]),
        ([-1, -1, -1], None, (), None),
        ([None, None, None], {}, (), None),
        (None, None, (), None),
    ],
)
def test_labels_are_names_or_numbers_or_missing(
    tmp_path: Path, labels: Any, features: Any, classes: tuple[str, ...], numbers: list[int] | None
) -> None:
    if labels == [None] * 3:
        labels = pa.array(labels, pa.string())
    images = load_path(write(tmp_path / "set.parquet", list(COLOURS[:3]), labels, features=features))
    assert images.classes == classes
    assert (None if images.labels is None else images.labels.tolist()) == numbers
    unsaid = ("The column label names no class: the set is unlabelled.",)
    assert images.notes == (unsaid if labels is not None and numbers is None else ())


def test_other_names_of_columns_are_found_by_what_the_schema_says(tmp_path: Path) -> None:
    image = pa.array([{"bytes": png(pixels), "path": "../../etc/passwd"} for pixels in COLOURS[:3]])
    fine, coarse = pa.array([0, 1, 1]), pa.array([1, 0, 0])
    about = {"img": {"_type": "Image"}, "fine": {"_type": "ClassLabel", "names": ["x", "y"]}}
    path = tmp_path / "set.parquet"

    def put(columns: dict[str, Any], features: dict[str, Any]) -> ImageSet:
        note = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(pa.table(columns).replace_schema_metadata(note), path)
        return load_path(path)

    images = put({"img": image, "mask": image, "fine": fine}, about)
    assert (images.classes, len(images)) == (("x", "y"), 3)
    both = {**about, "coarse": {"_type": "ClassLabel", "names": ["u", "v"]}}
    images = put({"img": image, "fine": fine, "coarse": coarse}, both)
    assert images.notes == ("Each of the columns fine, coarse holds classes; to use one, call it label.",)
    assert images.labels is None
    with pytest.raises(DataError, match=r"has several columns of images \(img, mask\); call one of them image"):
        put({"img": image, "mask": image}, {})
    assert len(put({"image": pa.array([png(pixels) for pixels in COLOURS[:3]])}, {})) == 3  # bytes alone


def test_a_folder_of_files_is_one_set_with_its_published_test_images(tmp_path: Path) -> None:
    for name, part in (("test-0", slice(0, 4)), ("train-0", slice(4, 9)), ("train-1", slice(9, 20))):
        write(tmp_path / "data" / f"{name}.parquet", list(COLOURS[part]), [i % 3 for i in range(30)][part])
    (tmp_path / "README.md").write_text("about it")
    (tmp_path / ".hidden.parquet").write_text("")
    images = load_path(tmp_path)
    assert np.array_equal(images.images, COLOURS[[*range(4, 20), *range(4)]].transpose(0, 3, 1, 2))
    assert images.published_test == 4
    assert images.notes == ("1 file ignored for not ending in .parquet.",)
    write(tmp_path / "data" / "validation-0.parquet", list(COLOURS[20:]), [i % 3 for i in range(10)])
    images = load_path(tmp_path)
    assert (len(images), images.published_test) == (30, 4)
    joined = "The images of data/validation-0.parquet count among those that are divided anew."
    assert images.notes == (joined, "1 file ignored for not ending in .parquet.")
    assert load_path(tmp_path / "data" / "test-0.parquet").published_test == 0
    for name in ("train-0", "train-1", "validation-0"):
        (tmp_path / "data" / f"{name}.parquet").unlink()
    assert load_path(tmp_path).published_test == 0  # there must be others to train on


def test_a_table_beside_image_files_is_none_of_them(tmp_path: Path) -> None:
    write(tmp_path / "metadata.parquet", list(COLOURS[:3]))
    Image.fromarray(COLOURS[5]).save(tmp_path / "a.png")
    images = load_path(tmp_path)
    assert len(images) == 1
    assert images.notes == ("1 file ignored for not ending in an image suffix.",)


def test_files_that_make_no_set_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", list(COLOURS[:3]), [0, 1, 2])
    write(tmp_path / "b.parquet", list(COLOURS[:3]), ["eel", "cat", "dog"])
    words = refused(tmp_path, "a.parquet and .*b.parquet do not make one set")
    assert "images in image with labels in label of eel, cat, dog, but images in image with labels in label;" in words
    (tmp_path / "b.parquet").unlink()
    outside = write(tmp_path / "elsewhere" / "c.parquet", list(COLOURS[:3]), [0, 1, 2])
    (tmp_path / "set").mkdir()
    (tmp_path / "a.parquet").rename(tmp_path / "set" / "a.parquet")
    (tmp_path / "set" / "c.parquet").symlink_to(outside)
    refused(tmp_path / "set", "1 link leading out of .*set: c.parquet; copy what is meant")
    assert len(load_path(outside)) == 3


# What is refused


def test_bad_rows_are_named_and_left_out_if_asked(tmp_path: Path) -> None:
    images: list[Any] = [png(image) for image in COLOURS[:12]]
    images[1], images[3], images[5] = None, b"", b"no image"
    images[7] = images[7][: len(images[7]) // 2]
    labels = [i % 3 for i in range(12)]
    labels[9], labels[10] = 7, -1
    path = write(tmp_path / "set.parquet", images, labels, row_group_size=5)
    words = refused(path, "6 of 12 rows in .*set.parquet cannot be used: row 1 has no image, row 3 is empty .0 bytes.")
    assert "row 5 is not an image of a known format, or its header is damaged, row 7 is damaged (" in words
    assert "row 9 has the label 7, and 3 classes have names and 1 more; repair or remove them, or leave them" in words
    found = load_path(path, skip_bad=True)
    good = [0, 2, 4, 6, 8, 11]
    assert np.array_equal(found.images, COLOURS[good].transpose(0, 3, 1, 2))
    assert found.labels is not None
    assert found.labels.tolist() == [i % 3 for i in good]
    assert found.notes[-1].startswith("6 unreadable rows left out: row 1 has no image, row 3")
    refused(write(tmp_path / "none.parquet", [b"x", b""]), "2 of 2 rows .*; give other files", skip_bad=True)


def test_rows_of_a_folder_are_named_with_their_file(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.parquet", [png(image) for image in COLOURS[:4]])
    write(tmp_path / "data" / "b.parquet", [*(png(image) for image in COLOURS[4:6]), b"", png(COLOURS[7])])
    refused(tmp_path, r"1 of 8 rows in .*: data/b.parquet row 2 is empty")


def test_a_row_without_bytes_does_not_make_us_read_a_file(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[0]).save(tmp_path / "a.png")
    rows = [{"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": png(COLOURS[1]), "path": None}]
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "set.parquet")
    refused(tmp_path / "set.parquet", "row 0 names a file and holds none; write the set with the files in it")


def test_a_picture_over_64_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    bombs = [b"P5 9000 9000 255\n", b"P5 60000 60000 255\n"]
    path = write(tmp_path / "set.parquet", [png(COLOURS[0]), *bombs])
    words = refused(path, "row 1 is 9000 x 9000: over the limit of 64 megapixels")
    assert "row 2 is over the limit of 64 megapixels" in words
    assert len(load_path(path, skip_bad=True)) == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"text": ["a"]},
            r"has the columns text, and images in none of them; needed is a column image of \{bytes, path\}",
        ),
        ({"image": ["a.png"]}, "has the columns image, and images in none"),
        ({"image": [b"x"], "label": [0.5]}, "column label: double; needed are whole numbers or the names of classes"),
        ({"image": pa.array([], pa.binary())}, "holds no rows; give at least one image"),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "set.parquet")
    assert "set.parquet" in refused(tmp_path / "set.parquet", words)


def test_a_file_that_is_cut_is_refused_wherever_that_is(file: Path) -> None:
    whole = file.read_bytes()
    for end in (0, 3, 100, len(whole) // 2, len(whole) - 300, len(whole) - 9, len(whole) - 1):
        file.write_bytes(whole[:end])
        assert str(file) in refused(
            file, r"cannot be read as Parquet \(.*\): it is damaged or cut short; fetch it again"
        )


def test_changed_bytes_are_found_or_do_no_harm(tmp_path: Path) -> None:
    """Whatever byte is changed: the images are refused, or they are the same."""
    labels = [i % 3 for i in range(6)]
    path = write(tmp_path / "set.parquet", list(COLOURS[:6]), labels, row_group_size=3, compression="none")
    whole, expected = path.read_bytes(), load_path(path)
    for position in range(4, len(whole) - 8, 13):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with contextlib.suppress(DataError):
            found = load_path(path)
            assert np.array_equal(found.images, expected.images)


def test_rows_behind_damage_are_named_and_those_before_and_after_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", list(COLOURS), [i % 3 for i in range(30)], compression="none")
    whole = path.read_bytes()
    place = whole.index(png(COLOURS[14])) + 40  # within the second row group
    path.write_bytes(whole[:place] + b"\0\0\0\0" + whole[place + 4 :])
    refused(path, r"10 of 30 rows in .* cannot be used: row 10 cannot be read \(.*checksum.*and 5 more; repair")
    found = load_path(path, skip_bad=True)
    kept = [*range(10), *range(20, 30)]
    assert np.array_equal(found.images, COLOURS[kept].transpose(0, 3, 1, 2))
    assert found.labels is not None
    assert found.labels.tolist() == [i % 3 for i in kept]


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(file, "set.parquet needs a package: `pip install pyarrow`, or give the images as files in a folder")
    refused(file.parent, "needs a package: `pip install pyarrow`")


# How it is read


def test_a_wrong_guess_is_mended(tmp_path: Path) -> None:
    """Grey first and colour later; small first and most of them large."""
    grey = [png(image[:, :, 0]) for image in COLOURS[:20]]
    images = load_path(write(tmp_path / "mixed.parquet", [*grey, png(COLOURS[20])]))
    assert images.shape == (3, 6, 5)
    assert images.notes == ("20 grey images repeated over 3 channels.",)
    small = [png(image[:3, :3, 0]) for image in COLOURS[:8]]
    images = load_path(write(tmp_path / "sizes.parquet", [*small, *grey]))
    assert images.shape == (1, 6, 5)
    assert images.notes == ("8 images resized to 6 x 5.", "8 images cropped at the centre to these proportions.")


def test_processes_give_what_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [png(image) for image in COLOURS]
    images[4] = b"no image"
    path = write(tmp_path / "set.parquet", images, [i % 3 for i in range(30)])
    expected = load_path(path, skip_bad=True)
    monkeypatch.setattr(decoding, "FEW", 1)
    monkeypatch.setattr(decoding, "PART", 7)
    if processes_for(30, 30) == 0:
        pytest.skip("needs two processors")
    told: list[tuple[int, int, str]] = []
    with following(lambda *news: told.append(news)):
        assert same(load_path(path, skip_bad=True), expected)
    assert told[-1] == (30, 30, "30 of 30 images")
    assert len(told) >= 5  # a part at a time


def test_few_rows_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one large row group, a batch of the file and a few parts are all there is at a time."""
    monkeypatch.setattr(decoding, "PART", 2)
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
    path = write(tmp_path / "set.parquet", [png(image) for image in COLOURS], row_group_size=30)
    read, done, ahead = 0, 0, []

    def counted(table: Any, bad: Any = None) -> Any:
        nonlocal read
        for content in contents_of(table, bad):
            read += 1
            yield content

    contents_of = parquet.contents
    monkeypatch.setattr(parquet, "contents", counted)
    table = parquet.open_table(path, [str(path)])
    for part in parquet.read_rows(table, (3, 6, 5)):
        done += len(part.headers)
        ahead.append(read - done)
    assert done == 30
    assert max(ahead) <= 3 * 2


def test_what_was_decoded_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "WORTH_FILES", 1)
    monkeypatch.setattr(contents, "SETTLED", -(10**9))
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 30))):
        write(tmp_path / "set" / f"{name}.parquet", list(COLOURS[part]), [i % 3 for i in range(30)][part])
    first = load_path(tmp_path / "set")
    decoded = parquet.read_rows
    monkeypatch.setattr(parquet, "read_rows", None)  # nothing is decoded again
    second = load_path(tmp_path / "set")
    assert same(first, second)
    assert second.published_test == first.published_test == 10
    write(tmp_path / "set" / "test.parquet", list(COLOURS[:10]), [0] * 10)
    monkeypatch.setattr(parquet, "read_rows", decoded)
    third = load_path(tmp_path / "set")
    assert np.array_equal(third.images[20:], COLOURS[:10].transpose(0, 3, 1, 2))


def test_a_table_too_large_for_memory_stays_on_disk(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    expected = load_path(file)
    monkeypatch.setattr("isthmus.data.stored.free_memory", lambda: 100)
    images = load_path(file)
    assert isinstance(images.images, Stored)
    assert np.array_equal(images.images[:], expected.images)


# For commands, which name what is bad and do the rest


def test_a_stream_of_rows_has_the_pixels_of_training(file: Path, tmp_path: Path) -> None:
    for shape in ((3, 6, 5), (1, 6, 5), (1, 4, 4)):
        batches = list(open_images(file, shape).batches)
        expected = load_path(file, size=shape[1:])
        expected = expected.grey() if shape[0] == 1 else expected
        assert np.array_equal(np.concatenate([batch.images for batch in batches]), expected.images)
        assert [name for batch in batches for name in batch.names][::29] == ["set-00", "set-29"]
        assert [label for batch in batches for label in batch.labels][:4] == ["eel", "cat", "dog", "eel"]


def test_a_stream_names_bad_rows_and_gives_the_others(tmp_path: Path) -> None:
    images: list[Any] = [png(image) for image in COLOURS[:5]]
    images[2] = b"no image"
    write(tmp_path / "set" / "a.parquet", images[:3], [0, -1, 1])
    write(tmp_path / "set" / "b.parquet", images[3:], [2, 0])
    stream = open_images(tmp_path / "set", (3, 6, 5))
    batches = list(stream.batches)
    assert stream.count == 5
    assert stream.bad == {"set-2": "is not an image of a known format, or its header is damaged"}
    assert [name for batch in batches for name in batch.names] == ["set-0", "set-1", "set-3", "set-4"]
    assert [label for batch in batches for label in batch.labels] == ["eel", None, "dog", "eel"]
    pictures = load_pictures(tmp_path / "set", (3, 6, 5))
    assert pictures.bad == stream.bad
    assert np.array_equal((pictures.images * 255).round().numpy(), COLOURS[[0, 1, 3, 4]].transpose(0, 3, 1, 2))
    assert np.array_equal(load_pictures(tmp_path / "set" / "b.parquet", (3, 6, 5)).images, pictures.images[2:])


# Codes with thumbnails


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz", names=["b", "a", "c"]))
    for name, model, size in (("linear", "linear", 5), ("vae", "vae", 2)):
        changes = [f"model.latent_dim={size}", "training.epochs=1", *(["model.units=16"] if model == "vae" else [])]
        train_one(model, data, folder / name, changes=changes)
    return folder


def test_thumbnails_are_what_the_network_saw_and_codes_what_it_made_of_it(
    isthmus: Any, runs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "codes.parquet"
    code, out, err = isthmus("encode", runs / "linear", runs / "toy.npz", "--out", path, "--thumbnails")
    assert code == 0, err
    assert out.startswith(f"codes: {path} (60 images, 5 numbers each)")
    table = pq.read_table(path)
    assert table.column_names == ["id", "image", "label", "projection_x", "projection_y", "code"]
    images = load(runs / "toy.npz")
    codes = encode(Run(runs / "linear").network(), images.images)
    assert np.allclose(table["code"].to_pylist(), codes, atol=1e-5)
    plane = np.stack([table["projection_x"], table["projection_y"]], 1)
    assert np.array_equal(plane, principal_plane(read_codes(path).codes))
    rows = table["image"].to_pylist()
    assert [row["path"] for row in rows] == table["id"].to_pylist() == [f"toy-{i:02d}" for i in range(60)]
    for i in (0, 7, 59):
        assert np.array_equal(Image.open(io.BytesIO(rows[i]["bytes"])), images.images[i, 0])
    again = load_path(path)  # which is a set of images, too
    assert np.array_equal(again.images, images.images)
    assert again.labels is not None
    assert images.labels is not None
    assert [again.classes[k] for k in again.labels] == [images.classes[k] for k in images.labels]
    assert [entry.name for entry in path.parent.iterdir()] == ["codes.parquet"]


@pytest.mark.parametrize("name", ["linear", "vae"])
def test_a_file_with_thumbnails_says_as_much_of_codes_as_one_without(
    isthmus: Any, runs: Path, tmp_path: Path, name: str
) -> None:
    more = ["--posterior"] if name == "vae" else []
    for out, options in (("with.parquet", ["--thumbnails"]), ("without.parquet", [])):
        code, _, err = isthmus("encode", runs / name, runs / "toy.npz", "--out", tmp_path / out, *options, *more)
        assert code == 0, err
    found, plain = read_codes(tmp_path / "with.parquet"), read_codes(tmp_path / "without.parquet")
    assert np.array_equal(found.codes, plain.codes)
    assert (found.paths, found.classes, found.run) == (plain.paths, plain.classes, plain.run)
    assert np.array_equal(found.labels, plain.labels)
    assert (found.std is None) == (plain.std is None) == (name == "linear")
    assert found.std is None or np.array_equal(found.std, plain.std)
    assert holds_codes(tmp_path / "with.parquet")


def test_other_commands_take_a_file_with_thumbnails(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    path, run = tmp_path / "codes.parquet", runs / "linear"
    assert isthmus("encode", run, runs / "toy.npz", "--out", path, "--thumbnails")[0] == 0
    code, out, err = isthmus("search", run, runs / "toy.npz", path, "-n", "1", "--out", tmp_path / "found", "--json")
    assert code == 0, err
    for i, answer in enumerate(json.loads(out)["found"]):
        assert answer["found"][0]["distance"] < 1e-3
        assert answer["query"] == f"toy-{i:02d}"
    assert isthmus("decode", run, path, "--out", tmp_path / "decoded")[0] == 0
    assert isthmus("outliers", run, path, "--by", "density", "--out", tmp_path / "strange")[0] == 0
    other = isthmus("decode", runs / "vae", path, "--out", tmp_path / "other")
    check_refused(other, "codes of 5 numbers", "have 2")


def test_hugging_face_datasets_reads_images_and_classes(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "codes.parquet"
    assert isthmus("encode", runs / "vae", runs / "toy.npz", "--out", path, "--thumbnails", "--posterior")[0] == 0
    found = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert isinstance(found.features["image"], datasets.Image)
    assert found.features["label"].names == ["a", "b", "c"]
    assert found.features["code"].length == found.features["std"].length == 2
    images = load(runs / "toy.npz")
    assert np.array_equal(np.asarray(found[3]["image"]), images.images[3, 0])
    assert images.labels is not None
    names = [found.features["label"].int2str(label) for label in found["label"]]
    assert names == [images.classes[label] for label in images.labels]
    found.to_parquet(str(tmp_path / "theirs.parquet"))
    assert np.array_equal(read_codes(tmp_path / "theirs.parquet").codes, read_codes(path).codes)


def test_unlabelled_images_in_colour_and_floats_have_thumbnails(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    noisy = RNG.normal(0.5, 0.5, (4, 1, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "noisy.npz", images=noisy)
    path = tmp_path / "codes.parquet"
    assert isthmus("encode", runs / "linear", tmp_path / "noisy.npz", "--out", path, "--thumbnails")[0] == 0
    table = pq.read_table(path)
    assert "label" not in table.column_names
    seen = Image.open(io.BytesIO(table["image"][0]["bytes"].as_py()))
    assert np.array_equal(seen, np.rint(noisy[0, 0].clip(0, 1) * 255))
    assert read_codes(path).labels is None


def test_bad_images_have_no_row(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    path = tmp_path / "out" / "codes.parquet"
    code, _, err = isthmus("encode", runs / "linear", tmp_path, "--out", path, "--thumbnails")
    assert code == 1
    assert "left out: 2.png is not an image" in err
    assert read_codes(path).paths == ("0.png", "1.png", "3.png")


def test_images_that_change_meanwhile_leave_no_file(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.training import codes

    for i in range(3):
        Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    opened = codes.open_images
    for change in (lambda: (tmp_path / "1.png").rename(tmp_path / "1b.png"), lambda: (tmp_path / "2.png").unlink()):

        def watched(*arguments: Any, change: Any = change) -> Any:
            change()
            return opened(*arguments)

        monkeypatch.setattr(codes, "open_images", watched)
        with pytest.raises(DataError, match="was changed while it was encoded; run the command again"):
            codes.encode_into(tmp_path / "codes.parquet", runs / "linear", tmp_path, thumbnails=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1b.png"]


def test_thumbnails_go_into_parquet_alone(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    answer = isthmus("encode", runs / "linear", runs / "toy.npz", "--out", tmp_path / "codes.npz", "--thumbnails")
    check_refused(answer, "ends in .npz, which holds no thumbnails", "name a .parquet, or leave out --thumbnails")


def test_a_damaged_file_with_thumbnails_is_refused(isthmus: Any, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "codes.parquet"
    assert isthmus("encode", runs / "linear", runs / "toy.npz", "--out", path, "--thumbnails")[0] == 0
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-20]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_codes(path)
    code = pa.array([[1.0, 2.0], [3.0, 4.0, 5.0]])
    columns = {"id": ["a", "b"], "projection_x": [0.0, 1.0], "projection_y": [0.0, 1.0]}
    for values, words in ((code, "with 5 numbers in 2 rows; needed are equally many"), (code[:0], "only a header")):
        part = {name: column[: len(values)] for name, column in columns.items()}
        pq.write_table(pa.table({**part, "code": values}), path)
        with pytest.raises(InputError, match=words):
            read_codes(path)


def test_the_plane_is_that_of_largest_variance() -> None:
    """Points in a plane of a space keep their distances, and no plane keeps more of the variance."""
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    flat = RNG.normal(size=(200, 2)) * [3, 1]
    codes = (np.pad(flat, ((0, 0), (0, 4))) @ turn + 7).astype(np.float32)
    plane = principal_plane(codes)
    assert np.allclose(np.cov(plane.T), np.diag(np.sort(np.linalg.eigvalsh(np.cov(flat.T)))[::-1]), atol=1e-3)
    assert np.allclose(
        np.linalg.norm(plane[1:] - plane[:-1], axis=1), np.linalg.norm(flat[1:] - flat[:-1], axis=1), atol=1e-3
    )
    assert np.allclose(principal_plane(codes[::-1]), plane[::-1], atol=1e-4)  # signs are those of the axes
    broken = np.concatenate([codes, np.full((1, 6), np.inf, np.float32)])
    assert np.allclose(principal_plane(broken)[:-1], plane, atol=1e-4)
    assert np.isnan(principal_plane(broken)[-1]).all()
    assert np.array_equal(principal_plane(codes[:, :2]), codes[:, :2])
    assert np.array_equal(principal_plane(codes[:, :1])[:, 1], np.zeros(200))
    assert np.array_equal(principal_plane(np.ones((3, 4), np.float32)), np.zeros((3, 2)))
    assert np.isnan(principal_plane(np.full((2, 3), np.nan, np.float32))).all()


@pytest.mark.skipif(not os.environ.get("ISTHMUS_DATA"), reason="ISTHMUS_DATA is not set")
def test_photographs_in_a_table_are_those_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    folder = Path(os.environ["ISTHMUS_DATA"]) / "sign-digits"
    if not folder.is_dir():
        pytest.skip("ISTHMUS_DATA does not hold sign-digits")
    paths = [path for path in sorted(folder.rglob("*.[jJ][pP][gG]")) if not path.name.startswith(".")][::8]
    path = write(
        tmp_path / "signs.parquet", [each.read_bytes() for each in paths], [each.parent.name for each in paths]
    )
    found = load_path(path, size=(32, 32))
    whole = load_path(folder, size=(32, 32))
    hashes = set(whole.image_hashes().tolist())
    assert set(found.image_hashes().tolist()) <= hashes
    assert found.classes == whole.classes
