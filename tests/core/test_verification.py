"""The equal error rate against a definition as simple as it gets, and the pairs that it is measured on."""

import numpy as np
import pytest

from core.errors import UserError
from core.verification import eer, trials


def simple(same, score):
    """Try every threshold; where the two errors are closest, their mean."""
    found = []
    for threshold in [*score, np.inf]:
        accepted = np.mean([s >= threshold for s, truth in zip(score, same, strict=True) if not truth])
        refused = np.mean([s < threshold for s, truth in zip(score, same, strict=True) if truth])
        found.append((abs(accepted - refused), (accepted + refused) / 2))
    return min(found)[1]


@pytest.mark.parametrize("seed", range(8))
def test_eer_is_that_of_the_simple_definition(seed):
    generator = np.random.default_rng(seed)
    same = generator.random(600) < 0.4
    score = generator.normal(size=600) + 1.5 * same
    if seed % 2:
        score = score.round(1)  # ties
    assert abs(eer(same, score) - simple(same, score)) < (0.02 if seed % 2 else 0.005)


def test_eer_of_cases_that_are_known():
    same = np.array([True] * 4 + [False] * 4)
    assert eer(same, [4, 3, 2, 1, 0, -1, -2, -3]) == 0
    assert eer(same, [0, -1, -2, -3, 4, 3, 2, 1]) == 1
    assert eer(same, np.ones(8)) == 0.5
    assert eer(same, [8, 7, 6, 4, 5, 3, 2, 1]) == pytest.approx(0.25)
    assert eer(same, -np.array([8, 7, 6, 4, 5, 3, 2, 1])) == pytest.approx(0.75)


@pytest.mark.parametrize(("same", "score"), [([True, True], [1, 2]), ([False], [1]), ([True, False], [np.nan, 1])])
def test_pairs_of_one_kind_or_scores_that_are_none_are_one_clear_line(same, score):
    with pytest.raises(UserError, match=r"pairs of one kind|not finite"):
        eer(same, score)


def test_trials_are_balanced_distinct_true_and_repeatable():
    group = ["a"] * 5 + ["b"] * 4 + ["c"]
    left, right, same = trials(group, 12, np.random.default_rng(0))
    assert same.sum() == 12 and (~same).sum() == 12 and (left < right).all()
    assert len(set(zip(left, right, strict=True))) == 24
    assert all((group[a] == group[b]) == s for a, b, s in zip(left, right, same, strict=True))
    again = trials(group, 12, np.random.default_rng(0))
    assert np.array_equal(again[0], left) and np.array_equal(again[1], right)
    assert trials(group, 1000, np.random.default_rng(0))[2].sum() == 16, "no more than there are"
