"""Scores of which most are zero: kept sparse, cut to the largest, ranked without ever writing a row of the catalogue out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST, MISSING
from recsys.sequences import Sequences

CELLS = 1 << 22  # numbers that are laid out densely at once while the largest of each row are sought


class Votes:
    """Base of scorers that leave most items at zero: they define `votes`, and the rest follows."""

    block = 1024  # histories scored at once by `top` and `ranks`

    def votes(self, history: Sequences) -> sparse.csr_matrix:
        """(N, items) sparse, no entry below zero: the higher, the likelier the item comes next."""
        raise TypeError(f"{type(self).__name__} must define votes")

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items): the same, written out. Column 0 is the catalogue's first item."""
        return self.votes(history).toarray().astype(np.float32, copy=False)

    def ranked(
        self, history: Sequences, target: NDArray[np.int64], k: int = 20
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What `ranks` gives, and the ids that `top` gives, of votes that are made once."""
        found, ids, start = [np.zeros(0)], [], 0
        for part in blocks(history, self.block):
            votes = self.votes(part)
            found.append(ranks(votes, target[start : start + len(part)] - FIRST))
            ids.append(best(votes, k)[0])
            start += len(part)
        return np.concatenate(found), np.concatenate(ids)

    def top(self, history: Sequences, k: int = 20) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `k` highest items of each history, best first, and their scores: two (N, k), without the dense matrix.

        Ids are those of core.codec. Of equal scores the catalogue's first item comes first; places for which no item has a
        vote hold id 0 (missing) and score 0.
        """
        parts = [best(self.votes(part), k) for part in blocks(history, self.block)]
        return np.concatenate([ids for ids, _ in parts]), np.concatenate([values for _, values in parts])

    def ranks(self, history: Sequences, target: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rank (N,) from 0 of each target id among all items, ties counted half: as of `scores`, without the dense matrix."""
        return self.ranked(history, target, 0)[0]


def blocks(history: Sequences, size: int) -> Iterator[Sequences]:
    """The sequences in order, at most `size` at a time; one empty block where there are none."""
    for start in range(0, max(len(history), 1), size):
        yield history.select(np.arange(start, min(start + size, len(history))))


def rows_of(matrix: sparse.csr_matrix) -> NDArray[np.int64]:
    """Row number of each stored entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def top_k(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Each row's `k` largest entries; of equal ones those with the smaller column.

    Nothing is sorted: rows of more than `k` entries are laid out densely, a memory-bounded share of them at a time, and the
    k-th largest value of each is found by partition.
    """
    matrix = sparse.csr_matrix(matrix)
    matrix.sort_indices()
    lengths = np.diff(matrix.indptr)
    keep = np.ones(len(matrix.data), dtype=bool)
    long = np.flatnonzero(lengths > k)
    long = long[np.argsort(lengths[long], kind="stable")]  # rows of like length together: little padding
    start = 0
    while start < len(long):
        # a row is at least as long as those before it, so the last one that fits bounds the layout
        size = np.arange(1, len(long) - start + 1) * lengths[long[start:]]
        rows = long[start : start + max(1, int(np.searchsorted(size, CELLS, "right")))]
        start += len(rows)
        many, width = lengths[rows], int(lengths[rows[-1]])
        inside = np.arange(width) < many[:, None]  # (R, width)
        place = np.where(inside, matrix.indptr[rows][:, None] + np.arange(width), 0)
        values = np.where(inside, matrix.data[place], -np.inf)
        least = np.partition(values, width - k, axis=1)[:, width - k, None] if k else np.full((len(rows), 1), np.inf)
        above, equal = values > least, (values == least) & inside
        room = k - above.sum(1, keepdims=True)
        keep[place[inside]] = (above | (equal & (equal.cumsum(1) <= room)))[inside]
    kept = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[keep], matrix.indices[keep], kept), shape=matrix.shape)


def best(votes: sparse.csr_matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `Votes.top`, for one matrix."""
    found = sparse.csr_matrix(votes)
    found.eliminate_zeros()
    found = top_k(found, k)
    rows = rows_of(found)
    order = np.lexsort((found.indices, -found.data, rows))
    place = np.arange(len(order)) - found.indptr[rows]  # rows stay where they are, entries change within them
    ids = np.full((found.shape[0], k), MISSING, dtype=np.int64)
    values = np.zeros((found.shape[0], k), dtype=np.float32)
    ids[rows, place], values[rows, place] = found.indices[order] + FIRST, found.data[order]
    return ids, values


def ranks(votes: sparse.csr_matrix, target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank from 0 of each row's target column: the strictly higher scores plus half of the equal ones, zeros among them.

    Raises:
        ValueError: a score that is not a number, or one below zero.
    """
    if np.isnan(votes.data).any() or (votes.data < 0).any():
        raise ValueError("a vote is not a number, or below zero")
    rows, count = rows_of(votes), votes.shape[0]
    own = np.zeros(count, dtype=votes.data.dtype)
    mine = votes.indices == target[rows]
    own[rows[mine]] = votes.data[mine]
    higher = np.bincount(rows[votes.data > own[rows]], minlength=count)
    equal = np.bincount(rows[votes.data == own[rows]], minlength=count)
    equal = equal + np.where(own == 0, votes.shape[1] - np.diff(votes.indptr), 0) - 1
    return higher + equal / 2
