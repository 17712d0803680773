"""Running a page: every block of it in order, in one folder, as a reader would.

`sh` blocks go to bash, `python` blocks share one namespace, and a `toml` block with a title is written to that file. A
`text` block below one of these shows what it prints: numbers with a decimal point are compared to TOLERANCE, all else
exactly, `...` stands for anything, and a line of it alone for any number of lines.

    python tests/tutorial.py      runs the tutorial and keeps its pictures in docs/pictures
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pages import Block, blocks

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs/tutorial.md"
TOLERANCE = 0.25  # of a number, which depends on the machine
BLUR, DIFFERENT = 16, 0.2  # of pictures: pixels over which they are compared, and by how much they may differ
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
PICTURE = re.compile(r"!\[[^\]]+\]\((pictures/([\w-]+?)-(\w+)\.png)\)")


class BlockError(AssertionError):
    """A block that failed, or prints something else than the page shows."""


def run(text: str, folder: Path) -> None:
    """Run the blocks of a page in a folder, which is the current one while they run. Raises: BlockError."""
    space: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    with contextlib.chdir(folder):
        for block in blocks(text):
            if block.language == "text":
                compare(block, printed)
            elif block.language == "sh":
                printed = _shell(block)
            elif block.language == "python":
                printed = _python(block, space)
            elif block.language == "toml" and block.title:
                Path(block.title).write_text(block.body, encoding="utf-8")
            else:
                raise BlockError(
                    f"line {block.line}: nobody knows how to run {block.language or 'this'}:\n{block.body}"
                )


def compare(block: Block, printed: str) -> None:
    """Hold what is shown against what was printed. Raises: BlockError."""
    shown, found = block.body.strip().splitlines(), printed.strip().splitlines()
    pattern = "\n".join(r"(?:.*(?:\n|$))*?" if line == "..." else _pattern(line) + r"\s*" for line in shown)
    pattern = pattern.replace("*?\n", "*?")  # a line of dots takes the end of its last line with it
    match = re.fullmatch(pattern, "\n".join(found))
    if match is None:
        raise BlockError(f"line {block.line}: the page shows\n{block.body}\nand what was printed is\n{printed}")
    wanted = [float(n) for line in shown for n in NUMBER.findall(line)]
    for expected, given in zip(wanted, (float(group) for group in match.groups()), strict=True):
        if abs(given - expected) > TOLERANCE * abs(expected):
            raise BlockError(f"line {block.line}: the page shows {expected:g} where {given:g} was printed:\n{printed}")


def compare_pictures(text: str, folder: Path, docs: Path) -> int:
    """Hold the pictures of a page against those that were drawn; returns how many. Raises: BlockError.

    pictures/drawn-samples.png is what a block wrote to drawn/samples.png.
    """
    found = PICTURE.findall(text)
    for place, run_folder, name in found:
        shown, drawn = (_coarse(path) for path in (docs / place, folder / run_folder / f"{name}.png"))
        if shown.shape != drawn.shape or np.abs(shown - drawn).mean() > DIFFERENT:
            raise BlockError(f"{place} is not what {run_folder}/{name}.png looks like; run python tests/tutorial.py.")
    return len(found)


def _pattern(line: str) -> str:
    """A line as a regular expression: its numbers are groups, dots stand for anything, spaces for any spaces."""
    parts = []
    for piece in re.split(rf"({NUMBER.pattern}|\.\.\.|\s+)", line):
        if NUMBER.fullmatch(piece):
            parts.append(rf"({NUMBER.pattern}|-?\d+)")
        else:
            parts.append(".*" if piece == "..." else r"\s+" if piece.isspace() else re.escape(piece))
    return "".join(parts)


def _shell(block: Block) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "200", "ISTHMUS_OFFLINE": "1"}
    command = ["bash", "-euo", "pipefail", "-c", block.body]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise BlockError(f"line {block.line}: exit code {done.returncode}\n{block.body}\n{done.stdout}{done.stderr}")
    return done.stdout


def _python(block: Block, space: dict[str, object]) -> str:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.body, "the page", "exec"), space)
    except Exception as error:
        raise BlockError(f"line {block.line}: {type(error).__name__}: {error}\n{block.body}") from error
    return printed.getvalue()


def _coarse(path: Path) -> np.ndarray:
    """Means over blocks of BLUR pixels, in [0, 1]."""
    with Image.open(path) as image:
        grey = image.convert("L")
        small = grey.resize((max(1, grey.width // BLUR), max(1, grey.height // BLUR)), Image.Resampling.BOX)
    return np.asarray(small, np.float64) / 255


def main() -> None:
    """Run the tutorial and keep its pictures."""
    text = TUTORIAL.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        run(text, Path(folder))
        for place, run_folder, name in PICTURE.findall(text):
            with Image.open(Path(folder, run_folder, f"{name}.png")) as image:
                small = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
            small.save(TUTORIAL.parent / place, optimize=True)
            print(place)


if __name__ == "__main__":
    main()
