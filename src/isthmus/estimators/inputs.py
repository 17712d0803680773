"""Whatever counts as an array, as the images of a network, and back in the form it came in.

    layout  X                                        what a network sees, (N, C, H, W)
    NHW     (N, H, W), grey images                   uint8, or float32 in [0, 1]
    NCHW    (N, C, H, W), also an ImageSet           the same
    NHWC    (N, H, W, C)                             the same
    ND      (N, D), rows of any finite numbers       float64, (N, 1, 1, D), or images of a shape that is given

Rows are scaled by the least and the greatest values that `fit` saw, a column at a time; rows that hold images by one
pair for all pixels. Later rows may lie beyond them. NumPy arrays, torch tensors, lists and DataFrames are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array
from torch import Tensor

from isthmus.data.arrays import CHANNELS, Pixels, channels_first, check_images
from isthmus.data.imageset import ImageSet
from isthmus.data.pictures import FURTHEST
from isthmus.errors import DataError, InputError
from isthmus.model_config import Layout, ModelConfig, Scaling
from isthmus.networks.autoencoder import ImageShape

KINDS = "rows of numbers (N, D), or images (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1 or 3"


@dataclass(frozen=True)
class Range:
    """The values of each column that become 0 and 1: minimum, maximum (D,), float64."""

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float64], *, together: bool) -> Range:
        """The least and greatest values of rows (N, D), of each column, or `together` of all.

        Raises: DataError if they are too far apart for float64.
        """
        low, high = rows.min(axis=0), rows.max(axis=0)
        if together:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        with np.errstate(over="ignore"):
            if not np.isfinite(high - low).all():
                raise DataError("X has columns whose values lie further apart than float64 can tell: divide them first")
        return cls(low, high)

    @property
    def span(self) -> NDArray[np.float64]:
        """maximum - minimum, and 1 where the two are equal: (D,)."""
        span: NDArray[np.float64] = self.maximum - self.minimum
        return np.where(span > 0, span, 1.0)

    def scale(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, D) in the units of the data -> (N, D), in [0, 1] where the values were seen in `fit`."""
        scaled: NDArray[np.float64] = (rows - self.minimum) / self.span
        return scaled

    def unscale(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `scale`, but for columns that had one value only: they get that value back."""
        back: NDArray[np.float64] = rows * (self.maximum - self.minimum) + self.minimum
        return back

    def facts(self) -> Scaling:
        """As a model's config.json has it."""
        return Scaling(minimum=tuple(self.minimum.tolist()), maximum=tuple(self.maximum.tolist()))

    @classmethod
    def from_facts(cls, facts: Scaling) -> Range:
        """What `facts` made."""
        return cls(np.array(facts.minimum), np.array(facts.maximum))


@dataclass(frozen=True)
class Form:
    """How the X of `fit` looked: what later X must look like, and how results are brought back.

    layout: of X. image_shape: (C, H, W) that the network takes. inner: how an image lies in a row; for images the
    layout itself. scaling: of rows; None for images.
    """

    layout: Layout
    image_shape: ImageShape
    inner: Layout
    scaling: Range | None = None

    @property
    def flat(self) -> bool:
        """Whether X are rows of numbers that are no images."""
        return self.scaling is not None and self.image_shape[:2] == (1, 1)

    def read(self, X: Any, name: str, *, noisy: bool = False) -> Pixels:
        """X of this form as (N, C, H, W). Arguments: name: of the estimator. noisy: images may leave [0, 1].

        Raises: DataError if X is of another form, not finite or out of range.
        """
        rank = _rank(X)
        if self.scaling is not None:
            if rank != 2:
                raise DataError(_other_rank(name, f"rows of {len(self.scaling.minimum)} numbers, (N, D)", _shape(X)))
            rows = _rows(X, name)
            if rows.shape[1] != len(self.scaling.minimum):
                raise DataError(
                    f"X has {rows.shape[1]} features, but {name} is expecting {len(self.scaling.minimum)} features as "
                    f"input: give the columns that `fit` was given, or fit anew."
                )
            return _as_images(self.scaling.scale(rows), self.image_shape, self.inner)
        if rank not in (3, 4):
            raise DataError(_other_rank(name, f"images {self.image_shape}, (C, H, W)", _shape(X)))
        pixels, _ = _images(X, noisy=noisy, like=self)
        if pixels.shape[1:] != self.image_shape:
            channels, height, width = self.image_shape
            raise DataError(
                f"X holds images {pixels.shape[1:]}, (C, H, W), but {name} was fitted to {self.image_shape}: bring "
                f"them to {height} x {width} and {'grey' if channels == 1 else 'colour'}, for example with "
                f"load_images(..., size=({height}, {width})), or fit anew."
            )
        return pixels

    def layout_of(self, X: Any) -> Layout:
        """The layout of an X that `read` takes: grey images may come as (N, H, W) or (N, C, H, W)."""
        if self.scaling is not None:
            return self.layout
        return "NCHW" if isinstance(X, ImageSet) else _layout(_shape(X), self)

    def write(self, images: NDArray[Any], layout: Layout | None = None) -> NDArray[Any]:
        """Images of the network, (N, C, H, W) floats, as X came: in its layout, rows in their own units."""
        if self.scaling is None:
            return _arranged(images, layout or self.layout)
        return self.scaling.unscale(_arranged(images, self.inner).reshape(len(images), -1).astype(np.float64))


def learn_form(X: Any, name: str, image_shape: Any = None) -> tuple[Form, Pixels]:
    """The form of X, and X as (N, C, H, W). Arguments: name: of the estimator. image_shape: (H, W), (C, H, W) or
    (H, W, C) of the images that lie in rows; of images, what they must be.

    Raises: DataError if X is no array that can be learnt from, or has fewer than 2 samples; InputError if the
    image_shape is none, or not that of X.
    """
    shape, inner = (None, None) if image_shape is None else _parse_shape(image_shape)
    rank = _rank(X)
    if rank == 2:
        form, pixels = _form_of_rows(_rows(X, name), shape, inner)
    elif rank in (3, 4):
        pixels, layout = _images(X)
        form = Form(layout, _shape_of(pixels), layout)
        if shape is not None and shape != form.image_shape:
            raise InputError(
                f"image_shape is {image_shape}, but X holds images {form.image_shape}, (C, H, W): leave it out, it is "
                f"for rows that hold images."
            )
    else:
        raise DataError(
            f"X has shape {_shape(X)}; needed are {KINDS}. Reshape your data: X.reshape(-1, 1) makes a column of it, "
            f"X.reshape(1, -1) one row."
        )
    if len(pixels) < 2:
        raise DataError(f"X has 1 sample; {name} learns from at least 2: give more.")
    return form, pixels


def form_of(config: ModelConfig, given_shape: Any) -> Form:
    """The form that a model's config.json describes.

    Arguments: given_shape: the estimator's parameter image_shape, for files that do not say how an image lies in a row.
    Raises: InputError if what is said of that is no layout.
    """
    layout = config.estimator.layout if config.estimator else "NCHW"
    if config.scaling is None:
        layout = "NCHW" if layout == "ND" else layout
        return Form(layout, config.image_shape, layout)
    inner = config.estimator.facts.get("inner") if config.estimator else None
    if inner is None:
        inner = "NCHW" if given_shape is None else _parse_shape(given_shape)[1]
    if inner not in get_args(Layout):
        raise InputError(f"The model's config.json says that images lie in rows as {inner!r}: get it again.")
    return Form("ND", config.image_shape, inner, Range.from_facts(config.scaling))


def _form_of_rows(rows: NDArray[np.float64], shape: ImageShape | None, inner: Layout | None) -> tuple[Form, Pixels]:
    size = rows.shape[1]
    if shape is not None and math.prod(shape) != size:
        raise InputError(
            f"image_shape is {shape}, {math.prod(shape)} numbers, but X has rows of {size}: give the shape of "
            f"what lies in a row."
        )
    scaling = Range.of(rows, together=shape is not None)
    form = Form("ND", shape or (1, 1, size), inner or "NCHW", scaling)
    return form, _as_images(scaling.scale(rows), form.image_shape, form.inner)


def _parse_shape(given: Any) -> tuple[ImageShape, Layout]:
    """(H, W), (C, H, W) or (H, W, C) -> (C, H, W), and how such an image lies in a row."""
    sides: Sequence[Any] = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if len(sides) in (2, 3) and all(isinstance(n, int | np.integer) and n > 0 for n in sides):
        whole = [int(n) for n in sides]
        if len(whole) == 2:
            return (1, whole[0], whole[1]), "NHW"
        if whole[0] in CHANNELS:
            return (whole[0], whole[1], whole[2]), "NCHW"
        if whole[2] in CHANNELS:
            return (whole[2], whole[0], whole[1]), "NHWC"
    raise InputError(
        f"image_shape is {given!r}; needed is the shape of one image, (H, W), (C, H, W) or (H, W, C) with C of 1 or 3, "
        f"or None."
    )


def _rank(X: Any) -> int:
    try:
        return len(_shape(X))
    except ValueError as error:
        raise DataError(f"X is no array ({error}); needed are {KINDS}.") from error


def _shape(X: Any) -> tuple[int, ...]:
    shape = X.images.shape if isinstance(X, ImageSet) else getattr(X, "shape", None)
    return tuple(np.asarray(X).shape if shape is None else shape)


def _rows(X: Any, name: str) -> NDArray[np.float64]:
    """Rows (N, D) of finite numbers; what is no number is refused by scikit-learn, in its usual words."""
    if isinstance(X, Tensor):
        X = X.detach().cpu().double().numpy()
    rows: NDArray[np.float64] = check_array(
        X, dtype=np.float64, ensure_all_finite=False, estimator=name, input_name="X"
    )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(
            f"X holds NaN or infinite values in {len(bad)} of {len(rows)} rows, first in row {bad[0]}; {name} needs "
            f"finite numbers: leave those rows out, or fill them in, for example with sklearn.impute.SimpleImputer."
        )
    return rows


def _images(X: Any, *, noisy: bool = False, like: Form | None = None) -> tuple[Pixels, Layout]:
    """Images as (N, C, H, W), and the layout they came in."""
    if isinstance(X, Tensor):
        plain = X.detach().cpu()
        X = (plain.float() if plain.dtype.itemsize == 2 and plain.is_floating_point() else plain).numpy()
    array = X.images if isinstance(X, ImageSet) else np.asarray(X)
    layout = "NCHW" if isinstance(X, ImageSet) else _layout(array.shape, like)
    pixels = channels_first(np.moveaxis(array, 3, 1) if layout == "NHWC" else array)
    check_images(pixels, low=-FURTHEST if noisy else 0.0, high=FURTHEST if noisy else 1.0)
    # torch takes over the memory of an array, which must then be one that may be written to.
    return pixels if pixels.flags.writeable else pixels.copy(), layout


def _layout(shape: tuple[int, ...], like: Form | None) -> Layout:
    """Of images; where two readings fit, that of `like`, else (N, C, H, W)."""
    if len(shape) == 3:
        return "NHW"
    if like is not None and like.layout == "NHWC" and shape[1:] == (*like.image_shape[1:], like.image_shape[0]):
        return "NHWC"
    return "NHWC" if shape[1] not in CHANNELS and shape[3] in CHANNELS else "NCHW"


def _as_images(rows: NDArray[np.float64], image_shape: ImageShape, inner: Layout) -> Pixels:
    """(N, D) -> (N, C, H, W)."""
    channels, height, width = image_shape
    if inner == "NHWC":
        return np.ascontiguousarray(np.moveaxis(rows.reshape(-1, height, width, channels), 3, 1))
    return rows.reshape(-1, channels, height, width)


def _arranged(images: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if layout == "NHW":
        return images[:, 0]
    return np.ascontiguousarray(np.moveaxis(images, 1, 3)) if layout == "NHWC" else images


def _shape_of(pixels: Pixels) -> ImageShape:
    _, channels, height, width = pixels.shape
    return channels, height, width


def _other_rank(name: str, known: str, shape: tuple[int, ...]) -> str:
    return (
        f"X has shape {shape}, but {name} was fitted to {known}: give such an array. Reshape your data: "
        f"X.reshape(1, -1) makes one row of a single sample, X[None] a set of one image."
    )
