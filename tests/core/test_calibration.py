from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from core.calibration import Platt, calibration_error, reliability
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
