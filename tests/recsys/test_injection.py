"""Made-up sessions: added behind the real ones, and what they move is measured rightly."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import FIRST
from core.errors import UserError
from recsys.baselines import ItemKNN
from recsys.data import from_frame
from recsys.injection import inject, overlap, rare_items, shown
from recsys.ranking import Ranking, rank_all
from recsys.split import leave_one_out
from recsys.synthetic import World, generate

SEQUENCES = from_frame(generate(World(users=300), 0)).sequences


def ranking(*lists: list[int]) -> Ranking:
    return Ranking(np.zeros(len(lists)), np.array(lists, dtype=np.int32), 9, np.arange(len(lists)))


def test_real_sessions_stay_and_made_up_ones_end_in_what_is_pushed():
    pushed = rare_items(SEQUENCES, 3)
    found = inject(SEQUENCES, 0.1, pushed)
    assert len(found) == 330
    assert np.array_equal(found.items[: len(SEQUENCES.items)], SEQUENCES.items)
    last = found.items[found.offsets[301:] - 1] - FIRST
    assert set(last) <= set(pushed)
    assert np.array_equal(found.items, inject(SEQUENCES, 0.1, pushed).items)
    with pytest.raises(UserError, match="items to push"):
        inject(SEQUENCES, 0.1, pushed[:0])


def test_the_pushed_items_are_of_the_rarer_half():
    counts = np.bincount(SEQUENCES.items - FIRST)
    assert counts[rare_items(SEQUENCES, 20)].max() <= np.median(counts)


def test_overlap_counts_items_whatever_their_order_and_lists_that_end_early():
    assert overlap(ranking([1, 2, 3, 4]), ranking([4, 3, 2, 9]), k=4) == [0.75]
    assert overlap(ranking([1, 2, -1, -1]), ranking([2, 1, -1, -1]), k=4) == [1.0]
    assert list(shown(ranking([1, 2, 3], [4, 5, 6]), np.array([3, 9]), k=3)) == [1.0, 0.0]
    assert list(shown(ranking([1, 2, 3]), np.array([3]), k=2)) == [0.0]


def test_a_neighbourhood_model_moves_when_sessions_are_injected():
    split = leave_one_out(SEQUENCES)
    pushed = rare_items(split.train, 2)
    clean = rank_all(ItemKNN().fit(split.train), split.test)
    dirty = rank_all(ItemKNN().fit(inject(split.train, 0.2, pushed)), split.test)
    assert overlap(clean, clean).mean() == 1
    assert overlap(clean, dirty).mean() < 0.99
