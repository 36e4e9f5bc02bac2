"""Floors: each beside a plain loop over users and items, exact on cases done by hand, calm about what it never saw."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.baselines import (
    EASE,
    FLOORS,
    STAN,
    ItemKNN,
    Markov,
    Popularity,
    RecentPopularity,
    SessionPopularity,
)  # fmt: skip
from recsys.ranking import ranks_of
from recsys.sequences import Sequences


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def drawn(seed: int, count: int = 40, items: int = 12) -> tuple[list[list[int]], Sequences]:
    """Random sessions with repeats, some of one event, some with an unknown item (-1)."""
    generator = np.random.default_rng(seed)
    lists = [[int(i) for i in generator.integers(-1, items, generator.integers(1, 9))] for _ in range(count)]
    return lists, sequences(*lists, items=items)


TRAIN = sequences([0, 1], [0, 1, 2], [2, 3], [0, 2], items=5)


def test_popularity_counts():
    scores = Popularity().fit(TRAIN).scores(sequences([1], [4], items=5))
    assert scores.tolist() == [[3.0, 2.0, 3.0, 1.0, 0.0]] * 2


def test_recent_popularity_counts_the_last_events_alone():
    scores = RecentPopularity(share=4 / 9).fit(TRAIN).scores(sequences([1], items=5))[0]
    assert scores.tolist() == [1.0, 0.0, 2.0, 1.0, 0.0]
    everything = RecentPopularity(share=1.0).fit(TRAIN).scores(sequences([1], items=5))
    assert (everything == Popularity().fit(TRAIN).scores(sequences([1], items=5))).all()


def test_session_popularity_puts_the_sessions_own_items_first_and_popularity_breaks_ties():
    scores = SessionPopularity().fit(TRAIN).scores(sequences([4, 3, 3], [1, 4], [], items=5))
    assert list(np.argsort(-scores[0], kind="stable")) == [3, 4, 0, 2, 1]
    assert list(np.argsort(-scores[1], kind="stable")) == [1, 4, 0, 2, 3]
    assert list(np.argsort(-scores[2], kind="stable")) == [0, 2, 1, 3, 4]


@pytest.mark.parametrize("seed", range(3))
def test_markov_equals_a_loop_over_pairs(seed):
    lists, train = drawn(seed)
    counts, popular = np.zeros((12, 12)), np.zeros(12)
    for one in lists:
        for item in one:
            popular[item] += item >= 0
        for a, b in pairwise(one):
            if a >= 0 and b >= 0:
                counts[a, b] += 1
    model = Markov(backoff=0.2).fit(train)
    histories = [[3, 5], [7], [2, -1], []]
    found = model.scores(sequences(*histories, items=12))
    for row, history in zip(found, histories, strict=True):
        last = [item for item in history if item >= 0][-1:]
        follows = counts[last[0]] / max(counts[last[0]].sum(), 1) if last else np.zeros(12)
        assert row == pytest.approx(0.8 * follows + 0.2 * popular / popular.sum(), abs=1e-6)


def test_markov_without_backoff_knows_nothing_where_nothing_followed():
    assert not Markov(backoff=0.0).fit(TRAIN).scores(sequences([3], [], items=5)).any()


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


@pytest.mark.parametrize("seed", range(3))
def test_ease_equals_the_direct_inverse(seed, monkeypatch):
    monkeypatch.setattr("recsys.ease.BLOCK", 5)  # several strips, the last one shorter
    _, train = drawn(seed)
    users = train.matrix().toarray().astype(np.float64)
    inverse = np.linalg.inv(users.T @ users + 3.0 * np.eye(12))
    theirs = -inverse / np.diag(inverse)
    np.fill_diagonal(theirs, 0.0)
    model = EASE(l2=3.0).fit(train)
    assert model.weights == pytest.approx(theirs, abs=1e-5)
    history = sequences([1, 4, 1], [], items=12)
    assert model.scores(history) == pytest.approx(np.stack([theirs[1] + theirs[4], np.zeros(12)]), abs=1e-5)


def test_ease_says_what_memory_a_large_catalogue_would_take():
    large = sequences([0, 1], items=50_000)
    with pytest.raises(UserError, match=r"50,000 items need 27\.9 GiB .* 4\.0 are allowed .*memory=28"):
        EASE().fit(large)


@pytest.mark.parametrize(
    "make", [lambda: EASE(l2=0), lambda: Markov(backoff=2), lambda: RecentPopularity(share=0), lambda: STAN(age=0.0)]
)
def test_a_setting_out_of_range_is_one_clear_line(make):
    with pytest.raises(UserError, match="; "):
        make()


@pytest.mark.parametrize("name", FLOORS)
def test_a_history_of_nothing_or_of_unknown_items_scores_without_failing(name):
    scores = FLOORS[name]().fit(TRAIN).scores(sequences([], [-1], [4], items=5))
    assert scores.shape == (3, 5) and np.isfinite(scores).all()


@pytest.mark.parametrize("name", FLOORS)
def test_unknown_items_in_training_teach_nothing(name):
    with_unknown = FLOORS[name]().fit(sequences([0, 1, -1], [2, 3], [1, 2, 4], items=5))
    without = FLOORS[name]().fit(sequences([0, 1], [2, 3], [1, 2, 4], items=5))
    history = sequences([1], [2], items=5)
    if name == "recent_popularity":  # counts the last events, whatever they are
        return
    assert with_unknown.scores(history) == pytest.approx(without.scores(history), abs=1e-6)


@pytest.mark.parametrize("name", FLOORS)
def test_where_every_item_is_alike_each_ranks_by_chance(name):
    """All pairs of six items once, in both orders: nothing tells the items apart, so whatever is not in the history ties."""
    pairs = [[a, b] for a in range(6) for b in range(6) if a != b]
    share = {"share": 1.0} if name == "recent_popularity" else {}
    model = FLOORS[name](**share).fit(sequences(*pairs, items=6))
    scores = np.array(model.scores(sequences([2], items=6)))
    others = np.delete(np.round(scores[0], 5), 2)[None]
    assert (ranks_of(others.repeat(5, 0), np.arange(5)) == 2.0).all()


@pytest.mark.parametrize("name", FLOORS)
def test_the_order_of_the_catalogue_does_not_matter(name):
    lists, train = drawn(5)
    shuffle = np.random.default_rng(1).permutation(12)
    moved = sequences(*[[int(shuffle[i]) if i >= 0 else -1 for i in one] for one in lists], items=12)
    ours = FLOORS[name]().fit(train).scores(sequences([1, 2], items=12))[0]
    theirs = FLOORS[name]().fit(moved).scores(sequences([int(shuffle[1]), int(shuffle[2])], items=12))[0]
    assert theirs[shuffle] == pytest.approx(ours, abs=1e-5)


def test_ids_are_columns_shifted_by_the_reserved_ones():
    assert sequences([0], items=3).items[0] == FIRST
