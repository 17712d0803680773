"""A whole explorer in one HTML file, which opens from disk without a server and without a network.

Scripts and style sheets stand in the file itself, allowed by their hashes alone; every other file becomes a block of
base64 that no browser runs, known by its name:

    <script type="application/octet-stream+base64" id="file:data/codes.bin">...</script>
    <script type="application/octet-stream+gzip+base64" id="file:data/decoder.onnx">...</script>
"""

from __future__ import annotations

import base64
import gzip
import re
from html import escape
from pathlib import Path

from isthmus.errors import IsthmusError
from isthmus.explorer.page import INDEX
from isthmus.explorer.policy import single_file_policy

LINKED = re.compile(
    r'<script\b[^>]*?\ssrc="(?:\./)?(?P<script>[^"]+)"[^>]*></script>'
    r'|<link\b(?=[^>]*\srel="stylesheet")[^>]*?\shref="(?:\./)?(?P<style>[^"]+)"[^>]*>'
)
POLICY = re.compile(r'(<meta\s+http-equiv="Content-Security-Policy"\s+content=")[^"]*(")')
BODY = "</body>"


class PageError(IsthmusError):
    """A built page that is not as this package expects it."""


def single_file(folder: Path) -> bytes:
    """The explorer in a folder, as `build` makes it, in one file. Raises: PageError if its page is of another make."""
    index = (folder / INDEX).read_text(encoding="utf-8")
    linked = [match.groupdict() for match in LINKED.finditer(index)]
    scripts, styles = ([each[kind] for each in linked if each[kind]] for kind in ("script", "style"))
    if not scripts or not POLICY.search(index) or BODY not in index:
        raise PageError(f"The page in {folder} is not one that `make explorer` built: run it again.")
    texts = {name: _text(folder / name) for name in (*scripts, *styles)}
    policy = single_file_policy([texts[name] for name in scripts], [texts[name] for name in styles])

    def inline(match: re.Match[str]) -> str:
        script, style = match["script"], match["style"]
        return f"<style>{texts[style]}</style>" if style else f'<script type="module">{texts[script]}</script>'

    head, _, tail = POLICY.sub(lambda match: f"{match[1]}{policy}{match[2]}", index).rpartition(BODY)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    blocks = [_block(name, folder) for name in names if name != INDEX and name not in texts]
    return "".join([LINKED.sub(inline, head), *blocks, BODY, tail]).encode()


def _text(path: Path) -> str:
    """A script or a style sheet as it may stand within HTML: what would end it there is written otherwise."""
    text = path.read_text(encoding="utf-8")  # with \n alone, as the browser hashes it
    return re.sub(r"<(?=/(?:script|style)|!--)", r"<\\", text, flags=re.IGNORECASE)


def _block(name: str, folder: Path) -> str:
    """A file as a block, compressed where that makes it smaller; WebAssembly becomes a third of its size."""
    plain = (folder / name).read_bytes()
    packed = gzip.compress(plain, mtime=0)
    kind, content = ("gzip+base64", packed) if len(packed) < len(plain) else ("base64", plain)
    text = base64.b64encode(content).decode()
    return f'<script type="application/octet-stream+{kind}" id="file:{escape(name)}">{text}</script>\n'
