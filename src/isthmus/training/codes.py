"""Codes as a file that other programs read: the ending of its name says which.

    .npz      codes (N, D) float32, paths (N,), with classes labels (N,) and classes (K,), with a posterior std (N, D),
              model: the sha256 of the weights that made them
    .csv      a line an image: path, label, code_0 to code_<D - 1>, std_0 ..., model; nine
              digits, which float32 survives
    .parquet  the same columns, or those of thumbnails.py; needs the package pyarrow

Nothing in them is pickled. In a table the model is the last column, so that a line cut short shows.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from isthmus.data.arrays import class_order
from isthmus.data.batches import open_images
from isthmus.data.files import IMAGE_NAMES, PARTED_NAMES, read_npz
from isthmus.errors import InputError, RunExistsError
from isthmus.model_files import WEIGHTS
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.training.loop import Progress
from isthmus.training.predict import Encoded, encode_images, find_run
from isthmus.training.thumbnails import has_thumbnails, read_thumbnails, write_thumbnails
from isthmus.writing import write_arrays, write_bytes

NAN = "nan"
SUFFIXES = (".npz", ".csv", ".parquet")
AS_TEXT: Any = {"float_format": "%.9g", "na_rep": NAN, "lineterminator": "\n"}
PLAIN = ".npy"  # read, and never written
AGAIN = "write it again with `isthmus encode`"


@dataclass(frozen=True)
class CodesFile:
    """The codes of N images, as a file holds them.

    codes: (N, D) float32. paths: N, what the images are called, or None if the file does not say. labels: (N,) class
    numbers and the K names they stand for, or None if not every image has a class. std: (N, D), the standard deviations
    of a VAE's posterior, or None. run: sha256 of the weights of the model that made them, None if the file does not
    say.
    """

    codes: NDArray[np.float32]
    paths: tuple[str, ...] | None = None
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    std: NDArray[np.float32] | None = None
    run: str | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def names(self) -> tuple[str, ...]:
        """What the images are called, by the numbers of their rows if the file does not say."""
        digits = len(str(len(self) - 1))
        return self.paths or tuple(f"{i:0{digits}d}" for i in range(len(self)))

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> CodesFile:
        """The codes at these places, or under this mask, in this order."""
        places = np.arange(len(self))[index]
        return replace(
            self,
            codes=self.codes[places],
            paths=None if self.paths is None else tuple(self.paths[i] for i in places),
            labels=None if self.labels is None else self.labels[places],
            std=None if self.std is None else self.std[places],
        )

    def label(self, i: int) -> str | None:
        """The class of image i by name, None if that is not known."""
        return None if self.labels is None else self.classes[self.labels[i]]


def check_target(path: Path, *, overwrite: bool = False, thumbnails: bool = False) -> None:
    """Refuse, before any work, a file that could not be written in the end.

    Raises: InputError for another ending, one that holds no thumbnails, a missing package, or a folder that cannot be
    written; RunExistsError if the file is there already.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"--out {path} ends in {suffix or 'nothing'}; codes are written as {', '.join(SUFFIXES)}.")
    if thumbnails and suffix != ".parquet":
        raise InputError(
            f"--out {path} ends in {suffix}, which holds no thumbnails; name a .parquet, or leave out --thumbnails."
        )
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"--out {path} needs a package: `pip install pyarrow`, or write .npz or .csv.")
    if path.is_dir():
        raise RunExistsError(f"--out {path} is a folder; name a file.")
    if os.path.lexists(path) and not overwrite:
        raise RunExistsError(f"{path} exists already; add --overwrite to replace it, or choose another --out.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "you may not write there" if above.is_dir() else "it is a file"
        raise InputError(f"--out {path} cannot be written below {above}: {reason}. Choose another --out.")


def encode_into(
    path: Path,
    folder: Path,
    source: str | Path,
    *,
    posterior: bool = False,
    thumbnails: bool = False,
    overwrite: bool = False,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Encoded:
    """Encode images by a run, as `encode_images` does, and write the codes to a file.

    Arguments: thumbnails: with the images, into a Parquet file; see thumbnails.py.
    Raises: what `check_target`, `encode_images` and `write_codes` or `write_thumbnails` raise; nothing is written then.
    """
    check_target(path, overwrite=overwrite, thumbnails=thumbnails)
    run = find_run(folder, (Autoencoder, VAE))
    found = encode_images(run.folder, source, posterior=posterior, device=device, progress=progress)
    if thumbnails:
        again = open_images(source, run.image_shape())
        write_thumbnails(path, found, again, model=weights_fingerprint(run), progress=progress)
    else:
        write_codes(path, codes_file(found, run))
    return found


def codes_file(encoded: Encoded, run: Run) -> CodesFile:
    """What a file holds of images that `run` encoded."""
    return CodesFile(
        encoded.codes, encoded.names, encoded.labels, encoded.classes, encoded.std, run=weights_fingerprint(run)
    )


def weights_fingerprint(run: Run) -> str:
    """sha256 (hex) of the file of a run's weights, by which its codes are told from those of others.

    Raises: InputError if it is no finished run.
    """
    noted = run.config()["checksums"].get(WEIGHTS)
    if noted:
        return str(noted)
    if not (run.model / WEIGHTS).exists():
        raise InputError(f"{run.folder} is not a finished run: it has no weights; train it to its end with --resume.")
    return hashlib.sha256((run.model / WEIGHTS).read_bytes()).hexdigest()


def write_codes(path: Path, codes: CodesFile) -> None:
    """Write codes, whole or not at all. Raises: StorageError."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        write_arrays(path, _arrays(codes))
    elif suffix == ".csv":
        write_bytes(path, _table(codes).to_csv(index=False, **AS_TEXT).encode())
    else:
        buffer = io.BytesIO()
        _table(codes).to_parquet(buffer, index=False, engine="pyarrow")
        write_bytes(path, buffer.getvalue())


def holds_codes(path: Path) -> bool:
    """Whether a file is one of codes and not of images, by a look at its beginning.

    Raises: InputError for a .parquet that cannot be read at all.
    """
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (*SUFFIXES, PLAIN):
        return False
    if suffix == PLAIN:  # which no reader of images takes
        return True
    if suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                names = {Path(name).stem.lower() for name in archive.namelist()}
        except zipfile.BadZipFile:  # the reader of images says what is wrong
            return False
        images = {*IMAGE_NAMES, *(name for part in PARTED_NAMES for name in part[::2])}
        return "codes" in names and not names & images
    if suffix == ".csv":
        with path.open(encoding="utf-8", errors="replace") as file:
            return "code_0" in file.readline(2**20).rstrip("\r\n").split(",")
    columns = _parquet_columns(path)
    return "code_0" in columns or has_thumbnails(columns)


def read_codes(path: Path) -> CodesFile:
    """Read codes as `write_codes` or `write_thumbnails` writes them, in any of their forms.

    A plain array is read too: a .npy file, or an .npz that holds nothing else. Codes may be NaN or infinite, as
    those of a diverged network are.
    Raises: InputError naming the file and what is wrong with it: missing, damaged, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, PLAIN):
        raise InputError(f"{path} ends in {suffix or 'nothing'}; codes are read from {', '.join((*SUFFIXES, PLAIN))}.")
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; name a file of codes.")
    if suffix in (".csv", ".parquet"):
        return _from_table(path)
    return _from_arrays(path, read_npz(path) if suffix == ".npz" else {"codes": _plain(path)})


def check_model(path: Path, found: CodesFile, run: Run) -> None:
    """Refuse codes that a run did not make, as far as that can be told.

    Arguments: path: where they were read. run: of a network with codes.
    Raises: InputError if they have another size, or the file names another model.
    """
    size, latent_dim = found.codes.shape[1], run.config()["model"]["latent_dim"]
    if size != latent_dim:
        raise InputError(
            f"{path} holds codes of {size} numbers, those of {run.folder} have {latent_dim}: name the run that made "
            f"them, or {AGAIN}."
        )
    own = weights_fingerprint(run)
    if found.run is not None and found.run != own:
        raise InputError(
            f"{path} was written by another model than {run.folder} (its weights are {found.run[:12]}..., those of the "
            f"run {own[:12]}...): codes of two models do not compare. Name the run that made them, or {AGAIN}."
        )


def _arrays(codes: CodesFile) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"codes": codes.codes}
    if codes.paths is not None:
        arrays["paths"] = np.array(codes.paths)
    if codes.labels is not None:
        arrays |= {"labels": codes.labels, "classes": np.array(codes.classes)}
    if codes.std is not None:
        arrays["std"] = codes.std
    if codes.run is not None:
        arrays["model"] = np.array(codes.run)
    return arrays


def _table(codes: CodesFile) -> pd.DataFrame:
    columns: dict[str, object] = {"path": [_utf8(name) for name in codes.names()]}
    if codes.labels is not None:
        columns["label"] = [_utf8(codes.classes[label]) for label in codes.labels]
    columns |= {f"code_{i}": codes.codes[:, i] for i in range(codes.codes.shape[1])}
    if codes.std is not None:
        columns |= {f"std_{i}": codes.std[:, i] for i in range(codes.std.shape[1])}
    if codes.run is not None:
        columns["model"] = codes.run
    return pd.DataFrame(columns)


def _utf8(name: str) -> str:
    r"""A name as it is, but for bytes of a file name that are not UTF-8: those as \udc.."""
    return name.encode(errors="backslashreplace").decode()


def _plain(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, EOFError, MemoryError, ValueError) as error:  # a header may promise more than memory holds
        raise _unreadable(path, error) from error


def _from_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> CodesFile:
    if len(arrays) == 1 and next(iter(arrays.values())).ndim == 2:
        arrays = {"codes": next(iter(arrays.values()))}
    if "codes" not in arrays:
        raise InputError(
            f"{path} holds {', '.join(arrays) or 'no arrays'}; needed is an array called codes, as `isthmus encode` "
            f"writes."
        )
    codes = arrays["codes"]
    if codes.ndim != 2 or 0 in codes.shape or codes.dtype.kind != "f":
        raise InputError(f"{path}, codes: {codes.dtype} of shape {codes.shape}; needed are floats (N, D); {AGAIN}.")
    names = ("paths", "labels", "classes", "std", "model")
    paths, labels, classes, std, model = (arrays.get(name) for name in names)
    for name, array, kinds, shape in (
        ("paths", paths, "U", (len(codes),)),
        ("labels", labels, "iu", (len(codes),)),
        ("std", std, "f", codes.shape),
        ("model", model, "U", (1,)),
    ):
        if array is not None and (array.dtype.kind not in kinds or array.shape != shape):
            raise InputError(
                f"{path}, {name}: {array.dtype} of shape {array.shape} beside codes {codes.shape}; {AGAIN}."
            )
    if labels is not None and (classes is None or labels.min() < 0 or labels.max() >= len(classes)):
        named = "no classes" if classes is None else f"{len(classes)} classes"
        raise InputError(f"{path} has labels from {labels.min()} to {labels.max()} and {named}; {AGAIN}.")
    return CodesFile(
        _float32(codes),
        None if paths is None else tuple(paths.tolist()),
        None if labels is None else labels.astype(np.int64),
        () if labels is None or classes is None else tuple(map(str, classes)),
        None if std is None else _float32(std),
        None if model is None else str(model[0]),
    )


def _from_table(path: Path) -> CodesFile:
    names = _parquet_columns(path) if path.suffix.lower() == ".parquet" else _csv_columns(path)
    with_thumbnails = _rows_with_thumbnails(path) if has_thumbnails(names) else None
    names = names if with_thumbnails is None else [str(name) for name in with_thumbnails.columns]
    codes, std = (_columns(names, kind) for kind in ("code", "std"))
    expected = [f"code_{i}" for i in range(len(codes))]
    if not codes or codes != expected or "path" not in names or (std and len(std) != len(codes)):
        raise InputError(
            f"{path} has the columns {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}; needed are path and "
            f"code_0, code_1 and so on, as `isthmus encode` writes."
        )
    table = _rows(path, codes + std) if with_thumbnails is None else with_thumbnails
    if not len(table):
        raise InputError(f"{path} holds no codes, only a header; {AGAIN}.")
    models = [str(name) for name in table["model"].unique()] if "model" in table else []
    if len(models) > 1:
        raise InputError(
            f"{path} names {len(models)} models ({', '.join(repr(name[:12]) for name in models[:3])}): a line is cut "
            f"short, or files were joined; {AGAIN}."
        )
    labels = [str(label) for label in table["label"]] if "label" in table else []
    classes = class_order(labels) if all(labels) else []
    number = {name: i for i, name in enumerate(classes)}
    return CodesFile(
        _float32(table[codes].to_numpy()),
        tuple(map(str, table["path"])),
        np.array([number[label] for label in labels], np.int64) if classes else None,
        tuple(classes),
        _float32(table[std].to_numpy()) if std else None,
        models[0] if models and models[0] else None,
    )


def _csv_columns(path: Path) -> list[str]:
    try:
        return [str(name) for name in pd.read_csv(path, nrows=0).columns]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _parquet_columns(path: Path) -> list[str]:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path} needs a package: `pip install pyarrow`, or write the codes as .npz or .csv.")
    try:
        return list(importlib.import_module("pyarrow.parquet").read_schema(path).names)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _rows(path: Path, numbers: list[str]) -> pd.DataFrame:
    """The lines of a table, its columns `numbers` as floats and all else as text."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path, engine="pyarrow")
            return table.astype(dict.fromkeys(numbers, "float64"))
        types: Any = {name: "float64" if name in numbers else "str" for name in _csv_columns(path)}
        missing: Any = {name: [NAN] for name in numbers}  # any other empty field is damage
        return pd.read_csv(path, dtype=types, na_values=missing, keep_default_na=False)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _rows_with_thumbnails(path: Path) -> pd.DataFrame:
    try:
        return read_thumbnails(path)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} cannot be read as codes ({reason}): it is damaged, cut short or no such file; {AGAIN}.")


def _columns(names: list[str], kind: str) -> list[str]:
    """Those of the numbers of one kind, code_0, code_1 and so on, in this order."""
    found = [name for name in names if re.fullmatch(rf"{kind}_\d+", name)]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # codes that become infinite are left out later
        return np.ascontiguousarray(values, np.float32)
