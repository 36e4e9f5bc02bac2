"""The hybrid: a mixture of probabilities whose ends are its parts, and whose weight is found on validation examples."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.hybrid import Hybrid, chosen, softmax, trials
from recsys.ranking import ranks_of
from recsys.sequences import Sequences
from recsys.split import Examples


class Fixed:
    """Given scores, row by row of the history's keys."""

    def __init__(self, scores: np.ndarray) -> None:
        self.given = scores.astype(np.float32)

    def scores(self, history: Sequences) -> np.ndarray:
        return self.given[history.keys.astype(int)]


def histories(count: int, items: int = 8) -> Sequences:
    return Sequences.of([[i % items] for i in range(count)], Categories(tuple(map(str, range(items)))))


@pytest.fixture
def parts() -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities, and votes of which the first row has none."""
    generator = np.random.default_rng(0)
    votes = generator.integers(0, 3, (6, 8)).astype(float)
    votes[0], votes[1, 0] = 0.0, 1.0
    return np.log(generator.dirichlet(np.ones(8), 6)), votes


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_scores_are_the_mixture_written_out(parts, weight):
    logs, votes = parts
    found = Hybrid(Fixed(logs), Fixed(votes), weight, sharpness=2.0).scores(histories(6))
    for row, log, vote in zip(found, logs, votes, strict=True):
        share = vote**2 / (vote**2).sum() if vote.any() else np.exp(log)
        assert row == pytest.approx(weight * np.exp(log) + (1 - weight) * share, abs=1e-6)
    assert found.sum(1) == pytest.approx(np.ones(6), abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_a_logarithmic_pool_is_the_product_written_out(parts, weight):
    logs, votes = parts
    found = Hybrid(Fixed(logs), Fixed(votes), weight, pool="logarithmic").scores(histories(6))
    for row, log, vote in zip(found, logs, votes, strict=True):
        share = vote / vote.sum() if vote.any() else np.exp(log)
        both = np.exp(log) ** weight * (0.8 * share + 0.2 * np.exp(log)) ** (1 - weight)
        assert row == pytest.approx(both / both.sum(), abs=1e-6)


def test_a_logarithmic_pool_stands_an_item_that_the_model_rules_out():
    found = Hybrid(Fixed(np.array([[0.0, -np.inf]])), Fixed(np.array([[1.0, 1.0]])), 0.5, pool="logarithmic").scores(
        histories(1, 2)
    )
    assert found[0] == pytest.approx([1.0, 0.0], abs=1e-6)


def test_softmax_gives_log_probabilities_back_and_stands_large_scores(parts):
    logs, _ = parts
    assert softmax(logs) == pytest.approx(np.exp(logs), abs=1e-6)
    assert softmax(logs + 5000) == pytest.approx(np.exp(logs), abs=1e-6)
    assert softmax(np.array([[0.0, -np.inf]])).tolist() == [[1.0, 0.0]]


def test_tiny_votes_are_shares_too():
    votes = np.array([[1e-30, 3e-30]])
    found = Hybrid(Fixed(np.zeros((1, 2))), Fixed(votes), 0.0, sharpness=3.0).scores(histories(1, 2))
    assert found[0] == pytest.approx([1 / 28, 27 / 28], abs=1e-5)


def test_a_vote_below_zero_fails(parts):
    logs, _ = parts
    with pytest.raises(ValueError, match="below zero"):
        Hybrid(Fixed(logs), Fixed(logs)).scores(histories(6))


@pytest.mark.parametrize("setting", [{"weight": 1.5}, {"sharpness": 0.0}, {"pool": "cubic"}])
def test_a_setting_out_of_range_is_one_clear_line(parts, setting):
    with pytest.raises(UserError, match="use "):
        Hybrid(Fixed(parts[0]), Fixed(parts[1]), **setting)


def test_trials_equal_ranking_each_hybrid_by_itself(parts):
    logs, votes = parts
    target = np.array([3, 1, 4, 1, 5, 2]) + FIRST
    for trial in trials(
        Fixed(logs),
        Fixed(votes),
        Examples.of(histories(6), target),
        (0.0, 0.5, 1.0),
        (1.0, 2.0),
        ("linear", "logarithmic"),
        block=4,
    ):
        hybrid = Hybrid(Fixed(logs), Fixed(votes), trial.weight, trial.sharpness, trial.pool)
        rank = ranks_of(hybrid.scores(histories(6)), target - FIRST)
        assert trial.recall == pytest.approx((rank < 20).mean())
        assert trial.mrr == pytest.approx((1 / (rank + 1)).mean())


def test_the_part_that_knows_gets_the_weight():
    """One part puts the target first for the even examples, the other for the odd ones: neither end of the scale is best."""
    generator = np.random.default_rng(1)
    count, items = 200, 60
    target = generator.integers(0, items, count)
    sure = np.zeros((count, items))
    sure[np.arange(count), target] = 1.0
    even = np.arange(count) % 2 == 0
    noise = generator.dirichlet(np.ones(items), (2, count))
    logs = np.log(np.where(even[:, None], 0.9 * sure + 0.1 / items, noise[0]) + 1e-9)
    votes = np.where(even[:, None], noise[1], 0.9 * sure + 0.1 / items)
    near = {"useless": Fixed(noise[0]), "sure": Fixed(votes)}
    name, found = chosen(Fixed(logs), near, Examples.of(histories(count, items), target + FIRST))
    assert name == "sure" and 0 < found.weight < 1
    _, alone = chosen(
        Fixed(np.log(sure + 1e-9)), {"noise": Fixed(noise[1])}, Examples.of(histories(count, items), target + FIRST)
    )
    assert alone.weight > 0


def test_where_repeats_are_not_allowed_the_history_is_not_ranked(parts):
    """Of an item of the history nothing can be found; of the others each is one place nearer to the front."""
    logs, votes = parts
    asked = Examples.of(histories(6), histories(6).items[histories(6).offsets[:-1]])
    kept = trials(Fixed(logs), Fixed(votes), asked, (0.5,))[0]
    gone = trials(Fixed(logs), Fixed(votes), asked, (0.5,), repeats=False)[0]
    assert gone.mrr < kept.mrr
