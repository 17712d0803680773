"""What a model's `config.json` says: all that is needed to build the network, and what it was made from.

    image_shape  (C, H, W) of the images a network takes
    scaling      (minimum, maximum) of each of D numbers: the model takes rows of D numbers instead of images

Keys that are not known here are left aside, so that a file of a later Isthmus of the same format version loads. Those
of `model` are not: each decides what the network is, so an unknown one is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from isthmus.settings import ModelSettings, Settings

CONFIG = "config.json"
FORMAT_VERSION = 1
Layout = Literal["NHW", "NCHW", "NHWC", "ND"]
Side = Annotated[int, Field(gt=0, lt=2**31)]


class _Facts(Settings):
    model_config = ConfigDict(extra="ignore")


class DataFacts(_Facts):
    """The training images. `grey`: whether they were turned grey. `images`: how many, None in files that do not say.

    `fingerprint`: of the set (`ImageSet.fingerprint`); after passes over several sets the sha256 of the sorted hashes
    in trained_on.npy.
    """

    name: str
    fingerprint: str
    grey: bool = False
    images: PositiveInt | None = None


class Scaling(_Facts):
    """The least and the greatest value of each of D numbers in the training rows, which become 0 and 1."""

    minimum: tuple[float, ...] = Field(min_length=1)
    maximum: tuple[float, ...] = Field(min_length=1)


class EstimatorFacts(_Facts):
    """The estimator that wrote a model. `layout`: of the arrays it was fitted to; `facts`: what else it needs."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    layout: Layout
    facts: dict[str, Any] = Field(default_factory=dict)


class ModelConfig(_Facts):
    """The content of `config.json`.

    `noise`: the standard deviation a denoiser was trained for, in [0, 1] units. `figures`: what was measured, by name.
    `checksums`: sha256 (hex) of the files beside it and, under its own name, of the rest of it; files written before
    there were any have none.
    """

    format_version: int = FORMAT_VERSION
    model: ModelSettings
    image_shape: tuple[Side, Side, Side]
    classes: tuple[str, ...] = ()
    noise: float = Field(default=0.0, ge=0)
    data: DataFacts
    scaling: Scaling | None = None
    estimator: EstimatorFacts | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    checksums: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_scaling(self) -> Self:
        size = math.prod(self.image_shape)
        if self.scaling and not len(self.scaling.minimum) == len(self.scaling.maximum) == size:
            raise ValueError(
                f"scaling has {len(self.scaling.minimum)} minima and {len(self.scaling.maximum)} maxima, needed are "
                f"{size} of each"
            )
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        labels = self.estimator.facts.get("classes") if self.estimator else None
        values = labels.get("values") if isinstance(labels, dict) else None
        if labels is not None and not (isinstance(values, list) and len(values) == len(self.classes)):
            raise ValueError(f"estimator.facts.classes is {labels!r}, needed are {len(self.classes)} values")
        return self

    def content(self) -> dict[str, Any]:
        """What is written into the file: where there are checksums, with that of the rest of it."""
        content = self.model_dump(mode="json")
        if self.checksums:
            content["checksums"][CONFIG] = sum_of(content)
        return content

    @property
    def of_images(self) -> bool:
        """Whether the model takes images, and not rows of numbers."""
        return self.scaling is None


def sum_of(content: Mapping[str, Any]) -> str:
    """sha256 of the content of a config.json but for that sum itself, however it is spaced and ordered."""
    others = {name: value for name, value in content["checksums"].items() if name != CONFIG}
    return hashlib.sha256(json.dumps({**content, "checksums": others}, sort_keys=True).encode()).hexdigest()
