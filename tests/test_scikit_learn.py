"""Every estimator is one of scikit-learn's: its own checks hold, those that feed no matrix, since no domain's data is one."""

from __future__ import annotations

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import estimator_checks_generator

from finance import FraudClassifier, FraudScorer, TransactionEncoder
from healthcare import ImageClassifier, ImageEncoder, Segmenter
from recsys import SessionRecommender
from speech import AudioClassifier, AudioEncoder

WITHOUT_A_MATRIX = {
    "check_estimator_cloneable", "check_estimator_repr", "check_estimator_tags_renamed", "check_valid_tag_types",
    "check_no_attributes_set_in_init", "check_mixin_order", "check_do_not_raise_errors_in_init_or_set_params",
    "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    "check_estimators_unfitted", "check_transformers_unfitted",
}  # fmt: skip
ESTIMATORS = (
    TransactionEncoder(), FraudScorer(), FraudClassifier(), ImageEncoder(), ImageClassifier(), Segmenter(), SessionRecommender(),
    AudioEncoder(), AudioClassifier(),
)  # fmt: skip


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_scikit_learns_checks_hold(estimator: BaseEstimator) -> None:
    done = set()
    for made, check in estimator_checks_generator(estimator):
        name = check.func.__name__ if hasattr(check, "func") else check.__name__
        if name in WITHOUT_A_MATRIX:
            check(made)
            done.add(name)
    assert len(done) >= 10
