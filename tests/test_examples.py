"""The notebooks of examples/ run as scripts and cell by cell, and what they leave in a cell shows itself."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
EACH = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)

# What a notebook does: cells in order in one namespace, without __file__; what ends a cell shows itself.
NOTEBOOK = """
import ast, pathlib, sys, warnings
warnings.simplefilter("error")
text = pathlib.Path(sys.argv[1]).read_text()
sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json", "--fast"]
space = {"__name__": "__main__"}
shown = 0
for cell in text.split("\\n# %%"):
    kind, _, text = cell.partition("\\n")
    if "[markdown]" in kind:
        continue
    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)
        if hasattr(value, "_repr_html_"):
            fragment = value._repr_html_()
            assert 1000 < len(fragment) < 400_000 and "isthmus-card" in fragment and "<script" not in fragment
            shown += 1
assert shown >= 2, shown
print("shown:", shown)
"""


def cells(script: Path) -> list[tuple[str, str]]:
    """(rest of the mark, text) of each cell; what stands before the first mark is the file's head."""
    found = re.split(r"(?m)^# %%(.*)\n", script.read_text())
    return list(zip(found[1::2], found[2::2], strict=True))


def environment() -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    return {**os.environ, **threads, "MPLBACKEND": "agg", "ISTHMUS_OFFLINE": "1"}


def test_there_are_two() -> None:
    assert [script.stem for script in SCRIPTS] == ["digits", "hand_signs"]


@EACH
def test_every_cell_parses(script: Path) -> None:
    marks = cells(script)
    assert len(marks) > 15
    for rest, text in marks:
        assert rest in ("", " [markdown]")
        if rest:
            lines = text.strip().split("\n")
            assert all(line == "#" or line.startswith("# ") for line in lines)
        else:
            assert ast.parse(text).body
            assert "__file__" not in text
    kinds = [rest for rest, _ in marks]
    assert kinds[0] == " [markdown]"
    assert ast.parse(script.read_text())


@EACH
def test_words_hold_no_figures(script: Path) -> None:
    """What is said of results is computed: no cell of words has a share, a decimal or a running time in it."""
    for rest, text in cells(script):
        if rest:
            assert not re.search(r"\d\s?%|\d\.\d(?!\d{3})|\b(second|minute|hour)s?\b", text), text


def test_digits_upside_down_are_turned_by_half() -> None:
    (line,) = re.findall(r"(?m)^odd = .*$", (FOLDER / "digits.py").read_text())
    pictures = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    space = {"np": np, "test": pictures}
    exec(line, space)
    np.testing.assert_array_equal(space["odd"][:20], np.rot90(pictures[:20], 2, axes=(1, 2)))


@pytest.mark.slow
@EACH
def test_it_runs_as_a_script(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--fast"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same to the last bit" in done.stdout
    assert "Warning" not in done.stderr
    assert not list(tmp_path.iterdir()), "a script leaves nothing behind"


@pytest.mark.slow
@EACH
def test_it_runs_as_a_notebook(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
