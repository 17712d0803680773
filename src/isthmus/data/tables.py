"""CSV of pixels -> ImageSet: a line is an image, a column a pixel, as Kaggle publishes MNIST and its relatives.

    label,pixel1,pixel2,...,pixel784    the header; `label` may stand anywhere or be missing, pixels count from 0 or 1
    3,107,118,...,202                   whole numbers from 0 to 255, row after row from the top left

The classes are the labels that occur. In files named sign_mnist_* the labels 0 to 25 are the letters A to Z (J and Z,
which are signed by a movement, do not occur). A file may be compressed with gzip, as `.csv.gz`.
"""

import csv
import gzip
import itertools
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMED = 5  # so many columns are named in a message; the rest are counted
_CHUNK = 1024  # lines parsed at once
_LONGEST_HEADER = 2**24  # characters
_SUFFIXES = (".csv", ".csv.gz")
_PIXEL = re.compile(r"pixel(0|[1-9][0-9]{0,8})")
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}(\.0*)?")
_PART = re.compile(r"(.*?)[-_. ]?(train|test)\.csv(\.gz)?", re.IGNORECASE)


def is_table_name(path: Path) -> bool:
    """Whether a file is named as a CSV file."""
    return path.name.lower().endswith(_SUFFIXES)


def find_tables(folder: Path) -> tuple[Path, Path] | None:
    """The pair of CSVs of pixels `<name>train.csv` and `<name>test.csv` lying in a folder; None without one.

    Tables of other things, such as lists of file names beside the images of a data set, do not count.
    Raises: DataError if there are several pairs.
    """
    parts: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.[cC][sS][vV]*")):
        match = _PART.fullmatch(path.name)
        if match and not path.name.startswith(".") and path.is_file() and _is_of_pixels(path):
            parts.setdefault(match[1].lower(), {})[match[2].lower()] = path
    pairs = [(found["train"], found["test"]) for found in parts.values() if len(found) == 2]
    if len(pairs) > 1:
        raise DataError(
            f"{folder} holds {len(pairs)} pairs of tables ({', '.join(train.name for train, _ in pairs)} and others); "
            "name one file, or move one pair into a folder of its own"
        )
    return pairs[0] if pairs else None


def load_table_folder(folder: Path, tables: tuple[Path, Path], *, name: str) -> ImageSet:
    """The two tables of a folder as one set: the training images, then the published test images."""
    train, test = (load_table(path, name=name) for path in tables)
    if (train.labels is None) != (test.labels is None):
        unlabelled = tables[0] if train.labels is None else tables[1]
        raise DataError(f"{unlabelled} has no column label, but the other table of {folder} has; name one file alone")
    if train.shape != test.shape:
        raise DataError(
            f"{tables[0]} holds images of {train.shape[1]} x {train.shape[2]} but {tables[1]} of "
            f"{test.shape[1]} x {test.shape[2]}; both need the same size"
        )
    names = [part.classes[label] for part in (train, test) if part.labels is not None for label in part.labels]
    pixels = np.concatenate([train.images, test.images])
    others = sum(not path.name.startswith(".") for path in folder.iterdir()) - len(tables)
    read = f"Of the folder, {tables[0].name} and {tables[1].name} were read, and nothing else."
    notes = (read,) if others else ()
    return replace(ImageSet.from_arrays(pixels, names or None, name=name), published_test=len(test), notes=notes)


def load_table(path: Path, *, name: str, shape: tuple[int, int] | None = None) -> ImageSet:
    """Read a CSV of pixels; see the head of this file.

    Arguments: shape: (height, width) of the images; by default they are square.
    Raises: DataError naming the line and the column of the first cell that is no pixel, or what the header lacks.
    """
    with _opened(path) as file:
        columns = _header(file, path)
        height, width = _check_shape([column for column in columns if column != "label"], shape, path)
        labels: list[str] = []
        pixels = [chunk for chunk in _chunks(file, path, columns, labels) if len(chunk)]
    if not pixels:
        raise DataError(f"{path} holds a header and no images; add a line for each image")
    letters = path.name.lower().startswith("sign_mnist")
    named = [_letter(label, path) for label in labels] if letters else labels
    return ImageSet.from_arrays(np.concatenate(pixels).reshape(-1, height, width), named or None, name=name)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The text of a file, unpacked; whatever keeps it from being read becomes a DataError."""
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8 ({error.reason}); save it as CSV again") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged (gzip: {error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _is_of_pixels(path: Path) -> bool:
    """Whether the first line has columns pixel<number>."""
    try:
        with _opened(path) as file:
            return any(_PIXEL.fullmatch(column) for column in _columns(file))
    except DataError:  # unreadable: not a table we could take; whoever names the file itself is told why
        return False


def _columns(file: TextIO) -> list[str]:
    """The names in the first line, lower case."""
    line = file.readline(_LONGEST_HEADER)
    return [column.strip().strip('"').lower() for column in line.split(",")] if line.strip() else []


def _header(file: TextIO, path: Path) -> list[str]:
    """The column names, checked: label at most once, and pixels from 0 or 1 on, each once and in order."""
    columns = _columns(file)
    needed = "the first line needed is label,pixel1,pixel2,... with a column for each pixel (label may be left out)"
    if not columns:
        raise DataError(f"{path} is empty; {needed}")
    if all(_is_number(column) for column in columns):
        raise DataError(f"{path} has no header: its first line holds numbers; {needed}")
    other = [column for column in columns if column != "label" and not _PIXEL.fullmatch(column)]
    if other:
        raise DataError(f"{path} has columns that are neither label nor pixels: {_named(other)}; remove them: {needed}")
    numbers = [int(column.removeprefix("pixel")) for column in columns if column != "label"]
    if not numbers:
        raise DataError(f"{path} has no column of pixels; {needed}")
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{path} has columns of the same name: {_named(twice)}; each may occur once")
    first = 0 if 0 in numbers else 1
    if max(numbers) - first >= len(numbers):
        present = set(numbers)
        missing = (f"pixel{number}" for number in range(first, max(numbers)) if number not in present)
        some = list(itertools.islice(missing, NAMED + 1))
        raise DataError(f"{path} lacks columns of pixels: {_named(some, more='others')}; add them, or write it again")
    wrong = next((i for i, number in enumerate(numbers) if number != first + i), None)
    if wrong is not None:
        raise DataError(
            f"{path} has its columns of pixels out of order: pixel{numbers[wrong]} stands where pixel{first + wrong} "
            "is needed; put them in order"
        )
    return columns


def _check_shape(pixels: Sequence[str], shape: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    """The (height, width) of images of these columns. Raises: DataError if they do not fit, or make no square."""
    count, side = len(pixels), math.isqrt(len(pixels))
    if shape is not None:
        if min(shape) < 1 or shape[0] * shape[1] != count:
            raise DataError(f"{path} has {count} columns of pixels, which are not {shape[0]} x {shape[1]}")
        return shape
    if side * side != count:
        raise DataError(
            f"{path} has {count} columns of pixels, from {pixels[0]} to {pixels[-1]}: not a square number, as "
            f"{side} x {side} = {side**2} or {side + 1} x {side + 1} = {(side + 1) ** 2} would be; "
            "add the columns it lacks, or call isthmus.data.tables.load_table with the shape"
        )
    return side, side


def _chunks(file: TextIO, path: Path, columns: list[str], labels: list[str]) -> Iterator[NDArray[np.uint8]]:
    """The pixels of some lines after another, (N, pixels); their labels are added to `labels`."""
    place = columns.index("label") if "label" in columns else None
    line = 2
    while lines := list(itertools.islice(file, _CHUNK)):
        if (table := _numbers(lines, np.int16)) is not None and table.shape[1] == len(columns):
            pixels = table if place is None else np.delete(table, place, axis=1)
            names = [] if place is None else [str(label) for label in table[:, place]]
        else:
            pixels, names = _slowly(lines, line, path, columns, place)
        if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
            _explain(lines, line, path, columns)
        labels += names
        yield pixels.astype(np.uint8)
        line += len(lines)


def _numbers(lines: Sequence[str], dtype: type[np.int16 | np.float64]) -> NDArray[np.int16 | np.float64] | None:
    """Lines of numbers as a table; None if there is anything else in them, or they differ in length."""
    filled = [line for line in lines if not line.isspace()]
    if not filled:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of integers read by way of floats, losing their fractions
        try:
            return np.loadtxt(filled, dtype, comments=None, delimiter=",", quotechar='"', ndmin=2)
        except (ValueError, OverflowError, DeprecationWarning):
            return None


def _slowly(
    lines: list[str], start: int, path: Path, columns: list[str], place: int | None
) -> tuple[NDArray[np.int16 | np.float64], list[str]]:
    """The same for labels that are names, and whole numbers written with a point.

    Raises: DataError naming the first line and column that is wrong.
    """
    rows = [row for _, row in _rows(lines, start, path, columns)]
    names = [] if place is None else [_label(row.pop(place)) for row in rows]
    if not rows:
        return np.empty((0, len(columns)), np.int16), names
    joined = [",".join(row) for row in rows]
    table = _numbers(joined, np.int16)
    table = _numbers(joined, np.float64) if table is None else table
    if table is None or "" in names or not (np.isfinite(table).all() and (table == np.rint(table)).all()):
        _explain(lines, start, path, columns)
    return table, names


def _rows(lines: list[str], start: int, path: Path, columns: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, with its number. Raises: DataError for one of another length."""
    reader = csv.reader(lines)
    try:
        for row in reader:
            line = start + reader.line_num - 1
            if len(row) < 2 and not "".join(row).strip():
                continue
            if len(row) != len(columns):
                raise DataError(f"{path}, line {line}: {len(row)} cells where the header has {len(columns)} columns")
            yield line, row
    except csv.Error as error:
        raise DataError(f"{path}, line {start + reader.line_num - 1}: cannot be read as CSV ({error})") from error


def _explain(lines: list[str], start: int, path: Path, columns: list[str]) -> NoReturn:
    """Raise DataError naming the first cell that is no pixel."""
    for line, row in _rows(lines, start, path, columns):
        for column, cell in zip(columns, row, strict=True):
            text = cell.strip()
            if column == "label":
                problem = "" if text else "there is no label; give each image one"
            elif _WHOLE.fullmatch(text):
                problem = "" if 0 <= int(text.partition(".")[0]) <= 255 else f"the pixel is {text}; needed is 0 to 255"
            else:
                problem = f"the pixel is {text!r}; needed is a whole number from 0 to 255" if text else "it is empty"
            if problem:
                raise DataError(f"{path}, line {line}, column {column}: {problem}")
    raise DataError(f"{path}, lines {start} to {start + len(lines) - 1}: these are not whole numbers from 0 to 255")


def _label(cell: str) -> str:
    """A class name; whole numbers are written the same everywhere."""
    text = cell.strip()
    return str(int(text.partition(".")[0])) if _WHOLE.fullmatch(text) else text


def _letter(label: str, path: Path) -> str:
    if not (label.isdecimal() and int(label) < len(LETTERS)):
        raise DataError(f"{path} has the label {label!r}; in files named sign_mnist_* labels are 0 (A) to 25 (Z)")
    return LETTERS[int(label)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(columns: Sequence[str], more: str | None = None) -> str:
    """The first few columns, and how many more there are (or `more`, uncounted)."""
    rest = len(columns) - NAMED
    return ", ".join(columns[:NAMED]) + (f" and {more or rest}{'' if more else ' more'}" if rest > 0 else "")
