"""What the estimators share: how they learn, and the model files they are kept in.

An estimator turns X into images of a network (inputs.py), chooses the network's settings, and trains it with the one
training loop. Parameters are checked when `fit` is called, as scikit-learn has it; one that is None unless it is given
and belongs to another architecture or solver is refused, and so is a sigma beside a Bernoulli likelihood. Fits side by
side need processes of their own, which is what joblib gives them by default: in threads they would disturb each other's
random draws (training/loop.py).
"""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from isthmus import hub
from isthmus.data.arrays import Labels, Pixels
from isthmus.data.imageset import ImageSet, hashes_of
from isthmus.data.split import hold_out
from isthmus.display import html
from isthmus.errors import DataError, InputError
from isthmus.estimators.inputs import Form, form_of, learn_form
from isthmus.estimators.parameters import (
    Common,
    calm_schedule,
    check_sides,
    checked_training,
    diverging,
    place,
    plain,
    reporter,
    schedule,
    seed_of,
)
from isthmus.latent.density import Density, save_densities
from isthmus.model_card import ESTIMATORS
from isthmus.model_config import DataFacts, EstimatorFacts, ModelConfig
from isthmus.model_files import DENSITIES, new_model, read_config, read_network, read_trained_on, write_model
from isthmus.networks.apply import to_float
from isthmus.networks.catalog import Network, build
from isthmus.settings import ModelSettings, validate, validate_model
from isthmus.training.loop import History, one_pass, train
from isthmus.training.optimizers import make_optimizer

Architecture = Literal["convolutional", "mlp"]

ROWS_HIDDEN = (128, 64)  # sizes of the layers of a perceptron for rows of numbers
EXAMPLES = 10  # samples kept to be shown


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """A network behind scikit-learn's interface.

    Attributes after `fit`: network_: the network. history_: what the training did, or None if there was none.
    image_shape_: (C, H, W) that the network takes; rows of D numbers are (1, 1, D). layout_: of X, "NHW", "NCHW",
    "NHWC" or "ND". n_features_in_: numbers in a sample. feature_names_in_: of a DataFrame's columns. examples_: up to
    10 samples, (n, C, H, W) in [0, 1], none after `from_pretrained`.
    """

    networks: ClassVar[tuple[str, ...]]  # names of the networks it fits
    architectures: ClassVar[dict[str, tuple[str, ...]]] = {}  # which parameters belong to which

    network_: Network
    history_: History | None
    examples_: NDArray[np.float32]
    _form: Form
    _settings: ModelSettings
    _seed: int
    _noise: float
    _data: DataFacts
    _trained_on: NDArray[np.uint64]
    _figures: dict[str, float]
    _optimizer: torch.optim.Optimizer | None
    _passes: int

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @abstractmethod
    def _model(self, form: Form) -> dict[str, Any]:
        """The network's settings for X of this form, as `validate_model` takes them."""

    def _training(self) -> dict[str, Any]:
        """Training settings by name, None for the table's."""
        return {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate")}

    def _common(self) -> Common:
        return validate(Common, {name: plain(getattr(self, name)) for name in Common.model_fields})

    # -- learning

    def _begin(self, X: Any) -> Pixels:
        """Check the parameters and X, and note its form; X as (N, C, H, W)."""
        self._common()
        checked_training(self._training())
        form, pixels = learn_form(X, type(self).__name__, self.image_shape)
        self._settings_for(form)
        place(self.device, double=form.scaling is not None)
        validate_data(self, X, reset=True, skip_check_array=True, ensure_2d=False)  # names of columns
        self.__dict__.pop("network_", None)  # should this attempt fail, an older network would not fit the new form
        self._set_form(form)
        return pixels

    def _read(self, X: Any, *, noisy: bool = False) -> Pixels:
        """X of the form that `fit` saw, as (N, C, H, W). Raises: NotFittedError; DataError."""
        check_is_fitted(self, "network_")
        validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
        return self._form.read(X, type(self).__name__, noisy=noisy)

    def _set_form(self, form: Form) -> None:
        self._form = form
        self.layout_, self.image_shape_ = form.layout, form.image_shape
        self.n_features_in_ = int(np.prod(form.image_shape))

    def _settings_for(self, form: Form) -> ModelSettings:
        """The network's settings. Raises: InputError if a parameter is out of range."""
        return validate_model({name: plain(value) for name, value in self._model(form).items()})

    def _choose(self, form: Form) -> tuple[Architecture, dict[str, Any]]:
        """The architecture for X of this form, and those of its own parameters that are given."""
        chosen: Any = self.architecture
        if chosen is None:
            chosen = "mlp" if form.flat else "convolutional"
        if not isinstance(chosen, str) or chosen not in self.architectures:
            raise InputError(f"architecture is {chosen!r}; give convolutional or mlp, or None for what suits X.")
        if chosen == "convolutional":
            check_sides(form.image_shape, type(self).__name__, flat=form.flat)
        own = self.architectures[chosen]
        for name in (name for names in self.architectures.values() for name in names if name not in own):
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, but the network for this X has architecture={chosen!r} and no "
                    f"{name}: leave it out, or give the other architecture."
                )
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        return ("convolutional" if chosen == "convolutional" else "mlp"), given

    def _new_network(self, model: ModelSettings, classes: int) -> Network:
        """With random weights, on the device, in the precision of X."""
        double = self._form.scaling is not None
        network = build(model, self._form.image_shape, classes=classes, seed=self._seed)
        network.to(place(self.device, double=double), torch.float64 if double else torch.float32)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in training
        return network

    def _learn(self, images: ImageSet) -> None:
        """Train a new network."""
        model, self._seed = self._settings_for(self._form), seed_of(self.random_state)
        common, name = self._common(), type(self).__name__
        training, validation = hold_out(images, common.validation_fraction, seed=self._seed, copy=False)
        network = self._new_network(model, len(images.classes))
        settings = schedule(model.name, len(training), self._training())
        with diverging(name):
            history = train(
                network,
                training,
                validation,
                settings,
                seed=self._seed,
                device=next(network.parameters()).device,
                progress=reporter(name) if common.verbose else None,
            )
        self._keep(network, model, images, history)
        self._noise = settings.noise
        if validation is not images:
            best = history.epochs[history.best_epoch - 1]
            self._figures = {name: value for name, value in best.items() if name.startswith("validation_")}

    def _learn_more(self, pixels: Pixels, X: Any, labels: Labels | None = None, classes: tuple[str, ...] = ()) -> None:
        """One pass over more samples, with copies of the network and the optimizer of the passes before: if it fails,
        nothing has happened.

        Unlike those of `fit`, rows may lie beyond the least and greatest values that are known.
        """
        if len(pixels) < 2:
            raise DataError(f"X has 1 sample; {type(self).__name__} learns from at least 2 at once: give more.")
        first = not hasattr(self, "network_")
        if first:
            model, self._seed = self._settings_for(self._form), seed_of(self.random_state)
            network, optimizer, passes = self._new_network(model, len(classes)), None, 0
        else:
            model, passes = self._settings, self._passes
            network, optimizer = copy.deepcopy((self.network_, self._optimizer))  # together, as one refers to the other
        settings = calm_schedule(model.name, self._training())
        optimizer = optimizer or make_optimizer(network, settings)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate
        images, targets = torch.from_numpy(pixels), None if labels is None else torch.from_numpy(labels)
        with diverging(type(self).__name__):
            one_pass(network, images, targets, optimizer, settings, seed=self._seed, number=passes + 1)
        if first:
            self._keep(network, model, as_set(pixels, X, labels, classes), None)
        else:
            self._data, self._trained_on = self._joined(pixels, X)
        self.network_, self._optimizer, self._passes = network, optimizer, passes + 1
        self._figures, self._noise = {}, settings.noise

    def _joined(self, pixels: Pixels, X: Any) -> tuple[DataFacts, NDArray[np.uint64]]:
        """What is known of all samples learnt from, and their sorted hashes, which the fingerprint is then made of.

        Samples that were seen before do not count again.
        """
        hashes = hashes_of(pixels)
        new = hashes[~np.isin(hashes, self._trained_on)]
        if not len(new):
            return self._data, self._trained_on
        known = np.sort(np.concatenate([self._trained_on, new]))
        facts = {
            "name": self._data.name if self._data.name == _name_of(X) else "several sets",
            "fingerprint": hashlib.sha256(known.astype("<u8").tobytes()).hexdigest(),
            "images": len(known),
        }
        return self._data.model_copy(update=facts), known

    def _keep(self, network: Network, model: ModelSettings, images: ImageSet, history: History | None) -> None:
        """Note what was learnt, and from what."""
        self.network_, self.history_, self._settings = network.eval(), history, model
        self._figures, self._optimizer, self._passes, self._noise = {}, None, 0, 0.0
        self._trained_on = np.sort(images.image_hashes())
        self._data = DataFacts(name=images.name, fingerprint=images.fingerprint, images=len(self._trained_on))
        shown = np.linspace(0, len(images) - 1, min(EXAMPLES, len(images))).round().astype(int)
        self.examples_ = to_float(torch.from_numpy(images.images[shown])).numpy().astype(np.float32)

    # -- files

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model into a folder: weights, settings, preprocessing, densities, and a card that describes it.

        Arguments: overwrite: replace a model that is there. Returns: the folder.
        Raises: NotFittedError; RunExistsError if the folder is taken; StorageError if it cannot be written.
        """
        check_is_fitted(self, "network_")
        path, densities, config = Path(os.path.expanduser(folder)), self._densities_to_save(), self._config()
        with new_model(path, overwrite=overwrite) as place:
            if densities:
                save_densities(place / DENSITIES, densities)
            write_model(place, self.network_, config, trained_on=self._trained_on)
        return path

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> Self:
        """An estimator from a folder that `save_pretrained` or `isthmus train` wrote, or OWNER/NAME on a hub.

        It lies on the CPU, and there gives the same numbers to the last bit. `history_` is None, `examples_` empty.
        Arguments: revision: branch, tag or commit of a hub's model.
        Raises: InputError if there is no model, it is damaged, or of another kind.
        """
        folder = hub.locate(source, revision=revision)
        config = read_config(folder)
        if config.model.name not in cls.networks:
            raise InputError(
                f"{source} holds a network `{config.model.name}`, which no {cls.__name__} has: load it with "
                f"isthmus.{ESTIMATORS[config.model.name]}.from_pretrained."
            )
        estimator = cls(**cls._parameters(config))
        estimator._set_form(form_of(config, estimator.image_shape))
        estimator._restore(folder, config)
        return estimator

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Send the model to OWNER/NAME on a hub; returns its address. Options are those of `isthmus.hub.push_to_hub`.

        Raises: NotFittedError; InputError if the hub refuses it or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            return hub.push_to_hub(self.save_pretrained(Path(folder) / "model"), repo_id, **options)

    def _facts(self) -> dict[str, Any]:
        """What else has to be saved, as JSON."""
        names = getattr(self, "feature_names_in_", None)
        facts: dict[str, Any] = {} if names is None else {"feature_names": [str(name) for name in names]}
        return {**facts, "inner": self._form.inner}

    def _densities_to_save(self) -> dict[str, Density]:
        return {}

    def _restore(self, folder: Path, config: ModelConfig) -> None:
        """Take up what was saved."""
        self.network_, self.history_ = read_network(folder, config), None
        self._settings, self._figures, self._data, self._noise = config.model, config.figures, config.data, config.noise
        self._trained_on, self._optimizer, self._passes, self._seed = read_trained_on(folder), None, 0, 0
        self.examples_ = np.empty((0, *config.image_shape), np.float32)
        names = config.estimator.facts.get("feature_names") if config.estimator else None
        if names:
            self.feature_names_in_ = np.array([str(name) for name in names], dtype=object)

    def _config(self) -> ModelConfig:
        parameters = {name: plain(value) for name, value in self.get_params(deep=False).items() if name != "device"}
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None  # a generator cannot be written down
        form = self._form
        return ModelConfig(
            model=self._settings,
            image_shape=form.image_shape,
            classes=tuple(str(label) for label in getattr(self, "classes_", ())),
            noise=self._noise,
            data=self._data,
            scaling=None if form.scaling is None else form.scaling.facts(),
            estimator=EstimatorFacts(
                name=type(self).__name__, parameters=parameters, layout=form.layout, facts=self._facts()
            ),
            figures=self._figures,
        )

    @classmethod
    def _parameters(cls, config: ModelConfig) -> dict[str, Any]:
        """Constructor parameters as they were saved or, of a run, as its network has them."""
        known = set(cls._get_param_names()) - {"device"}
        if config.estimator and config.estimator.name == cls.__name__:
            return {name: plain(value) for name, value in config.estimator.parameters.items() if name in known}
        values = cls._parameters_of(config)
        own = cls.architectures.get(values.get("architecture", ""), ())
        foreign = {name for names in cls.architectures.values() for name in names if name not in own}
        return {name: value for name, value in values.items() if name in known - foreign}

    @classmethod
    def _parameters_of(cls, config: ModelConfig) -> dict[str, Any]:
        """The network's settings under the names of parameters."""
        return config.model.model_dump(exclude={"name"})

    # -- in a notebook

    def _repr_html_inner(self) -> str:
        return str(self._repr_mimebundle_().get("text/html", ""))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        """The fitted estimator shows what it learnt, another one its parameters, as scikit-learn has it."""
        shown: dict[str, str] = super()._repr_mimebundle_(**options)
        if "text/html" in shown and hasattr(self, "network_"):
            shown["text/html"] = html(self, "show_estimator")
        return shown


def as_set(pixels: Pixels, X: Any, labels: Labels | None = None, classes: tuple[str, ...] = ()) -> ImageSet:
    """(N, C, H, W) as a set with the name of the ImageSet it came from."""
    return ImageSet(pixels, labels, classes, _name_of(X))


def _name_of(X: Any) -> str:
    return X.name if isinstance(X, ImageSet) else "arrays"
