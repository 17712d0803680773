"""What the page may do: run its own scripts and WebAssembly, read its own files, and nothing else.

A content security policy (W3C CSP 3), which the browser holds the page to. In a folder "its own" is where it was read
from; in a single file it is what has one of these hashes, and nothing is fetched at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

LAST = "base-uri 'none'; form-action 'none'"


def folder_policy() -> str:
    """The policy of a page that lies in a folder, as its index.html has it."""
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
        f"connect-src 'self'; {LAST}"
    )


def single_file_policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """The policy of a page in a single file. Arguments: the contents of its inline scripts and style sheets."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)} 'wasm-unsafe-eval'; style-src {_hashes(styles)}; "
        f"img-src data: blob:; connect-src 'none'; {LAST}"
    )


def _hashes(texts: Sequence[str]) -> str:
    """
    >>> _hashes([""])
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
