"""Floors, exact on cases small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from core.codec import Categories
from recsys.baselines import ItemKNN, Popularity, SessionKNN, recency, top_k
from recsys.sequences import Sequences


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


TRAIN = sequences([0, 1], [0, 1, 2], [2, 3], [0, 2], items=5)


def test_popularity_counts():
    scores = Popularity().fit(TRAIN).scores(sequences([1], [4], items=5))
    assert scores.tolist() == [[3.0, 2.0, 3.0, 1.0, 0.0]] * 2


def test_item_knn_is_the_cosine_of_the_users_who_had_both():
    scores = ItemKNN(shrink=0.0).fit(TRAIN).scores(sequences([0], items=5))[0]
    assert scores == pytest.approx([0.0, 2 / np.sqrt(3 * 2), 2 / 3, 0.0, 0.0])


def test_item_knn_agrees_with_scikit_learn():
    from sklearn.metrics.pairwise import cosine_similarity

    generator = np.random.default_rng(0)
    train = sequences(*[list(generator.choice(30, 6, replace=False)) for _ in range(50)], items=30)
    theirs = cosine_similarity(train.matrix().T.toarray())
    np.fill_diagonal(theirs, 0)
    ours = ItemKNN(neighbours=30, shrink=0.0).fit(train).similarity.toarray()
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_session_knn_by_hand():
    """History [0, 1], half-life 1: item 1 weighs 1, item 0 one half. Sessions [0,1] 1.5/√2, [0,1,2] 1.5/√3, [0,2] .5/√2."""
    scores = SessionKNN(neighbours=10, half_life=1.0, idf=0.0).fit(TRAIN).scores(sequences([0, 1], items=5))[0]
    a, b, c = 1.5 / np.sqrt(2), 1.5 / np.sqrt(3), 0.5 / np.sqrt(2)
    assert scores == pytest.approx([a + b + c, a + b, b + c, 0.0, 0.0])
    nearest = SessionKNN(neighbours=1, half_life=1.0, idf=0.0).fit(TRAIN).scores(sequences([0, 1], items=5))[0]
    assert nearest == pytest.approx([a, a, 0.0, 0.0, 0.0])


def test_recency_halves():
    assert recency(sequences([0, 1, 2], [3]), 1.0).tolist() == [0.25, 0.5, 1.0, 1.0]


def test_top_k_keeps_the_largest_of_each_row():
    matrix = sparse.csr_matrix(np.array([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 5.0, 0.0]]))
    assert top_k(matrix, 2).toarray().tolist() == [[0.0, 3.0, 0.0, 3.0], [0.0, 0.0, 5.0, 0.0]]


@pytest.mark.parametrize("floor", [Popularity, ItemKNN, SessionKNN])
def test_a_history_of_nothing_or_of_unknown_items_scores_without_failing(floor):
    scores = floor().fit(TRAIN).scores(sequences([], [-1], [4], items=5))
    assert np.isfinite(scores).all()
