"""What the tests of the explorer share: a page to stand in for the built one, small runs, and reading what was made."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.explorer import page
from isthmus.explorer.page import INDEX
from isthmus.explorer.policy import folder_policy
from isthmus.export import PACKAGES
from isthmus.studies.single import train_one

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"the extra onnx is not installed ({', '.join(MISSING)})")
BUILT = page.STATIC  # whatever a test puts in its place
SCRIPT = 'document.title = "started </script> <!-- and went on";\n'
STYLE = "body { margin: 0 } /* </style> */\n"


def stand_in(folder: Path) -> Path:
    """A page of three files, linked as the build of the real one links them."""
    (folder / "assets").mkdir(parents=True)
    (folder / INDEX).write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{folder_policy()}" />\n<title>Page</title>\n'
        f'<link rel="icon" href="data:," />\n<script type="module" crossorigin src="./assets/explorer.js"></script>\n'
        f'<link rel="stylesheet" crossorigin href="./assets/explorer.css">\n</head>\n<body>\n<main></main>\n</body>\n'
        f"</html>\n"
    )
    (folder / "assets/explorer.js").write_text(SCRIPT)
    (folder / "assets/explorer.css").write_text(STYLE)
    (folder / "assets/run.wasm").write_bytes(bytes(range(256)))
    (folder / "data").mkdir()
    (folder / "data/manifest.json").write_text("left by someone who tried the page")
    return folder


def real_page() -> None:
    """Skip where the page is not built, or fail where a browser, and so the page, is required."""
    if (BUILT / INDEX).is_file():
        return
    reason = "the explorer's page is not built (make explorer)"
    if os.environ.get("ISTHMUS_REQUIRE_BROWSER"):
        pytest.fail(f"ISTHMUS_REQUIRE_BROWSER is set and {reason}")
    pytest.skip(reason)


def pictures(path: Path, shape: tuple[int, int, int], *, count: int = 90, labels: bool = True) -> str:
    """Images in three kinds as an .npz file; returns its path."""
    generator = np.random.default_rng(0)
    kinds = np.arange(count) % 3
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    waves = np.sin(rows * (1 + kinds[:, None, None]) / 3) + np.cos(columns * (2 - kinds[:, None, None]) / 4)
    smooth = 0.5 + 0.2 * waves[:, None] + 0.1 * generator.random((count, channels, 1, 1))
    images = (255 * smooth + generator.integers(0, 20, (count, *shape))).clip(0, 255).astype(np.uint8)
    arrays: dict[str, Any] = {"images": images}
    if labels:
        arrays["labels"] = np.array(["rose", "<b>", "ü"])[kinds]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return str(path)


def trained(network: str, data: str, folder: Path, *changes: str) -> Path:
    """A run of one epoch."""
    train_one(network, data, folder, changes=["training.epochs=1", *changes])
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    """What the page reads first."""
    return dict(json.loads((folder / "data/manifest.json").read_text()))


def array_of(folder: Path, name: str, kind: str, columns: int | None = None) -> np.ndarray[Any, Any]:
    """An array of data/, with so many columns."""
    flat = np.frombuffer((folder / "data" / name).read_bytes(), kind)
    return flat if columns is None else flat.reshape(-1, columns)


def cells_of(folder: Path) -> np.ndarray[Any, Any]:
    """The thumbnails cut out of their sheets as the page cuts them: (N, C, H, W)."""
    manifest = manifest_of(folder)
    channels, height, width = manifest["image_shape"]
    columns, per_sheet = manifest["sprites"]["columns"], manifest["sprites"]["per_sheet"]
    sheets = []
    for number in range(manifest["sprites"]["sheets"]):
        with Image.open(folder / f"data/sprites-{number:03d}.png") as image:
            sheets.append(np.asarray(image).reshape(image.height, image.width, channels))
    cells = []
    for i in range(manifest["count"]):
        row, column = divmod(i % per_sheet, columns)
        sheet = sheets[i // per_sheet]
        cell = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        cells.append(cell.transpose(2, 0, 1))
    return np.stack(cells)
