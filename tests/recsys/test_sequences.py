"""Sequences."""

from __future__ import annotations

import numpy as np

from core.codec import FIRST, UNKNOWN, Categories
from recsys.sequences import Sequences


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def as_lists(given: Sequences) -> list[list[int]]:
    return [list(part - FIRST) for part in np.split(given.items, given.offsets[1:-1])]


def test_select_last_and_known_take_what_they_say():
    given = sequences([0, 1, 2], [-1, 3], [4])
    assert (given.items == UNKNOWN).sum() == 1
    assert as_lists(given.select(np.array([2, 0]))) == [[4], [0, 1, 2]]
    assert as_lists(given.last(2)) == [[1, 2], [UNKNOWN - FIRST, 3], [4]]
    assert as_lists(given.known()) == [[0, 1, 2], [3], [4]]


def test_the_matrix_holds_the_largest_value_of_a_repeated_item():
    matrix = sequences([0, 1, 0], [-1, 1]).matrix(np.array([0.25, 0.5, 1.0, 1.0, 1.0])).toarray()
    assert matrix[:, :2].tolist() == [[1.0, 0.5], [0.0, 1.0]]
    assert matrix[:, 2:].sum() == 0
