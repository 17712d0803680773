"""Chromium, driven through its debugging pipe: a page is opened, clicked, dragged and asked as a person would.

Messages are JSON ended by a zero byte, to file 3 of the browser and from file 4 (the Chrome DevTools Protocol).
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0  # seconds for an answer
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def chromium() -> str:
    """The browser's path; without one the test is skipped, or fails where a browser is required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("ISTHMUS_REQUIRE_BROWSER"):
            pytest.fail("ISTHMUS_REQUIRE_BROWSER is set and there is no Chromium")
        pytest.skip("needs Chromium")
    return found


class Tab:
    """One page of the browser."""

    def __init__(self, write: int, read: int):
        self.write, self.read = write, read
        self.numbers = itertools.count(1)
        self.rest = b""
        self.session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def open(self, address: str, *, width: int = 1280, height: int = 900) -> None:
        """Show a page in a window of this size, and wait until it is loaded."""
        if self.session is None:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until the expression is true in the page."""
        end = time.monotonic() + PATIENCE
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def frames(self) -> None:
        """Until the page has drawn twice."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Press, move, release or turn the wheel at a place of the window."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at `begin`, move in four steps to `end`, release."""
        held = {"button": "left", "buttons": 1}
        self.mouse("mousePressed", *begin, clickCount=1, **held)
        for step in range(1, 5):
            place = [a + (b - a) * step / 4 for a, b in zip(begin, end, strict=True)]
            self.mouse("mouseMoved", *place, **held)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def key(self, name: str) -> None:
        """Press and release a key that writes nothing."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self.read, 1 << 16)
            assert more, "the browser has ended"
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(line))


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A Chromium of our own with a fresh profile; it ends with the block."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    command = [chromium(), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    # The browser looks for the two ends at 3 and 4; a shell puts them there whatever numbers they have here. Not any
    # shell: the plain one of Debian knows numbers of one digit only.
    shell = ["bash", "-c", f'exec 8<&{to_browser} 9>&{from_browser}; exec 3<&8 4>&9; exec "$@"', "bash"]
    ends = (to_browser, from_browser)
    process = subprocess.Popen(shell + command, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for end in ends:
        os.close(end)
    try:
        yield Tab(write, read)
    finally:
        os.close(write)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read)
