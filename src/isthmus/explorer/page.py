"""The built page: files that `make explorer` makes of the folder `explorer/` and that a wheel carries.

They are not in the repository. Where they are missing, everything else of the package works.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from isthmus.errors import InputError

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
DATA = "data"  # the folder, beside the page, that a run fills
NODE = "Node.js 20.19 or later (nodejs.org)"


def page_files() -> dict[str, Path]:
    """The files of the page by their names in its folder, such as "assets/explorer.js".

    Raises: InputError saying what to install, and which command builds the page.
    """
    static = STATIC
    if not (static / INDEX).is_file():
        raise InputError(_how_to_build(static))
    found = {path.relative_to(static).as_posix(): path for path in sorted(static.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if not name.startswith((f"{DATA}/", "."))}


def _how_to_build(static: Path) -> str:
    sources = static.parents[3] if len(static.parents) > 3 else static
    if not (sources / "explorer/package.json").is_file():
        return (
            f"The explorer's page is not in this installation, which was built where there was no Node.js. Install "
            f"{NODE}, and the package again from its sources: the page is then built with it."
        )
    if shutil.which("npm") is None:
        return f"The explorer's page is not built yet: install {NODE}, then run `make explorer` in {sources}."
    return f"The explorer's page is not built yet: run `make explorer` in {sources}."
