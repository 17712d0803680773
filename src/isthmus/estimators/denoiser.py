"""The network trained to denoise, as an estimator: it learns from clean samples and restores noisy ones."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._set_output import _get_output_config  # the setting of this estimator, or of all

from isthmus.data.degrade import add_noise
from isthmus.errors import InputError
from isthmus.estimators.estimator import ROWS_HIDDEN, Estimator, as_set
from isthmus.estimators.inputs import Form
from isthmus.metrics import mse
from isthmus.networks.apply import BATCH, ranges, reconstruct, to_float
from isthmus.networks.denoiser import Denoiser as Network


@final
class Denoiser(OneToOneFeatureMixin, TransformerMixin, Estimator):  # type: ignore[misc]
    """A denoiser: for images a U-net, for rows of numbers a perceptron, trained on Gaussian noise.

    `fit` takes clean samples, `transform` noisy ones, whose pixels may leave [0, 1].

    Arguments:
        noise: standard deviation of the noise it learns to remove, on the scale on which the training data lie in
            [0, 1]: of rows a share of each column's range.
        architecture: "convolutional" or "mlp"; None takes what suits X.
        width: of the convolutions (networks.denoiser.Denoiser), 16 if None. hidden: sizes of the layers of the
            perceptron, (256, 256) for images and (128, 64) for rows if None.
        epochs, batch_size, learning_rate: None takes the values of `isthmus train`, for small sets more epochs and
            smaller batches.
        validation_fraction: share of X held out to choose the best epoch by, at least one sample; with 0 all are learnt
            from.
        image_shape: of images that lie in rows, (H, W), (C, H, W) or (H, W, C).
        device: cpu, cuda, cuda:0 or mps. random_state: decides weights, order, noise and held-out samples. verbose: 1
            prints a line an epoch.

    >>> from sklearn.datasets import load_iris
    >>> rows = load_iris().data
    >>> model = Denoiser(noise=0.2, random_state=0).fit(rows)
    >>> model.transform(rows).shape, bool(model.score(rows) > -0.2**2)
    ((150, 4), True)
    """

    network_: Network
    networks: ClassVar = ("denoiser",)
    architectures: ClassVar = {"convolutional": ("width",), "mlp": ("hidden",)}

    def __init__(
        self,
        noise: float = 0.25,
        *,
        architecture: Literal["convolutional", "mlp"] | None = None,
        width: int | None = None,
        hidden: tuple[int, ...] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        image_shape: tuple[int, ...] | None = None,
        device: str | torch.device = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.noise = noise
        self.architecture = architecture
        self.width = width
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from clean samples.

        Arguments: X: images (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floats in [0, 1], or rows (N, D). y: not
        used. Returns: the estimator.
        Raises: InputError for a parameter or an X that cannot be used; DivergedError if the loss stops being finite.
        """
        pixels = self._begin(X)
        self._learn(as_set(pixels, X))
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One pass over clean X; the network and the optimizer go on from call to call, at a constant learning rate.

        The first X decides the form of all, and the scale of rows; what `fit` learnt is gone on with.
        """
        pixels = self._begin(X) if not hasattr(self, "network_") else self._read(X)
        self._learn_more(pixels, X)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Noisy X restored, in the layout it came in: images in [0, 1], or rows in their own units.

        Raises: NotFittedError; InputError if X is not as in `fit`, or images are far outside [0, 1] or asked for as a
        table.
        """
        pixels = self._read(X, noisy=True)
        if self._form.scaling is None:
            self._check_container()
        restored = reconstruct(self.network_, pixels)
        restored = restored if self._form.scaling else restored.clamp(0, 1)
        return self._form.write(restored.numpy(), self._form.layout_of(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean squared error of clean X restored from the noise of `fit`, which is the same at each call.

        On the scale on which the training data lie in [0, 1]; without any restoring it is minus the noise's square.
        Arguments: y: not used.
        """
        pixels = torch.from_numpy(self._read(X))
        generator, total = torch.Generator().manual_seed(0), 0.0
        for begin, end in ranges(len(pixels), BATCH):
            clean = to_float(pixels[begin:end])
            noisy = add_noise(clean, self._noise, generator=generator)
            total += float(mse(reconstruct(self.network_, noisy), clean).double().sum())
        return -total / len(pixels)

    def _model(self, form: Form) -> dict[str, Any]:
        if not isinstance(self.noise, int | float | np.number) or not self.noise > 0:
            raise InputError(f"noise is {self.noise!r}; give the standard deviation to learn from, above 0, as 0.25.")
        chosen, given = self._choose(form)
        default = {"hidden": ROWS_HIDDEN} if form.flat and chosen == "mlp" else {}
        return {"name": "denoiser", "architecture": chosen, **default, **given}

    def _check_container(self) -> None:
        """Raises: InputError if images, which are no table, are to be one."""
        container = _get_output_config("transform", self)["dense"]
        if container != "default":
            raise InputError(
                f"set_output(transform={container!r}) asks for a table, but Denoiser was fitted to images "
                f"{self.image_shape_}, (C, H, W), and gives such: call set_output(transform='default'), or fit it to "
                f"rows."
            )

    def _training(self) -> dict[str, Any]:
        return {**super()._training(), "noise": self.noise}

    @classmethod
    def _parameters_of(cls, config: Any) -> dict[str, Any]:
        return {**super()._parameters_of(config), "noise": config.noise or cls().noise}
