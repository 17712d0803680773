"""A model as a folder that can be kept and given away: nothing in it can run, and what was altered is refused.

    config.json             what the network is and what it was made from: see model_config.py
    model.safetensors       its weights
    trained_on.npy          sorted hashes of the training images, uint64
    densities.safetensors   densities fitted to its codes, where there are any
    README.md               the model card

`config.json` holds the sha256 of the others but the card, and of the rest of itself. The weights are written last: a
folder that has them is complete. Nothing here needs a network connection, and nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from isthmus.errors import InputError, RunExistsError
from isthmus.model_card import card
from isthmus.model_config import CONFIG, FORMAT_VERSION, DataFacts, EstimatorFacts, ModelConfig, Scaling, sum_of
from isthmus.networks.catalog import Network, build
from isthmus.settings import validate
from isthmus.writing import LOCK, TEMPORARY, held, read_json, staged, write_bytes, write_json

__all__ = [
    "CARD",
    "CONFIG",
    "DENSITIES",
    "FILES",
    "FORMAT_VERSION",
    "TRAINED_ON",
    "WEIGHTS",
    "DataFacts",
    "EstimatorFacts",
    "ModelConfig",
    "Scaling",
    "copy_model",
    "new_model",
    "read_config",
    "read_network",
    "read_trained_on",
    "record",
    "to_bytes",
    "verify",
    "write_config",
    "write_model",
]

WEIGHTS, TRAINED_ON = "model.safetensors", "trained_on.npy"
DENSITIES, CARD = "densities.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, TRAINED_ON, DENSITIES, CARD)
AGAIN = "get the folder again from where it came, or train the model again"
ARRAY_MAGIC = b"\x93NUMPY\x01\x00"  # an .npy file of version 1.0, as every plain array is written


def write_model(folder: Path, network: Network, config: ModelConfig, *, trained_on: NDArray[np.uint64]) -> None:
    """Write a model; the weights last. Densities that lie in the folder already become a part of it.

    Arguments: config: its checksums are replaced. trained_on: `ImageSet.image_hashes` of the training images.
    Raises: StorageError.
    """
    weights, hashes = to_bytes(network.state_dict()), _array_bytes(np.sort(trained_on))
    checksums = {WEIGHTS: _sha256(weights), TRAINED_ON: _sha256(hashes)}
    if (folder / DENSITIES).exists():
        checksums[DENSITIES] = _sha256((folder / DENSITIES).read_bytes())
    config = config.model_copy(update={"checksums": checksums})
    write_bytes(folder / TRAINED_ON, hashes)
    write_config(folder, config)
    write_bytes(folder / WEIGHTS, weights)


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write config.json, and the card after it. Raises: StorageError."""
    write_json(folder / CONFIG, config.content())
    write_bytes(folder / CARD, card(config).encode("utf-8", "backslashreplace"))


def copy_model(source: Path, folder: Path, *, densities: Path, overwrite: bool = False) -> None:
    """Write a whole model anew into another folder: checked, with checksums and a card even where it had none.

    Arguments: densities: the file of those fitted to its codes; it need not exist.
    Raises: InputError if the model is damaged; RunExistsError if the folder is taken; StorageError.
    """
    config = read_config(source)
    network, hashes = read_network(source, config), read_trained_on(source)
    if densities.parent == source:
        verify(densities)
    fitted = densities.read_bytes() if densities.exists() else None
    data = config.data.model_copy(update={"images": config.data.images or len(hashes) or None})
    with new_model(folder, overwrite=overwrite) as place:
        if fitted is not None:
            write_bytes(place / DENSITIES, fitted)
        write_model(place, network, config.model_copy(update={"data": data}), trained_on=hashes)


@contextlib.contextmanager
def new_model(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder to write a model into; in the end its files go to `folder`, in the place of an older model's.

    `folder` is new, empty, or with `overwrite` one of ours, which stays as it is until the new one is whole. Nobody
    else writes a model there meanwhile.
    Raises: RunExistsError with the way out; StorageError.
    """
    _check_room(folder, overwrite)  # before a lock is put into a folder that is none of ours
    with held(folder):
        _check_room(folder, overwrite)  # again, now that nobody else writes
        with staged(folder, (TRAINED_ON, CONFIG, CARD, DENSITIES, WEIGHTS)) as place:
            yield place


def _check_room(folder: Path, overwrite: bool) -> None:
    """Raises: RunExistsError unless a model can be written into the folder."""
    if folder.exists() and not folder.is_dir():
        raise RunExistsError(f"{folder} is a file; choose another folder.")
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    found = {name for name in names if name != LOCK and not name.endswith(TEMPORARY)}
    ours = TRAINED_ON in found and (CONFIG in found or found <= {*FILES})  # the latter: a move that was interrupted
    if found and not ours:
        raise RunExistsError(f"{folder} holds other files, and no model of Isthmus; choose another folder.")
    if found and not overwrite:
        raise RunExistsError(
            f"{folder} holds a model already; give overwrite=True to replace it, or choose another folder."
        )


def read_config(folder: Path) -> ModelConfig:
    """What config.json says. Raises: InputError if there is none, it is damaged, or of a newer format."""
    path = folder / CONFIG
    if not path.exists():
        raise InputError(f"{folder} holds no model (there is no {CONFIG} in it); name the folder of one.")
    values = read_json(path)
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(
            f"{path} is no {CONFIG} of Isthmus (its format version is {version!r}): name the folder of a model that "
            f"Isthmus wrote."
        )
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, this Isthmus reads {FORMAT_VERSION}: update Isthmus, "
            f"`pip install --upgrade isthmus`."
        )
    sums = values.get("checksums")
    if isinstance(sums, dict) and isinstance(sums.get(CONFIG), str):
        _compare(path, sum_of(values), sums[CONFIG])
    try:
        return validate(ModelConfig, values)
    except InputError as error:
        reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise InputError(
            f"{path} is damaged ({reasons}); update Isthmus if it is newer than this one, or {AGAIN}."
        ) from error


def read_network(folder: Path, config: ModelConfig | None = None) -> Network:
    """Build the network and load its weights, ready to evaluate; of rows of numbers in float64.

    Raises: InputError if the weights are missing, cut short, altered, pickled, or of another network than config.json.
    """
    config = config or read_config(folder)
    path = folder / WEIGHTS
    content = _read(path)
    if _is_pickle(content):
        raise InputError(
            f"{path} is a pickle under the name of a safe file: to load it would run whatever code is in it, so "
            f"Isthmus never does. Ask whoever gave it to you for the safetensors file."
        )
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise InputError(
            f"{path} cannot be read ({error}): it is cut short or damaged, {len(content):,} bytes are there; {AGAIN}."
        ) from error
    _check_sum(path, content, config)
    return _filled(path, config, tensors)


def read_trained_on(folder: Path) -> NDArray[np.uint64]:
    """Sorted hashes of the images trained on, as `ImageSet.image_hashes` makes them. Raises: InputError."""
    path = folder / TRAINED_ON
    content = _read(path)
    start = 10 + int.from_bytes(content[8:10], "little")  # of the values: after magic, version and header
    plain = content.startswith(ARRAY_MAGIC) and b"u8'" in content[:start] and (len(content) - start) % 8 == 0
    if not plain or start > len(content):
        raise InputError(f"{path} cannot be read: it is cut short or damaged, or no plain array of hashes; {AGAIN}.")
    _check_sum(path, content, read_config(folder))
    order = ">" if b"'>u8'" in content[:start] else "<"
    return np.frombuffer(content, f"{order}u8", offset=start).astype(np.uint64)


def verify(path: Path) -> None:
    """Check a file that a model may have, as its densities, against the config.json beside it.

    Raises: InputError if it was altered, is named there and missing, or belongs to another model.
    """
    config = read_config(path.parent)
    if path.name in config.checksums:
        _check_sum(path, _read(path), config)
    elif config.checksums and path.exists():
        raise InputError(f"{path} is not named in the {CONFIG} beside it: it belongs to another model; delete it.")


def record(path: Path) -> None:
    """Note a new content of one of the files in the config.json beside it, if that has checksums; call it in `held`.

    Raises: InputError; StorageError.
    """
    config = read_config(path.parent)
    if config.checksums:
        checksums = {**config.checksums, path.name: _sha256(_read(path))}
        write_json(path.parent / CONFIG, config.model_copy(update={"checksums": checksums}).content())


def to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Tensors as the content of a safetensors file."""
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def _filled(path: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> Network:
    """The network that `config` describes with these weights."""
    options: dict[str, Any] = {"classes": len(config.classes)}
    try:
        with torch.device("meta"):  # compared before any memory is taken: a damaged config may ask for much
            plan = build(config.model, config.image_shape, **options)
    except InputError as error:
        raise InputError(
            f"{path.parent / CONFIG} describes no network: {error} The file is damaged; {AGAIN}."
        ) from error
    needed = {name: tuple(tensor.shape) for name, tensor in plan.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in {**needed, **given} if needed.get(name) != given.get(name)]
    if wrong:
        first = wrong[0]
        raise InputError(
            f"{path} does not fit the {CONFIG} beside it: {len(wrong)} tensors differ, such as {first}, which is "
            f"{given.get(first, 'missing')} and should be {needed.get(first, 'absent')}. The two are of different "
            f"models; {AGAIN}."
        )
    network = build(config.model, config.image_shape, **options)
    if not config.of_images:
        network.double()
    network.load_state_dict(tensors)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training
    return network.eval()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} is missing or cannot be read ({error.strerror or error}); {AGAIN}.") from error


def _check_sum(path: Path, content: bytes, config: ModelConfig) -> None:
    if config.checksums:  # written before there were any, it has none
        _compare(path, _sha256(content), config.checksums.get(path.name))


def _compare(path: Path, found: str, expected: str | None) -> None:
    if found != expected:
        says = "says nothing of it" if expected is None else f"says {expected[:12]}..."
        raise InputError(
            f"{path} was altered after it was written: its sha256 is {found[:12]}..., {CONFIG} {says}; {AGAIN}."
        )


def _is_pickle(content: bytes) -> bool:
    """Whether this is what torch.save or pickle writes: a zip archive, or a stream of pickle's protocols 0 to 5."""
    if content[8:9] == b"{":  # a safetensors file, whatever its first eight bytes, the length of its head, look like
        return False
    binary = content[:1] == b"\x80" and content[1:2] <= b"\x05"
    text = content[:1] in (b"(", b"c", b"]", b"}") and content.rstrip().endswith(b".")
    return content.startswith(b"PK\x03\x04") or binary or text


def _array_bytes(array: NDArray[np.uint64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
