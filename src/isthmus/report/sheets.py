"""What `search`, `outliers` and `interpolate` find, as a folder: a contact sheet to look at, and a table or codes.

Each folder also holds a small JSON file that says what was done; by it a folder of ours is known.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from isthmus.figures.sheets import Cell, contact_sheet, png
from isthmus.figures.style import Panel
from isthmus.latent.interpolation import Interpolation, interpolate
from isthmus.latent.outliers import Strangeness, find_outliers
from isthmus.latent.search import Found, pictures, search
from isthmus.runs import claim
from isthmus.training.codes import write_codes
from isthmus.training.loop import Progress
from isthmus.writing import write_bytes, write_json

QUERIES, RANKS = 24, 12  # on a sheet, at most
ACROSS = 6  # strange images in a row


@contextlib.contextmanager
def results(folder: Path, *, marker: str, overwrite: bool) -> Iterator[None]:
    """Claim a folder before any work; if the work fails, one that was not there is gone again.

    Raises: RunExistsError, InputError: see `claim`.
    """
    new = not folder.exists()
    try:
        with claim(folder, marker=marker, resume=None, overwrite=overwrite):
            yield
    except BaseException:
        if new and folder.is_dir() and [entry.name for entry in folder.iterdir()] in ([], [".lock"]):
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()
        raise


def search_into(
    folder: Path,
    run: Path,
    query: str,
    data: str | None = None,
    *,
    count: int = 10,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Found:
    """Find the images nearest to each of QUERY and write `sheet.png` and `table.csv`; see `isthmus.latent.search`.

    The sheet shows 24 queries at most, and 12 images for each; the table has all.
    """
    with results(folder, marker="search.json", overwrite=overwrite):
        found = search(run, query, data, count=count, device=device, progress=progress)
        sheet = _search_sheet(found)
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
    by_density: bool = False,
    density: str | None = None,
    outlier_class: str | None = None,
    shown: int = 30,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Strangeness:
    """Score images and write `sheet.png` of the strangest and `table.csv` of all; see `isthmus.latent.outliers`."""
    with results(folder, marker="outliers.json", overwrite=overwrite):
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
        facts = {"run": str(run), "images": source, "by": found.density or "error", "outlier_class": outlier_class}
        write_json(folder / "outliers.json", {**facts, "auroc": found.auroc})
        measured = {"error": found.errors, "surprise": found.surprise}
        columns = ("rank", "path", "class", *(name for name, values in measured.items() if values is not None))
        _write_table(folder / "table.csv", columns, _outlier_rows(found))
        _write_sheet(folder / "sheet.png", _outlier_sheet(found, source))
    return found


def interpolate_into(
    folder: Path, run: Path, first: str, second: str, *, steps: int = 9, overwrite: bool = False, device: str = "cpu"
) -> Interpolation:
    """Go from one image to another and write `strip.png` and `codes.npz`; see `isthmus.latent.interpolation`."""
    with results(folder, marker="interpolate.json", overwrite=overwrite):
        found = interpolate(run, first, second, steps=steps, device=device)
        write_json(folder / "interpolate.json", {"run": str(run), "from": first, "to": second, "steps": steps})
        write_codes(folder / "codes.npz", found.codes_file())
        _write_sheet(folder / "strip.png", _strip(found))
    return found


def _search_sheet(found: Found) -> Panel:
    shown = range(min(len(found.queries), QUERIES))
    asked, drawn = pictures(found, shown, RANKS)
    rows = []
    for i in shown:
        row = [Cell(asked[i : i + 1], (found.queries.names()[i], found.queries.label(i) or ""))]
        for rank, place in enumerate(found.nearest.index[i, : drawn.shape[1]]):
            below = _below(found.among.label(place), found.nearest.distances[i, rank])
            row.append(Cell(drawn[i, rank : rank + 1], (found.among.names()[place], below)))
        rows.append(row)
    more = f", the first {len(rows)} of {len(found.queries):,}" if len(rows) < len(found.queries) else ""
    decoded = ", decoded from their codes" if found.source is None else ""
    below = f"{_words(found.among.label(0))}distance"
    title = f"Nearest in the code of {len(found.among):,} images{decoded}; below: {below}{more}"
    heads = ("asked", *map(str, range(1, drawn.shape[1] + 1)))
    return contact_sheet("search", title, rows, heads=heads, apart=1)


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
    kind = "images" if found.errors is not None else "codes"
    beside = ", each beside its reconstruction" if found.errors is not None else ", decoded"
    which = "error per pixel" if found.surprise is None else f"-log p under the {found.density} in nats"
    below = f"{_words(found.labels[found.order[0]])}{which}"
    title = f"The strangest {len(cells)} of {len(found.names):,} {kind} of {source}{beside}; below: {below}"
    return contact_sheet("outliers", title, rows)


def _outlier_rows(found: Strangeness) -> Iterator[tuple[object, ...]]:
    for rank, i in enumerate(found.order):
        numbers = [f"{values[i]:.6g}" for values in (found.errors, found.surprise) if values is not None]
        yield rank + 1, found.names[i], found.labels[i] or "", *numbers


def _strip(found: Interpolation) -> Panel:
    ends = [Cell(found.ends[i : i + 1]) for i in range(2)]
    rows = [[ends[0], *(Cell(picture[None]) for picture in drawn), ends[1]] for drawn in found.pictures.values()]
    heads = ("from", *(f"{share:.3g}" for share in found.shares), "to")
    title = f"From {found.names[0]} to {found.names[1]}: decoded codes on the way"
    return contact_sheet("interpolate", title, rows, labels=tuple(found.pictures), heads=heads)


def _below(label: str | None, value: float) -> str:
    """The class, where it is known, and a number of three digits."""
    number = f"{value:#.3g}".rstrip(".")
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
