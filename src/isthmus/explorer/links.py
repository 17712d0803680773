"""A report that leads to its explorers: those single files that lie beside it.

The links stand in one paragraph before the report's list of exercises; it is written anew each time, so that a link is
there once, and only while its file is.
"""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path
from urllib.parse import quote, unquote

from isthmus.run_table import study_of
from isthmus.runs import Run
from isthmus.writing import write_bytes

REPORT = "report.html"
PLACE = '<nav aria-label="Exercises">'  # what the paragraph stands before, once in every report
PARAGRAPH = re.compile(r'<p class="explorers">.*?</p>\n  ', re.DOTALL)
LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>')


def report_of(run: Run, path: Path) -> Path | None:
    """The report that an explorer of a run belongs to: that of the run's study, if the file lies beside it."""
    study = study_of(run.folder.resolve())
    beside = study is not None and path.resolve().parent == study.resolve()
    return study / REPORT if study is not None and beside and (study / REPORT).is_file() else None


def link(report: Path, path: Path, title: str) -> bool:
    """Put a link to a file beside it into a report; False if this is no report that has a place for it.

    Links to files that are gone are taken out. Raises: StorageError.
    """
    text = report.read_text(encoding="utf-8")
    if text.count(PLACE) != 1:
        return False
    links = {unquote(unescape(target)): words for old in PARAGRAPH.findall(text) for target, words in LINK.findall(old)}
    links[path.name] = f"Explore the codes of {escape(title)} in the browser"
    there = [(name, words) for name, words in links.items() if (report.parent / name).is_file()]
    shown = " · ".join(f'<a href="{escape(quote(name))}">{words}</a>' for name, words in there)
    plain = PARAGRAPH.sub("", text)
    write_bytes(report, plain.replace(PLACE, f'<p class="explorers">{shown}</p>\n  {PLACE}').encode())
    return True
