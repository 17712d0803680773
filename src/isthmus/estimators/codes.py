"""What estimators with codes share: z = E(x), x_hat = D(z).

`transform` encodes, `inverse_transform` decodes, `sample` draws codes from a density p(z) and decodes them, and
`score_samples` says how well a sample was understood. Notation: X of N samples, codes (N, D).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor

from isthmus.data.arrays import Pixels
from isthmus.errors import DataError, InputError
from isthmus.estimators.estimator import Estimator, as_set
from isthmus.estimators.parameters import seed_of
from isthmus.latent.density import Density, StandardNormal, fit_density, kind_of, load_densities
from isthmus.latent.sampling import codes_of
from isthmus.model_config import ModelConfig
from isthmus.model_files import DENSITIES as FILE
from isthmus.model_files import verify
from isthmus.networks.apply import Coder, encode, in_batches
from isthmus.runs import Run


class CodeEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):  # type: ignore[misc]
    """What the three autoencoders share. After `fit`, `density_` is that of the training codes."""

    network_: Coder

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from X: images (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floats in [0, 1], or rows (N, D).

        Arguments: y: not used. Returns: the estimator.
        Raises: InputError for a parameter or an X that cannot be used; DivergedError if the loss stops being finite.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """`fit`, and the codes of X, (N, D)."""
        return self._fit(X).numpy().copy()

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One pass over X; the network and the optimizer go on from call to call, at a constant learning rate.

        The first X decides the form of all, and the scale of rows; what `fit` learnt is gone on with. `density_` is
        that of the codes of the last X.
        """
        first = not hasattr(self, "network_")
        pixels = self._begin(X) if first else self._read(X)
        self._learn_more(pixels, X)
        self._keep_codes(pixels)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Codes of X, (N, D); of a VAE the means. Raises: NotFittedError; InputError if X is not as in `fit`."""
        pixels = self._read(X)
        return encode(self.network_, pixels)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """What codes (N, D) stand for, in the layout of `fit`: images in [0, 1], or rows in their own units.

        Raises: NotFittedError; InputError if the codes are not finite or not as long as the network's.
        """
        check_is_fitted(self, "network_")
        codes: NDArray[Any] = check_array(X, dtype=np.float64, ensure_all_finite=False, input_name="codes")
        if codes.shape[1] != self._n_features_out or not np.isfinite(codes).all():
            raise DataError(
                f"codes have shape {codes.shape}; {type(self).__name__} takes finite ones (N, {self._n_features_out}): "
                f"give what `transform` gives."
            )
        return self._decode(torch.tensor(codes))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[Any]:
        """New samples in the layout of `fit`: codes drawn from `density_`, decoded.

        Raises: NotFittedError; InputError if n_samples is not at least 1, or there is no density to draw from.
        """
        check_is_fitted(self, "network_")
        if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer) or n_samples < 1:
            raise InputError(f"n_samples is {n_samples!r}; give a whole number of at least 1.")
        generator = torch.Generator().manual_seed(seed_of(random_state))
        return self._decode(self.density_.sample(int(n_samples), generator=generator))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """How well each sample is understood, (N,): the lower, the stranger.

        Of an autoencoder minus the mean squared error of its reconstruction, on the scale on which the training data
        lie in [0, 1]; of a VAE the evidence bound in nats.
        """
        pixels = torch.from_numpy(self._read(X))
        return in_batches(self.network_, self._scores, pixels).double().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`: the greater, the better. Arguments: y: not used."""
        return float(self.score_samples(X).mean())

    @property
    def density_(self) -> Density:
        """The density of codes that the parameter `density` names, fitted when it is first asked for.

        Raises: NotFittedError; InputError if there is none of this name, or it cannot be fitted to these codes.
        """
        check_is_fitted(self, "network_")
        name = kind_of(self.density).name
        if name == StandardNormal.name:
            return StandardNormal(self.network_.latent_dim)
        if name not in self._densities:
            if self._codes is None:
                reason = f", because: {self._no_density}" if self._no_density else ""
                raise InputError(
                    f"The density {name!r} was not saved with this model{reason}. Fit again, or call "
                    f"set_params(density=...) with one of {', '.join([*self._densities, StandardNormal.name])}."
                )
            self._densities[name] = fit_density(name, self._codes)
        return self._densities[name]

    @property
    def _n_features_out(self) -> int:
        return self.network_.latent_dim

    @abstractmethod
    def _scores(self, images: Tensor) -> Tensor:
        """`score_samples` of one batch: (B, C, H, W) floats -> (B,)."""

    def _fit(self, X: Any) -> Tensor:
        kind_of(self.density)
        pixels = self._begin(X)
        self._learn(as_set(pixels, X))
        return self._keep_codes(pixels)

    def _keep_codes(self, pixels: Pixels) -> Tensor:
        codes = torch.from_numpy(encode(self.network_, pixels))
        self._codes: Tensor | None = codes
        self._densities: dict[str, Density] = {}
        self._no_density = ""
        return codes

    def _decode(self, codes: Tensor) -> NDArray[Any]:
        kind = next(self.network_.parameters()).dtype
        images = in_batches(self.network_, self.network_.decode, codes.to(kind))
        return self._form.write((images if self._form.scaling else images.clamp(0, 1)).numpy())

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "no_density": self._no_density}

    def _densities_to_save(self) -> dict[str, Density]:
        """Those that were fitted, and the one of the parameter; if there can be none, the reason is saved instead."""
        self._no_density = ""
        try:
            self.density_  # noqa: B018  # fits it
        except InputError as error:
            self._no_density = str(error)
        return self._densities

    def _restore(self, folder: Path, config: ModelConfig) -> None:
        """A run keeps its densities, and the codes to fit others to, beside the model's folder."""
        super()._restore(folder, config)
        self._codes, self._densities = None, {}
        self._no_density = str(config.estimator.facts.get("no_density", "")) if config.estimator else ""
        run = Run(folder.parent)
        if folder.name == "model" and (run.folder / "run.json").exists():
            self._codes = codes_of(run, "train") if (run.folder / "codes.npz").exists() else None
            folder = run.folder
        else:
            verify(folder / FILE)
        if (folder / FILE).exists():
            self._densities = load_densities(folder / FILE)
            _check_sizes(folder / FILE, self._densities, self.network_.latent_dim)


def _check_sizes(path: Path, densities: Mapping[str, Density], latent_dim: int) -> None:
    for name, density in densities.items():
        if density.latent_dim != latent_dim:
            raise InputError(
                f"{path} holds a {name} of codes of {density.latent_dim} numbers, those of the network beside it have "
                f"{latent_dim}: it belongs to another model; delete it."
            )
