"""The floors: popularity, item kNN and session kNN. Sparse matrices, no loop over users or items.

Each is `fit(train)` then `scores(history) -> (N, items)`, and each fits in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST
from recsys.sequences import Sequences


def top_k(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Each row's `k` largest entries; of equal ones those with the smaller column."""
    matrix = sparse.csr_matrix(matrix)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    keep = order[np.arange(len(order)) - matrix.indptr[rows[order]] < k]  # place within the row
    return sparse.csr_matrix((matrix.data[keep], (rows[keep], matrix.indices[keep])), shape=matrix.shape)


def recency(history: Sequences, half_life: float) -> NDArray[np.float32]:
    """Weight (total,) of each event: 1 for the last of its sequence, halved every `half_life` places before."""
    from_end = history.offsets[1:][history.rows()] - 1 - np.arange(len(history.items))
    return np.exp2(-from_end / half_life).astype(np.float32)


@dataclass
class Popularity:
    """The same list for everyone: how often each item occurs in training."""

    counts: NDArray[np.float32] = field(init=False)

    def fit(self, train: Sequences) -> Popularity:
        known = train.items[train.items >= FIRST] - FIRST
        self.counts = np.bincount(known, minlength=train.n_items).astype(np.float32)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        return np.broadcast_to(self.counts, (len(history), len(self.counts)))


@dataclass
class ItemKNN:
    """Items close to those of the history, by cosine of the users who had both (Sarwar et al. 2001; Deshpande & Karypis 2004).

    Attributes:
        neighbours: kept per item.
        shrink: users added to each cosine's denominator, so that chance meetings of rare items count less.
        half_life: places back in the history at which an item counts half.
    """

    neighbours: int = 200
    shrink: float = 0.0
    half_life: float = 3.0
    similarity: sparse.csr_matrix = field(init=False, repr=False)

    def fit(self, train: Sequences) -> ItemKNN:
        users = train.matrix()
        together = (users.T @ users).tocoo()
        norm = np.sqrt(np.maximum(together.diagonal(), 1.0))
        cosine = together.data / (norm[together.row] * norm[together.col] + self.shrink)
        apart = together.row != together.col
        found = sparse.csr_matrix((cosine[apart], (together.row[apart], together.col[apart])), shape=together.shape)
        self.similarity = top_k(found.astype(np.float32), self.neighbours)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        return (history.matrix(recency(history, self.half_life)) @ self.similarity).toarray()


@dataclass
class SessionKNN:
    """Items of the sessions most like this one, recent events counting more (VSKNN, Ludewig & Jannach 2018).

    A past session's likeness is the sum of the weights of the events it shares, over the root of its length; its vote
    for an item is worth more the rarer the item is (idf).

    Attributes:
        neighbours: past sessions that vote.
        half_life: places back in the history at which an event counts half.
        idf: power of log(sessions / sessions with the item).
    """

    neighbours: int = 500
    half_life: float = 3.0
    idf: float = 0.5
    sessions: sparse.csr_matrix = field(init=False, repr=False)
    votes: sparse.csr_matrix = field(init=False, repr=False)

    def fit(self, train: Sequences) -> SessionKNN:
        sessions = train.matrix()
        length = np.sqrt(np.maximum(np.asarray(sessions.sum(1)).ravel(), 1.0))
        rarity = (
            np.log(max(len(train), 2) / np.maximum(np.asarray(sessions.sum(0)).ravel(), 1.0)).clip(min=1e-3) ** self.idf
        )
        self.sessions = sparse.diags(1 / length) @ sessions
        self.votes = sparse.csr_matrix(sessions @ sparse.diags(rarity)).astype(np.float32)
        self.sessions = sparse.csr_matrix(self.sessions.T).astype(np.float32)  # (items, sessions): ready for products
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        likeness = history.matrix(recency(history, self.half_life)) @ self.sessions  # (N, sessions)
        return (top_k(likeness, self.neighbours) @ self.votes).toarray()


FLOORS = {"popularity": Popularity, "item_knn": ItemKNN, "session_knn": SessionKNN}
