"""What a model's `config.json` says: all that is needed to build the network, and what it was made from.

    image_shape  (C, H, W) of the images a network takes
    scaling      (minimum, maximum) of each of D numbers: the model takes rows of D numbers instead of images

Keys that are not known here are left aside, so that a file of a later Isthmus of the same format version loads.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from isthmus.settings import ModelSettings, Settings

FORMAT_VERSION = 1
Layout = Literal["NHW", "NCHW", "NHWC", "ND"]
Side = Annotated[int, Field(gt=0, lt=2**31)]


class _Facts(Settings):
    model_config = ConfigDict(extra="ignore")


class DataFacts(_Facts):
    """The training images. `grey`: whether they were turned grey. `images`: how many, None in files that do not say."""

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
    `checksums`: sha256 (hex) of the files beside it; files written before there were any have none.
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

    @property
    def of_images(self) -> bool:
        """Whether the model takes images, and not rows of numbers."""
        return self.scaling is None
