"""Every setting there is, as pydantic models: one schema for `train --set`, the study and the files on disk.

Unknown keys are refused, and all mistakes are reported at once, each with its dotted path.
A network's own options live in the settings class of that network; `model.name` chooses the class. What a setting does
is said in its description, from which the JSON Schema of study files and docs/study-file.md are made.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from isthmus.errors import SettingsError

S = TypeVar("S", bound=BaseModel)

LARGEST_CODE, LARGEST_LAYER = 65536, 16384

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Units = Annotated[int, Field(gt=0, le=LARGEST_LAYER)]
CODE = "Numbers in the code."


class Settings(BaseModel):
    """Frozen, strict about unknown keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LabSettings(Settings):
    """The lab's convolutional autoencoder."""

    name: Literal["lab"] = Field(default="lab", description="Chooses this network.")
    latent_dim: int = Field(default=2, gt=0, le=LARGEST_CODE, description=CODE)
    width: int = Field(default=16, gt=0, le=1024, description="Channels of its convolutions.")
    code_relu: bool = Field(default=True, description="Whether a ReLU keeps the code from being negative.")
    upsample: Literal["nearest", "transposed"] = Field(
        default="nearest", description="How the decoder enlarges: repeated pixels, or transposed convolutions."
    )
    halvings: int = Field(
        default=0, ge=0, le=7, description="How often the image is halved; 0 until 2 or 3 pixels remain."
    )


class StrongSettings(Settings):
    """A wide multilayer perceptron with batch norm."""

    name: Literal["strong"] = Field(default="strong", description="Chooses this network.")
    latent_dim: int = Field(default=2, gt=0, le=LARGEST_CODE, description=CODE)
    hidden: tuple[Units, ...] = Field(
        default=(1000, 500, 250), min_length=1, description="Sizes of the encoder's layers; the decoder mirrors them."
    )


class LinearSettings(Settings):
    """The linear autoencoder, whose optimum is PCA."""

    name: Literal["linear"] = Field(default="linear", description="Chooses this network.")
    latent_dim: int = Field(default=2, gt=0, le=LARGEST_CODE, description=CODE)


class VAESettings(Settings):
    """The variational autoencoder."""

    name: Literal["vae"] = Field(default="vae", description="Chooses this network.")
    latent_dim: int = Field(default=16, gt=0, le=LARGEST_CODE, description=CODE)
    architecture: Literal["convolutional", "mlp"] = Field(
        default="convolutional", description="Convolutions, or a multilayer perceptron."
    )
    width: int = Field(default=16, gt=0, le=1024, description="Channels of its convolutions.")
    units: Units = Field(default=256, description="Size of the layer between the convolutions and the code.")
    hidden: tuple[Units, ...] = Field(
        default=(1000, 500, 250), min_length=1, description="Sizes of the layers of the mlp."
    )
    likelihood: Literal["gaussian", "bernoulli"] = Field(
        default="gaussian", description="What the decoder says of a pixel; bernoulli is for black and white alone."
    )
    sigma: Literal["learned", "optimal"] | PositiveFloat = Field(
        default="optimal",
        description="Standard deviation of the decoder's Gaussian, in [0, 1] units: learned by gradients, the optimal "
        "one of each batch, or a number.",
    )
    beta: float = Field(default=1.0, ge=0, description="Weight of the KL; 1 is the evidence bound.")
    free_bits: float = Field(default=0.0, ge=0, description="Nats of KL that each number of the code has for nothing.")
    kl_warmup: int = Field(default=0, ge=0, description="Updates over which the weight of the KL rises to beta.")


class DenoiserSettings(Settings):
    """The network trained to denoise."""

    name: Literal["denoiser"] = Field(default="denoiser", description="Chooses this network.")
    architecture: Literal["convolutional", "mlp"] = Field(
        default="convolutional", description="A U-net, or a multilayer perceptron."
    )
    width: int = Field(default=16, gt=0, le=1024, description="Channels of its convolutions.")
    hidden: tuple[Units, ...] = Field(default=(256, 256), min_length=1, description="Sizes of the layers of the mlp.")


class ClassifierSettings(Settings):
    """The classifier."""

    name: Literal["classifier"] = Field(default="classifier", description="Chooses this network.")
    architecture: Literal["convolutional", "mlp"] = Field(
        default="convolutional", description="Convolutions, or a multilayer perceptron."
    )
    width: int = Field(default=16, gt=0, le=1024, description="Channels of its first convolution.")
    blocks: int = Field(
        default=3, gt=0, le=8, description="Blocks of convolution and pooling, each of which halves the image."
    )
    batch_norm: bool = Field(default=True, description="Whether its convolutions are followed by batch norm.")
    hidden: Annotated[int, Field(ge=0, le=LARGEST_LAYER)] | tuple[Units, ...] = Field(
        default=0,
        description="Size of a layer between the convolutions, or in the mlp the pixels, and the scores: 0 for none, "
        "or several sizes.",
    )
    standardise: bool = Field(
        default=False, description="Whether each image is first brought to mean 0 and standard deviation 1."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of values dropped while training.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the probability that training spreads over all classes."
    )


MODELS: dict[str, type[Settings]] = {
    "lab": LabSettings,
    "strong": StrongSettings,
    "linear": LinearSettings,
    "vae": VAESettings,
    "denoiser": DenoiserSettings,
    "classifier": ClassifierSettings,
}
ModelSettings = Annotated[
    LabSettings | StrongSettings | LinearSettings | VAESettings | DenoiserSettings | ClassifierSettings,
    Field(discriminator="name"),
]


class _Model(Settings):
    model: ModelSettings


class TrainingSettings(Settings):
    """How a network is trained. From `shift` on: how each training image is varied anew whenever it is seen."""

    epochs: PositiveInt = Field(default=8, description="How often all training images are gone over.")
    batch_size: int = Field(default=64, ge=2, description="Images of one update.")
    learning_rate: PositiveFloat = Field(default=1e-3, description="Of the optimizer; of one-cycle the highest.")
    optimizer: Literal["adam", "adamw"] = Field(
        default="adam", description="adamw keeps the weight decay out of the gradient."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="How strongly weights are drawn to zero.")
    schedule: Literal["constant", "one-cycle"] = Field(
        default="constant", description="one-cycle lets the learning rate rise, then fall to zero."
    )
    warmup: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the updates in which the rate of one-cycle rises."
    )
    patience: PositiveInt | None = Field(
        default=None,
        description="Stop after so many epochs without a better one on the validation images; without it, never.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviation, in [0, 1] units, of noise added to the inputs while the targets stay clean.",
    )
    shift: int = Field(default=0, ge=0, description="Move each training image by up to so many pixels.")
    rotation: float = Field(default=0.0, ge=0, le=180, description="Turn it by up to so many degrees either way.")
    scale: float = Field(default=0.0, ge=0, le=2, description="Enlarge or shrink it by a factor of up to exp(scale).")
    mirror: bool = Field(default=False, description="Show every second one mirrored left to right.")
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Stretch its differences from its mean by a factor of 1 - contrast to 1 + contrast.",
    )
    brightness: float = Field(default=0.0, ge=0, le=1, description="Add up to so much, on the [0, 1] scale.")
    frozen: Literal["none", "decoder"] = Field(
        default="none", description="decoder keeps the decoder as it is, so that only the encoder learns."
    )


class DataSettings(Settings):
    """Which images, and what is done to them before a network sees them."""

    name: str = Field(
        description="A name from `isthmus data list`, or a path: a folder of images, with a subfolder for each class "
        "if they are labelled, or a file that holds them."
    )
    height: int | None = Field(
        default=None, ge=16, le=256, description="Scale every image to so many pixels; without it, as they are."
    )
    width: int | None = Field(default=None, ge=16, le=256, description="Goes with height: both or neither.")
    grey: bool = Field(default=False, description="Whether colours are turned to grey.")
    skip_bad: bool = Field(
        default=False, description="Whether files that cannot be read are left out, instead of stopping."
    )


class RunSettings(Settings):
    """All that decides a run: with the same images and machine, the same settings give the same weights."""

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    start: str | None = Field(default=None, description="The run whose weights it begins with, instead of random ones.")
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
    found = problems(kind, values)
    if found:
        raise SettingsError(refusal(found))
    return TypeAdapter(kind).validate_python(values)


def problems(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, str]:
    """Every mistake in settings of `kind` as dotted path -> what is wrong; empty if `validate` takes them.

    >>> problems(TrainingSettings, {"epochs": 0, "batchsize": 3})
    {'epochs': 'input should be greater than 0 (given 0)', 'batchsize': "no such setting; did you mean 'batch_size'?"}
    """
    try:
        TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        tails: dict[str, str] = {}
        for detail in error.errors():
            path, text, tail = _explain(kind, values, detail)
            found.setdefault(path, []).append(text)  # one line for all sides of a union
            tails.setdefault(path, tail)
        return {path: f"{', or '.join(texts)}{tails[path]}" for path, texts in found.items()}
    return {}


def refusal(found: Mapping[str, str]) -> str:
    """The message on mistakes by dotted path, a line each."""
    lines = "\n".join(f"  {path}: {text}" for path, text in found.items())
    return f"{len(found)} setting(s) cannot be used:\n{lines}"


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


def _explain(kind: type[BaseModel], values: Mapping[str, Any], detail: ErrorDetails) -> tuple[str, str, str]:
    """The dotted path of a mistake, what is wrong there, and what was given or is meant."""
    location, given, context = detail["loc"], detail["input"], detail.get("ctx", {})
    path = _path(values, location, whole=detail["type"] == "missing")
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(_known_keys(kind, [str(part) for part in location]))
            return path, f"no such setting; {nearest(str(location[-1]), known)}", ""
        case "missing":
            return path, "is missing", ""
        case "union_tag_invalid":
            return f"{path}.name", f"there is no network {context['tag']!r}; {nearest(context['tag'], MODELS)}", ""
        case "union_tag_not_found":
            return f"{path}.name", f"is missing; there are: {', '.join(MODELS)}.", ""
        case "model_type" | "model_attributes_type":
            return path, "is no table of settings", f" (given {given!r})"
        case "literal_error" if isinstance(given, str):
            near = difflib.get_close_matches(given, re.findall(r"'([^']*)'", str(context["expected"])), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return path, detail["msg"].lower(), f" (given {given!r}){hint}"
    return path, detail["msg"].lower(), f" (given {given!r})"


def _path(values: Any, location: tuple[int | str, ...], *, whole: bool) -> str:
    """`location` without what is no key or place in `values`, as the side of a union that was tried; `whole` keeps its
    last part, a key that is not there."""
    parts, node = [], values
    for i, part in enumerate(location):
        listed = isinstance(part, int) and isinstance(node, list | tuple) and part < len(node)
        if listed or (isinstance(node, Mapping) and part in node):
            node = node[part]
        elif not (whole and i == len(location) - 1):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _known_keys(kind: type[BaseModel], location: list[str]) -> set[str]:
    """The keys allowed where `location` (the path of an unknown key) ends."""
    schema = kind.model_json_schema()
    node = schema
    for part in location[:-1]:
        if part in node.get("properties", {}):
            node = node["properties"][part]
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        if "discriminator" in node and part in node["discriminator"]["mapping"]:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        for option in (node, *node.get("allOf", ()), *node.get("anyOf", ())):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
                break
    return set(node.get("properties", {}))
