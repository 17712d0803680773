"""What `search`, `outliers` and `interpolate` find, as a folder: a contact sheet to look at, and a table or codes.

Each folder also holds a small JSON file that says what was done; by it a folder of ours is known.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from isthmus.errors import InputError
from isthmus.figures.sheets import Cell, contact_sheet, png
from isthmus.figures.style import Panel
from isthmus.latent.interpolation import Interpolation, interpolate
from isthmus.latent.outliers import Strangeness, find_outliers
from isthmus.latent.search import Found, images_by_name, pictures, search
from isthmus.runs import claim
from isthmus.training.codes import write_codes
from isthmus.training.loop import Progress
from isthmus.training.predict import Classified, classify_images
from isthmus.writing import LOCK, write_bytes, write_json

QUERIES, RANKS = 24, 12  # on a sheet, at most
ACROSS = 6  # strange images in a row
UNSURE, ACROSS_UNSURE = 40, 8  # images on the sheet of a classifier, and in a row
ROUNDING = 1e-5  # of the largest distance: nearer is the same image, encoded in another batch


@contextlib.contextmanager
def results(folder: Path, *, marker: str, overwrite: bool) -> Iterator[Callable[[], None]]:
    """Claim a folder before any work; what is yielded is to be called before the first file is written.

    Only then is a folder that may be overwritten emptied: work that fails before leaves it as it was, and one that was
    not there is gone again.
    Raises: RunExistsError, InputError: see `claim`.
    """
    new = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        with claim(folder, marker=marker, resume=overwrite or None, overwrite=False):
            yield lambda: _empty(folder)
    except BaseException:
        if new and os.path.isdir(folder) and os.listdir(folder) == [LOCK]:
            (folder / LOCK).unlink()
        for place in new:
            if os.path.isdir(place) and not os.listdir(place):
                place.rmdir()
        raise


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()
        except OSError as error:
            raise InputError(f"Cannot remove {entry}: {error.strerror or error}. Choose another --out.") from error


def classify_into(
    folder: Path,
    run: Path,
    source: str,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Classified:
    """Classify images and write `table.csv` of all and `sheet.png` of the least sure; see `classify_images`."""
    with results(folder, marker="classify.json", overwrite=overwrite) as begin:
        found = classify_images(run, source, device=device, progress=progress)
        sheet = _classified_sheet(found, source)
        begin()
        write_json(folder / "classify.json", {"run": str(run), "images": source})
        columns = ("path", "known", "class", "probability", *(f"p_{name}" for name in found.classes))
        _write_table(folder / "table.csv", columns, _classified_rows(found))
        _write_sheet(folder / "sheet.png", sheet)
    return found


def search_into(
    folder: Path,
    run: Path,
    query: str,
    data: str | None = None,
    *,
    count: int = 10,
    resize: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Found:
    """Find the images nearest to each of QUERY and write `sheet.png` and `table.csv`; see `isthmus.latent.search`.

    The sheet shows 24 queries at most, and 12 images for each; the table has all.
    """
    with results(folder, marker="search.json", overwrite=overwrite) as begin:
        found = search(run, query, data, count=count, resize=resize, device=device, progress=progress)
        sheet = _search_sheet(found)
        begin()
        searched = {"source": found.source or data, "images": len(found.among)}
        write_json(folder / "search.json", {"run": str(found.run.folder), "query": query, "count": count, **searched})
        _write_table(folder / "table.csv", ("query", "rank", "path", "class", "distance"), _search_rows(found))
        _write_sheet(folder / "sheet.png", sheet)
    return found


def outliers_into(
    folder: Path,
    run: Path,
    source: str,
    *,
    by_density: bool | None = None,
    density: str | None = None,
    outlier_class: str | None = None,
    shown: int = 30,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Strangeness:
    """Score images and write `sheet.png` of the strangest and `table.csv` of all; see `isthmus.latent.outliers`."""
    with results(folder, marker="outliers.json", overwrite=overwrite) as begin:
        found = find_outliers(
            run,
            source,
            by_density=by_density,
            density=density,
            outlier_class=outlier_class,
            shown=shown,
            device=device,
            progress=progress,
        )
        sheet = _outlier_sheet(found, source)
        begin()
        facts = {"images": source, "by": found.density or "error", "outlier_class": outlier_class}
        write_json(folder / "outliers.json", {"run": str(found.run.folder), **facts, "auroc": found.auroc})
        measured = {"error": found.errors, "surprise": found.surprise}
        columns = ("rank", "path", "class", *(name for name, values in measured.items() if values is not None))
        _write_table(folder / "table.csv", columns, _outlier_rows(found))
        _write_sheet(folder / "sheet.png", sheet)
    return found


def interpolate_into(
    folder: Path, run: Path, first: str, second: str, *, steps: int = 9, overwrite: bool = False, device: str = "cpu"
) -> Interpolation:
    """Go from one image to another; write `strip.png`, and the codes as `codes.npz` and as `table.csv`.

    See `isthmus.latent.interpolation`.
    """
    with results(folder, marker="interpolate.json", overwrite=overwrite) as begin:
        found = interpolate(run, first, second, steps=steps, device=device)
        begin()
        facts = {"run": str(found.run.folder), "from": first, "to": second, "steps": steps}
        write_json(folder / "interpolate.json", facts)
        write_codes(folder / "codes.npz", found.codes_file())
        size = found.codes["straight"].shape[1]
        _write_table(folder / "table.csv", ("way", "t", *(f"code_{i}" for i in range(size))), _way_rows(found))
        _write_sheet(folder / "strip.png", _strip(found))
    return found


def _search_sheet(found: Found) -> Panel:
    shown = range(min(len(found.queries), QUERIES))
    asked, drawn = pictures(found, shown, RANKS)
    rows = []
    for i in shown:
        row = [Cell(asked[i : i + 1], (found.queries.names()[i], found.queries.label(i) or ""))]
        for rank, place in enumerate(found.nearest.index[i, : drawn.shape[1]]):
            below = _below(found.among.label(place), _distance(found, i, rank))
            row.append(Cell(drawn[i, rank : rank + 1], (found.among.names()[place], below)))
        rows.append(row)
    more = f", the first {len(rows)} of {len(found.queries):,}" if len(rows) < len(found.queries) else ""
    drawn_from = {"what is asked": found.query_source, "what is found": found.source}
    decoded = " and ".join(name for name, source in drawn_from.items() if source is None)
    below = f"{_words(found.among.label(0))}distance{more}{f'; {decoded} is decoded from its code' if decoded else ''}"
    title = f"Nearest in the code of {counted(len(found.among), 'image')}; below: {below}"
    heads = ("asked", *map(str, range(1, drawn.shape[1] + 1)))
    return contact_sheet("search", title, rows, heads=heads, apart=1)


def _distance(found: Found, i: int, rank: int) -> float:
    distance, furthest = (float(found.nearest.distances[i, at]) for at in (rank, -1))
    return 0.0 if distance < ROUNDING * furthest else distance


def _search_rows(found: Found) -> Iterator[tuple[object, ...]]:
    for i, name in enumerate(found.queries.names()):
        for rank, place in enumerate(found.nearest.index[i]):
            distance = f"{found.nearest.distances[i, rank]:.6g}"
            yield name, rank + 1, found.among.names()[place], found.among.label(place) or "", distance


def _outlier_sheet(found: Strangeness, source: str) -> Panel:
    cells = []
    for drawn, i in zip(found.pictures, found.order, strict=False):
        cells.append(Cell(drawn, (found.names[i], _below(found.labels[i], found.scores[i]))))
    rows = [cells[start : start + ACROSS] for start in range(0, len(cells), ACROSS)]
    kind = "image" if found.errors is not None else "code"
    beside = ", each beside its reconstruction" if found.errors is not None else ", decoded"
    which = "error per pixel" if found.surprise is None else f"-log p under the {found.density} in nats"
    below = f"{_words(found.labels[found.order[0]])}{which}"
    title = f"The strangest {len(cells)} of {counted(len(found.names), kind)} of {source}{beside}; below: {below}"
    return contact_sheet("outliers", title, rows)


def _outlier_rows(found: Strangeness) -> Iterator[tuple[object, ...]]:
    for rank, i in enumerate(found.order):
        numbers = [f"{values[i]:.6g}" for values in (found.errors, found.surprise) if values is not None]
        yield rank + 1, found.names[i], found.labels[i] or "", *numbers


def _way_rows(found: Interpolation) -> Iterator[tuple[object, ...]]:
    for way, codes in found.codes.items():
        for share, code in zip(found.shares, codes, strict=True):
            yield way, f"{share:.3f}", *(f"{value:.9g}" for value in code)


def _classified_sheet(found: Classified, source: str) -> Panel:
    """The images whose most probable class is least so."""
    sure = found.probabilities.max(1)
    unsure = np.argsort(sure, kind="stable")[:UNSURE]
    drawn = images_by_name(source, found.stream.shape, [found.names[i] for i in unsure])
    cells = [
        Cell(picture[None], (found.names[i], f"{found.predicted[i]} · {sure[i]:.3f}"))
        for picture, i in zip(drawn, unsure, strict=True)
    ]
    rows = [cells[start : start + ACROSS_UNSURE] for start in range(0, len(cells), ACROSS_UNSURE)]
    which = "" if len(cells) == len(sure) else f"The least sure {len(cells)} of "
    title = f"{which}{counted(len(sure), 'image')} of {source}; below: class and its probability"
    return contact_sheet("classified", title, rows)


def _classified_rows(found: Classified) -> Iterator[tuple[object, ...]]:
    for name, known, predicted, row in zip(
        found.names, found.labels, found.predicted, found.probabilities, strict=True
    ):
        yield name, known or "", predicted, f"{row.max():.6g}", *(f"{value:.6g}" for value in row)


def _strip(found: Interpolation) -> Panel:
    ends = [Cell(found.ends[i : i + 1]) for i in range(2)]
    rows = [[ends[0], *(Cell(picture[None]) for picture in drawn), ends[1]] for drawn in found.pictures.values()]
    heads = ("from", *(f"{share:.3g}" for share in found.shares), "to")
    title = f"From {found.names[0]} to {found.names[1]}: decoded codes on the way"
    return contact_sheet("interpolate", title, rows, labels=tuple(found.pictures), heads=heads)


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "image"), counted(2000, "code")
    ('1 image', '2,000 codes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _below(label: str | None, value: float) -> str:
    """The class, where it is known, and a number of three digits."""
    number = f"{value:#.3g}".rstrip(".") if value else "0"
    return number if label is None else f"{label} · {number}"


def _words(label: str | None) -> str:
    return "" if label is None else "class and "


def _write_sheet(path: Path, sheet: Panel) -> None:
    write_bytes(path, png(sheet))


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode(errors="backslashreplace"))  # names of files need not be UTF-8
