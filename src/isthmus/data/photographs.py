"""One image file -> uint8 pixels, upright, grey or RGB, of the size asked for.

`read_header` looks without decoding: size, mode, orientation; that is enough to refuse an image that is too large and
to choose one size for a folder. `decode` reads the pixels:
first frame or page -> EXIF orientation -> 8 bits, grey or RGB, transparency laid over white -> centre crop and
antialiased bilinear scaling. `read_photograph` does both, and sums up the content, with the file opened once;
`read_content` does both with a content that lies in memory. All raise `UnreadableImageError` with a reason that follows
the file's name.
"""

import hashlib
import io
import os
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from isthmus.data.contents import SMALL, State, open_file, read_whole, settled, state_of

MOST_PIXELS = 64_000_000
_TOO_LARGE = "over the limit of 64 megapixels"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_DECODERS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # of SUFFIXES
_IMPORTED = (TiffImagePlugin, WebPImagePlugin)  # which makes Pillow know them
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
_LOOKED_AT_IN_PLACE = frozenset({"PNG", "JPEG", "BMP", "PPM"})  # in others looking moves to another frame and back
_PLAIN_INFO = frozenset({"dpi", "gamma", "srgb", "chromaticity", "aspect", "interlace", "transparency", "icc_profile"})
_SWAPS_SIDES = range(5, 9)  # EXIF orientations that turn by a quarter
_WORDS = {
    "1": "1-bit",
    "P": "palette",
    "PA": "palette",
    "LA": "grey with transparency",
    "La": "grey with transparency",
    "RGBA": "RGB with transparency",
    "RGBa": "RGB with transparency",
    "I": "16-bit grey",
    "F": "floating-point grey",
}


class UnreadableImageError(Exception):
    """An image that cannot be used; the text is the reason, and the caller names the file."""


class Header(NamedTuple):
    """What an image file says of itself, seen upright.

    `mode` is in words where the pixels need converting, and None where they do not. `several`: the file holds more
    pictures than the one that counts, as animations do.
    """

    height: int
    width: int
    grey: bool
    rotated: bool
    mode: str | None
    several: bool = False


class Photograph(NamedTuple):
    """A file read once.

    pixels: as `decode` gives them, None if no size was asked for. digest: sha256 of the content, b"" if that changed
    meanwhile. state: of the file, see contents.py.
    """

    header: Header
    pixels: NDArray[np.uint8] | None
    digest: bytes
    state: State


def read_header(path: Path) -> Header:
    """Size, mode and orientation of an image file, without decoding it. Call it from one thread.

    Raises: UnreadableImageError for an empty or damaged file, or over 64 megapixels.
    """
    try:
        status = path.stat()
        _check_file(status)
        with without_warnings(), Image.open(path, formats=_decoders()) as image:
            header = _header(image)
    except UnreadableImageError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file; the reason is passed on
        raise UnreadableImageError(_reason(error)) from error
    _check_pixels(header)
    return header


def read_photograph(path: str, size: tuple[int, int] | None) -> Photograph:
    """Header, pixels of the size (height, width) and sum of an image file. To be called inside `without_warnings`.

    Raises: UnreadableImageError as `read_header` and `decode`.
    """
    try:
        now = time.time_ns()
        descriptor = open_file(path)
        try:
            status = os.fstat(descriptor)
            _check_file(status)
            if status.st_size > SMALL:
                return _read_large(descriptor, status, size, now)
            content = read_whole(descriptor, status.st_size)
        finally:
            os.close(descriptor)
        header, pixels = _see(io.BytesIO(content), size)
        return Photograph(header, pixels, hashlib.sha256(content).digest(), settled(status, now))
    except UnreadableImageError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file; the reason is passed on
        raise UnreadableImageError(_reason(error)) from error


def read_content(content: bytes, size: tuple[int, int] | None) -> tuple[Header, NDArray[np.uint8] | None]:
    """Header, and pixels of the size (height, width) if one is asked for, of what an image file holds.

    To be called inside `without_warnings`. Raises: UnreadableImageError as `read_header` and `decode`.
    """
    if not content:
        raise UnreadableImageError("is empty (0 bytes)")
    try:
        return _see(io.BytesIO(content), size)
    except UnreadableImageError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file; the reason is passed on
        raise UnreadableImageError(_reason(error)) from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's warning of large images is not shown: our own limit refuses them. It counts for all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """The pixels of an image file, (height, width) if it is grey, else (height, width, 3).

    Another shape is cropped at its centre to the asked proportions, then scaled.
    Raises: UnreadableImageError if the file is damaged.
    """
    try:
        with Image.open(path, formats=_decoders()) as image:
            return _pixels(image, height, width)
    except UnreadableImageError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file; the reason is passed on
        raise UnreadableImageError(_reason(error)) from error


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """An image (C, H, W) as what a PNG file contains."""
    file = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))).save(
        file, "PNG"
    )
    return file.getvalue()


def _read_large(descriptor: int, status: os.stat_result, size: tuple[int, int] | None, now: int) -> Photograph:
    """The same without holding the content."""
    with open(descriptor, "rb", closefd=False) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        header, pixels = _see(file, size)
    same = state_of(os.fstat(descriptor)) == state_of(status)
    return Photograph(header, pixels, digest if same else b"", settled(status, now))


def _see(source: BinaryIO, size: tuple[int, int] | None) -> tuple[Header, NDArray[np.uint8] | None]:
    """What an opened file says of itself and, if a size is given, its pixels."""
    image = Image.open(source, formats=_decoders())
    header = _header(image)
    _check_pixels(header)
    if size is None:
        return header, None
    if image.format in _LOOKED_AT_IN_PLACE and not header.several:
        return header, _pixels(image, *size)
    source.seek(0)
    with Image.open(source, formats=_decoders()) as image:
        return header, _pixels(image, *size)


def _pixels(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    if image.format == "JPEG":
        # It decodes cheaply at a half, quarter or eighth; at twice the size the filter still matters.
        longest = 2 * max(height, width)
        image.draft(None, (longest, longest))
    image.load()
    # Asking for tags takes as long as decoding a small image.
    if image.format != "PNG" or not _PLAIN_INFO.issuperset(image.info):
        ImageOps.exif_transpose(image, in_place=True)
    upright = _eight_bits(image)
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), method=Image.Resampling.BILINEAR)
    shape = (height, width) if upright.mode == "L" else (height, width, 3)
    return np.frombuffer(upright.tobytes(), np.uint8).reshape(shape)


def _check_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
        raise UnreadableImageError("is not a regular file")
    if status.st_size == 0:
        raise UnreadableImageError("is empty (0 bytes)")


def _check_pixels(header: Header) -> None:
    if header.height * header.width > MOST_PIXELS:
        raise UnreadableImageError(f"is {header.width} x {header.height}: {_TOO_LARGE}")


@cache
def _decoders() -> list[str]:
    """Those of _DECODERS that this Pillow has; a renamed EPS must not reach the program started for it."""
    Image.preinit()  # with the two that are imported here, without the forty that nobody needs
    return [name for name in _DECODERS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"is {_TOO_LARGE}"
    if isinstance(error, UnidentifiedImageError):
        return "is not an image of a known format, or its header is damaged"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is damaged ({error or type(error).__name__})"


def _header(image: Image.Image) -> Header:
    orientation = _orientation(image)
    width, height = image.size
    if orientation in _SWAPS_SIDES and image.format != "TIFF":  # Pillow has swapped a TIFF's sides already
        width, height = height, width
    grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
    mode = _conversion(image)
    several = bool(getattr(image, "is_animated", False))  # last: in a GIF it moves to the second frame and back
    return Header(height, width, grey, orientation in range(2, 9), mode, several)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8. A PNG with tags behind its pixels is not asked: that would decode it."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1


def _conversion(image: Image.Image) -> str | None:
    """In words, what the pixels are converted from; None for 8-bit grey and RGB."""
    if image.mode.startswith("I;16"):
        return "16-bit grey"
    if image.mode not in _GREY_MODES and any(";16" in str(tile.args) for tile in getattr(image, "tile", [])):
        return "16 bits a channel"  # of which Pillow reads the higher byte
    if image.mode in ("L", "RGB"):
        return _WORDS[image.mode + "A"] if image.has_transparency_data else None
    return _WORDS.get(image.mode, image.mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Any mode -> "L" or "RGB": 16 bits scaled to 8, transparency laid over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(np.asarray(image))
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        layered = image.convert("LA" if grey else "RGBA")
        white = Image.new(layered.mode, layered.size, (255, 255) if grey else (255, 255, 255, 255))
        if grey:  # alpha_composite knows RGBA only
            return Image.composite(layered.getchannel("L"), white.getchannel("L"), layered.getchannel("A"))
        return Image.alpha_composite(white, layered).convert("RGB")
    wanted = "L" if grey else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _scaled(values: NDArray[np.generic]) -> Image.Image:
    """16-bit integers v -> round(v / 257), so that 65535 is 255; floats in [0, 1] -> round(255 v)."""
    numbers = values.astype(np.float64)
    top = 1 if values.dtype.kind == "f" else 65535
    if not (np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= top):
        raise UnreadableImageError(f"has grey values outside 0 to {top}; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(numbers * (255 / top)).astype(np.uint8))
