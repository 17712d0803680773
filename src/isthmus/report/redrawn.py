"""What `decode` and `reconstruct` draw, as a folder with a contact sheet to look at; see training/redraw.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isthmus.figures.sheets import Cell, contact_sheet, png
from isthmus.report.sheets import counted, results
from isthmus.training.loop import Progress
from isthmus.training.redraw import (
    DECODED,
    RECONSTRUCTED,
    Decoded,
    Reconstructed,
    decode_codes,
    reconstruct_images,
)
from isthmus.writing import write_bytes

ACROSS_CODES, ACROSS_PAIRS = 8, 4  # cells in a row


def decode_into(
    folder: Path,
    run: Path,
    codes: Path,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Decoded:
    """Decode codes and write `images/`, `table.csv` and `sheet.png`, some of them; see `decode_codes`.

    Raises: also RunExistsError if the folder is taken.
    """
    with results(folder, marker=DECODED, overwrite=overwrite) as begin:
        found = decode_codes(folder, run, codes, device=device, progress=progress, begin=begin)
        cells = [Cell(image[None], (name,)) for image, name in zip(found.examples, found.names, strict=True)]
        _write_sheet(
            folder / "sheet.png", f"{_some(len(cells), found.count, 'decoded code')} of {codes}", cells, ACROSS_CODES
        )
    return found


def reconstruct_into(
    folder: Path,
    run: Path,
    images: str | Path,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Reconstructed:
    """Reconstruct images and write what `reconstruct_images` does and `sheet.png`, some of them in pairs.

    Raises: also RunExistsError if the folder is taken.
    """
    with results(folder, marker=RECONSTRUCTED, overwrite=overwrite) as begin:
        found = reconstruct_images(folder, run, images, device=device, progress=progress, begin=begin)
        cells = [
            Cell(pair, (name, f"{found.psnr[i]:.1f} dB"))
            for pair, name, i in zip(found.examples, found.names, found.at, strict=True)
        ]
        title = f"{_some(len(cells), len(found.mse), 'image')} of {images}, each left of its reconstruction"
        _write_sheet(folder / "sheet.png", title, cells, ACROSS_PAIRS)
    return found


def _some(shown: int, count: int, noun: str) -> str:
    return f"{shown} of {counted(count, noun)}" if shown < count else counted(count, noun)


def _write_sheet(path: Path, title: str, cells: Sequence[Cell], across: int) -> None:
    sheet = contact_sheet("sheet", title, [cells[start : start + across] for start in range(0, len(cells), across)])
    write_bytes(path, png(sheet))
