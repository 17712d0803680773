"""The table of README.md, made from results.json and put between two markers.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import RESULTS

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- made by table.py from results.json -->", "<!-- end of the table -->"
HEAD = "| workload | ours | peers, seconds | peer / ours | clean, left out | commit |\n|---|---|---|---|---|---|\n"


def table(results: dict[str, Any]) -> str:
    """One row for each workload that has a peer."""
    rows = [row(name, facts) for name, facts in sorted(results["workloads"].items(), key=_order) if "peers_s" in facts]
    return HEAD + "\n".join(rows)


def _order(item: tuple[str, Any]) -> list[Any]:
    """Numbers within a name by their size: knn.2 before knn.16."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in item[0].split(".")]


def row(name: str, facts: dict[str, Any]) -> str:
    """One workload; a ratio that is only known to be as large is marked."""
    at_least = facts.get("at_least", [])
    seconds = ", ".join(f"{peer} {_seconds(value)}" for peer, value in facts["peers_s"].items())
    ratios = ", ".join(
        f"{peer} {'at least ' if peer in at_least else ''}{ratio:.2f}" for peer, ratio in facts["ratio"].items()
    )
    short = " (missed)" if facts.get("missed") else ""
    ours = _seconds(facts["ours_s"]) + (f" ({_spread(facts['spread_s'])})" if "spread_s" in facts else "")
    return (
        f"| `{name}`{short} | {ours} | {seconds} | {ratios} | {facts['clean']}, {facts['discarded']} "
        f"| {facts['commit']} |"
    )


def _spread(spread: dict[str, list[float]]) -> str:
    least, most = spread["ours"]
    return f"{_seconds(least)} to {_seconds(most)}"


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def written(text: str, results: dict[str, Any]) -> str:
    """A text with the table between its markers. Raises: ValueError if they are missing."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{README} needs the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def write() -> None:
    """Bring README.md up to date."""
    README.write_text(written(README.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    write()
