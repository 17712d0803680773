"""The three autoencoders as estimators: convolutional (for rows a perceptron), linear, and variational."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError
from isthmus.estimators.codes import CodeEstimator
from isthmus.estimators.estimator import ROWS_HIDDEN
from isthmus.estimators.inputs import Form
from isthmus.estimators.parameters import place, plain, seed_of
from isthmus.metrics import mse
from isthmus.model_config import ModelConfig
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.pca import principal_components
from isthmus.networks.variational import VAE
from isthmus.settings import LinearSettings

PAIRS = 8  # of codes drawn for the evidence bound of a sample, mirrored at the mean


@final
class ConvAutoencoder(CodeEstimator):
    """An autoencoder: for images the convolutional network of the lab, for rows of numbers a perceptron.

    Arguments:
        latent_dim: numbers in a code.
        architecture: "convolutional" or "mlp"; None takes what suits X.
        width, halvings, code_relu, upsample: of the convolutions (networks.autoencoder.lab); 16 channels, halved down
            to 2 or 3 pixels, no ReLU on the code and nearest upsampling if None. hidden: sizes of the layers of the
            perceptron; if None (1000, 500, 250) for images and (128, 64) for rows.
        epochs, batch_size, learning_rate: None takes the values of `isthmus train`, for small sets more epochs and
            smaller batches, and for convolutions that are updated less than 1,000 times a greater rate, in one cycle.
        validation_fraction: share of X held out to choose the best epoch by, at least one sample; with 0 all are learnt
            from.
        image_shape: of images that lie in rows, (H, W), (C, H, W) or (H, W, C).
        density: what `sample` draws codes from: mixture, gaussian, kernel, histogram or normal.
        device: cpu, cuda, cuda:0 or mps. random_state: decides weights, order and held-out samples. verbose: 1 prints
            a line an epoch.

    >>> from sklearn.datasets import load_iris
    >>> rows = load_iris().data
    >>> model = ConvAutoencoder(latent_dim=2, random_state=0)
    >>> codes = model.fit_transform(rows)
    >>> codes.shape, model.inverse_transform(codes).shape, bool(model.score(rows) > -0.02)
    ((150, 2), (150, 4), True)
    """

    networks: ClassVar = ("lab", "strong")
    architectures: ClassVar = {"convolutional": ("width", "halvings", "code_relu", "upsample"), "mlp": ("hidden",)}

    def __init__(
        self,
        latent_dim: int = 2,
        *,
        architecture: Literal["convolutional", "mlp"] | None = None,
        width: int | None = None,
        halvings: int | None = None,
        code_relu: bool | None = None,
        upsample: Literal["nearest", "transposed"] | None = None,
        hidden: tuple[int, ...] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        image_shape: tuple[int, ...] | None = None,
        density: str = "mixture",
        device: str | torch.device = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.width = width
        self.halvings = halvings
        self.code_relu = code_relu
        self.upsample = upsample
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.density = density
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _model(self, form: Form) -> dict[str, Any]:
        chosen, given = self._choose(form)
        if chosen == "mlp":
            default = {"hidden": ROWS_HIDDEN} if form.flat else {}
            return {"name": "strong", "latent_dim": self.latent_dim, **default, **given}
        return {"name": "lab", "latent_dim": self.latent_dim, "code_relu": False, **given}

    def _scores(self, images: Tensor) -> Tensor:
        return -mse(self.network_(images), images)

    @classmethod
    def _parameters_of(cls, config: ModelConfig) -> dict[str, Any]:
        architecture = "convolutional" if config.model.name == "lab" else "mlp"
        return {**super()._parameters_of(config), "architecture": architecture}


def _by_gradient(estimator: Any) -> bool:
    if estimator.solver != "gradient":
        raise AttributeError("partial_fit needs solver='gradient': PCA in closed form takes all samples at once.")
    return True


@final
class LinearAutoencoder(CodeEstimator):
    """The linear autoencoder, whose optimum is PCA: z = W x + b, x_hat = V z + c.

    Arguments:
        latent_dim: numbers in a code.
        solver: "exact" finds the optimum in closed form from all of X, codes along the directions of largest variance;
            where samples and features both pass 8,192 it is only approximated, with a warning. "gradient" trains, as
            `isthmus train linear` does.
        epochs, batch_size, learning_rate, validation_fraction, verbose: of the gradient solver. None takes the values
            of `isthmus train`, for small sets more epochs and smaller batches.
        The others are those of `ConvAutoencoder`.

    >>> from sklearn.datasets import load_iris
    >>> rows = load_iris().data
    >>> model = LinearAutoencoder(latent_dim=3).fit(rows)
    >>> model.transform(rows).shape, round(model.score(rows), 4)
    ((150, 3), -0.0004)
    """

    networks: ClassVar = ("linear",)

    def __init__(
        self,
        latent_dim: int = 2,
        *,
        solver: Literal["exact", "gradient"] = "exact",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        image_shape: tuple[int, ...] | None = None,
        density: str = "mixture",
        device: str | torch.device = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.latent_dim = latent_dim
        self.solver = solver
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.density = density
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @available_if(_by_gradient)  # type: ignore[untyped-decorator]  # scikit-learn is untyped
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One pass over X by the gradient solver, as of `ConvAutoencoder`; the exact one has no partial_fit."""
        return super().partial_fit(X)

    def _model(self, form: Form) -> dict[str, Any]:
        if self.solver not in ("exact", "gradient"):
            raise InputError(f"solver is {self.solver!r}; give exact or gradient.")
        idle = [name for name, value in self._training().items() if value is not None]
        if self.solver == "exact" and idle:
            raise InputError(f"{' and '.join(idle)} belong to solver='gradient'; leave them out, or give that solver.")
        return {"name": "linear", "latent_dim": self.latent_dim}

    def _learn(self, images: ImageSet) -> None:
        if self.solver == "gradient":
            super()._learn(images)
            return
        model = self._settings_for(self._form)
        assert isinstance(model, LinearSettings)
        pixels = int(np.prod(images.shape))
        most = min(len(images) - 1, pixels)
        if model.latent_dim > most:
            raise InputError(
                f"LinearAutoencoder(latent_dim={model.latent_dim}) needs at least {model.latent_dim} features and more "
                f"samples than that; X has n_features = {pixels} and {len(images)} samples: give a latent_dim of "
                f"{most} or less."
            )
        self._seed = seed_of(self.random_state)
        network = _exact(images, model.latent_dim).to(place(self.device, double=self._form.scaling is not None))
        self._keep(network, model, images, None)

    def _scores(self, images: Tensor) -> Tensor:
        return -mse(self.network_(images), images)

    @classmethod
    def _parameters_of(cls, config: ModelConfig) -> dict[str, Any]:
        return {**super()._parameters_of(config), "solver": "gradient"}


@final
class VariationalAutoencoder(CodeEstimator):
    """The variational autoencoder: codes with a prior N(0, I), and a bound on log p(x).

    `transform` gives the means of q(z|x); `score_samples` the evidence bound in nats, with the same 16 draws for each
    sample, so that it depends on nothing else.

    Arguments:
        latent_dim: numbers in a code.
        architecture: "convolutional" or "mlp"; None takes what suits X.
        width, units: of the convolutions (networks.variational.vae), 16 and 256 if None. hidden: sizes of the layers of
            the perceptron; if None (1000, 500, 250) for images and (128, 64) for rows.
        likelihood: gaussian, or bernoulli for pixels that are 0 or 1. sigma: of the gaussian, in [0, 1] units, or
            "learned" or "optimal"; a bernoulli has none.
        beta: weight of the KL. free_bits: nats of KL an axis may cost nothing. kl_warmup: updates in which beta rises.
        density: what `sample` draws codes from; "normal" is the prior.
        The others are those of `ConvAutoencoder`.

    >>> from sklearn.datasets import load_iris
    >>> rows = load_iris().data
    >>> model = VariationalAutoencoder(latent_dim=2, random_state=0).fit(rows)
    >>> model.sample(3, random_state=0).shape, bool(model.score(rows + 10) < model.score(rows))
    ((3, 4), True)
    """

    networks: ClassVar = ("vae",)
    architectures: ClassVar = {"convolutional": ("width", "units"), "mlp": ("hidden",)}

    def __init__(
        self,
        latent_dim: int = 16,
        *,
        architecture: Literal["convolutional", "mlp"] | None = None,
        width: int | None = None,
        units: int | None = None,
        hidden: tuple[int, ...] | None = None,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        sigma: float | Literal["learned", "optimal"] = "optimal",
        beta: float = 1.0,
        free_bits: float = 0.0,
        kl_warmup: int = 0,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        image_shape: tuple[int, ...] | None = None,
        density: str = "normal",
        device: str | torch.device = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.width = width
        self.units = units
        self.hidden = hidden
        self.likelihood = likelihood
        self.sigma = sigma
        self.beta = beta
        self.free_bits = free_bits
        self.kl_warmup = kl_warmup
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.density = density
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _model(self, form: Form) -> dict[str, Any]:
        if self.likelihood == "bernoulli" and plain(self.sigma) != "optimal":
            raise InputError(
                f"sigma is {self.sigma!r}, but likelihood='bernoulli' has no sigma: leave it out, or give "
                f"likelihood='gaussian'."
            )
        chosen, given = self._choose(form)
        default = {"hidden": ROWS_HIDDEN} if form.flat and chosen == "mlp" else {}
        names = ("latent_dim", "likelihood", "sigma", "beta", "free_bits", "kl_warmup")
        own = {name: getattr(self, name) for name in names}
        return {"name": "vae", "architecture": chosen, **own, **default, **given}

    def _scores(self, images: Tensor) -> Tensor:
        network = self.network_
        assert isinstance(network, VAE)
        posterior = network.encode(images)
        half = torch.randn(PAIRS, network.latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        half = (half / half.square().mean(0).sqrt()).to(posterior.mean)  # variance 1 on each axis, not just about 1
        likelihoods = [
            network.log_likelihood(images, posterior.sample(noise=noise.expand_as(posterior.mean)))
            for noise in torch.cat([half, -half])
        ]
        return torch.stack(likelihoods).mean(0) - posterior.kl().sum(1)

    @classmethod
    def _parameters_of(cls, config: ModelConfig) -> dict[str, Any]:
        values = super()._parameters_of(config)
        return {**values, "sigma": "optimal"} if values["likelihood"] == "bernoulli" else values


def _exact(images: ImageSet, latent_dim: int) -> Autoencoder:
    """The linear autoencoder that is PCA, in float64 for images in float64."""
    found = principal_components(images, latent_dim)
    if not found.exact:
        warnings.warn(
            f"LinearAutoencoder: X has {len(images):,} samples of {len(found.mean):,} features, too many of both for "
            f"PCA in closed form: it was approximated by a randomised solver. Take fewer of one for the exact optimum.",
            stacklevel=5,
        )
    kind = torch.float64 if images.images.dtype == np.float64 else torch.float32
    network = found.autoencoder().to(kind)
    weights = {
        "encoder.1.weight": found.components,
        "encoder.1.bias": -found.components @ found.mean,
        "decoder.0.weight": found.components.T,
        "decoder.0.bias": found.mean,
    }
    network.load_state_dict(weights)  # anew, as autoencoder() rounds them to float32
    return network.eval()
