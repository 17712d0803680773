"""README: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.data.imageset import ImageSet

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
INNER = "list|info|show|compare|rm"
COMMANDS = sorted(
    set(re.findall(rf"^    isthmus (\w+(?: (?:{INNER})(?= ))?)", TEXT, re.M)) | set(re.findall(r"`isthmus (\w+)", TEXT))
)


def test_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: ImageSet) -> None:
    """With "photos" a folder of photographs, as the reader has one."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(digits.images[:40, 0]):
        Image.fromarray(image).save(tmp_path / f"photos/{i}.png")
    monkeypatch.chdir(tmp_path)
    lines = TEXT.partition("## Python")[2].partition("\n## ")[0].splitlines()
    block = "\n".join(line[4:] for line in lines if line.startswith("    "))
    names: dict[str, object] = {}
    exec(block.replace("epochs=10", "epochs=1"), names)
    assert names["codes"].shape == (40, 16)  # type: ignore[attr-defined]
    assert len(names["history"].epochs) == 1  # type: ignore[attr-defined]
    assert names["found"].images.shape == names["noisy"].shape  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_flags_exist(command: str) -> None:
    help_text = CliRunner().invoke(app, [*command.split(), "--help"]).stdout
    assert "Usage:" in help_text
    for line in re.findall(rf"^    isthmus {command} (.*?)(?: +#.*)?$", TEXT, re.M):
        for flag in re.findall(r"--[a-z-]+", line):
            assert flag in help_text


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_map_names_every_folder_and_file_of_the_package() -> None:
    plan = TEXT.partition("## The map")[2]
    package = ROOT / "src/isthmus"
    for path in package.iterdir():
        if path.name.startswith("_") or path.name == "py.typed":
            continue
        assert (f"{path.name}/" if path.is_dir() else path.name) in plan, path.name
