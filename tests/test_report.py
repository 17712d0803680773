"""The report: complete, self-contained, and in a real browser neither wider than a telephone nor hungry for the "
"network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from isthmus.data.imageset import ImageSet
from isthmus.figures import codes, curves, images
from isthmus.figures.style import INK, Panel, files, panel, svg
from isthmus.latent.manifold import grid
from isthmus.report.page import Page, Section, Table, render, write
from isthmus.report.studies import run_study
from isthmus.studies import findings

CLASSES = tuple("0123456789")
REQUIRED = [
    "D1.lab.test_mse",
    "D1.pca.test_mse",
    "D3.lab.clean.1nn_mean",
    "D3.lab.noisy.1nn_mean",
    "D3.strong.clean.1nn_mean",
    *[f"D3.lab.clean.1nn.{digit}" for digit in CLASSES],
    "D4.accuracy_mean",
    *[f"D4.accuracy.{digit}" for digit in CLASSES],
    "D4.train_seconds",
    "D6.noisy.psnr",
    "D6.bottleneck.psnr",
    "D6.bottleneck.ssim",
    "study.seconds",
]


@pytest.fixture(scope="module")
def study(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A whole study on 300 digits of 16 x 16: its folder and its figures."""
    folder = tmp_path_factory.mktemp("study")
    few = digits.take(np.arange(0, 600, 2))
    np.savez(folder / "few.npz", images=few.images, labels=few.labels)
    changes = ["data.height=16", "data.width=16"]
    report, summary = run_study("digits", str(folder / "few.npz"), folder / "out", changes=changes, fast=True)
    assert report == folder / "out/report.html"
    return folder / "out", summary["figures"]


class Outline(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_summary_holds_the_promised_names(study: tuple[Path, dict[str, float]]) -> None:
    figures = study[1]
    assert set(REQUIRED) <= set(figures)
    assert all(value is None or np.isfinite(value) for value in figures.values())
    for name, value in figures.items():
        if re.search(r"1nn|accuracy|clipped|kept|confidence|ssim", name) and value is not None:
            assert -1 <= value <= 1, name


def test_every_figure_is_documented(study: tuple[Path, dict[str, float]]) -> None:
    text = (Path(__file__).parent.parent / "docs/figures.md").read_text()
    patterns = [
        re.escape(name).replace("<", "(?:").replace(">", ")") for name in re.findall(r"^\| `([^`]+)`", text, re.M)
    ]
    alternatives = [re.sub(r"\(\?:[^)]*\)", "[^.]+", pattern) for pattern in patterns]
    unknown = [name for name in study[1] if not any(re.fullmatch(pattern, name) for pattern in alternatives)]
    assert not unknown


def test_page_has_all_exercises_and_needs_nothing_else(study: tuple[Path, dict[str, float]]) -> None:
    text = (study[0] / "report.html").read_text()
    outline = Outline(text)
    sections = [attributes.get("id") for tag, attributes in outline.tags if tag == "section"]
    assert sections == ["D1", "D2", "D3", "D4", "D5", "D6"]
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or ""
            assert target.startswith(("#", "data:")) or not target, target
    assert "A fast run" in outline.words
    assert "@import" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_pictures_lie_beside_the_page(study: tuple[Path, dict[str, float]]) -> None:
    names = {path.name for path in (study[0] / "figures").iterdir()}
    assert {"D1-reconstructions.png", "D2-codes-lab.svg", "D5-manifold.png", "D6-denoising.svg"} <= names
    assert not [name for name in names if name.startswith(".")]


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("ISTHMUS_REQUIRE_BROWSER"):
            pytest.fail("ISTHMUS_REQUIRE_BROWSER is set and there is no Chromium")
        pytest.skip("needs Chromium")
    return found


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_never_wider_than_the_window(study: tuple[Path, dict[str, float]], tmp_path: Path, width: int) -> None:
    """The page in a frame of this width: what a browser lays out, measured by the browser."""
    page = (study[0] / "report.html").read_text()
    probe = """<script>addEventListener("load", () => {
      const root = document.documentElement, late = performance.getEntriesByType("resource");
      const svgs = [...document.querySelectorAll(".panels svg")].filter(s => s.getBoundingClientRect().width < 200);
      const asked = late.filter(e => !e.name.startsWith("data:")).length;
      parent.postMessage([root.scrollWidth, root.clientWidth, svgs.length, asked].join(" "), "*");
    })</script>"""
    (tmp_path / "inner.html").write_text(page.replace("</body>", probe + "</body>"))
    outer = f"""<!doctype html><body><pre id="measured">none</pre>
      <script>
        addEventListener("message", e => document.getElementById("measured").textContent = "measured " + e.data)
      </script>
      <iframe style="border:0;width:{width}px;height:900px" src="inner.html"></iframe>"""
    (tmp_path / "outer.html").write_text(outer)
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--virtual-time-budget=8000"]
    command += ["--allow-file-access-from-files", "--dump-dom", (tmp_path / "outer.html").as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    measured = re.search(r"measured (\d+) (\d+) (\d+) (\d+)", result.stdout)
    assert measured, result.stderr[-2000:]
    scroll, client, tiny, requests = map(int, measured.groups())
    assert width - 20 <= client <= width  # less a scroll bar
    assert scroll <= client
    assert tiny == 0
    assert requests == 0


def test_texts_are_escaped() -> None:
    evil = '<script>alert("x")</script>'
    table = Table(evil, ["a", evil], [[evil, "b"]], [evil])
    section = Section("D1", evil, evil, [evil], [], [table])
    text = render(Page(evil, [evil], [evil], {evil: evil}, [section], footer=[evil]))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def every_panel() -> list[Panel]:
    generator = np.random.default_rng(0)
    epochs = [
        {"epoch": e, **{f"{p}_{m}": 1 / e for p in ("train", "validation") for m in ("loss", "accuracy")}}
        for e in range(1, 5)
    ]
    spots = generator.normal(size=(300, 2)).astype(np.float32)
    labels = generator.integers(0, 10, 300)
    pictures = torch.rand(10, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    cells = grid(spots, size=6)
    drawn = torch.rand(6, 6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return [
        curves.loss_curves("a", "a & b", epochs, best=4, level=("PCA", 0.5)),
        curves.accuracy_curves("b", "curves", epochs, best=2),
        curves.by_class("c", "shares", CLASSES, {"ours": (np.linspace(0, 1, 10), "#3f90da")}, level=("chance", 0.1)),
        codes.scatter("d", "codes", spots, labels, CLASSES),
        codes.scatter("e", "no labels", spots, None, ()),
        codes.class_table("f", "overlap", generator.random((10, 10)), CLASSES, rows="r", columns="c"),
        codes.class_table(
            "g", "many", generator.integers(0, 9, (20, 20)), [f"class {k}" for k in range(20)], rows="r", columns="c"
        ),
        images.rows("h", "rows", CLASSES, {"one": pictures, "two": pictures}),
        images.manifold("i", "grid", cells, drawn, spots[:4]),
        images.strip("j", "strip", pictures, ("0", "1")),
    ]


def test_figures_follow_the_page_and_repeat_to_the_byte() -> None:
    first, again = every_panel(), every_panel()
    for one, two in zip(first, again, strict=True):
        text = svg(one)
        assert text == svg(two)
        assert INK not in text
        assert "var(--ink)" in text
        assert re.search(r'<svg[^>]* role="img" aria-label="[^"]+"', text)
        assert 'style="width:' in text
        names = files(one)
        assert names.keys() == {f"{one.name}.png", f"{one.name}.svg"}
        assert names[f"{one.name}.png"].startswith(b"\x89PNG")


def test_nothing_in_a_figure_is_cut_off() -> None:
    for drawn in every_panel():
        figure = drawn.figure
        figure.draw_without_rendering()
        edges = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        slack = 0.03
        assert edges.x0 >= -slack, drawn.name
        assert edges.y0 >= -slack, drawn.name
        assert edges.x1 <= width + slack, drawn.name
        assert edges.y1 <= height + slack, drawn.name


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with panel(2.0) as figure:
        figure.subplots()
    assert dict(mpl.rcParams) == before


def test_write_leaves_no_temporary_files(tmp_path: Path) -> None:
    write(Page("t", [], [], {}, [Section("D1", "t", "a", ["f"], every_panel()[:1])]), tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.png", "a.svg", "report.html"]


def result_with(**facts: object) -> SimpleNamespace:
    """Just enough of a result for one finding."""
    data = SimpleNamespace(classes=CLASSES)
    return SimpleNamespace(data=data, are_digits=True, parts=SimpleNamespace(validation=range(10000)), **facts)


def test_summary_follows_the_numbers() -> None:
    def verdicts(pca: float, lab: float, strong: float) -> str:
        facts = SimpleNamespace(test_mse={"pca": pca, "lab": lab, "strong": strong})
        return " ".join(findings.summary(result_with(d1=facts, d3=None)))  # type: ignore[arg-type]

    assert "the lab's network beats exact PCA in squared error by a factor of 2.00" in verdicts(0.04, 0.02, 0.04)
    assert "the lab's network loses to exact PCA in squared error by a factor of 2.00" in verdicts(0.02, 0.04, 0.04)
    assert "the stronger network equals exact PCA in squared error." in verdicts(0.04, 0.02, 0.04)


def test_clipping_finding_follows_the_numbers() -> None:
    def words(share: list[float], dead: list[bool]) -> str:
        found = SimpleNamespace(
            share=np.array(share), dead=np.array(dead), clipped=[i for i, s in enumerate(share) if s > 0.01]
        )
        return " ".join(findings.d2(result_with(d2=SimpleNamespace(overlap=None, clipping=found))))  # type: ignore[arg-type]

    assert words([0.3, 1.0], [False, True]).startswith("On axis 1, 30.0\u00a0% of the codes are clipped")
    assert "Axis 2 is dead" in words([0.3, 1.0], [False, True])
    assert words([0.0, 0.001], [False, False]).startswith("Hardly any code is clipped (0.10\u00a0%")


def test_overlap_finding_names_the_worst_pair() -> None:
    overlap = np.full((10, 10), 0.2)
    overlap[3, 5] = overlap[5, 3] = 0.9
    overlap[1, :] = overlap[:, 1] = 0.01
    found = SimpleNamespace(share=np.zeros(2), dead=np.zeros(2, bool), clipped=[])
    words = findings.d2(result_with(d2=SimpleNamespace(overlap=overlap, clipping=found)))  # type: ignore[arg-type]
    assert words[0].startswith("The classes that overlap most are 3 and 5 (90\u00a0%)")
    assert words[1].startswith("Most apart from the others: 1 (")


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [(0.98, 0.99, "helps"), (0.99, 0.98, "harms"), (0.9925, 0.9928, "changes nothing beyond noise")],
)
def test_remedy_finding_follows_the_numbers(before: float, after: float, word: str) -> None:
    diagnosis = SimpleNamespace(verdict="overfits", train=1.0, validation=before, gap=1 - before, standard_error=0.001)
    accuracy = {"classifier": before, "classifier-remedy": after}
    facts = {"diagnosis": diagnosis, "remedy": "shifts", "validation_accuracy": accuracy, "chosen": "classifier"}
    study = SimpleNamespace(**facts, interval=(0.9, 1.0), mean=0.95, per_class=np.full(10, 0.97))
    words = " ".join(findings.d4(result_with(d4=study)))  # type: ignore[arg-type]
    assert f"The remedy (shifts) {word}: validation accuracy goes from" in words
    assert "on 5 of the ten digits" in words
