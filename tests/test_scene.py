"""The scene of a report in a real browser: it is turned by mouse and keys, enlarged, and shows one class alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from browser import Tab, browser
from isthmus.figures import spatial
from isthmus.report.page import Page, Section, render

pytestmark = pytest.mark.browser

CLASSES = ("zero", "one", "two")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with one scene of 300 points."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    codes = (generator.normal(size=(300, 3)) + labels[:, None]).astype(np.float32)
    scene = spatial.scene("scene", "The codes", codes, labels, CLASSES)
    text = render(Page("t", [], [], {}, [Section("S3.4", "t", "a", ["f"], scenes=[scene])]))
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text)
    return path.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def drawing(tab: Tab) -> str:
    """A hash of what the canvas shows."""
    tab.frames()
    return hashlib.sha256(tab.ask("document.querySelector('.scene canvas').toDataURL()").encode()).hexdigest()


def middle(tab: Tab) -> tuple[float, float]:
    """The middle of the canvas, in the window."""
    tab.ask("document.querySelector('.scene canvas').scrollIntoView({block: 'center', behavior: 'instant'})")
    tab.frames()
    place = "(() => { const b = document.querySelector('.scene canvas').getBoundingClientRect();"
    x, y = tab.ask(f"{place} return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
    return x, y


@pytest.mark.parametrize("width", [390, 1280])
def test_dragging_turns_and_dragging_back_returns(tab: Tab, page: str, width: int) -> None:
    tab.open(page, width=width)
    x, y = middle(tab)
    first = drawing(tab)
    tab.drag((x, y), (x + 80, y + 20))
    turned = drawing(tab)
    assert turned != first
    tab.mouse("mouseMoved", x, y)  # no button is held: the scene stands still
    assert drawing(tab) == turned
    tab.drag((x + 80, y + 20), (x, y))
    assert drawing(tab) == first


def test_arrow_keys_turn_the_scene_that_has_the_focus_and_the_page_stays(tab: Tab, page: str) -> None:
    tab.open(page, height=500)
    middle(tab)
    tab.ask("document.querySelector('.scene canvas').focus()")
    first, place = drawing(tab), tab.ask("scrollY")
    tab.key("ArrowDown")
    assert drawing(tab) != first
    tab.key("ArrowUp")
    assert drawing(tab) == first
    tab.key("ArrowLeft")
    assert drawing(tab) != first
    assert tab.ask("scrollY") == place


def test_the_wheel_scrolls_the_page_and_enlarges_only_with_control(tab: Tab, page: str) -> None:
    tab.open(page, height=400)
    x, y = middle(tab)
    first = drawing(tab)
    tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-50, modifiers=2)
    assert drawing(tab) != first
    tab.open(page, height=400)
    tab.ask("scrollTo({top: 0, behavior: 'instant'})")
    tab.frames()
    assert tab.ask("document.documentElement.scrollHeight > innerHeight")
    box = tab.ask("document.querySelector('.scene canvas').getBoundingClientRect().top")
    tab.mouse("mouseWheel", x, min(390, box + 10), deltaX=0, deltaY=60)
    tab.wait("scrollY > 0")
    assert drawing(tab) == first


def test_a_class_is_shown_alone_and_all_again(tab: Tab, page: str) -> None:
    tab.open(page)
    middle(tab)
    assert tab.ask("[...document.querySelectorAll('.scene .classes button')].map(b => b.textContent)") == list(CLASSES)
    first = drawing(tab)
    click = "document.querySelectorAll('.scene .classes button')[1].click()"
    tab.ask(click)
    assert drawing(tab) != first
    assert tab.ask("document.querySelectorAll('.scene [aria-pressed=true]').length") == 1
    tab.ask(click)
    assert drawing(tab) == first


def test_colours_follow_the_theme(tab: Tab, page: str) -> None:
    tab.open(page)
    middle(tab)
    seen = []
    for scheme in ("light", "dark"):
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen.append(drawing(tab))
    tab.call("Emulation.setEmulatedMedia", features=[])
    assert seen[0] != seen[1]
