"""Our metrics equal scikit-learn's, and the operating point does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from healthcare.metrics import OperatingPoint, accuracy, auroc, average_precision, ece
from healthcare.sections import roc


def binary(random: np.random.Generator, n: int = 300, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with many ties."""
    target = random.integers(0, 2, n)
    score = np.round(np.clip(0.3 * target + random.random(n) * 0.7, 0, 1) * levels) / levels
    return target, np.stack([1 - score, score], 1)


def test_ranking_metrics_equal_scikit_learn_with_ties(random: np.random.Generator) -> None:
    for _ in range(10):
        target, probability = binary(random)
        assert auroc(target, probability) == pytest.approx(roc_auc_score(target, probability[:, 1]))
        assert average_precision(target, probability) == pytest.approx(
            average_precision_score(target, probability[:, 1])
        )


def test_more_classes_are_averaged_one_against_the_rest(random: np.random.Generator) -> None:
    target, probability = random.integers(0, 4, 200), random.dirichlet(np.ones(4), 200)
    expected = roc_auc_score(target, probability, multi_class="ovr", average="macro")
    assert auroc(target, probability) == pytest.approx(expected)
    assert average_precision(target, probability) == pytest.approx(
        average_precision_score(np.eye(4)[target], probability)
    )


def test_one_class_only_has_no_auroc() -> None:
    assert np.isnan(auroc(np.ones(3, int), np.full((3, 2), 0.5)))
    assert np.isnan(average_precision(np.zeros(3, int), np.full((3, 2), 0.5)))


def test_calibration_error_on_cases_small_enough_to_see() -> None:
    sure = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert ece([1, 1], sure) == 0 and ece([1, 0], sure) == 0.5 and ece([0, 0], sure) == 1
    assert ece([1, 1, 0, 1], np.array([[0.25, 0.75]] * 4)) == pytest.approx(0)
    assert accuracy([1, 0], sure) == 0.5


def test_the_threshold_keeps_its_specificity_and_no_lower_one_would(random: np.random.Generator) -> None:
    target, probability = binary(random)
    point = OperatingPoint.at_specificity(target, probability, 0.9)
    assert point.specificity(target, probability) >= 0.9
    lower = OperatingPoint(max(s for s in probability[target == 0, 1] if s < point.threshold))
    assert lower.specificity(target, probability) < 0.9
    false, true = roc(target == 1, probability[:, 1])
    assert point.sensitivity(target, probability) == pytest.approx(true[false <= 0.1 + 1e-9].max())


def test_a_threshold_needs_negatives() -> None:
    with pytest.raises(ValueError, match="no negative"):
        OperatingPoint.at_specificity([1, 1], np.full((2, 2), 0.5))
    assert np.isnan(OperatingPoint(0.5).sensitivity([0], np.array([[0.5, 0.5]])))
