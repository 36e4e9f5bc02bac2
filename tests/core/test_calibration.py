from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from core.calibration import (
    Platt,
    Temperature,
    at_prior,
    brier,
    calibration_error,
    calibration_slope,
    estimated_prior,
    reliability,
)
from core.errors import UserError


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    odds = draw.normal(-2, 2, count)
    return odds, (draw.random(count) < 1 / (1 + np.exp(-odds))).astype(int)


def test_true_probabilities_have_next_to_no_error_and_squashed_ones_have_one():
    odds, label = drawn(50_000)
    true = 1 / (1 + np.exp(-odds))
    assert calibration_error(label, true) < 0.006
    assert calibration_error(label, 0.5 + 0.2 * (true - 0.5)) > 0.2


def test_the_error_by_hand():
    assert calibration_error([0, 1, 0, 1], [0.2, 0.2, 0.9, 0.9], bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)
    assert [b.rows for b in reliability([0, 1, 0, 1], [0.2, 0.2, 0.9, 0.9], bins=2)] == [2, 2]


def test_equal_probabilities_stay_together_and_every_row_counts_once():
    draw = np.random.default_rng(1)
    p = draw.choice([0.0, 0.1, 0.5, 1.0], 1000, p=[0.7, 0.1, 0.1, 0.1])
    bins = reliability(draw.integers(0, 2, 1000), p)
    assert sum(b.rows for b in bins) == 1000 and [b.said for b in bins] == pytest.approx([0.0, 0.1, 0.5, 1.0])


def test_platt_mends_distorted_odds_as_logistic_regression_does():
    odds, label = drawn(20_000)
    bent = 3 * odds + 1
    line = Platt.fit(bent, label)
    theirs = LogisticRegression(C=np.inf).fit(bent[:, None], label)
    assert line.slope == pytest.approx(theirs.coef_[0, 0], rel=0.01)
    assert line.shift == pytest.approx(theirs.intercept_[0], rel=0.02, abs=0.01)
    assert calibration_error(label, line(bent)) < 0.01 < calibration_error(label, Platt()(bent))


def test_perfectly_told_apart_rows_give_a_bounded_slope():
    odds, label = np.r_[np.full(50, -1.0), np.full(50, 1.0)], np.r_[np.zeros(50), np.ones(50)]
    line = Platt.fit(odds, label)
    assert 0 < line.slope < 10 and np.all((line(odds) > 0.5) == (label == 1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Platt.fit([0.1, 0.2], [1, 1]),
        lambda: Platt.fit([-1.0, 1.0, -2.0, 2.0], [1, 0, 1, 0]),
        lambda: calibration_error([1, 0], [0.5, 1.2]),
        lambda: calibration_error([1, 0], [0.5]),
        lambda: calibration_error([], []),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)


def test_temperature_finds_the_factor_and_keeps_every_rank():
    odds, label = drawn(20_000)
    logits = np.stack([np.zeros_like(odds), odds], 1)
    found = Temperature.fit(2.5 * logits, label)
    assert found.value == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(found(2.5 * logits)[:, 1], 1 / (1 + np.exp(-odds)), atol=0.03)
    three = np.random.default_rng(0).normal(size=(9000, 3))
    p = np.exp(three) / np.exp(three).sum(1, keepdims=True)
    of_three = (p.cumsum(1) < np.random.default_rng(1).random((9000, 1))).sum(1)
    assert Temperature.fit(three / 2, of_three).value == pytest.approx(0.5, rel=0.1)


def test_temperature_mends_a_lean_to_the_frequent_class_as_platt_does():
    odds, label = drawn(20_000)
    leaning = np.stack([np.zeros_like(odds), 0.4 * odds + 1], 1)
    found, line = Temperature.fit(leaning, label), Platt.fit(0.4 * odds + 1, label)
    assert sum(found.bias) == pytest.approx(0)
    np.testing.assert_allclose(found(leaning)[:, 1], line(leaning[:, 1]), atol=1e-3)
    assert calibration_error(label, found(leaning)[:, 1]) < 0.01
    without = Temperature(found.value)(leaning)[:, 1]
    assert calibration_error(label, without) > 0.05


def test_the_bias_of_three_classes_is_that_of_their_frequencies():
    random = np.random.default_rng(0)
    logits, true = random.normal(size=(20_000, 3)), np.array([1.0, 0.0, -1.0])
    p = Temperature(0.5, tuple(true))(logits)
    label = (p.cumsum(1) < random.random((20_000, 1))).sum(1)
    found = Temperature.fit(logits, label)
    assert found.value == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(found.bias, true, atol=0.1)


def test_temperature_stays_finite_where_rows_are_told_apart_and_refuses_one_class():
    logits = np.stack([np.zeros(20), np.repeat([-3.0, 3.0], 10)], 1)
    assert 0.05 < Temperature.fit(logits, np.repeat([0, 1], 10)).value < 20
    with pytest.raises(UserError, match="one class"):
        Temperature.fit(logits, np.ones(20, int))


def test_slope_and_intercept_equal_scikit_learn_and_say_which_way_it_is_wrong():
    odds, label = drawn(20_000)
    slope, intercept = calibration_slope(label, 1 / (1 + np.exp(-(2 * odds + 1))))
    model = LogisticRegression(C=1e9, max_iter=1000).fit((2 * odds + 1)[:, None], label)
    assert slope == pytest.approx(model.coef_[0, 0], rel=1e-2) and slope == pytest.approx(0.5, rel=0.05)
    assert intercept < 0  # said too often
    assert np.isnan(calibration_slope(np.ones(5), np.full(5, 0.5))[0])


def test_brier_equals_scikit_learn():
    from sklearn.metrics import brier_score_loss

    odds, label = drawn(500)
    p = 1 / (1 + np.exp(-odds))
    assert brier(label, np.stack([1 - p, p], 1)) == pytest.approx(brier_score_loss(label, p))
    assert brier([0, 2], np.array([[1.0, 0, 0], [1.0, 0, 0]])) == pytest.approx(1)


def test_another_prior_is_found_without_labels_and_mends_the_probabilities():
    draw = np.random.default_rng(0)
    label = (draw.random(30_000) < 0.2).astype(int)  # learned where half were ill
    odds = draw.normal(np.where(label == 1, 1.0, -1.0), np.sqrt(2.0))  # its own log-odds at even prior
    p = 1 / (1 + np.exp(-odds))
    both = np.stack([1 - p, p], 1)
    found = estimated_prior(both, [0.5, 0.5])
    assert found[1] == pytest.approx(0.2, abs=0.02)
    assert calibration_error(label, at_prior(both, [0.5, 0.5], found)[:, 1]) < 0.02 < calibration_error(label, p)
