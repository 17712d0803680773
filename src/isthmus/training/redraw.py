"""Images drawn by a run: of codes, and of images by way of their codes.

    decode       x = D(z)            of codes that `encode`, or any other program, wrote
    reconstruct  x_hat = D(E(x))     beside x, with the error of each image

Both work a batch at a time, so that memory does not grow with the number of pictures, and write into a folder that the
caller has claimed: a picture an image, and `table.csv`, a line an image. What cannot be used is named, and the rest is
done. Nothing is written before all is checked; then `begin` is called, which makes room for it.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from isthmus.data.batches import Batch, Stream, open_images
from isthmus.data.imageset import hashes_of
from isthmus.data.photographs import SUFFIXES
from isthmus.errors import DataError, InputError, TrainedOnWarning
from isthmus.metrics import mse, psnr
from isthmus.networks.apply import BATCH, Coder, decode, ranges, reconstruct, to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.codes import CodesFile, check_model
from isthmus.training.joined_codes import read_joined_codes
from isthmus.training.loop import Progress
from isthmus.training.predict import COMMANDS, find_run
from isthmus.writing import write_bytes, write_json

DECODED, RECONSTRUCTED = "decode.json", "reconstruct.json"  # by which folders of ours are known
EXAMPLES = 24  # pictures kept for a contact sheet, spread evenly over all
LONGEST = 200  # bytes of a part of a name, below what disks take by as much as is added while it is written
EXACT = 100.0  # decibels given to an image without any error, whose PSNR is infinite; so in inverse/bottleneck.py


@dataclass
class Decoded:
    """Codes that became pictures.

    count: pictures written. bad: code -> why it was left out. notes: sentences that a user should read. examples: some
    of the pictures, (C, H, W) in [0, 1], and their names.
    """

    count: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    examples: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@dataclass
class Reconstructed:
    """Images and what the code kept of them.

    stream: what was read, with the images left out and the notes. mse, psnr: one number an image, per pixel and in
    decibels; the psnr is that of the reconstruction clipped to [0, 1]. examples: pairs (2, C, H, W) of an image and its
    reconstruction, their names, and where they stand among the numbers. seen: how many images were trained on.
    """

    stream: Stream
    mse: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    examples: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    seen: int = 0

    def figures(self) -> dict[str, float]:
        """Means over the images."""
        return {"mse": float(np.mean(self.mse)), "psnr": float(np.mean(self.psnr))}


def decode_codes(
    folder: Path,
    run_folder: Path,
    source: Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Decoded:
    """Decode codes and write `images/`, a PNG a code, and `table.csv`.

    A picture is called after the path its code carries, or by the number of its row where there are no paths, one
    occurs twice, or one is no plain relative path.
    Arguments: run_folder: what `find_run` takes. source: what `read_joined_codes` takes. progress: called with (codes
    done, codes in all, a line). begin: called before the first file is written.
    Raises: InputError for a run without a decoder, or codes of another size or run; DataError if no code can be used;
    StorageError.
    """
    run, network = coder_of(run_folder, device)
    codes = read_joined_codes(source)
    check_model(source, codes, run)
    found = Decoded(notes=[unsaid(source)] if codes.run is None else [])
    names = _names_of(codes, found.notes)
    usable = np.isfinite(codes.codes).all(1)
    found.bad.update({names[i]: "holds NaN or infinite numbers" for i in np.flatnonzero(~usable)})
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise DataError(f"None of the {len(names)} codes of {source} can be used: they hold NaN or infinite numbers.")
    shown = set(rows[_spread(len(rows))].tolist())
    places = Places()
    table: dict[str, list[object]] = {"code": [], "picture": []}
    begin()
    write_json(folder / DECODED, {"run": str(run.folder), "codes": str(source)})
    for first, last in ranges(len(rows), BATCH):
        part = rows[first:last].tolist()
        images = decode(network, codes.codes[part])
        files = [places.of(names[i]) for i in part]
        _write_pictures(folder / "images", files, images)
        table["code"] += [names[i] for i in part]
        table["picture"] += files
        found.examples += [image for i, image in zip(part, images, strict=True) if i in shown]
        found.names += [names[i] for i in part if i in shown]
        found.count += len(part)
        if progress is not None:
            progress(found.count, len(rows), f"{found.count:,} of {len(rows):,} codes")
    write_bytes(folder / "table.csv", _csv(table))
    return found


def reconstruct_images(
    folder: Path,
    run_folder: Path,
    source: str | Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Reconstructed:
    """Reconstruct images and write `original/` and `reconstructed/`, a PNG an image, and `table.csv`.

    The originals are written as the network was given them: of its size and channels.
    Arguments: run_folder: what `find_run` takes. source: what `open_images` takes. progress: called with (images done,
    images in all, a line). begin: called before the first file is written.
    Warns: TrainedOnWarning, with the count, if any of the images were trained on.
    Raises: InputError for a run without a decoder; DataError if no image can be used; StorageError.
    """
    run, network = coder_of(run_folder, device)
    trained_on = run.trained_on()
    found = Reconstructed(open_images(source, run.image_shape()))
    shown = set(_spread(found.stream.count).tolist())
    places = Places()
    table: dict[str, list[object]] = {"image": [], "label": [], "reconstructed": []}
    for batch in _followed(found.stream, progress):
        if not found.mse:
            begin()
            write_json(folder / RECONSTRUCTED, {"run": str(run.folder), "images": str(source)})
        given = to_float(torch.from_numpy(batch.images))
        redrawn = reconstruct(network, given)
        clipped = redrawn.clamp(0, 1)
        files = [places.of(name) for name in batch.names]
        _write_pictures(folder / "original", files, given)
        _write_pictures(folder / "reconstructed", files, clipped)
        _keep_examples(found, batch, given, clipped, shown)
        found.mse += mse(redrawn, given).tolist()
        found.psnr += psnr(clipped, given).clamp(max=EXACT).tolist()
        found.seen += int(np.isin(hashes_of(batch.images), trained_on).sum())
        table["image"] += batch.names
        table["label"] += ["" if label is None else label for label in batch.labels]
        table["reconstructed"] += files
    measured = {"mse": [f"{value:.6g}" for value in found.mse], "psnr": [f"{value:.2f}" for value in found.psnr]}
    if not any(table["label"]):
        del table["label"]
    write_bytes(folder / "table.csv", _csv({**table, **measured}))
    if found.seen:
        warnings.warn(
            f"{found.seen} of the {len(found.mse)} images of {source} were trained on by {run.folder}: the figures "
            f"flatter the model.",
            TrainedOnWarning,
            stacklevel=2,
        )
    return found


def coder_of(folder: Path, device: str = "cpu") -> tuple[Run, Coder]:
    """The run that `find_run` finds in a folder, and its network, which encodes and decodes.

    Raises: InputError, with the command that suits the run, if it has no decoder.
    """
    run = find_run(folder, (Autoencoder, VAE))
    network = run.network().to(device)
    if not isinstance(network, Autoencoder | VAE):
        kind = run.config()["model"]["name"]
        raise InputError(
            f"{run.folder} is a run of `{kind}`, which has no decoder; use `isthmus {COMMANDS[type(network)]}` for it, "
            f"or a run of an autoencoder, as of `isthmus train vae`."
        )
    return run, network


def unsaid(path: Path) -> str:
    """What a user should know of a file of codes that does not name its model."""
    return f"{path} does not say which model wrote it: only the size of its codes was checked"


class Places:
    """Where the pictures of images go: `a.png` for `a.jpg`, and each to a place of its own.

    Where that was given away before, also in another case of letters, it is `a.jpg.png`. Parts of a name that are too
    long for a disk, with what is added while a file is written, are cut.

    >>> places = Places()
    >>> [places.of(name) for name in ("a.jpg", "a.png", "a.png/b.gif")]
    ['a.png', 'a.png.png', '_a.png/b.png']
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.folders: set[str] = set()

    def of(self, name: str) -> str:
        """The place of the picture of the image of this name, a plain relative path."""
        name = "/".join(map(_cut, name.split("/")))
        while not self.files.isdisjoint(_above(name)):  # a file is called what would have to be a folder
            name = f"_{name}"
        stem, suffix = os.path.splitext(name)
        usual = [stem] if suffix.lower() in SUFFIXES else []
        stems = itertools.chain(usual, [name], (f"{name}-{i}" for i in itertools.count(2)))
        chosen = next(f"{each}.png" for each in stems if not self._is_taken(f"{each}.png"))
        self.files.add(chosen.casefold())
        self.folders.update(_above(chosen))
        return chosen

    def _is_taken(self, name: str) -> bool:
        return name.casefold() in self.files or name.casefold() in self.folders


def _above(name: str) -> list[str]:
    """The folders that a file needs, in one case of letters."""
    return [parent.as_posix() for parent in PurePosixPath(name.casefold()).parents][:-1]


def _cut(part: str) -> str:
    """As much of the end of a part of a name as a disk takes, which differs most between files."""
    while (over := len(os.fsencode(part)) - LONGEST) > 0:
        part = part[-(-over // 4) :]  # four bytes are a character, at most
    return part


def _names_of(codes: CodesFile, notes: list[str]) -> list[str]:
    """A name for each code: the path it carries, if all are plain and differ, else the number of its row."""
    paths = codes.paths or ()
    odd = next((path for path in paths if not _is_plain(path)), None)
    if odd is not None:
        notes.append(f"pictures are called by number, since {odd!r} is no plain relative path")
    elif len({path.casefold() for path in paths}) < len(paths):
        notes.append("pictures are called by number, since not every code has a path of its own")
    else:
        return list(codes.names())
    digits = len(str(len(codes) - 1))
    return [f"{i:0{digits}d}" for i in range(len(codes))]


def _is_plain(name: str) -> bool:
    """Whether a name from a file leads to a place inside a folder, on every system."""
    path = PureWindowsPath(name)  # it knows both separators, and drives
    inside = bool(path.parts) and not path.anchor and ".." not in path.parts
    # Of half characters, those alone that stand for bytes of a file name can be written.
    odd = any(c < " " or ("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff") for c in name)
    return inside and not odd


def _spread(count: int) -> NDArray[np.int64]:
    """Up to EXAMPLES positions spread evenly over `count`."""
    return np.linspace(0, count - 1, min(count, EXAMPLES)).round().astype(np.int64)


def _keep_examples(found: Reconstructed, batch: Batch, given: Tensor, redrawn: Tensor, shown: set[int]) -> None:
    for i, name in enumerate(batch.names):
        at = len(found.mse) + i
        if at in shown:
            found.examples.append(torch.stack([given[i].clamp(0, 1), redrawn[i]]))
            found.names.append(name)
            found.at.append(at)


def _followed(stream: Stream, progress: Progress | None) -> Iterator[Batch]:
    """The batches of a stream. Raises: DataError, with the reasons, if there was nothing in it that can be used."""
    done = 0
    for batch in stream.batches:
        done += len(batch.names)
        yield batch
        if progress is not None:
            progress(done + len(stream.bad), stream.count, f"{done + len(stream.bad):,} of {stream.count:,} images")
    if not done:
        reasons = ", ".join(f"{name} {reason}" for name, reason in list(stream.bad.items())[:3])
        more = f" and {len(stream.bad) - 3} more" if len(stream.bad) > 3 else ""
        raise DataError(f"None of the {stream.count} image(s) of {stream.source} can be used: {reasons}{more}.")


def _write_pictures(folder: Path, names: Sequence[str], images: Tensor) -> None:
    """Write images (B, C, H, W) as PNG files, in threads, since each waits for the disk. Raises: StorageError."""
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def write(name: str, array: NDArray[np.uint8]) -> None:
        write_bytes(folder / name, _png(array))

    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        list(pool.map(write, names, pixels))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, C) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _csv(columns: Mapping[str, Sequence[object]]) -> bytes:
    r"""A table with a header; bytes of a file name that are not UTF-8 become \udc.."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue().encode(errors="backslashreplace")
