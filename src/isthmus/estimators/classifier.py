"""The image classifier as an estimator: labels of any kind that scikit-learn takes, probabilities of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from isthmus.data.arrays import Labels
from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError, InputError
from isthmus.estimators.estimator import ROWS_HIDDEN, Estimator, as_set
from isthmus.estimators.inputs import Form
from isthmus.model_config import ModelConfig
from isthmus.networks.apply import classify
from isthmus.networks.classifier import Classifier


@final
class ImageClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A classifier: for images a convolutional network, for rows of numbers a perceptron.

    After `fit`, `classes_` holds the K labels in order. An ImageSet with labels needs no y.

    Arguments:
        architecture: "convolutional" or "mlp"; None takes what suits X.
        width, blocks, batch_norm: of the convolutions (networks.classifier.classifier); 16, 3 and True if None.
        hidden: sizes of the layers before the scores, a number or several; None is 0, no such layer, for convolutions
            and (128, 64) for a perceptron.
        standardise: bring each image to mean 0 and standard deviation 1 first. dropout: share of numbers dropped before
            each of the last layers while training. label_smoothing: share of each target spread over all classes.
        epochs, batch_size, learning_rate: None takes the values of `isthmus train`, for small sets more epochs and
            smaller batches.
        validation_fraction: share of each class held out to choose the best epoch by, of two or more samples at least
            one; with 0 all are learnt from.
        image_shape: of images that lie in rows, (H, W), (C, H, W) or (H, W, C).
        device: cpu, cuda, cuda:0 or mps. random_state: decides weights, order and held-out samples. verbose: 1 prints
            a line an epoch.

    >>> from sklearn.datasets import load_iris
    >>> flowers = load_iris()
    >>> names = flowers.target_names[flowers.target]
    >>> model = ImageClassifier(random_state=0).fit(flowers.data, names)
    >>> str(model.predict(flowers.data[:1])[0]), bool(model.score(flowers.data, names) > 0.9)
    ('setosa', True)
    """

    network_: Classifier
    networks: ClassVar = ("classifier",)
    architectures: ClassVar = {"convolutional": ("width", "blocks", "batch_norm"), "mlp": ()}

    def __init__(
        self,
        *,
        architecture: Literal["convolutional", "mlp"] | None = None,
        width: int | None = None,
        blocks: int | None = None,
        batch_norm: bool | None = None,
        hidden: int | tuple[int, ...] | None = None,
        standardise: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        image_shape: tuple[int, ...] | None = None,
        device: str | torch.device = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.architecture = architecture
        self.width = width
        self.blocks = blocks
        self.batch_norm = batch_norm
        self.hidden = hidden
        self.standardise = standardise
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn to tell classes apart.

        Arguments: X: images (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floats in [0, 1], or rows (N, D). y: (N,)
        labels; None takes those of an ImageSet.
        Raises: InputError for a parameter, an X or labels that cannot be used, DivergedError if the loss stops being
        finite.
        """
        pixels = self._begin(X)
        labels = _labels(X, y, len(pixels), type(self).__name__)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        _check_several(self.classes_)
        self._learn(as_set(pixels, X, numbers.astype(np.int64), self._names()))
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """One pass over X; the network and the optimizer go on from call to call, at a constant learning rate.

        Arguments: classes: all labels there will be, needed in the first call. The first X decides the form of all.
        Raises: as `fit`, and InputError if the classes are missing, change, or do not hold a label of y.
        """
        first = not hasattr(self, "network_")
        pixels = self._begin(X) if first else self._read(X)
        labels = _labels(X, y, len(pixels), type(self).__name__)
        if first:
            if classes is None:
                raise InputError("classes must be passed on the first call to partial_fit: all labels there will be.")
            self.classes_ = np.unique(np.asarray(classes))
            _check_several(self.classes_)
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise InputError(f"classes are {classes!r}, but those of the calls before are {self.classes_.tolist()}.")
        self._learn_more(pixels, X, self._numbers(labels), self._names())
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each sample, (N,). Raises: NotFittedError; InputError if X is not as in `fit`."""
        probabilities = self.predict_proba(X)
        most: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return most

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities (N, K), the columns in the order of `classes_`; each row sums to 1."""
        pixels = self._read(X)
        return classify(self.network_, pixels).numpy()

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Share of samples whose label is right. Arguments: y: (N,); None takes the labels of an ImageSet."""
        predicted = self.predict(X)
        labels = _labels(X, y, len(predicted), type(self).__name__)
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def _model(self, form: Form) -> dict[str, Any]:
        chosen, given = self._choose(form)
        hidden = self.hidden if self.hidden is not None else (ROWS_HIDDEN if chosen == "mlp" else 0)
        names = ("standardise", "dropout", "label_smoothing")
        own = {name: getattr(self, name) for name in names}
        return {"name": "classifier", "architecture": chosen, "hidden": hidden, **own, **given}

    def _numbers(self, labels: NDArray[Any]) -> Labels:
        """Labels as positions in `classes_`. Raises: InputError for one that is not among them."""
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise InputError(
                f"y holds {unknown[:5].tolist()}, not among the classes {self.classes_.tolist()} of the first call to "
                f"partial_fit: name all of them there."
            )
        return np.searchsorted(self.classes_, labels).astype(np.int64)

    def _names(self) -> tuple[str, ...]:
        return tuple(str(label) for label in self.classes_)

    def _facts(self) -> dict[str, Any]:
        kind = self.classes_.dtype
        return {**super()._facts(), "classes": {"type": kind.str, "values": self.classes_.tolist()}}

    def _restore(self, folder: Path, config: ModelConfig) -> None:
        super()._restore(folder, config)
        facts = config.estimator.facts.get("classes") if config.estimator else None
        if facts is None:  # of a run: its classes are names
            self.classes_ = np.array(config.classes)
        else:
            self.classes_ = np.array(facts["values"], dtype=np.dtype(facts["type"]))


def _labels(X: Any, y: Any, count: int, name: str) -> NDArray[Any]:
    """Labels (N,), of any kind.

    Raises: InputError if they, or some of them, are missing, or they are of another number; ValueError otherwise.
    """
    if y is None and isinstance(X, ImageSet) and X.labels is not None:
        return np.array(X.classes)[X.labels]
    if y is None:
        raise InputError(
            f"{name} requires y to be passed, but the target y is None: give one label for each sample, or an ImageSet "
            f"with labels."
        )
    given = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else y
    _check_none_missing(given)
    labels: NDArray[Any] = column_or_1d(given, warn=True)
    if len(labels) != count:
        raise DataError(f"X has {count} samples, but y has {len(labels)} labels: give one for each.")
    check_classification_targets(labels)
    return labels


def _check_none_missing(y: Any) -> None:
    """Raises: DataError if a label is None or NaN, or what else pandas calls missing."""
    values = np.atleast_1d(np.asarray(y, dtype=object))
    missing = np.flatnonzero(pd.isna(values).any(axis=tuple(range(1, values.ndim))))
    if len(missing):
        raise DataError(
            f"y has no label for {len(missing)} of {len(values)} samples, first at {missing[0]}: leave them out "
            f"or label them."
        )


def _check_several(classes: NDArray[Any]) -> None:
    if len(classes) < 2:
        raise InputError(
            f"y holds one class only, {classes.tolist()}: a classifier tells at least two apart; add "
            f"samples of another one."
        )
