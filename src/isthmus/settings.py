"""Every setting there is, as pydantic models: one schema for `train --set`, the study and the files on disk.

Unknown keys are refused, and all mistakes are reported at once, each with its dotted path.
A network's own options live in the settings class of that network; `model.name` chooses the class.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from isthmus.errors import SettingsError

S = TypeVar("S", bound=BaseModel)


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Settings(BaseModel):
    """Frozen, strict about unknown keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LabSettings(Settings):
    """The lab's convolutional autoencoder. `halvings`: how often the image is halved; 0 until 2 or 3 pixels remain."""

    name: Literal["lab"] = "lab"
    latent_dim: int = Field(default=2, gt=0, le=65536)
    width: int = Field(default=16, gt=0, le=1024)
    code_relu: bool = True
    upsample: Literal["nearest", "transposed"] = "nearest"
    halvings: int = Field(default=0, ge=0, le=7)


class StrongSettings(Settings):
    """A wide multilayer perceptron with batch norm."""

    name: Literal["strong"] = "strong"
    latent_dim: int = Field(default=2, gt=0, le=65536)
    hidden: tuple[Annotated[int, Field(gt=0, le=16384)], ...] = Field(default=(1000, 500, 250), min_length=1)


class LinearSettings(Settings):
    """The linear autoencoder, whose optimum is PCA."""

    name: Literal["linear"] = "linear"
    latent_dim: int = Field(default=2, gt=0, le=65536)


class VAESettings(Settings):
    """The variational autoencoder.

    `width` and `units` belong to the convolutional architecture, `hidden` to the mlp. `sigma` is of the decoder's
    Gaussian, in [0, 1] units; `kl_warmup` is in updates.
    """

    name: Literal["vae"] = "vae"
    latent_dim: int = Field(default=16, gt=0, le=65536)
    architecture: Literal["convolutional", "mlp"] = "convolutional"
    width: int = Field(default=16, gt=0, le=1024)
    units: int = Field(default=256, gt=0, le=16384)
    hidden: tuple[Annotated[int, Field(gt=0, le=16384)], ...] = Field(default=(1000, 500, 250), min_length=1)
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    sigma: Literal["learned", "optimal"] | PositiveFloat = "optimal"
    beta: float = Field(default=1.0, ge=0)
    free_bits: float = Field(default=0.0, ge=0)
    kl_warmup: int = Field(default=0, ge=0)


class DenoiserSettings(Settings):
    """The network trained to denoise. `width` belongs to the convolutional architecture, `hidden` to the mlp."""

    name: Literal["denoiser"] = "denoiser"
    architecture: Literal["convolutional", "mlp"] = "convolutional"
    width: int = Field(default=16, gt=0, le=1024)
    hidden: tuple[Annotated[int, Field(gt=0, le=16384)], ...] = Field(default=(256, 256), min_length=1)


class ClassifierSettings(Settings):
    """The classifier.

    `blocks` of convolution and pooling halve the image as many times; they, `width` and `batch_norm` belong to the
    convolutional architecture. `hidden` is the size of a layer between them, or in the mlp the pixels, and the scores:
    0 for none, or several sizes. `standardise` brings each image to mean 0 and standard deviation 1 first.
    """

    name: Literal["classifier"] = "classifier"
    architecture: Literal["convolutional", "mlp"] = "convolutional"
    width: int = Field(default=16, gt=0, le=1024)
    blocks: int = Field(default=3, gt=0, le=8)
    batch_norm: bool = True
    hidden: Annotated[int, Field(ge=0, le=16384)] | tuple[Annotated[int, Field(gt=0, le=16384)], ...] = 0
    standardise: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


ModelSettings = Annotated[
    LabSettings | StrongSettings | LinearSettings | VAESettings | DenoiserSettings | ClassifierSettings,
    Field(discriminator="name"),
]


class _Model(Settings):
    model: ModelSettings


class TrainingSettings(Settings):
    """How a network is trained.

    `warmup` is the share of updates in which the one-cycle rate rises. `patience` stops after so many epochs
    without a better one on the validation images. `noise` is the standard deviation, in [0, 1] units, of noise added to
    the inputs while the targets stay clean. `frozen` keeps the decoder as it is, so that only the encoder learns.

    The rest varies each training image anew whenever it is seen; 0 and false are off. `shift` moves it by up to so
    many pixels, `rotation` turns it by up to so many degrees either way, `scale` enlarges or shrinks it by a factor of
    up to exp(scale), `mirror` shows every second one mirrored left to right, `contrast` stretches its differences from
    its mean by a factor of 1 - contrast to 1 + contrast, and `brightness` adds up to so much, on the [0, 1] scale.
    """

    epochs: PositiveInt = 8
    batch_size: int = Field(default=64, ge=2)
    learning_rate: PositiveFloat = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "one-cycle"] = "constant"
    warmup: float = Field(default=0.25, gt=0, lt=1)
    patience: PositiveInt | None = None
    noise: float = Field(default=0.0, ge=0)
    shift: int = Field(default=0, ge=0)
    rotation: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, le=2)
    mirror: bool = False
    contrast: float = Field(default=0.0, ge=0, le=1)
    brightness: float = Field(default=0.0, ge=0, le=1)
    frozen: Literal["none", "decoder"] = "none"


class DataSettings(Settings):
    """Which images, and what is done to them before a network sees them."""

    name: str
    height: int | None = Field(default=None, ge=16, le=256)
    width: int | None = Field(default=None, ge=16, le=256)
    grey: bool = False
    skip_bad: bool = False


class RunSettings(Settings):
    """All that decides a run: with the same images and machine, the same settings give the same weights.

    `start` names the run whose weights it begins with, instead of random ones.
    """

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    start: str | None = None
    seed: Seed = 0


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn `["training.epochs=3"]` into `{"training": {"epochs": 3}}`; values are TOML, bare words are text.

    >>> parse_assignments(["training.epochs=3", "model.upsample=transposed"])
    {'training': {'epochs': 3}, 'model': {'upsample': 'transposed'}}
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise SettingsError(f"--set {assignment!r} is not KEY=VALUE; write for example training.epochs=3.")
        *parents, leaf = path.strip().split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise SettingsError(f"--set {path}: {parent!r} was given a value before, so nothing lies below it.")
        node[leaf] = _toml_value(text.strip())
    return tree


def merge(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested `changes` over nested `defaults`; neither is altered.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(defaults)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate_model(values: Mapping[str, Any]) -> ModelSettings:
    """Build the settings of one network, chosen by `name`. Raises: SettingsError."""
    return validate(_Model, {"model": values}).model


def validate(kind: type[S], values: Mapping[str, Any]) -> S:
    """Build settings of `kind`.

    Raises: SettingsError with every mistake, by dotted path, and the nearest known key for unknown ones.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(kind, detail)}" for detail in error.errors())
        raise SettingsError(f"{error.error_count()} setting(s) cannot be used:\n{lines}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The rest of an error on an unknown name: the nearest known one, or all of them.

    >>> nearest("strng", ["lab", "strong"])
    "did you mean 'strong'?"
    """
    listed = list(known)
    near = difflib.get_close_matches(name, listed, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(listed)}."


def differences(before: BaseModel, now: BaseModel) -> str:
    """What differs between two settings of one kind, by dotted path.

    >>> differences(TrainingSettings(epochs=3), TrainingSettings(epochs=1))
    'epochs was 3, now 1'
    """
    old, new = dict(_leaves(before.model_dump())), dict(_leaves(now.model_dump()))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in keys)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(kind: type[BaseModel], detail: ErrorDetails) -> str:
    names = {"lab", "strong", "linear", "vae", "denoiser", "classifier"}
    location = [str(part) for part in detail["loc"]]
    path = ".".join(part for i, part in enumerate(location) if not (part in names and location[i - 1 : i] == ["model"]))
    if detail["type"] == "extra_forbidden":
        known = sorted(_known_keys(kind, location))
        return f"{path}: no such setting; {nearest(location[-1], known)}"
    return f"{path}: {detail['msg'].lower()} (given {detail['input']!r})"


def _known_keys(kind: type[BaseModel], location: list[str]) -> set[str]:
    """The keys allowed where `location` (the path of an unknown key) ends."""
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})
    node = schema
    for part in location[:-1]:
        if part in node.get("properties", {}):
            node = node["properties"][part]
        if "discriminator" in node and part in node["discriminator"]["mapping"]:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        if "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
    return set(node.get("properties", {}))
