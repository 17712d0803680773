"""Networks as ONNX files, which run without Isthmus and without PyTorch: in a browser, a telephone, another language.

There is a file for each part of a network (exported_parts.py), for batches of any size. It is written only after ONNX
Runtime has computed from it what the network itself computes, on real images, in batches of 1 and of 7. What images
have to look like, the classes, and what the network was trained on stand in the file, as JSON under the key "isthmus"
of its metadata.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus import __version__
from isthmus.data.catalog import load
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, IsthmusError, RunExistsError
from isthmus.exported_parts import Alone, OfRows, Part, folded, parts_of
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

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-5  # of an output, relative to its largest number where that is above 1
BATCHES = (1, 7)
OPSET = 18  # the one torch writes without converting
LARGEST = 2**31 - 2**20  # bytes of weights; a single file ends at 2 GiB
KEY = "isthmus"  # of the metadata


class ExportError(IsthmusError):
    """An exported file that does not compute what the network computes; it was not written."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written. error: the largest difference to torch, relative to the output's largest number."""

    part: str
    path: Path
    input: str
    outputs: tuple[str, ...]
    bytes: int
    error: float


@dataclass(frozen=True)
class Exported:
    """All files of a network, the name of the images they were checked on, and sentences a user should read."""

    files: tuple[ExportedFile, ...]
    checked_on: str
    notes: tuple[str, ...]


def export_run(
    source: Run | str | Path, folder: Path | None = None, *, data: str | Path | None = None, overwrite: bool = False
) -> Exported:
    """Write a run's network as ONNX, one file for each of its parts.

    Arguments: source: a run, its folder, or a study with a single run. folder: where to; by default RUN/onnx.
    data: images to check with; by default the test part of what the run was trained on, and where that cannot be
    loaded the embedded digits. overwrite: replace files of these names.
    Raises: InputError if a package is missing, the run cannot be read, or the images do not fit; RunExistsError;
    ExportError if a file computes something else than the network; StorageError. Files are written all or none.
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
        network, plain = OfRows(network, config).eval(), OfRows(plain, config).eval()
    examples, checked_on, notes = _examples(run, network, data)
    given = {part: examples if part is parts[0] else _codes(network, examples) for part in parts}
    contents = [to_onnx(part, plain, given[part], config) for part in parts]
    errors = [check(part, network, given[part], content) for part, content in zip(parts, contents, strict=True)]
    for path, content in zip(paths, contents, strict=True):
        write_bytes(path, content)
    files = tuple(
        ExportedFile(part.name, path, part.input, tuple(part.outputs), len(content), error)
        for part, path, content, error in zip(parts, paths, contents, errors, strict=True)
    )
    return Exported(files, checked_on, notes)


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


def example_images(run: Run, data: str | Path | None) -> tuple[ImageSet, tuple[str, ...]]:
    """Images that fit a run, to check its export with, and what there is to say about their choice."""
    if data is not None:
        return prepare(run, data), ()
    try:
        return held_out(run), ()
    except InputError as error:
        channels, height, width = run.image_shape()
        digits = load("mnist-5k", size=(height, width))
        chosen = digits.take(np.linspace(0, len(digits) - 1, sum(BATCHES)).astype(int))  # sorted by class
        fitted = replace(chosen, images=np.repeat(chosen.images, channels, axis=1))
        return fitted, (f"checked on the embedded digits: {error}",)


def to_onnx(part: Part, network: nn.Module, example: Tensor, config: Mapping[str, Any]) -> bytes:
    """One part of a network as the content of an ONNX file. Arguments: config: the model's config.json."""
    with _silence():
        program = torch.onnx.export(
            Alone(network, part).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[part.input],
            output_names=list(part.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
        )
    assert program is not None
    model = program.model_proto
    # Where each operation stands in the source, with the paths of this machine.
    for holder in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
        holder.doc_string = ""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(_facts(part, config))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@torch.inference_mode()
def check(part: Part, network: nn.Module, given: Tensor, content: bytes) -> float:
    """The largest difference between an ONNX file and the network, in batches of 1 and 7.

    Arguments: given: (8, ...), inputs of the part. Raises: ExportError if it is above the tolerance.
    """
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in torch.split(given, list(BATCHES)):
        expected = [output.numpy() for output in part.call(network, batch)]
        found = session.run(list(part.outputs), {part.input: batch.numpy()})
        for name, ours, theirs in zip(part.outputs, expected, found, strict=True):
            if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
                raise ExportError(
                    f"The {name} of the exported {part.name} are {theirs.dtype} {theirs.shape}, those of the network "
                    f"{ours.dtype} {ours.shape}: nothing was written. Please report this."
                )
            difference = float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(ours).max())))
            if not difference <= TOLERANCE:  # NaN too
                raise ExportError(
                    f"The {name} of the exported {part.name} differ from the network's by {difference:.1e} in a batch "
                    f"of {len(batch)}, and {TOLERANCE:.0e} is allowed: nothing was written. Please report this."
                )
            worst = max(worst, difference)
    return worst


def _examples(run: Run, network: nn.Module, data: str | Path | None) -> tuple[Tensor, str, tuple[str, ...]]:
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
    chosen = images.take(np.arange(count) % len(images))
    given = to_float(torch.from_numpy(np.ascontiguousarray(chosen.images))).float()
    noise = float(run.config()["noise"])
    if isinstance(network, Denoiser) and noise:
        given = add_noise(given, noise, generator=generator)
    return given, images.name, notes


@torch.inference_mode()
def _codes(network: nn.Module, given: Tensor) -> Tensor:
    (encoder, _) = parts_of(network.network if isinstance(network, OfRows) else network, rows=False)
    return encoder.call(network, given)[0].contiguous()


def _facts(part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a program needs to use a file, and where it comes from."""
    channels, height, width = config["image_shape"]
    images = {
        "layout": "NCHW",
        "channels": channels,
        "height": height,
        "width": width,
        "range": [0, 1],
        "colours": "RGB" if channels == 3 else "grey, 0.299 R + 0.587 G + 0.114 B",
        "resizing": "bilinear, antialiased, pixel centres at halves",
    }
    return {
        "isthmus": __version__,
        "part": part.name,
        "input": part.input,
        "outputs": dict(part.outputs),
        "images": images if config["scaling"] is None else None,
        "code_size": config["model"].get("latent_dim"),
        "classes": list(config["classes"]),
        "noise": config["noise"],
        "model": config["model"],
        "data": config["data"],
        "checked": {"batches": BATCHES, "tolerance": TOLERANCE},
    }


def _onnxruntime() -> Any:
    """The package; its first import complains of missing graphics cards on the process's stderr, past Python's."""
    if "onnxruntime" in sys.modules:
        return sys.modules["onnxruntime"]
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
            return importlib.import_module("onnxruntime")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress and advice off the terminal; what it raises goes up as it is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
