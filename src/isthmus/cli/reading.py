"""The bar that is shown while a folder of many images is read, whichever command reads it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.cli.console import Console
    from isthmus.training.loop import Progress

PATIENCE = 0.5  # seconds of reading before there is a bar: most folders are read by then


@contextlib.contextmanager
def reading(console: Console) -> Iterator[None]:
    """Show a bar for every folder that is read in this block, and for nothing else in it."""
    from isthmus.data.decoding import following

    bar = _Bar(console)
    try:
        with following(bar):
            yield
    finally:
        bar.close()


class _Bar:
    """A bar that appears when reading takes long, and goes when it is done: there is room for one at a time."""

    def __init__(self, console: Console):
        self.console, self.stack = console, contextlib.ExitStack()
        self.shown: Progress | None = None
        self.begun: float | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        self.begun = now if self.begun is None else self.begun
        if self.shown is None and now - self.begun >= PATIENCE:
            self.shown = self.stack.enter_context(self.console.progress("read images"))
        if self.shown is not None:
            self.shown(done, total, text)
        if done == total:
            self.close()

    def close(self) -> None:
        self.stack.close()
        self.shown = self.begun = None
