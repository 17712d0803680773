"""scikit-learn's own checks of every estimator: all of them, none expected to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags

from isthmus.estimators.autoencoders import ConvAutoencoder, LinearAutoencoder, VariationalAutoencoder
from isthmus.estimators.classifier import ImageClassifier
from isthmus.estimators.denoiser import Denoiser

pytestmark = pytest.mark.slow
ESTIMATORS = [
    ConvAutoencoder(),
    LinearAutoencoder(),
    LinearAutoencoder(solver="gradient"),
    VariationalAutoencoder(),
    ImageClassifier(),
    Denoiser(),
]
# Of names and containers; scikit-learn runs them on its own estimators only.
FURTHER = [
    checks.check_dataframe_column_names_consistency,
    checks.check_get_feature_names_out_error,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_global_output_transform_pandas,
]


@checks.parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def further() -> Iterator[Any]:
    """A classifier has no features to give, and so fewer of these."""
    for estimator in ESTIMATORS:
        quick = clone(estimator)
        if getattr(estimator, "solver", "") != "exact":
            quick.set_params(epochs=2)
        name = type(estimator).__name__
        for check in FURTHER if hasattr(estimator, "transform") else FURTHER[:1]:
            yield pytest.param(name, quick, check, id=f"{estimator}-{check.__name__}")


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")  # the checks mix both on purpose
@pytest.mark.parametrize(("name", "estimator", "check"), list(further()))
def test_names_and_containers(name: str, estimator: Any, check: Callable[[str, Any], None]) -> None:
    check(name, estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_tags_are_true(estimator: Any) -> None:
    tags = get_tags(estimator)
    assert tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.classifier_tags is None or not tags.classifier_tags.poor_score
