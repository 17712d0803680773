"""What a user sees of a long job: lines and progress bars with the time left, on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.training.loop import Progress


class Console:
    """Follows a job. quiet shows nothing but errors; bars need a terminal and `progress`."""

    def __init__(self, *, quiet: bool = False, progress: bool = True):
        self.quiet, self.bars = quiet, progress and not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Show one line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """A bar for one training; what is yielded is called with (steps done, steps in all, text)."""
        if not self.bars:
            yield lambda done, total, text: None
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def follow(done: int, total: int, text: str) -> None:
                bar.update(task, completed=done, total=total, description=f"{title}: {text}")

            yield follow
