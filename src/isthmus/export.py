"""Networks as ONNX files, which run without Isthmus and without PyTorch: in a browser, a telephone, another language.

There is a file for each part of a network (exported_parts.py), for batches of any size. It is written only after ONNX
Runtime has computed from it what the network itself computes, on real images, in batches of 1 and of 7. What images
have to look like, the classes, and what the network was trained on stand in the file, as JSON under the key "isthmus"
of its metadata.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.data.catalog import load
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, IsthmusError, RunExistsError
from isthmus.exported_parts import OfRows, Part, facts_of, folded, in_units, inner_type, parts_of, to_onnx
from isthmus.model_files import read_network
from isthmus.networks.apply import to_float
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.evaluation import held_out, prepare
from isthmus.training.predict import find_run
from isthmus.writing import write_bytes

Images = ImageSet | str | Path | None
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-5  # of each number of an output, relative to its largest size where that is above 1
BATCHES = (1, 7)
LARGEST = 2**31 - 2**20  # bytes of weights; a single file ends at 2 GiB


class ExportError(IsthmusError):
    """An exported file that does not compute what the network computes, or does not run; it was not written."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    error: the largest difference to torch. A number of the output counts relative to its largest size among the inputs
    checked, where that is above 1; one of a row of numbers first relative to the range of its column.
    """

    part: str
    path: Path
    input: str
    outputs: tuple[str, ...]
    bytes: int
    error: float


@dataclass(frozen=True)
class Exported:
    """All files of a run's network, the name of the images they were checked on, and sentences a user should read."""

    run: Path
    files: tuple[ExportedFile, ...]
    checked_on: str
    notes: tuple[str, ...]


def export_run(
    source: Run | str | Path, folder: Path | None = None, *, data: Images = None, overwrite: bool = False
) -> Exported:
    """Write a run's network as ONNX, one file for each of its parts.

    Arguments: source: a run, its folder, or a study with a single run. folder: where to; by default RUN/onnx.
    data: images to check with; by default the test part of what the run was trained on, and where that cannot be
    loaded the embedded digits. overwrite: replace files of these names.
    Raises: InputError if a package is missing, the run cannot be read, or the images do not fit; RunExistsError;
    ExportError if a file computes something else than the network; StorageError. After an error no file of this export
    is there; an older one stays if it was not yet replaced.
    """
    check_packages()
    run = source if isinstance(source, Run) else find_run(Path(source), (Autoencoder, VAE, Classifier, Denoiser))
    config = run.config()
    network: nn.Module = read_network(run.model)
    check_size(network, run)
    parts = parts_of(network, rows=config["scaling"] is not None)
    folder = run.folder / "onnx" if folder is None else folder
    paths = [folder / f"{part.name}.onnx" for part in parts]
    check_targets(folder, paths, overwrite=overwrite)
    plain = folded(network)
    if config["scaling"] is not None:
        network, plain = OfRows(network, config).eval(), OfRows(plain, config, inner=inner_type(plain)).eval()
    examples, checked_on, notes = _examples(run, network, data)
    given = {part: examples if part is parts[0] else _codes(network, examples) for part in parts}
    checked = {"batches": BATCHES, "tolerance": TOLERANCE}
    contents = [to_onnx(part, plain, given[part], facts_of(part, config, checked)) for part in parts]
    errors = [check(part, network, given[part], content) for part, content in zip(parts, contents, strict=True)]
    write_all(dict(zip(paths, contents, strict=True)))
    files = tuple(
        ExportedFile(part.name, path, part.input, tuple(part.outputs), len(content), error)
        for part, path, content, error in zip(parts, paths, contents, errors, strict=True)
    )
    return Exported(run.folder, files, checked_on, notes)


def check_packages() -> None:
    """Raises: InputError naming what is missing of the extra `onnx`."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'Exporting to ONNX needs {" and ".join(missing)}: `pip install "isthmus[onnx]"`.')


def check_size(network: nn.Module, run: Run) -> None:
    """Raises: InputError if the weights do not fit into a single file."""
    count = sum(tensor.nbytes for tensor in network.state_dict().values())
    if count > LARGEST:
        raise InputError(
            f"{run.folder} has {count / 2**30:.1f} GiB of weights, and a single ONNX file holds 2 GiB; train a smaller "
            f"network."
        )


def check_targets(folder: Path, paths: list[Path], *, overwrite: bool) -> None:
    """Raises: RunExistsError if a file is there already, or the folder is none."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunExistsError(f"{folder} is a file; choose another --out.")
    taken = [path for path in paths if os.path.lexists(path)]
    if any(path.is_dir() for path in taken):
        raise RunExistsError(f"{taken[0]} is a folder; choose another --out.")
    if taken and not overwrite:
        names = " and ".join(map(str, taken))
        raise RunExistsError(f"{names} exist{'s' if len(taken) == 1 else ''} already; add --overwrite, or --out.")


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write files; if one cannot be written, those before it are deleted. Raises: StorageError."""
    written: list[Path] = []
    try:
        for path, content in contents.items():
            write_bytes(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def example_images(run: Run, data: Images) -> tuple[ImageSet, tuple[str, ...]]:
    """Eight images that fit a run, to check its export with, and what there is to say about their choice."""
    if data is not None:
        return _spread(prepare(run, data)), ()
    try:
        return _spread(held_out(run)), ()
    except InputError as error:
        channels, height, width = run.image_shape()
        chosen = _spread(load("mnist-5k", size=(height, width)))
        fitted = replace(chosen, images=np.repeat(chosen.images, channels, axis=1))
        reason = str(error).replace(", as DATA", ", with --data")  # `evaluate` has them as an argument
        return fitted, (f"checked on the embedded digits: {reason}",)


@torch.inference_mode()
def check(part: Part, network: nn.Module, given: Tensor, content: bytes) -> float:
    """The largest difference between an ONNX file and the network, in batches of 1 and 7.

    Arguments: given: (8, ...), inputs of the part. Raises: ExportError if it is above the tolerance, or the file does
    not run.
    """
    answers = _answers(part, given, content)
    expected = [output.numpy() for output in part.call(network, given)]
    apart = [
        _difference(part, network, name, ours, theirs)
        for name, ours, theirs in zip(part.outputs, expected, answers, strict=True)
    ]
    return max(apart)


def _answers(part: Part, given: Tensor, content: bytes) -> list[tuple[NDArray[Any], ...]]:
    """What ONNX Runtime computes: for each output of a part its batches. Raises: ExportError."""
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # no errors either: they are raised
    options.intra_op_num_threads = torch.get_num_threads()
    batches = [batch.numpy() for batch in torch.split(given, list(BATCHES))]
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found = [session.run(list(part.outputs), {part.input: batch}) for batch in batches]
    except Exception as error:  # ONNX Runtime's own have no other class in common
        raise ExportError(
            f"ONNX Runtime cannot compute the exported {part.name} in batches of {' and '.join(map(str, BATCHES))} "
            f"({' '.join(str(error).split())}): nothing was written. Please report this."
        ) from error
    return list(zip(*found, strict=True))


def _difference(
    part: Part, network: nn.Module, name: str, expected: NDArray[Any], answers: tuple[NDArray[Any], ...]
) -> float:
    """The largest difference in an output, (8, ...) and its batches. Raises: ExportError if it is too large."""
    size = np.maximum(1.0, np.abs(in_units(network, name, expected)).max(axis=0))
    worst = 0.0
    for ours, theirs in zip(np.split(expected, np.cumsum(BATCHES)[:-1]), answers, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ExportError(
                f"The {name} of the exported {part.name} are {theirs.dtype} {theirs.shape}, those of the network "
                f"{ours.dtype} {ours.shape}: nothing was written. Please report this."
            )
        apart = np.abs(in_units(network, name, ours) - in_units(network, name, theirs)) / size
        difference = float(apart.max())
        if not difference <= TOLERANCE:  # NaN too
            raise ExportError(
                f"The {name} of the exported {part.name} differ from the network's by {difference:.1e} in a batch of "
                f"{len(ours)}, relative to their size, and {TOLERANCE:.0e} is allowed: nothing was written. Please "
                f"report this."
            )
        worst = max(worst, difference)
    return worst


def _examples(run: Run, network: nn.Module, data: Images) -> tuple[Tensor, str, tuple[str, ...]]:
    """Eight inputs of a network, what they are, and what there is to say of them.

    Images, with the noise that a denoiser was trained on; rows of numbers are drawn from their range, since a model of
    those does not say where it saw them.
    """
    generator, count = torch.Generator().manual_seed(0), sum(BATCHES)
    if isinstance(network, OfRows):
        if data is not None:
            raise InputError(
                f"{run.folder} takes rows of {len(network.minimum)} numbers, not images: leave out --data."
            )
        return network.draw(count, generator), "rows drawn from the range of the training", ()
    images, notes = example_images(run, data)
    given = to_float(torch.from_numpy(np.ascontiguousarray(images.images))).float()
    noise = float(run.config()["noise"])
    if isinstance(network, Denoiser) and noise:
        given = add_noise(given, noise, generator=generator)
    return given, images.name, notes


@torch.inference_mode()
def _codes(network: nn.Module, given: Tensor) -> Tensor:
    (encoder, _) = parts_of(network.network if isinstance(network, OfRows) else network, rows=False)
    return encoder.call(network, given)[0].contiguous()


def _spread(images: ImageSet) -> ImageSet:
    """Eight of the images, from all over the set: many a set is sorted by class."""
    return images.take(np.linspace(0, len(images) - 1, sum(BATCHES)).astype(int))


def _onnxruntime() -> Any:
    """The package; its first import complains of missing graphics cards on the process's stderr, past Python's.

    From 1.29 it reports its use to its maker unless this is refused before it is imported; a user's own word stays.
    """
    if "onnxruntime" in sys.modules:
        return sys.modules["onnxruntime"]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
            return importlib.import_module("onnxruntime")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
