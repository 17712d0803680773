"""Where an explorer is put: a file that holds all of a folder, a folder that is replaced whole, a link in a report."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from explorer_runs import SCRIPT, STYLE, stand_in
from isthmus.errors import InputError, RunExistsError, StorageError
from isthmus.explorer.links import PLACE, link, report_of
from isthmus.explorer.policy import folder_policy
from isthmus.explorer.single import PageError, single_file
from isthmus.explorer.target import check_file, check_folder, replacing
from isthmus.report.page import Page, render
from isthmus.runs import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page with some files of a run beside it."""
    folder = stand_in(tmp_path / "explorer")
    (folder / "data/manifest.json").write_text('{"title": "</script>"}')
    (folder / "data/codes.bin").write_bytes(os.urandom(1000))
    return folder


class Parsed(HTMLParser):
    """Scripts, style sheets, metas and links of a page, as a browser's parser ends them."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.metas: list[dict[str, str | None]] = []
        self.links: list[dict[str, str | None]] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        found = dict(attributes)
        if tag == "script":
            self.scripts.append((found, ""))
        elif tag == "style":
            self.styles.append("")
        elif tag in ("meta", "link"):
            (self.metas if tag == "meta" else self.links).append(found)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.inside == "style":
            self.styles[-1] += data


# One file.


def test_a_single_file_holds_every_file_of_the_folder(folder: Path) -> None:
    parsed = Parsed(single_file(folder).decode())
    blocks = {facts["id"]: text for facts, text in parsed.scripts if "id" in facts}
    expected = {"assets/run.wasm", "data/codes.bin", "data/manifest.json"}
    assert set(blocks) == {f"file:{name}" for name in expected}
    for name in expected:
        assert base64.b64decode(blocks[f"file:{name}"], validate=True) == (folder / name).read_bytes()
    assert all(facts["type"] in ("module", "application/octet-stream+base64") for facts, _ in parsed.scripts)
    assert not any("src" in facts for facts, _ in parsed.scripts)
    assert [facts["href"] for facts in parsed.links] == ["data:,"]


def test_scripts_and_styles_stand_in_it_whole_and_their_hashes_allow_them(folder: Path) -> None:
    parsed = Parsed(single_file(folder).decode())
    (script,) = [text for facts, text in parsed.scripts if facts["type"] == "module"]
    (style,) = parsed.styles
    assert script.replace("\\", "") == SCRIPT  # "<\/script>" is "</script>" to JavaScript
    assert style.replace("\\", "") == STYLE
    (policy,) = [meta["content"] for meta in parsed.metas if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    digests = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("script", script), ("style", style))
    }
    assert rules["script-src"] == f"'sha256-{digests['script']}' 'wasm-unsafe-eval'"
    assert rules["style-src"] == f"'sha256-{digests['style']}'"
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'none'")
    assert "'self'" not in str(policy)


@pytest.mark.parametrize("damage", ['src="./assets/explorer.js"', "Content-Security-Policy", "</body>"])
def test_a_page_of_another_make_is_refused(folder: Path, damage: str) -> None:
    index = (folder / "index.html").read_text()
    (folder / "index.html").write_text(index.replace(damage, ""))
    with pytest.raises(PageError, match="is not one that `make explorer` built: run it again"):
        single_file(folder)


def test_the_folder_policy_is_that_of_the_page() -> None:
    sources = Path(__file__).parent.parent / "explorer/index.html"
    found = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', sources.read_text())
    assert found is not None
    assert found[1] == folder_policy()
    assert "script-src 'self' 'wasm-unsafe-eval';" in folder_policy()


# A folder.


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "new/out"
    with replacing(place, overwrite=False) as made:
        stand_in(made / "inner")
        assert not place.exists()
        assert made.parent.parent == place.parent
    assert (place / "inner/index.html").is_file()
    assert os.listdir(place.parent) == ["out"]
    assert os.stat(place).st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_explorer_is_replaced_only_when_told_and_only_in_the_end(folder: Path) -> None:
    before = sorted(path for path in folder.rglob("*"))
    with pytest.raises(RunExistsError, match="exists already; add --overwrite to replace it"):
        check_folder(folder, overwrite=False)
    with pytest.raises(IsADirectoryError), replacing(folder, overwrite=True) as made:
        made.write_text("")  # fails on the way
    assert sorted(path for path in folder.rglob("*")) == before
    assert os.listdir(folder.parent) == ["explorer"]
    with replacing(folder, overwrite=True) as made:
        (made / "whole").write_text("")
    assert os.listdir(folder) == ["whole"]
    assert os.listdir(folder.parent) == ["explorer"]


def test_an_empty_folder_and_what_a_link_leads_to_are_filled(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with replacing(tmp_path / "link", overwrite=False) as made:
        (made / "whole").write_text("")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "there") == ["whole"]


def test_what_is_no_explorer_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunExistsError, match=r"mine holds other files \(there is no data/manifest\.json in it\)"):
            check_folder(tmp_path / "mine", overwrite=overwrite)
        with pytest.raises(RunExistsError, match="file is a file; name a folder"):
            check_folder(tmp_path / "file", overwrite=overwrite)
    with pytest.raises(StorageError, match="Could not write"), replacing(tmp_path / "file/out", overwrite=False):
        raise AssertionError("never reached")


def test_a_file_that_could_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("")
    (tmp_path / "b.html").mkdir()
    check_file(tmp_path / "new.HTM", overwrite=False)
    check_file(tmp_path / "a.html", overwrite=True)
    with pytest.raises(RunExistsError, match="add --overwrite to replace it, or name another file"):
        check_file(tmp_path / "a.html", overwrite=False)
    with pytest.raises(RunExistsError, match="is a folder; name a file"):
        check_file(tmp_path / "b.html", overwrite=True)
    for name, ending in (("explorer", "nothing"), ("explorer.zip", ".zip")):
        with pytest.raises(InputError, match=rf"ends in {ending}; name a file that ends in \.html"):
            check_file(tmp_path / name, overwrite=False)


# A link in the report.


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The report of a study with one run."""
    (tmp_path / "runs/vae").mkdir(parents=True)
    (tmp_path / "study.toml").write_text("")
    path = tmp_path / "report.html"
    path.write_text(render(Page(PLACE, [PLACE], [], {}, [])))
    return path


def paragraph(report: Path) -> list[str]:
    return re.findall(r'<p class="explorers">.*?</p>', report.read_text())


def test_a_report_leads_to_the_explorers_beside_it(report: Path) -> None:
    folder, text = report.parent, report.read_text()
    first, second = folder / "explorer.html", folder / 'one & "two".html'
    for path in (first, second):
        path.write_text("")
    assert report_of(Run(folder / "runs/vae"), first) == folder / "report.html"
    assert link(report, first, "vae")
    assert paragraph(report) == [
        '<p class="explorers"><a href="explorer.html">Explore the codes of vae in the browser</a></p>'
    ]
    for _ in range(2):  # once, however often
        assert link(report, second, "<b>")
        (line,) = paragraph(report)
        assert line.count("<a ") == 2
        assert 'href="one%20%26%20%22two%22.html">Explore the codes of &lt;b&gt; in' in line
    first.unlink()
    assert link(report, second, "vae2")
    (line,) = paragraph(report)
    assert re.findall(r">([^<]+)</a>", line) == ["Explore the codes of vae2 in the browser"]
    assert re.sub(r'<p class="explorers">.*?</p>\n  ', "", report.read_text()) == text


def test_only_the_report_of_the_run_is_linked(report: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs/vae")
    assert report_of(run, tmp_path / "elsewhere/explorer.html") is None
    assert report_of(Run(tmp_path / "vae"), tmp_path / "explorer.html") is None
    (tmp_path / "other.html").write_text("<p>no report")
    assert not link(tmp_path / "other.html", tmp_path / "explorer.html", "vae")
    assert (tmp_path / "other.html").read_text() == "<p>no report"
    report.unlink()
    assert report_of(run, tmp_path / "explorer.html") is None
