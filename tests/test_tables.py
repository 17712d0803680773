"""CSVs of pixels: what is written is read back, and whatever is wrong is named by line and column."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.catalog import load
from isthmus.data.files import load_path
from isthmus.data.tables import load_table
from isthmus.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
LABELS = ["3", "0", "10", "3", "0", "10"]
COLUMNS = [f"pixel{i}" for i in range(1, 17)]


def cells() -> list[list[str]]:
    """The table of PIXELS and LABELS, header first."""
    rows = [[label, *map(str, image.ravel())] for label, image in zip(LABELS, PIXELS, strict=True)]
    return [["label", *COLUMNS], *rows]


def write(path: Path, rows: list[list[str]], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(row) + end for row in rows), newline="")
    return path


def refused(path: Path, words: str, read: Callable[..., object] = load_path) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)


# Reading


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    images = load_path(write(tmp_path / "mine.csv", cells()))
    assert images.images.dtype == np.uint8
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert [images.classes[k] for k in images.labels] == LABELS
    assert (images.classes, images.name, images.notes) == (("0", "3", "10"), "mine", ())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.csv.gz"])
def test_line_ends_and_packing_do_not_matter(tmp_path: Path, end: str, name: str) -> None:
    path = write(tmp_path / name, cells(), end)
    content = b"\xef\xbb\xbf" + path.read_bytes()  # the mark that spreadsheets write first
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert np.array_equal(load_path(path).images[:, 0], PIXELS)


@pytest.mark.parametrize("place", [0, 5, 16])
@pytest.mark.parametrize("first", [0, 1])
def test_the_label_may_stand_anywhere_and_pixels_count_from_0_or_1(tmp_path: Path, place: int, first: int) -> None:
    rows = [row[1:] for row in cells()]
    rows[0] = [f"Pixel{i + first}" for i in range(16)]
    for row, label in zip(rows, ["label", *LABELS], strict=True):
        row.insert(place, f'"{label}"')
    images = load_path(write(tmp_path / "a.csv", rows))
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert [images.classes[k] for k in images.labels] == LABELS


def test_without_a_label_the_set_is_unlabelled(tmp_path: Path) -> None:
    images = load_path(write(tmp_path / "a.csv", [row[1:] for row in cells()]), size=(8, 8))
    assert (images.labels, images.classes, images.shape) == (None, (), (1, 8, 8))


def test_labels_may_be_names_and_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    rows = cells()
    for row, label in zip(rows[1:], ["b", "a, or b", "c", "b", "a, or b", "7.0"], strict=True):
        row[:] = [f'"{label}"', *(f" {cell}.0" for cell in row[1:])]
    images = load_path(write(tmp_path / "a.csv", rows))
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert images.classes == ("7", "a, or b", "b", "c")


def test_a_shape_makes_images_that_are_not_square(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", cells())
    assert np.array_equal(load_table(path, name="a", shape=(2, 8)).images, PIXELS.reshape(6, 1, 2, 8))
    refused(path, "16 columns of pixels, which are not 3 x 5", lambda p: load_table(p, name="a", shape=(3, 5)))


def test_more_lines_than_are_parsed_at_once_keep_their_order(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (2500, 5))
    rows = [["label", "pixel0", "pixel1", "pixel2", "pixel3"], *[[str(v) for v in row] for row in values]]
    rows[2000][0] = "name"  # the second part is read another way than the first
    images = load_path(write(tmp_path / "a.csv", rows))
    assert np.array_equal(images.images.reshape(-1, 4), values[:, 1:])
    assert [images.classes[k] for k in images.labels] == [row[0] for row in rows[1:]]


# Kaggle's pairs


def pair(folder: Path, stem: str = "sign_mnist_", labels: tuple[str, ...] = ("0", "8", "10", "24")) -> Path:
    rows = cells()
    for row, label in zip(rows[1:], [*labels, "0", "8"], strict=True):
        row[0] = label
    write(folder / f"{stem}train.csv", rows[:5])
    write(folder / f"{stem}test.csv", [rows[0], *rows[5:]])
    return folder


def test_a_folder_of_two_tables_is_train_then_published_test(tmp_path: Path) -> None:
    folder = pair(tmp_path / "signs")
    images = load_path(folder)
    assert np.array_equal(images.images[:, 0], PIXELS)
    assert images.published_test == 2
    assert images.classes == ("A", "I", "K", "Y")
    assert [images.classes[k] for k in images.labels] == ["A", "I", "K", "Y", "A", "I"]
    assert (images.name, images.notes) == ("signs", ())
    assert load_path(folder / "sign_mnist_train.csv").classes == ("A", "I", "K", "Y")


def test_pictures_beside_the_tables_are_left_unread_and_other_tables_do_not_count(tmp_path: Path) -> None:
    folder = pair(tmp_path, stem="")
    (folder / "amer_sign2.png").write_bytes(b"a picture for the reader")
    write(folder / "submission_train.csv", [["id", "file"], ["1", "a.png"]])
    write(folder / "submission_test.csv", [["id", "file"], ["1", "a.png"]])
    images = load_path(folder)
    assert images.classes == ("0", "8", "10", "24")
    assert images.notes == ("Of the folder, train.csv and test.csv were read, and nothing else.",)


def test_lists_of_names_beside_photographs_do_not_hide_them(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [["file", "label"], ["a.png", "1"]])
    write(tmp_path / "test.csv", [["file", "label"], ["a.png", "1"]])
    refused(tmp_path, r"holds no images \(2 other files\)")


def test_pairs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    several = pair(pair(tmp_path / "several", "a-"), "b-")
    refused(several, "holds 2 pairs of tables .*name one file")
    other = pair(tmp_path / "other")
    write(other / "sign_mnist_test.csv", [["label", "pixel0"], ["1", "2"]])
    refused(other, "images of 4 x 4 but .*sign_mnist_test.csv of 1 x 1; both need the same size")
    bare = pair(tmp_path / "bare")
    write(bare / "sign_mnist_test.csv", [row[1:] for row in cells()])
    refused(bare, "sign_mnist_test.csv has no column label, but the other table of .* has; name one file alone")
    wrong = pair(tmp_path / "wrong", labels=("0", "8", "10", "26"))
    refused(wrong, "has the label '26'; in files named sign_mnist_. labels are 0 .A. to 25 .Z.")


def test_sign_mnist_is_found_by_name_and_else_it_is_said_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)
    with pytest.raises(DataError, match="sign-mnist cannot be read: it is not on this machine") as caught:
        load("sign-mnist")
    for words in ("https://www.kaggle.com/", "give the path of the folder", "a folder sign-mnist inside ISTHMUS_DATA"):
        assert words in str(caught.value)
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    pair(tmp_path / "sign-mnist")
    images = load("sign-mnist", size=(8, 8))
    assert (images.name, images.shape, images.published_test) == ("sign-mnist", (1, 8, 8), 2)
    (tmp_path / "sign-mnist" / "sign_mnist_test.csv").unlink()
    with pytest.raises(DataError, match=r"sign-mnist lacks sign_mnist_train.csv or sign_mnist_test.csv"):
        load("sign-mnist")


# What is refused


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "is empty; the first line needed is label,pixel1"),
        ("\n", "is empty; the first line needed is label,pixel1"),
        ("3,1,2,3,4", "has no header: its first line holds numbers"),
        ("label", "has no column of pixels"),
        ("label,name,pixel1,size", "columns that are neither label nor pixels: name, size; remove them"),
        ("label,pixel1,pixel2,pixel2", "columns of the same name: pixel2"),
        ("label,pixel1,label", "columns of the same name: label"),
        ("label,pixel1,pixel2,pixel4", "lacks columns of pixels: pixel3; add"),
        ("label,pixel2,pixel3", "lacks columns of pixels: pixel1; add"),
        ("pixel0,pixel900000000", "lacks columns of pixels: pixel1, pixel2, pixel3, pixel4, pixel5 and others"),
        ("label,pixel2,pixel1", "out of order: pixel2 stands where pixel1 is needed"),
        (
            "label,pixel1,pixel2,pixel3",
            "has 3 columns of pixels, from pixel1 to pixel3: not a square number, as 1 x 1 = 1 or 2 x 2 = 4 would be",
        ),
        ("label,pixel1", "holds a header and no images"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(header)
    refused(tmp_path / "a.csv", words)


@pytest.mark.parametrize("label", ["3", "three"])
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("300", "column pixel7: the pixel is 300; needed is 0 to 255"),
        ("256", "column pixel7: the pixel is 256"),
        ("-1", "column pixel7: the pixel is -1; needed is 0 to 255"),
        ("70000", "column pixel7: the pixel is 70000"),
        ("9" * 30, "column pixel7: the pixel is 9999"),
        ("hello", "column pixel7: the pixel is 'hello'; needed is a whole number"),
        ("0.5", "column pixel7: the pixel is '0.5'; needed is a whole number from 0 to 255"),
        ("nan", "column pixel7: the pixel is 'nan'"),
        ("inf", "column pixel7: the pixel is 'inf'"),
        ("", "column pixel7: it is empty"),
        (" ", "column pixel7: it is empty"),
        ("1,2", "18 cells where the header has 17 columns"),
    ],
)
@pytest.mark.parametrize("line", [2, 5, 1500])
def test_a_cell_that_is_no_pixel_is_named_by_line_and_column(
    tmp_path: Path, cell: str, words: str, label: str, line: int
) -> None:
    header, *rows = cells()
    rows = [list(row) for row in (rows * 334)[: max(6, line)]]
    rows[line - 2][7] = cell
    rows[0][0] = label
    refused(write(tmp_path / "a.csv", [header, *rows]), f"a.csv, line {line}[,:] {words}")


def test_rows_that_are_too_short_or_without_a_label_are_named(tmp_path: Path) -> None:
    rows = cells()
    rows[3] = rows[3][:-1]
    refused(write(tmp_path / "a.csv", rows), "line 4: 16 cells where the header has 17 columns")
    refused(write(tmp_path / "a.csv", [rows[0], *[row[:-1] for row in cells()[1:]]]), "line 2: 16 cells")
    rows = cells()
    rows[4][0] = ""
    refused(write(tmp_path / "a.csv", rows), "line 5, column label: there is no label")


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"label,pixel1\n1,\xff\xfe\n")
    refused(path, "is not a text file in UTF-8")
    path.write_bytes(b"label,pixel1\n1,\x00\n")
    refused(path, "line 2")
    path.unlink()
    path.mkdir()
    refused(path, "holds no images")
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(b"label,pixel1\n1,2\n")[:-9])
    refused(packed, "is cut short or damaged .gzip")
    packed.write_bytes(b"label,pixel1\n1,2\n")
    refused(packed, "is cut short or damaged .gzip")
