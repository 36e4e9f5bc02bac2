"""Neighbours reminded of the session itself: the mixture written out, its ends its parts."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import Categories
from core.errors import UserError
from recsys.baselines import SessionPopularity
from recsys.neighbours import SessionKNN
from recsys.reminder import Reminded
from recsys.sequences import Sequences

ITEMS = 7
INF = float("inf")


def sequences(*lists: list[int]) -> Sequences:
    return Sequences.of(lists, Categories(tuple(map(str, range(ITEMS)))))


TRAIN = sequences([0, 1], [0, 1, 2], [2, 3], [0, 2], [4, 3])
HISTORIES = [
    [0, 1, 0],
    [3],
    [5, 6],
    [],
    [2, -1],
]  # the third shares nothing with training, the last ends in an unknown item


@pytest.mark.parametrize(("weight", "half_life"), [(0.3, 2.0), (0.0, 1.0), (1.0, INF)])
def test_scores_are_the_mixture_written_out(weight, half_life):
    found = Reminded(SessionKNN(), weight, half_life).fit(TRAIN).scores(sequences(*HISTORIES))
    votes = SessionKNN().fit(TRAIN).scores(sequences(*HISTORIES))
    for row, vote, history in zip(found, votes, HISTORIES, strict=True):
        own = np.zeros(ITEMS)
        for place, item in enumerate(history):
            if item >= 0:
                own[item] += 0.5 ** ((len(history) - 1 - place) / half_life)
        wanted = weight * own / max(own.sum(), 1e-9) + (1 - weight) * vote / max(vote.sum(), 1e-9)
        assert row == pytest.approx(wanted, abs=1e-6)


def test_the_sessions_own_items_alone_stand_as_session_popularity_has_them():
    history = sequences([3, 3, 1, 3, 1, 5])
    ours = Reminded(SessionKNN(), 1.0, INF).fit(TRAIN).top(history, 3)[0]
    theirs = np.argsort(-SessionPopularity().fit(TRAIN).scores(history)[0], kind="stable")[:3]
    assert list(ours[0] - 3) == list(theirs)


def test_a_weight_out_of_range_is_one_clear_line():
    with pytest.raises(UserError, match="use 0 to 1"):
        Reminded(SessionKNN(), weight=1.5)
