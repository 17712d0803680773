"""The explorer in headless Chromium, drawn by software: how long a hand waits for its picture, and how large it all is.

A VAE with a code of 16 numbers on MNIST at 32 x 32 (or --run) is shown with its 10,000 test images, and once more with
all 70,000.

    drag       from the pointer's event to the picture on the canvas, while the hand is dragged over 10,000 points
    frames     frames a second while 70,000 points turn
    first      from asking for the page to the first picture, over loopback, in a fresh browser
    folder, file   bytes of the folder of 10,000 images, and of the single file

Times are taken in the page; what the screen adds comes on top. Needs Chromium and the built page (make explorer).

    python benchmarks/explorer.py [--run DIR] [--rounds 5]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import Aims, missed, probe, save
from isthmus.cli.console import Console
from isthmus.cli.options import prepare_process
from isthmus.explorer.bundle import Source, build
from isthmus.explorer.serve import serving
from isthmus.explorer.single import single_file
from isthmus.studies.single import train_one

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import Tab, browser  # lies with the tests, which drive the same browser

AIMS: Aims = {
    "drag_ms": (None, 16.0),
    "frames_a_second": (10.0, None),
    "first_picture_s": (None, 2.0),
    "folder_mb": (None, 25.0),
    "file_mb": (None, 35.0),
}
DRAGS, MOVES = 4, 40  # across the map, and events in each
TURN = 60  # frames
HAND = "document.querySelector('button.hand').getBoundingClientRect()"
STAGE = "document.querySelector('.stage').getBoundingClientRect()"


@contextmanager
def page(folder: Path) -> Iterator[Tab]:
    """The explorer of a folder in a fresh browser, ready."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab, serving(folder) as server:
        tab.open(server.address)
        tab.ask("isthmus.ready")
        yield tab


def drag(tab: Tab) -> list[float]:
    """Milliseconds from each event to its picture, while the hand is dragged in circles over the map."""
    box = tab.ask(f"(() => {{ const b = {STAGE}; return [b.x, b.y, b.width, b.height]; }})()")
    x, y = tab.ask(f"(() => {{ const b = {HAND}; return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
    middle, radius = (box[0] + box[2] / 2, box[1] + box[3] / 2), 0.3 * min(box[2], box[3])
    before = len(tab.ask("isthmus.stats().delays"))
    tab.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    for i in range(DRAGS * MOVES):
        angle = 2 * math.pi * i / MOVES
        place = middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)
        tab.mouse("mouseMoved", *place, button="left", buttons=1)
    tab.mouse("mouseReleased", *place, button="left", clickCount=1)
    tab.frames()
    delays: list[float] = tab.ask("isthmus.stats().delays")[before:]
    if len(delays) < DRAGS * MOVES / 4:
        raise SystemExit(f"the hand was dragged by {DRAGS * MOVES} events and drew {len(delays)} pictures only")
    return delays


def measure(small: Path, large: Path, rounds: int) -> dict[str, list[float]]:
    """All times, a value a round."""
    names = ("first_map_s", "first_picture_s", "drag_ms", "drag_ms_95", "frames_a_second")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        with page(small) as tab:
            tab.wait("isthmus.stats().firstPicture > 0")
            stats = tab.ask("isthmus.stats()")
            assert stats["points"] == 10_000
            found["first_map_s"].append(stats["firstMap"] / 1000)
            found["first_picture_s"].append(stats["firstPicture"] / 1000)
            drag(tab)  # warm-up
            delays = sorted(drag(tab))
            found["drag_ms"].append(statistics.median(delays))
            found["drag_ms_95"].append(delays[int(0.95 * len(delays))])
        with page(large) as tab:
            assert tab.ask("isthmus.stats().points") == 70_000
            tab.ask("[...document.querySelectorAll('button')].find(each => each.textContent === '3-D').click()")
            tab.ask("isthmus.turn(5)")
            found["frames_a_second"].append(tab.ask(f"isthmus.turn({TURN})")["framesPerSecond"])
        print({name: round(values[-1], 2) for name, values in found.items()}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as place:
        run = options.run
        if run is None:
            run = Path(place) / "vae16"
            train_one("vae", "mnist", run, changes=["data.height=32", "data.width=32"], reporter=Console())
        small, large = Path(place) / "small", Path(place) / "large"
        made = build(Source(run), small)
        build(Source(run, "mnist"), large)
        size = len(single_file(small))
        before = probe()
        times = measure(small, large, options.rounds)
    facts: dict[str, Any] = {name: round(statistics.median(values), 2) for name, values in times.items()}
    facts |= {"folder_mb": round(made.bytes / 1e6, 2), "file_mb": round(size / 1e6, 2), "rounds": options.rounds}
    facts |= {"points": {"drag": made.count, "turn": 70_000}, "probe_s": [round(before, 4), round(probe(), 4)]}
    save("explorer", facts)
    late = missed(facts, AIMS)
    if late:
        raise SystemExit(f"missed: {', '.join(late)}")


if __name__ == "__main__":
    main()
