from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from finance.metrics import Panel, auroc, average_precision, card_precision

RNG = np.random.default_rng(0)
N = 400
LABEL = (RNG.random(N) < 0.2).astype(int)
SCORE = np.round(RNG.normal(size=N) + LABEL, 1)  # rounded: ties
WEIGHT = RNG.integers(0, 3, (4, N)).astype(float)


@pytest.mark.parametrize(("ours", "theirs"), [(auroc, roc_auc_score), (average_precision, average_precision_score)])
def test_weighted_metrics_equal_scikit_learn(ours, theirs):
    assert ours(LABEL, SCORE)[0] == pytest.approx(theirs(LABEL, SCORE))
    expected = [theirs(LABEL, SCORE, sample_weight=w) for w in WEIGHT]
    assert np.allclose(ours(LABEL, SCORE, WEIGHT), expected)


def test_card_precision_by_hand():
    day = np.array([0, 0, 0, 0, 1, 1, 1])
    card = np.array([0, 0, 1, 2, 0, 1, 2])
    label = np.array([0, 1, 0, 1, 1, 1, 1])
    score = np.array([0.9, 0.1, 0.8, 0.2, 0.9, 0.8, 0.7])
    # day 0, two cards: 0 (its best payment scores .9, and it has a fraud) and 1 (none) -> 1/2; card 0 is found.
    # day 1, two cards of those left: 1 and 2, both frauds -> 1
    assert card_precision(day, card, label, score, k=2)[0] == pytest.approx(0.75)


def test_copies_of_a_card_count_as_cards():
    day, card, label, score = np.zeros(2, int), np.array([0, 1]), np.array([1, 0]), np.array([1.0, 0.5])
    copies = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    assert card_precision(day, card, label, score, k=2, weight=copies).tolist() == [0.5, 1.0, 0.0]


def panel(**settings) -> Panel:
    card = RNG.integers(0, 50, N)
    return Panel(LABEL, LABEL * RNG.integers(1, 3, N), card, RNG.integers(0, 5, N), k=5, **settings)


def test_a_panel_counts_what_it_measures():
    rows = panel()
    counts = rows.counts()
    assert counts["frauds"] == counts["frauds of scenario 1"] + counts["frauds of scenario 2"] == LABEL.sum()
    measured = rows.measure(SCORE)
    assert set(measured) == {"auroc", "average_precision", "card_precision@5", "auroc@scenario=1", "auroc@scenario=2"}
    assert measured["auroc"].value == pytest.approx(roc_auc_score(LABEL, SCORE))
    assert all(e.low <= e.value <= e.high for e in measured.values())


def test_intervals_are_wider_where_a_card_holds_many_rows():
    alike = Panel(np.repeat(LABEL[:40], 10), np.zeros(N, int), np.repeat(np.arange(40), 10), np.zeros(N, int))
    apart = Panel(alike.label, alike.scenario, np.arange(N), alike.day)
    score = np.repeat(SCORE[:40], 10)
    wide, narrow = alike.measure(score, ["auroc"])["auroc"], apart.measure(score, ["auroc"])["auroc"]
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_differences_are_paired():
    rows = panel()
    same = rows.compare("auroc", SCORE, SCORE)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = rows.compare("auroc", [LABEL + 0.0, LABEL + 0.0], SCORE)
    assert better.low > 0 and better.value == pytest.approx(1 - roc_auc_score(LABEL, SCORE))
