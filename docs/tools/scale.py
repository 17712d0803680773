"""The tables of docs/scale.md, worked out from what benchmarks/encode_shards.py measured.

    python docs/tools/scale.py        # after a measurement: writes them anew, between the two marks of the page

A test holds the page to them, so that none of its figures is older than benchmarks/results.json.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs/scale.md", ROOT / "benchmarks/results.json"
BEGIN, END = "<!-- worked out by docs/tools/scale.py -->\n", "<!-- end -->\n"
BILLION = 10**9
WIDTH = 130  # of a line of the page
CORES = 16  # of the machines that the tables speak of
MACHINES = (1, 4, 16)
MEMORY = 64e9  # bytes of such a machine that codes may fill
KINDS = {"parquet": "Parquet", "npy": "`.npy`"}


def section(results: dict[str, Any]) -> str:
    """What stands between the marks, from the content of results.json."""
    facts = results["workloads"]["encode_shards"]
    names = [f"{kind}.{size}" for kind in KINDS for size in sorted(map(int, facts["bytes_a_code_in_memory"]))]
    rows = {name: row for name in names if (row := facts["encoding"].get(f"{name}.cores"))}
    parts = (_source(results, facts), _measured(rows), _billion(rows), _breaks(facts, rows))
    return "\n".join(
        line if line.startswith("|") else textwrap.fill(line, WIDTH) for line in "\n".join(parts).split("\n")
    )


def with_section(page: str, results: dict[str, Any]) -> str:
    """A page with its section made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section(results)}\n{END}{after}"


def _source(results: dict[str, Any], facts: dict[str, Any]) -> str:
    machine, workers = results["machine"], max(row["workers"] for row in facts["encoding"].values())
    return (
        f"`python benchmarks/encode_shards.py`, commit {facts['commit']}: {facts['images']:,} digits of 32 x 32 in "
        f"shards of {facts['images_a_shard']:,}, the lab's encoder, {workers} workers of one thread on "
        f"{machine['cores']} cores, torch {machine['versions']['torch']}, no GPU. {facts['discarded']} of "
        f"{facts['clean'] + facts['discarded']} samples were disturbed by other work on the machine. Parquet is of "
        f"PNG files, `.npy` of uint8; D numbers are a code. Microseconds of an image; images a second and core; bytes "
        f"of an image and of its code.\n"
    )


def _measured(rows: dict[str, Any]) -> str:
    lines = [
        "| shards | D | reading | network | writing | images/s | bytes in | out |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        kind, size = name.split(".")
        times = " | ".join(f"{row['us_an_image'][part]:.1f}" for part in ("reading", "network", "writing"))
        lines.append(
            f"| {KINDS[kind]} | {size} | {times} | {row['images_a_second_a_core']:,} | {row['bytes_in']:,.0f} "
            f"| {row['bytes_out']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _billion(rows: dict[str, Any]) -> str:
    heads, few = " | ".join(map(str, MACHINES)), ", ".join(map(str, MACHINES[:-1]))
    lines = [
        f"## A billion images\n\nHours of one core, of {few} and {MACHINES[-1]} machines of {CORES} such cores, "
        f"and what each of these reads:\n",
        f"| shards | D | images | codes | a core | {heads} | reads |",
        f"|---|---|---|---|---|{'---|' * len(MACHINES)}---|",
    ]
    for name, row in rows.items():
        kind, size = name.split(".")
        rate = row["images_a_second_a_core"]
        hours = BILLION / rate / 3600
        times = " | ".join(f"{hours / CORES / count:.2g}" for count in MACHINES)
        lines.append(
            f"| {KINDS[kind]} | {size} | {row['bytes_in'] * BILLION / 1e12:.2f} TB "
            f"| {row['bytes_out'] * BILLION / 1e9:.0f} GB | {hours:.0f} | {times} "
            f"| {CORES * rate * row['bytes_in'] / 1e6:.0f} MB/s |"
        )
    return "\n".join(lines) + "\n"


def _breaks(facts: dict[str, Any], rows: dict[str, Any]) -> str:
    each = {int(size): value for size, value in facts["bytes_a_code_in_memory"].items()}
    most, driver = max(each), facts["driver_ms_a_shard"] / 1000
    counts = {images: BILLION // images for images in (1_000_000, facts["images_a_shard"], 1000)}
    looked = ", ".join(
        f"{count:,} shards of {images:,} images take {_time(count * driver)}" for images, count in counts.items()
    )
    slowest = max(rows.values(), key=lambda row: row["us_an_image"]["reading"] / row["us_an_image"]["all"])
    share = slowest["us_an_image"]["reading"] / slowest["us_an_image"]["all"]
    return (
        f"## What breaks first\n\n"
        f"**Reading the codes back.** Encoding holds one batch and one group of rows, whatever the number of images; "
        f"a set that is searched, scored or drawn is held whole. A code of {most} numbers takes {each[most]:.0f} bytes "
        f"of memory, of which {4 * most} are its numbers and most of the rest its name: a billion would take "
        f"{each[most] * BILLION / 1e9:.0f} GB, and {MEMORY / 1e9:.0f} GB are full at "
        f"{MEMORY / each[most] / 1e6:.0f} million images. Above that, name fewer files at a time by a pattern, or put "
        f"the codes into an index that compresses them and leaves them on disk.\n\n"
        f"**Then the one driver, if shards are small.** It looks at each shard before the workers begin, and at its "
        f"codes, {1000 * driver:.1f} ms for both: {looked}. So make shards of a hundred thousand images or more.\n\n"
        f"**Then whatever holds the shards.** The rightmost column is what each machine asks of it all the time. Of "
        f"the time of Parquet {share:.0%} is reading and decoding PNG files, which arrays do not need; they take more "
        f"space instead.\n"
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def main() -> None:
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
