"""Sparse scores: what is cut and ranked is what the dense matrix would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from core.codec import FIRST, MISSING, Categories
from recsys.neighbours import SessionKNN
from recsys.ranking import ranks_of
from recsys.sequences import Sequences
from recsys.votes import best, blocks, ranks, top_k

MATRICES = st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=1, max_size=9)


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def test_top_k_keeps_the_largest_of_each_row():
    matrix = sparse.csr_matrix(np.array([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 5.0, 0.0]]))
    assert top_k(matrix, 2).toarray().tolist() == [[0.0, 3.0, 0.0, 3.0], [0.0, 0.0, 5.0, 0.0]]


@given(MATRICES, st.integers(0, 8), st.sampled_from([7, 30, 10_000]))
@settings(max_examples=60, deadline=None)
def test_top_k_equals_a_stable_sort_however_little_is_laid_out_at_once(rows, k, cells):
    import recsys.votes as votes

    dense = np.array(rows, dtype=np.float32)
    kept = np.zeros_like(dense)
    for row, out in zip(dense, kept, strict=True):
        first = np.argsort(-row, kind="stable")[:k]
        out[first] = row[first]
    before, votes.CELLS = votes.CELLS, cells
    try:
        assert np.array_equal(top_k(sparse.csr_matrix(dense), k).toarray(), kept)
    finally:
        votes.CELLS = before


@given(MATRICES, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_best_and_ranks_equal_those_of_the_dense_matrix(rows, k):
    dense = np.array(rows, dtype=np.float32)
    matrix = sparse.csr_matrix(dense)
    target = np.arange(len(dense)) % 7
    assert np.array_equal(ranks(matrix, target), ranks_of(dense, target))
    ids, values = best(matrix, k)
    for row, found, value in zip(dense, ids, values, strict=True):
        first = [i for i in np.argsort(-row, kind="stable")[:k] if row[i] > 0]
        assert list(found) == [i + FIRST for i in first] + [MISSING] * (k - len(first))
        assert list(value) == [row[i] for i in first] + [0.0] * (k - len(first))


def test_votes_that_are_no_numbers_fail():
    for wrong in (np.nan, -1.0):
        with pytest.raises(ValueError, match="not a number, or below zero"):
            ranks(sparse.csr_matrix(np.array([[wrong, 1.0]])), np.array([0]))


def test_blocks_change_nothing_and_the_fast_path_is_the_slow_one():
    generator = np.random.default_rng(0)
    lists = [[int(i) for i in generator.integers(0, 9, generator.integers(0, 6))] for _ in range(23)]
    model = SessionKNN(neighbours=5).fit(sequences(*lists))
    history, target = sequences(*lists[:17]), generator.integers(0, 9, 17) + FIRST
    whole = model.scores(history)
    model.block = 4
    assert np.array_equal(model.ranks(history, target), ranks_of(whole, target - FIRST))
    ids, values = model.top(history, 3)
    assert ids.shape == values.shape == (17, 3)
    assert values == pytest.approx(np.sort(whole, axis=1)[:, ::-1][:, :3])
    assert sum(len(part) for part in blocks(history, 4)) == 17


def test_no_history_gives_no_rows():
    model = SessionKNN().fit(sequences([0, 1], [1, 2]))
    ids, values = model.top(sequences(), 3)
    assert ids.shape == values.shape == (0, 3) and model.ranks(sequences(), np.zeros(0, np.int64)).shape == (0,)
