"""The report: complete, self-contained, and in a real browser neither wider than a telephone nor hungry for network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from browser import browser
from command_line import PROMISED
from isthmus.data.imageset import ImageSet
from isthmus.figures import codes, curves, images, spatial
from isthmus.figures.labels import short_classes
from isthmus.figures.style import INK, Panel, files, panel, svg
from isthmus.latent.manifold import grid, quantile_grid
from isthmus.report.page import Page, Section, Table, render, write_page, write_pictures
from isthmus.report.studies import run_study
from isthmus.studies import findings

CLASSES = tuple("0123456789")
LONG = short_classes([f"hand-{k}-{8 * k} of the eldest and of the youngest" for k in "abcdefghij"])


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
    assert set(PROMISED) <= set(figures)
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
    assert sections == ["D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "figures"]
    assert all(name in outline.words for name in study[1])
    assert not re.search(r"\bnan\b", outline.words)
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


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_never_wider_than_the_window(study: tuple[Path, dict[str, float]], tmp_path: Path, width: int) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.open((study[0] / "report.html").as_uri(), width=width)
        client = tab.ask("document.documentElement.clientWidth")
        assert width - 20 <= client <= width  # less a scroll bar
        assert tab.ask("document.documentElement.scrollWidth") <= client
        widths = tab.ask("[...document.querySelectorAll('.panels svg')].map(s => s.getBoundingClientRect().width)")
        assert min(widths) >= 200
        asked = tab.ask("performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in asked if not name.startswith("data:")] == []


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
        {
            "epoch": e,
            **{
                f"{p}_{m}": 1 / e for p in ("train", "validation") for m in ("loss", "accuracy", "reconstruction", "kl")
            },
        }
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
        images.strip("j", "strip", pictures, CLASSES),
        images.manifold("k", "quantiles", quantile_grid(spots, size=6), drawn, None, unit="quantile", contours=False),
        images.blocks(
            "l", "damages", CLASSES, {"a blur": {"damaged": pictures, "MAP": pictures}, "clean": {"clean": pictures}}
        ),
        codes.scatter("m", "means", spots, labels, CLASSES, stds=np.abs(spots) / 5),
        codes.marginals("n", "all codes", spots, what="a sample"),
        codes.marginals("plain-marginals", "codes", 0.1 * spots[:, :1], what="the code of each image", prior=False),
        curves.bound_curves("o", "a VAE", epochs, best=4),
        curves.by_size("p", "sizes", [16, 32], {"MAP": ([24.0, 25.0], "#3f90da")}, {"non-local means": 22.0}),
        curves.objective_path("q", "path", np.geomspace(100, 50, 12)[:, None] + np.zeros(5)),
    ]


def panels_of_long_names() -> list[Panel]:
    generator = np.random.default_rng(0)
    spots = generator.normal(size=(300, 3)).astype(np.float32)
    labels = generator.integers(0, 10, 300)
    pictures = torch.rand(10, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    return [
        codes.scatter("long-scatter", "codes", spots[:, :2], labels, LONG),
        spatial.stills("long-stills", "codes", spots, labels, LONG),
        images.gallery("long-gallery", "wrong", pictures, [f"{name} as {LONG[0]}, 100\u00a0%" for name in LONG]),
        images.rows("long-rows", "rows", LONG, {"one": pictures, "two": pictures}),
        curves.by_class("long-shares", "shares", LONG, {"ours": (np.linspace(0, 1, 10), "#3f90da")}),
        codes.class_table("long-table", "overlap", generator.random((10, 10)), LONG, rows="r", columns="c"),
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


def test_what_a_page_toggles_is_hidden_at_first_and_not_in_the_files() -> None:
    spots = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    with_ellipses = codes.scatter("t", "means", spots, None, (), stds=np.full((50, 2), 0.3, np.float32))
    without = codes.scatter("t", "means", spots, None, ())
    assert "50 of 50" in with_ellipses.toggle
    assert svg(with_ellipses).count('class="toggled"') == 1
    assert not without.toggle
    assert "toggled" not in svg(without)
    assert files(with_ellipses)["t.png"] == files(without)["t.png"]
    text = render(Page("t", [], [], {}, [Section("D7", "t", "a", ["f"], [with_ellipses, without])]))
    assert text.count('type="checkbox"') == 1


@pytest.mark.browser
def test_a_checked_box_shows_what_it_says(tmp_path: Path) -> None:
    spots = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    drawn = codes.scatter("t", "means", spots, None, (), stds=np.full((50, 2), 0.3, np.float32))
    (tmp_path / "page.html").write_text(render(Page("t", [], [], {}, [Section("D7", "t", "a", ["f"], [drawn])])))
    display = "getComputedStyle(document.querySelector('svg .toggled')).display"
    with browser(tmp_path / "profile") as tab:
        tab.open((tmp_path / "page.html").as_uri())
        assert tab.ask(display) == "none"
        tab.ask("document.querySelector('input[type=checkbox]').click()")
        assert tab.ask(display) == "inline"


def test_nothing_in_a_figure_is_cut_off() -> None:
    for drawn in [*every_panel(), *panels_of_long_names()]:
        figure = drawn.figure
        figure.draw_without_rendering()
        edges = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        slack = 0.03
        assert edges.x0 >= -slack, drawn.name
        assert edges.y0 >= -slack, drawn.name
        assert edges.x1 <= width + slack, drawn.name
        assert edges.y1 <= height + slack, drawn.name


def test_no_label_shows_unparsed_mathematics() -> None:
    steep = [{"epoch": e, "train_loss": 10.0**-e, "validation_loss": 10.0**-e} for e in range(1, 5)]
    for drawn in [*every_panel(), curves.loss_curves("r", "steep", steep, best=4, level=("PCA", 0.5))]:
        drawn.figure.draw_without_rendering()
        texts = [text.get_text() for text in drawn.figure.findobj(Text)]
        assert not [text for text in texts if "mathdefault" in text], drawn.name


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with panel(2.0) as figure:
        figure.subplots()
    assert dict(mpl.rcParams) == before


def test_write_leaves_no_temporary_files(tmp_path: Path) -> None:
    page = Page("t", [], [], {}, [Section("D1", "t", "a", ["f"], every_panel()[:1])])
    write_pictures(page, tmp_path)
    write_page(page, tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.png", "a.svg", "report.html"]


def result_with(**facts: object) -> SimpleNamespace:
    """Just enough of a result for one finding."""
    data = SimpleNamespace(classes=CLASSES)
    parts = SimpleNamespace(validation=range(10000))
    return SimpleNamespace(**{"data": data, "are_digits": True, "parts": parts, **facts})


def test_summary_follows_the_numbers() -> None:
    def verdicts(pca: float, lab: float, strong: float) -> str:
        facts = SimpleNamespace(test_mse={"pca": pca, "lab": lab, "strong": strong})
        noise = SimpleNamespace(
            quality={n: SimpleNamespace(psnr=p) for n, p in (("pca", 13), ("lab", 12), ("strong", 14))}
        )
        return " ".join(findings.summary(result_with(d1=facts, d3=None, d6=noise, pca_name="exact PCA")))  # type: ignore[arg-type]

    assert "the lab's network beats exact PCA in squared error on clean images by a factor of 2.00" in verdicts(
        0.04, 0.02, 0.04
    )
    assert "On noisy images the order turns: the lab's network restores them 1.0 dB worse" in verdicts(0.04, 0.02, 0.03)
    assert "the order turns" not in verdicts(0.03, 0.04, 0.02)
    assert "the lab's network loses to exact PCA in squared error on clean images by a factor of 2.00" in verdicts(
        0.02, 0.04, 0.04
    )
    assert "the stronger network is within 2\u00a0% of exact PCA in squared error on clean images." in verdicts(
        0.04, 0.02, 0.04
    )


def test_clipping_finding_follows_the_numbers() -> None:
    def words(share: list[float], dead: list[bool], bottom: float = 0.0) -> str:
        clipped = [i for i, s in enumerate(share) if s > 0.01]
        found = SimpleNamespace(
            share=np.array(share), dead=np.array(dead), bottom=np.array([0.0, bottom]), clipped=clipped
        )
        return " ".join(findings.d2(result_with(d2=SimpleNamespace(overlap=None, clipping=found))))  # type: ignore[arg-type]

    assert words([0.3, 1.0], [False, True]).endswith(
        "Codes are clipped, 30.0\u00a0% on axis 1: the ReLU maps every negative value to exactly zero."
    )
    assert "Axis 2 is dead: its ReLU gives zero" in words([0.3, 1.0], [False, True])
    assert "Axis 2 is dead: it is the same for every image" in words([0.3, 1.0], [False, True], 1.3)
    assert words([0.0, 0.001], [False, False]).startswith("Hardly any code is clipped: 0.10\u00a0%")


def test_overlap_finding_names_the_worst_pair() -> None:
    overlap = np.full((10, 10), 0.2)
    overlap[3, 5] = overlap[5, 3] = 0.9
    overlap[1, :] = overlap[:, 1] = 0.01
    found = SimpleNamespace(share=np.zeros(2), dead=np.zeros(2, bool), bottom=np.zeros(2), clipped=[])
    words = findings.d2(result_with(d2=SimpleNamespace(overlap=overlap, clipping=found)))  # type: ignore[arg-type]
    assert words[0].startswith("In the lab's code the pairs that overlap most are 3 with 5 (90\u00a0%)")
    assert words[1].startswith("Most apart from the others: 1 (")


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [(0.98, 0.99, "helps"), (0.99, 0.98, "harms"), (0.9925, 0.9928, "changes nothing beyond noise")],
)
def test_remedy_finding_follows_the_numbers(before: float, after: float, word: str) -> None:
    diagnosis = SimpleNamespace(verdict="overfits", train=1.0, validation=before, gap=1 - before, standard_error=0.001)
    accuracy = {"classifier": before, "classifier-remedy": after}
    facts = {"diagnosis": diagnosis, "remedy": "shifts", "validation_accuracy": accuracy, "chosen": "classifier"}
    runs = {"classifier": SimpleNamespace(best_epoch=3, epochs=[{}] * 3)}
    study = SimpleNamespace(**facts, runs=runs, interval=(0.9, 1.0), mean=0.95, per_class=np.full(10, 0.97))
    words = " ".join(findings.d4(result_with(d4=study)))  # type: ignore[arg-type]
    assert f"The remedy (shifts) {word}: validation accuracy goes from" in words
    assert "The accuracy of 5 of the ten digits is above" in words
    assert "has not begun to cost anything" in words


SIZES = {"lab": SimpleNamespace(parameters=10), "strong": SimpleNamespace(parameters=50)}


def neighbours(share: float, **by_digit: float) -> SimpleNamespace:
    per_class = np.full(10, share)
    for name, value in by_digit.items():
        per_class[int(name[1:])] = value
    return SimpleNamespace(per_class=per_class, mean=float(np.nanmean(per_class)))


def test_neighbour_finding_leaves_out_classes_that_do_not_occur() -> None:
    found = {
        f"{n}.{k}": neighbours(0.5, _0=float("nan"), _3=0.9, _4=0.1)
        for n in ("lab", "strong", "pca")
        for k in ("clean", "noisy")
    }
    words = " ".join(
        findings.d3(result_with(d3=found, chance=1 / 9, pca_name="exact PCA", are_digits=False, runs=SIZES))
    )  # type: ignore[arg-type]
    assert "nan" not in words
    assert "where chance is 11.1\u00a0%" in words
    assert "Easiest is 3 (90.0\u00a0%), hardest 4 (10.0\u00a0%)" in words


@pytest.mark.parametrize(("clean", "noisy", "word"), [(0.9, 0.35, "noisy"), (0.35, 0.9, "clean")])
def test_published_table_resembles_the_nearer_case(clean: float, noisy: float, word: str) -> None:
    found = {
        f"{n}.{k}": neighbours(clean if k == "clean" else noisy)
        for n in ("lab", "strong", "pca")
        for k in ("clean", "noisy")
    }
    words = " ".join(findings.d3(result_with(d3=found, chance=0.1, pca_name="exact PCA", runs=SIZES)))  # type: ignore[arg-type]
    assert f"it resembles the {word} case more" in words


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [(0.9, 0.4, "The pictures show it"), (0.5, 0.5, "it is as sure"), (0.4, 0.9, "it is even surer")],
)
def test_manifold_finding_follows_the_numbers(inside: float, outside: float, words: str) -> None:
    cells = SimpleNamespace(occupied=np.array([[True, False], [True, True]]))
    found = SimpleNamespace(grid=cells, confidence=(inside, outside), ends=("0", "1"), passes=("0", "8", "0", "8", "1"))
    said = findings.d5(result_with(d5=found))  # type: ignore[arg-type]
    assert said[0].startswith("25\u00a0% of the cells")
    assert words in said[1]
    assert said[2] == "The strip from 0 to 1 passes through what the classifier reads as 8."


@pytest.mark.parametrize(("decibels", "kept", "words"), [(14.0, 0.3, "gains 2.0 dB"), (10.0, 0.9, "loses 2.0 dB")])
def test_noise_finding_follows_the_numbers(decibels: float, kept: float, words: str) -> None:
    quality = {n: SimpleNamespace(psnr=12.0, ssim=0.3) for n in ("noisy", "pca", "strong")}
    quality["lab"] = SimpleNamespace(psnr=decibels, ssim=0.4)
    found = SimpleNamespace(quality=quality, kept={"noisy": 0.6, "lab": kept})
    clean = SimpleNamespace(kept={"lab": np.full(10, 0.5)})
    said = " ".join(findings.d6(result_with(d1=clean, d6=found)))  # type: ignore[arg-type]
    assert words in said
    assert f"{'fewer' if kept < 0.6 else 'more'} than of the noisy ones themselves (60.0\u00a0%)" in said
    assert "through the same bottleneck it finds 50.0\u00a0%" in said


def test_loss_finding_follows_the_numbers() -> None:
    runs = {
        n: SimpleNamespace(best_epoch=1, epochs=[{"train_loss": 0.1, "validation_loss": v}])
        for n, v in (("lab", 0.12), ("strong", 0.099))
    }
    found = SimpleNamespace(kept={n: np.array([0.9, *[0.6] * 8, 0.1]) for n in ("lab", "strong")})
    words = findings.d1(result_with(d1=found, runs=runs))  # type: ignore[arg-type]
    assert "recognises 0 (at least 80\u00a0% of the images), and loses 9" in words[0]
    assert "is 20.0\u00a0% above its training loss where it was kept, and still falling at the last epoch" in words[2]
    assert "is 1.0\u00a0% below its training loss" in words[3]
