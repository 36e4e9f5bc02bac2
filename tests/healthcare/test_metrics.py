"""Our metrics equal scikit-learn's, and the operating point does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from healthcare.curves import roc
from healthcare.metrics import (
    OperatingPoint,
    accuracy,
    aurc,
    auroc,
    average_precision,
    brier,
    calibration_slope,
    ece,
    predictive_values,
    specificity_at_sensitivity,
)


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


def test_the_threshold_keeps_its_goal_on_new_images_of_the_same_origin(random: np.random.Generator) -> None:
    """Over many small held-out sets the mean specificity, or sensitivity, of a new image is the goal or more: not so of the plain quantile."""
    for size in (19, 25, 60):
        specific, sensitive, plain = [], [], []
        for _ in range(400):
            negatives, positives = random.normal(size=size), random.normal(1, 1, size)
            there = np.repeat([0, 1], size)
            scores = 1 / (1 + np.exp(-np.concatenate([negatives, positives])))
            new = 1 / (1 + np.exp(-random.normal(size=200))), 1 / (1 + np.exp(-random.normal(1, 1, 200)))
            specific.append(OperatingPoint.at_specificity(there, scores, 0.9).specificity(np.zeros(200), new[0]))
            sensitive.append(OperatingPoint.at_sensitivity(there, scores, 0.95).sensitivity(np.ones(200), new[1]))
            plain.append((new[1] >= np.quantile(scores[size:], 0.05)).mean())
        assert np.mean(specific) > 0.895 and np.mean(sensitive) > 0.945
        if size < 60:
            assert np.mean(plain) < 0.945


def test_a_threshold_says_where_too_few_were_held_out() -> None:
    there, score = np.array([0] * 18 + [1] * 18), np.linspace(0.1, 0.9, 36)
    assert not OperatingPoint.at_sensitivity(there, score).kept
    assert OperatingPoint.at_sensitivity(np.append(there, 1), np.append(score, 0.9)).kept
    assert OperatingPoint.at_sensitivity(there, score).sensitivity(there, score) == 1  # none of those held out is lost
    assert OperatingPoint.at_specificity(there, score, 0.95).specificity(there, score) == 1


def test_a_threshold_needs_images_of_its_kind() -> None:
    with pytest.raises(ValueError, match="no negative"):
        OperatingPoint.at_specificity([1, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="no positive"):
        OperatingPoint.at_sensitivity([0, 0], [0.5, 0.5])
    assert np.isnan(OperatingPoint(0.5).sensitivity([0], [0.5]))


def test_the_best_specificity_at_a_sensitivity_is_read_off_the_curve(random: np.random.Generator) -> None:
    target, probability = binary(random)
    false, true = roc(target == 1, probability[:, 1])
    best = 1 - false[true >= 0.95 - 1e-9].min()
    assert specificity_at_sensitivity(target, probability) == pytest.approx(best)


def test_predictive_values_follow_bayes() -> None:
    assert predictive_values(0.9, 0.8, 0.5) == pytest.approx((0.9 / 1.1, 0.8 / 0.9))
    assert predictive_values(0.9, 0.8, 0.01)[0] == pytest.approx(0.009 / (0.009 + 0.198))


def test_of_findings_unknown_answers_are_left_out_and_figures_averaged(random: np.random.Generator) -> None:
    a, b = binary(random), binary(random)
    target, p = np.stack([a[0], b[0], np.ones(300, int)], 1), np.stack([a[1][:, 1], b[1][:, 1], b[1][:, 1]], 1)
    assert auroc(target, p) == pytest.approx((auroc(*a) + auroc(*b)) / 2)  # the third has one answer only
    hidden, noise = target.copy(), p.copy()
    hidden[:50, 0], noise[:50, 0] = -1, 1 - noise[:50, 0]
    assert auroc(hidden, noise) == pytest.approx((auroc(a[0][50:], a[1][50:]) + auroc(*b)) / 2)
    assert brier(target[:, :1], p[:, :1]) == pytest.approx(brier(*a))
    assert ece(target[:, :1], p[:, :1]) == pytest.approx(ece(*a), abs=0.02)  # a tie at .5 is another class
    assert 0 <= aurc(target, p) <= 1 and 0 <= accuracy(target, p) <= 1 and calibration_slope(target, p) > 0
