"""Full ranking: parity with ranx, ties, exclusion of the history."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import Categories
from recsys.ranking import Ranking, exclude, first_of, per_user, rank_all, ranks_of
from recsys.sequences import Sequences
from recsys.split import Examples


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


class Fixed:
    """Scores that do not depend on the history."""

    def __init__(self, scores: np.ndarray) -> None:
        self.given = scores

    def scores(self, history):
        return np.broadcast_to(self.given, (len(history), len(self.given)))


def test_ndcg_equals_that_of_scikit_learn():
    from sklearn.metrics import ndcg_score

    generator = np.random.default_rng(0)
    scores, target = generator.normal(size=(60, 40)), generator.integers(0, 40, 60)
    theirs = ndcg_score(np.eye(40)[target], scores, k=10)
    assert per_user(ranks_of(scores, target), "ndcg@10").mean() == pytest.approx(theirs)


@pytest.mark.slow  # ranx compiles for most of a minute
def test_metrics_equal_those_of_ranx():
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(0)
    scores, target = generator.normal(size=(60, 40)), generator.integers(0, 40, 60)
    ranks = ranks_of(scores, target)
    qrels = ranx.Qrels({str(u): {str(target[u]): 1} for u in range(60)})
    run = ranx.Run({str(u): {str(i): float(scores[u, i]) for i in range(40)} for u in range(60)})
    names = {
        "ndcg@10": "ndcg@10", "hr@10": "hit_rate@10", "mrr@10": "mrr@10", "recall@20": "recall@20", "map@20": "map@20", "mrr@20": "mrr@20",
    }  # fmt: skip
    theirs = ranx.evaluate(qrels, run, list(names.values()))
    for ours, name in names.items():
        assert per_user(ranks, ours).mean() == pytest.approx(theirs[name])
        assert 0 < theirs[name] < 1


def test_ties_count_half_so_constant_scores_rank_in_the_middle():
    assert ranks_of(np.array([[3.0, 1.0, 1.0, 1.0, 0.0]]), np.array([2])) == [2.0]
    assert (ranks_of(np.zeros((5, 101)), np.arange(5)) == 50.0).all()


def test_the_order_of_the_catalogue_does_not_matter():
    generator = np.random.default_rng(1)
    scores, target = generator.integers(0, 4, (30, 20)).astype(float), generator.integers(0, 20, 30)
    shuffle = generator.permutation(20)
    assert np.array_equal(ranks_of(scores, target), ranks_of(scores[:, shuffle], shuffle.argsort()[target]))


def test_a_score_that_is_not_a_number_fails():
    with pytest.raises(ValueError, match="not a number"):
        ranks_of(np.array([[0.0, np.nan]]), np.array([0]))


def test_the_history_is_not_ranked():
    history = sequences([0, 1], [2])
    model = Fixed(np.arange(9, 0, -1, dtype=np.float32))  # item 0 first
    ranking = rank_all(model, Examples.of(history, np.array([2, 2]) + 3))
    # items 0 and 1 are gone for the first user; the second had item 2 already, so it ranks last
    assert list(ranking.ranks) == [0.0, 8.0]
    assert exclude(np.ones((2, 9)), history).tolist()[0][:3] == [-np.inf, -np.inf, 1.0]


def test_coverage_counts_items_offered_to_anyone():
    ranking = rank_all(
        Fixed(np.arange(40, dtype=np.float32)), Examples.of(sequences([39], [38], items=40), np.array([3, 3]))
    )
    assert ranking.coverage() == pytest.approx(11 / 40)  # 29 … 38 for one, 29 … 37 and 39 for the other


def test_blocks_change_nothing():
    generator = np.random.default_rng(2)
    history = sequences(*[[int(i)] for i in generator.integers(0, 9, 23)])
    asked = Examples.of(history, generator.integers(0, 9, 23) + 3)
    model = Fixed(generator.normal(size=9).astype(np.float32))
    assert np.array_equal(rank_all(model, asked, batch=4).ranks, rank_all(model, asked).ranks)


def test_a_metric_has_an_interval_around_it():
    history, target = sequences(*[[i] for i in range(9)]), np.arange(9)[::-1] + 3
    found = rank_all(Fixed(np.arange(9, dtype=np.float32)), Examples.of(history, target)).metrics()
    assert found["ndcg@10"].low < found["ndcg@10"].value < found["ndcg@10"].high


def test_where_repeats_are_allowed_the_history_is_ranked():
    asked = Examples.of(sequences([0, 1], [2]), np.array([1, 2]) + 3)
    model = Fixed(np.arange(9, 0, -1, dtype=np.float32))
    assert list(rank_all(model, asked, repeats=True).ranks) == [1.0, 2.0]
    assert (rank_all(model, asked).ranks >= 7).all()  # among what is not offered


def test_the_first_items_are_the_highest_in_order_and_end_where_nothing_is_offered():
    scores = np.array([[1.0, 3.0, 3.0, -np.inf], [5.0, -np.inf, -np.inf, -np.inf]])
    assert first_of(scores, 3).tolist() == [[1, 2, 0], [0, -1, -1]]
    assert first_of(scores, 9).shape == (2, 4)
    generator = np.random.default_rng(3)
    many = generator.normal(size=(20, 50))
    assert np.array_equal(first_of(many, 7), np.argsort(-many, axis=1)[:, :7])


@pytest.mark.parametrize("columns", [30, 700, 2000])
@pytest.mark.parametrize("kind", ["distinct", "few values", "mostly not offered", "all equal", "nothing offered"])
def test_the_first_items_are_those_of_a_stable_sort_whatever_the_ties(columns, kind):
    generator = np.random.default_rng(columns)
    scores = generator.normal(size=(9, columns)).astype(np.float32)
    if kind == "few values":
        scores = np.round(scores)
    elif kind == "mostly not offered":
        scores[generator.random(scores.shape) < 0.99] = -np.inf
    elif kind in ("all equal", "nothing offered"):
        scores[:] = 0 if kind == "all equal" else -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    expected = np.where(np.isfinite(np.take_along_axis(scores, order, 1)), order, -1)
    assert np.array_equal(first_of(scores, 20), expected)


def test_intervals_resample_sessions_not_questions():
    """Questions of one session are alike, so an interval that counted each of them alone would be too narrow."""
    ranks = np.repeat(np.random.default_rng(0).random(30) < 0.5, 20) * 100.0
    first = np.zeros((600, 1), dtype=np.int32)
    by_session = Ranking(ranks, first, 5, np.repeat(np.arange(30), 20)).interval("hr@10")
    alone = Ranking(ranks, first, 5, np.arange(600)).interval("hr@10")
    assert by_session.high - by_session.low > 3 * (alone.high - alone.low)


def test_among_few_sampled_items_ranks_flatter_and_are_still_honest_about_ties():
    asked = Examples.of(sequences(*[[0]] * 50, items=500), np.full(50, 250 + 3))
    model = Fixed(np.arange(500, dtype=np.float32))
    assert (rank_all(model, asked).ranks == 249).all()
    sampled = rank_all(model, asked, sampled=20)
    assert sampled.ranks.max() < 20 and 5 < sampled.ranks.mean() < 15
    assert np.array_equal(sampled.ranks, rank_all(model, asked, sampled=20, batch=7).ranks)
    assert (rank_all(Fixed(np.zeros(500, np.float32)), asked, sampled=20).ranks == 10).all()
