"""The documentation names nothing that does not exist and leaves nothing out, its tutorial runs, its site builds."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import isthmus
import law
import tutorial
from browser import browser
from isthmus.cli.main import app
from isthmus.settings import MODELS, DataSettings, TrainingSettings
from isthmus.studies.study import DigitsSettings, SignsSettings
from isthmus.studies.study_file import CustomSettings, NetworkSettings, SweepSettings
from pages import Block, blocks, inline

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TYPED = "field.focus(); field.value = 'AUROC'; field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})); 1"
SITE = pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs MkDocs: pip install '.[docs]'")


def text_of(path: Path) -> str:
    """A page; of a notebook its words, and its code as a block."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = re.split(r"(?m)^# %%.*\n", text)[1:]
    words = [
        re.sub(r"(?m)^# ?", "", cell) if re.fullmatch(r"(#.*\n|\n)*", cell) else f"```python\n{cell}\n```"
        for cell in cells
    ]
    return "\n".join(words)


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """docs/tools/generated.py, which makes the pages of the reference."""
    sys.path.insert(0, str(DOCS / "tools"))
    try:
        return importlib.import_module("generated")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def made(generated: ModuleType) -> dict[str, str]:
    """The generated pages by place."""
    pages: dict[str, str] = generated.pages()
    return pages


# -- nothing is named that does not exist


@pytest.mark.parametrize("path", [*WRITTEN, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_only_what_exists(path: Path) -> None:
    assert law.complaints(text_of(path)) == []


def test_generated_pages_name_only_what_exists(made: dict[str, str]) -> None:
    for place, text in made.items():
        if place.endswith(".md"):
            assert law.complaints(text) == [], place


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("Run `isthmus lern`.", "there is no command isthmus lern"),
        ("    isthmus trian lab mnist-5k --out run", "there is no command isthmus trian; train?"),
        ("    isthmus runs delete run", "there is no command isthmus runs delete"),
        ("Try `isthmus runs list|shew`.", "there is no command isthmus runs shew; show?"),
        ("```sh\nisthmus encode run photos/ --output codes.npz\n```", "--output"),
        ("```sh\nisthmus train lab mnist-5k\n```", "--out"),
        ("    isthmus outliers run new/ --by errors", "errors"),
        ("    isthmus generate run -n many", "'--count' / '-n': Input should be a valid integer"),
        ("    isthmus evaluate run photos/ more/", "more/"),
        ("    isthmus study digits --data mnist5k", "mnist5k is neither a set that is known nor a path"),
        ("    isthmus train lab photos/ --out run --set model.latent=3", "model.latent"),
        ("    isthmus train vae photos/ --out run --set model.code_relu=true", "model.code_relu"),
        ("    isthmus train lab photos/ --out run --set training.epochs=0", "training.epochs"),
        ("    isthmus study digits --set training.epochs=3", "training"),
        ("    isthmus study my.toml --set networks.conv.training.epoch=3", "networks.conv.training.epoch"),
        ("    isthmus data list | head\n    isthmus data lst | head", "there is no command isthmus data lst"),
        ("Add `--overwrit`.", "no command has --overwrit; --overwrite?"),
        ("Take `--prior mixtur`.", "--prior takes no mixtur; mixture?"),
        ("Give `--set training.epoch=3`.", "there is no setting training.epoch; training.epochs?"),
        ("The key `model.latent_dims`.", "there is no setting model.latent_dims; model.latent_dim?"),
        ('```toml\n[data]\nname = "a/"\n[networks.a]\nmodel.name = "labb"\n```', "'labb'"),
        ('```toml\nanalyses = ["codez"]\n[data]\nname = "a/"\n[networks.a]\nmodel.name = "lab"\n```', "analyses.0"),
        ("```toml\ntraining.epoch = 3\n```", "training.epoch"),
        ("```python\nfrom isthmus import ConvAutoEncoder\n```", "there is no isthmus.ConvAutoEncoder"),
        ("    from isthmus.data.catalogue import load", "there is no isthmus.data.catalogue.load"),
        (
            "```python\nfrom isthmus import load_images\nload_images('a', sizes=3)\n```",
            "load_images takes no sizes; size?",
        ),
        ("```python\nfrom isthmus import VAE\nVAE.from_lab()\n```", "VAE has no from_lab"),
        (
            "```python\nfrom isthmus import Denoiser\nd = Denoiser().fit(x)\nd.transfrom(x)\n```",
            "Denoiser has no transfrom",
        ),
        (
            "```python\nfrom isthmus import Denoiser\nDenoiser.from_pretrained('a').predict(x)\n```",
            "Denoiser has no predict",
        ),
        ("    >>> from isthmus import labb", "there is no isthmus.labb"),
        ("See `isthmus.networks.pcb`.", "there is no isthmus.networks.pcb"),
        ("The class `ConvolutionalAutoencoder`.", "there is no ConvolutionalAutoencoder"),
        ("Call `restores(...)`.", "there is no restores; restore?"),
        ("Call `VAE.of_course`.", "VAE has no of_course; from_course?"),
        ("It has `score_sample_at_once`.", "nothing is called score_sample_at_once"),
        ("See `docs/decision.md`.", "there is no file docs/decision.md"),
        ("See `networks/pcb.py`.", "there is no file networks/pcb.py"),
        ("See `pcb.py`.", "there is no file pcb.py"),
        ('Do `pip install ".[denoise,onxx]"`.', "there is no extra onxx; onnx?"),
        ("With the extra `denoize`.", "there is no extra denoize; denoise?"),
        ("| extra | for |\n|---|---|\n| `onxx` | b |\n", "there is no extra onxx; onnx?"),
        ("Run `make tests`.", "there is no make tests"),
        ("    make benhc", "there is no make benhc"),
        ("Set ISTHMUS_HOUSE.", "no code reads ISTHMUS_HOUSE"),
    ],
)
def test_what_does_not_exist_is_complained_of(page: str, words: str) -> None:
    found = law.complaints(page)
    assert len(found) == 1, found
    assert words in found[0]


@pytest.mark.parametrize(
    "page",
    [
        "```text\nisthmus lern\n```",
        "Other programs: `ruff format --check`, `pip install -c constraints.txt`, `torch.nn.Conv2d(1, 1, 3)`.",
        "    for d in 2 4; do\n      isthmus train lab photos/ --out lab-$d --set model.latent_dim=$d; done",
        "    ISTHMUS_OFFLINE=1 isthmus data list --json | head -3   # comments --are --none",
        "    isthmus train lab \\\n      photos/ --out run",
        "`isthmus COMMAND --help`, `isthmus runs list|show`, `isthmus train`, `--set KEY=VALUE`, `networks.NAME.start`",
    ],
)
def test_what_exists_or_is_of_others_is_not_complained_of(page: str) -> None:
    assert law.complaints(page) == []


def test_code_is_found_wherever_it_stands() -> None:
    page = 'a `b`\n\n    c\n\n- d\n\n    `e\n    f`\n\n```toml title="g"\n`h`\n```\n'
    assert blocks(page) == [Block("", "", "c\n", 2), Block("toml", "g", "`h`\n", 10)]
    assert inline(page) == ["b", "e f"]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path, made: dict[str, str]) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
        place = (path.parent / target).resolve()
        assert place.exists() or place.relative_to(DOCS).as_posix() in made, target


# -- nothing is left out


def test_every_command_and_flag_has_its_place(made: dict[str, str]) -> None:
    for words in law.leaves():
        page = made[f"commands/{words.split()[0]}.md"]
        part = page.partition(f"isthmus {words}")[2].partition("\n## isthmus ")[0]
        shown = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "300"}).stdout
        for flag in set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", shown.partition("Options:")[2])) & set(law.options()):
            assert f"`{flag}`" in part, f"{words} {flag}"
        assert f"`isthmus {words}`" in made["commands/index.md"]


def test_every_command_is_used_in_a_written_page() -> None:
    used = {words for path in WRITTEN if path.name != "decisions.md" for words in law.used(text_of(path))}
    assert set(law.leaves()) <= used


def test_every_public_name_has_its_place(made: dict[str, str]) -> None:
    pages = "\n".join(text for place, text in made.items() if place.startswith("python/"))
    for name in set(isthmus.__all__) - {"__version__"}:
        value = getattr(isthmus, name)
        assert re.search(rf"(?m)^::: {re.escape(value.__module__)}\.{name}$", pages), name
        assert f"[`{name}`]" in made["python/index.md"]
        assert inspect.getdoc(value), name


def test_every_module_has_its_place(made: dict[str, str]) -> None:
    package = Path(isthmus.__file__).parent
    for path in package.rglob("*.py"):
        if not path.name.startswith("_"):
            inner = ".".join(("isthmus", *path.parent.relative_to(package).parts))
            part = made["python/modules.md"].partition(f"\n## `{inner}`\n")[2].partition("\n## ")[0]
            assert f"| `{path.stem}` |" in part, path


def settings_of(kind: type[BaseModel], before: str = "") -> Iterator[str]:
    for name in kind.model_fields:
        yield f"{before}{name}"


def test_every_setting_has_its_place(made: dict[str, str]) -> None:
    page = made["settings.md"]
    wanted = {*settings_of(DataSettings, "data."), *settings_of(TrainingSettings, "training.")}
    for kind in MODELS.values():
        wanted |= set(settings_of(kind, "model."))
    for kind in (DigitsSettings, SignsSettings, CustomSettings, NetworkSettings):
        wanted |= set(settings_of(kind)) - {"data", "networks", "model", "training", "sweep"}
    wanted |= set(settings_of(SweepSettings, "sweep."))
    for key in wanted:
        assert f"| `{key}` |" in page, key
    assert made["study.schema.json"] == (Path(isthmus.__file__).parent / "studies/study.schema.json").read_text()


def test_every_extra_and_variable_is_written_about() -> None:
    text = "\n".join(text_of(path) for path in WRITTEN)
    for extra in law.extras():
        assert re.search(rf"`{extra}`|\[[\w,]*\b{extra}\b[\w,]*\]", text), extra
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for name in set(re.findall(r"ISTHMUS_[A-Z]+", source)):
        assert name in (DOCS / "howto/install.md").read_text(encoding="utf-8"), name


def test_every_study_exercise_has_its_mathematics() -> None:
    for page, names in {
        "digits": [f"D{i}" for i in range(1, 9)],
        "signs": ["S1.1", "S1.2", "S2", "S3.2", "S3.3", "S3.4"],
    }.items():
        text = (DOCS / f"mathematics/{page}.md").read_text(encoding="utf-8")
        assert re.findall(r"(?m)^## ([DS]\d(?:\.\d)?):", text) == names
        sources = text.partition("## Sources")[2]
        for author, year in re.findall(r"\(([A-Z][a-zö]+)[^()]*? (\d{4})[,;)]", text.partition("## Sources")[0]):
            assert re.search(rf"(?m)^- .*{author}.*{year}", sources), f"{author} {year}"


# -- the tutorial


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    text = tutorial.TUTORIAL.read_text(encoding="utf-8")
    assert {block.language for block in blocks(text)} == {"sh", "python", "toml", "text"}
    tutorial.run(text, tmp_path)
    assert tutorial.compare_pictures(text, tmp_path, DOCS) == len(re.findall(r"!\[", text))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("```sh\nfalse\n```", "line 1: exit code 1"),
        ("```sh\nfalse\ntrue\n```", "exit code 1"),
        ("```sh\nfalse | cat\n```", "exit code 1"),
        ("a\n\n```python\n1 / 0\n```", "line 3: ZeroDivisionError"),
        ("```sh\necho a\n```\n```text\nb\n```", "the page shows"),
        ("```sh\necho 2.0\n```\n```text\n1.0\n```", "the page shows 1 where 2 was printed"),
        ("```sh\nprintf 'a\\nb\\nc\\n'\n```\n```text\na\n...\nd\n```", "the page shows"),
        ("```python\nprint(3)\n```\n```text\n4\n```", "the page shows"),
        ("    indented", "nobody knows how to run"),
    ],
)
def test_a_block_that_fails_fails_the_page(page: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(tutorial.BlockError, match=re.escape(words)):
        tutorial.run(page, tmp_path)


def test_blocks_run_in_order_in_one_folder(tmp_path: Path) -> None:
    page = """
```toml title="a.toml"
x = 1
```
```python
y = open("a.toml").read()
```
```sh
echo "one 1.00 two" > b; cat a.toml b; echo; seq 3
```
```text
x = 1
one 1.1 ...
...
3
```
```python
print(y, open("b").read(), sep="")
```
```text
x = 1
...
```
"""
    tutorial.run(page, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "b"]


def test_a_picture_unlike_the_one_drawn_fails_the_page(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    (tmp_path / "drawn").mkdir()
    page = "![a picture](pictures/drawn-samples.png)"
    Image.new("L", (64, 32), 255).save(tmp_path / "pictures/drawn-samples.png")
    for size, grey, same in (((64, 32), 250, True), ((64, 32), 0, False), ((64, 64), 255, False)):
        Image.new("L", size, grey).save(tmp_path / "drawn/samples.png")
        if same:
            assert tutorial.compare_pictures(page, tmp_path, tmp_path) == 1
        else:
            with pytest.raises(tutorial.BlockError, match=r"is not what drawn/samples\.png looks like"):
                tutorial.compare_pictures(page, tmp_path, tmp_path)


# -- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, where a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@SITE
def test_the_site_has_every_page(site: Path, made: dict[str, str]) -> None:
    for path in DOCS.rglob("*.md"):
        assert (site / path.relative_to(DOCS)).with_suffix(".html").exists(), path
    for place in made:
        assert (site / re.sub(r"\.md$", ".html", place)).exists(), place
    assert not (site / "tools").exists()
    python = "\n".join(path.read_text(encoding="utf-8") for path in (site / "python").glob("*.html"))
    for name in set(isthmus.__all__) - {"__version__"}:
        assert f'id="{getattr(isthmus, name).__module__}.{name}"' in python, name


@SITE
def test_the_site_asks_nothing_of_other_hosts(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|link|iframe|source|video)\b[^>]*?\s(?:src|href)=[\"']?(https?:)?//", re.I)
    for path in site.rglob("*.html"):
        assert not loads.search(path.read_text(encoding="utf-8")), path
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


@SITE
def test_formulas_are_drawn_by_the_browser_alone(site: Path) -> None:
    for name in ("digits", "signs"):
        html = (site / f"mathematics/{name}.html").read_text(encoding="utf-8")
        source = (DOCS / f"mathematics/{name}.md").read_text(encoding="utf-8")
        assert html.count("<math ") == len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", source, re.S))
        assert 'class="arithmatex"' not in html


@SITE
def test_a_formula_that_cannot_be_drawn_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "tools")
    formulas: Any = importlib.import_module("formulas")
    with pytest.raises(ValueError, match=r"a\.md: \\frob in the formula"):
        formulas.with_formulas(r'<span class="arithmatex">\(\frob{x}\)</span>', "a.md")


@SITE
@pytest.mark.parametrize("name", ["docstrings", "formulas"])
def test_examples_in_the_tools_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "tools")
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted
    assert not tried.failed


@SITE
@pytest.mark.browser
def test_the_site_opens_from_disk_and_is_searched(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        tab.open((site / "mathematics/digits.html").as_uri())
        assert tab.ask("document.querySelector('math').getBoundingClientRect().height") > 5
        loaded = tab.ask("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert all(name.startswith(("file:", "data:")) for name in loaded)
        tab.ask(f"const field = document.querySelector('[data-md-component=search-query]'); {TYPED}")
        tab.wait("document.querySelectorAll('.md-search-result__item').length > 0")
