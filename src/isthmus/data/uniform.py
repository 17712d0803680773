"""Image files of any sizes and modes -> images of one shape, wherever the files lie.

    source of N files -> headers, uint8 (M, C, H, W) of the M that can be used, and why the others cannot

The shape is guessed by a few files, so that those that are all alike are opened once; where the guess was wrong, all
headers are looked at first. Images too large for memory stay on disk (stored.py). Every file that cannot be used is
named, and what was converted goes into the notes.
"""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import numpy as np

from isthmus.data.arrays import Pixels
from isthmus.data.cache import storing
from isthmus.data.contents import States, Sums
from isthmus.data.decoding import Part, Shape
from isthmus.data.photographs import Header
from isthmus.data.stored import Storing, stored_in, too_large
from isthmus.errors import DataError

LONGEST_SIDE = 256  # without a size asked for, images are not larger than this
NAMED = 5  # so many files are named in a message; the rest are counted


@dataclass(frozen=True)
class Source:
    """Where N image files come from.

    where: what messages call the whole. count: N. noun: what each is. parts: reads all, in order, as one shape (C, H,
    W), or with None their headers alone. sample: the headers of a few, None if one of them is damaged. name: what file
    i is called in messages.
    """

    where: str
    count: int
    noun: str
    parts: Callable[[Shape | None], Generator[Part, None, None]]
    sample: Callable[[], list[Header] | None]
    name: Callable[[int], str]


@dataclass
class Read:
    """What became of the files. headers: of those that can be used, at their numbers; bad: number -> why not.
    pixels: (M, C, H, W) of the former. sums, states: of every file, see contents.py."""

    headers: dict[int, Header]
    bad: dict[int, str]
    pixels: Pixels
    sums: Sums
    states: States


def read_uniform(source: Source, size: tuple[int, int] | None, *, skip_bad: bool) -> Read:
    """Decode every file, once if all are alike, else after a look at all headers.

    Arguments: size: (height, width) of the images. By default the common size of the files, if all have one of at most
    256 on a side; else the most common size, shrunk to fit 256. skip_bad: leave out what cannot be used.
    Raises: DataError naming the files that cannot be used.
    """
    shape = _guess(source, size)
    read = None if shape is None else _decode(source, shape, size, guessed=True)
    if read is None:
        bad: dict[int, str] = {}
        headers = [header for _, header in _headers(source.parts(None), bad)]
        if not headers:
            _refuse(source, bad, skip_bad)
        read = _decode(source, _shape_of(headers, size), size, guessed=False)
        assert read is not None
    if read.bad:
        try:
            _refuse(source, read.bad, skip_bad)
        except DataError:
            stored = stored_in(read.pixels)
            if stored is not None:
                stored.remove()
            raise
    return read


def conversions(headers: Iterable[Header], shape: Shape) -> list[str]:
    """A sentence on each kind of change that was made to images to bring them to a shape (C, H, W)."""
    channels, height, width = shape
    kinds = Counter(headers)  # few, of however many files

    def count(kind: Callable[[Header], bool]) -> int:
        return sum(number for header, number in kinds.items() if kind(header))

    modes: Counter[str] = Counter()
    for header, number in kinds.items():
        modes.update({header.mode: number} if header.mode is not None else {})
    return sentences(
        [
            (count(lambda h: (h.height, h.width) != (height, width)), "image", f"resized to {height} x {width}"),
            (
                count(lambda h: h.height * width != h.width * height),
                "image",
                "cropped at the centre to these proportions",
            ),
            *((number, "image", f"converted from {mode}") for mode, number in sorted(modes.items())),
            (count(lambda h: h.grey and channels == 3), "grey image", "repeated over 3 channels"),
            (count(lambda h: h.rotated), "image", "turned upright by EXIF orientation"),
            (count(lambda h: h.several), "file", "of several pictures or frames: the first was taken"),
        ]
    )


def sentences(counted: Iterable[tuple[int, str, str]]) -> list[str]:
    """Notes of (how many, of what, what about them), without those of none."""
    return [f"{count_of(number, noun)} {what}." for number, noun, what in counted if number]


def left_out(source: Source, bad: dict[int, str]) -> list[str]:
    """The note on files that were skipped, if there are any."""
    named = named_files(source, bad)
    return [f"{count_of(len(bad), f'unreadable {source.noun.split()[-1]}')} left out: {named}."] if bad else []


def named_files(source: Source, bad: dict[int, str]) -> str:
    """The first few files with the reason, and how many more."""
    return some([f"{source.name(i)} {bad[i]}" for i in sorted(bad)[:NAMED]], len(bad))


def some(words: Sequence[str], total: int) -> str:
    """The first few of `total` things, and how many more."""
    more = total - len(words[:NAMED])
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def count_of(number: int, noun: str) -> str:
    """A number and a noun, in the plural where it is."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _guess(source: Source, size: tuple[int, int] | None) -> Shape | None:
    """The shape all images will have, going by a few of them; None if those are of several sizes, or damaged."""
    headers = source.sample()
    if not headers:
        return None
    alike = len({(header.height, header.width) for header in headers}) == 1
    return _shape_of(headers, size) if alike or size else None


def _shape_of(headers: Sequence[Header], size: tuple[int, int] | None) -> Shape:
    """(C, H, W): of the size asked for, else of the most common one; grey if every image is."""
    height, width = size or _choose_size(headers)
    return 1 if all(header.grey for header in headers) else 3, height, width


def _choose_size(headers: Iterable[Header]) -> tuple[int, int]:
    """The most common (height, width), the larger of equally common ones, shrunk to fit LONGEST_SIDE."""
    counts = Counter((header.height, header.width) for header in headers)
    height, width = max(counts, key=lambda size: (counts[size], size[0] * size[1], size))
    scale = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _headers(parts: Iterable[Part], bad: dict[int, str], first: int = 0) -> Iterator[tuple[int, Header]]:
    """The number and header of each file that can be used, counted from `first`; the others go into `bad`."""
    number = first
    for part in parts:
        for header in part.headers:
            if isinstance(header, str):
                bad[number] = header
            else:
                yield number, header
            number += 1


class _Memory:
    """Images in memory, filled in order; the other place for them is `stored.Storing`."""

    def __init__(self, count: int, shape: Shape):
        try:
            self.pixels, self.count = np.empty((count, *shape), np.uint8), 0
        except (MemoryError, ValueError) as error:  # ValueError: more than any address space
            raise DataError(
                f"{count} images of {shape[1]} x {shape[2]} need {count * math.prod(shape):,} bytes of memory, more "
                "than there is; ask for a smaller size"
            ) from error

    def append(self, images: Pixels) -> None:
        self.pixels[self.count : self.count + len(images)] = images
        self.count += len(images)

    def finish(self) -> Pixels:
        return self.pixels[: self.count]

    def abandon(self) -> None:
        del self.pixels


def _decode(source: Source, shape: Shape, size: tuple[int, int] | None, *, guessed: bool) -> Read | None:
    """Decode files to a shape (C, H, W). None if that was `guessed`, and is not what they turn out to have."""
    total = source.count * math.prod(shape)
    target = storing(shape, total) if too_large(total) else _Memory(source.count, shape)
    headers: dict[int, Header] = {}
    bad: dict[int, str] = {}
    sums: list[Sums] = []
    states: list[States] = []
    number = 0
    try:
        with closing(source.parts(shape)) as parts:
            for part in parts:
                fresh = dict(_headers([part], bad, first=number))
                if guessed and shape[0] == 1 and not all(header.grey for header in fresh.values()):
                    target.abandon()
                    return None
                headers |= fresh
                sums.append(part.sums)
                states.append(part.states)
                number += len(part.headers)
                assert part.pixels is not None
                target.append(part.pixels)
        if guessed and headers and _shape_of(list(headers.values()), size) != shape:
            target.abandon()
            return None
        pixels = target.finish(temporary=True) if isinstance(target, Storing) else target.finish()
    except BaseException:
        target.abandon()
        raise
    return Read(headers, bad, cast(Pixels, pixels), np.concatenate(sums), np.concatenate(states))


def _refuse(source: Source, bad: dict[int, str], skip_bad: bool) -> None:
    """Raise DataError naming the bad files, unless they are to be skipped and others remain."""
    if skip_bad and len(bad) < source.count:
        return
    step = "give other files" if skip_bad else "repair or remove them, or leave them out with --skip-bad"
    count = count_of(source.count, source.noun)
    raise DataError(f"{len(bad)} of {count} in {source.where} cannot be used: {named_files(source, bad)}; {step}")
