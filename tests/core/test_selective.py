"""Answering only when sure: risk against coverage."""

from __future__ import annotations

import numpy as np
import pytest

from core.selective import aurc, risk_coverage


def test_the_curve_on_a_case_small_enough_to_see():
    coverage, risk = risk_coverage([0, 1, 0, 1], [0.9, 0.6, 0.8, 0.7])
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 0.5])
    assert aurc([0, 1, 0, 1], [0.9, 0.6, 0.8, 0.7]) == pytest.approx((1 / 3 + 0.5) / 4)


def test_ties_share_their_errors_whatever_their_order():
    for wrong in ([1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]):
        np.testing.assert_allclose(risk_coverage(wrong, [0.5] * 4)[1], 0.5)


def test_confidence_that_knows_is_better_than_one_that_does_not():
    wrong = np.random.default_rng(0).integers(0, 2, 500)
    assert aurc(wrong, -wrong) < aurc(wrong, np.zeros(500)) < aurc(wrong, wrong)
