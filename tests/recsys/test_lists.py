"""Lists beyond hits: each figure on lists of which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import Categories
from recsys.lists import Shelf, gini, list_quality
from recsys.ranking import Ranking
from recsys.sequences import Sequences

TRAIN = Sequences.of([[0, 1], [0, 1], [0, 2], [3, 4]], Categories(tuple(map(str, range(6)))))
SHELF = Shelf.of(TRAIN)


def ranking(*lists: list[int]) -> Ranking:
    first = np.array(lists, dtype=np.int32)
    return Ranking(np.zeros(len(lists)), first, 6, np.arange(len(lists)))


def quality(*lists: list[int], came: int = 0) -> dict[str, float]:
    found = list_quality(ranking(*lists), SHELF, np.full(len(lists), came), k=2)
    return {name.partition("@")[0]: estimate.value for name, estimate in found.items()}


def test_novelty_is_the_surprise_of_the_shown_items():
    share = (SHELF.counts + 1) / (SHELF.counts + 1).sum()
    assert quality([0, 5])["novelty"] == pytest.approx(-np.log2(share[[0, 5]]).mean())
    assert (
        quality([5, -1])["novelty"] > quality([0, -1])["novelty"]
    )  # a list that ends early is judged by what it shows


def test_diversity_is_one_minus_the_cosine_of_who_had_both():
    assert quality([0, 1])["diversity"] == pytest.approx(1 - 2 / np.sqrt(3 * 2))
    assert quality([0, 3])["diversity"] == 1.0


def test_popularity_is_relative_to_what_came():
    assert quality([0, 0], came=0)["popularity"] == 1.0
    assert quality([0, 0], came=1)["popularity"] == pytest.approx(3 / 2)


def test_coverage_and_inequality_count_what_anyone_is_shown():
    assert quality([0, 1], [0, 2])["coverage"] == pytest.approx(3 / 6)
    assert quality([0, 1], [2, 3], [4, 5])["gini"] == 0.0
    assert quality([0, 1], [0, 1], [0, 1])["gini"] > 0.6


def test_gini_of_known_distributions():
    assert gini(np.ones(7)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 12])) == pytest.approx(3 / 4)
    assert gini(np.zeros(3)) == 0
