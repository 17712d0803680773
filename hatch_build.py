"""Builds the explorer's page when a wheel or an sdist is made, so that it lies in both.

Where there is no Node.js, or its packages cannot be had, it is left out, or stays as it was, and that is said:
everything else works, and `isthmus explore` says what to do. An installation for work on the sources
(`pip install -e .`) does not build it: `make explorer` does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Runs npm in explorer/, unless the page is there and no older than its sources, as it is in an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each target is built. Arguments: version: "editable" or "standard"."""
        sources, page = Path(self.root) / "explorer", Path(self.root) / "src/isthmus/explorer/static/index.html"
        if version == "editable" or is_current(sources, page):
            return
        npm = shutil.which("npm")
        if npm is None:
            self.app.display_warning("Node.js is not installed: the explorer's page is left out of this package.")
            return
        try:
            for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
                subprocess.run([npm, *command], cwd=sources, check=True)
        except subprocess.CalledProcessError as error:
            self.app.display_warning(f"The explorer's page was not built anew for this package: {error}")


def is_current(sources: Path, page: Path) -> bool:
    """Whether the page is built of these sources."""
    files = [path for path in sources.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return page.is_file() and all(path.stat().st_mtime <= page.stat().st_mtime for path in files)
