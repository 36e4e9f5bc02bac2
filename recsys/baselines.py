"""The floors: popularity of four kinds and first-order Markov here; neighbourhoods and EASE beside them. No loop over users or items.

Each is `fit(train)` then `scores(history) -> (N, items)`, and each fits in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST
from core.errors import UserError
from recsys.ease import EASE
from recsys.neighbours import STAN, ItemKNN, SessionKNN, recency
from recsys.sequences import Sequences, occurrences
from recsys.votes import top_k

__all__ = [
    "EASE", "FLOORS", "STAN", "ItemKNN", "Markov", "Popularity", "RecentPopularity", "SessionKNN", "SessionPopularity",
    "recency", "top_k",
]  # fmt: skip


@dataclass
class Popularity:
    """The same list for everyone: how often each item occurs in training."""

    counts: NDArray[np.float32] = field(init=False, repr=False)

    def fit(self, train: Sequences) -> Popularity:
        self.counts = occurrences(train.items, train.n_items).astype(np.float32)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        return np.broadcast_to(self.counts, (len(history), len(self.counts)))


@dataclass
class RecentPopularity:
    """Popularity in the last part of training alone. Rows must stand in order of time: their order is all that is known of it.

    Attributes:
        share: of the training events, the last so many are counted.
    """

    share: float = 0.1
    counts: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"share is {self.share}", where="recent popularity", mend="use more than 0 and at most 1")

    def fit(self, train: Sequences) -> RecentPopularity:
        events = len(train.items)
        latest = train.items[events - int(np.ceil(self.share * events)) :]
        self.counts = occurrences(latest, train.n_items).astype(np.float32)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        return np.broadcast_to(self.counts, (len(history), len(self.counts)))


@dataclass
class SessionPopularity:
    """S-POP: how often an item came in this session (Hidasi et al. 2016); popularity in training breaks ties, and ranks the rest."""

    share: NDArray[np.float32] = field(init=False, repr=False)  # below 1, so that one event of the session outweighs it

    def fit(self, train: Sequences) -> SessionPopularity:
        counts = occurrences(train.items, train.n_items).astype(np.float32)
        self.share = counts / (counts.max(initial=0.0) + 1.0)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        scores = np.tile(self.share, (len(history), 1))
        known = history.items >= FIRST
        np.add.at(scores, (history.rows()[known], history.items[known] - FIRST), np.float32(1.0))
        return scores


@dataclass
class Markov:
    """How often each item followed the history's last known one: a first-order Markov chain.

    Score of b after a: (1 - backoff) · n(a, b) / n(a) + backoff · n(b) / n; after an item that nothing ever followed, and for an
    empty history, the second part alone. Without backoff those histories score zero throughout.

    Attributes:
        backoff: weight of popularity (Jelinek & Mercer 1980), from 0 to 1.
    """

    backoff: float = 0.01
    follows: sparse.csr_matrix = field(init=False, repr=False)  # (items, items), rows of sum 1 or 0
    popular: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.backoff <= 1:
            raise UserError(f"backoff is {self.backoff}", where="markov", mend="use 0 to 1")

    def fit(self, train: Sequences) -> Markov:
        before, after = train.items[:-1], train.items[1:]
        inside = np.diff(train.rows()) == 0
        pair = inside & (before >= FIRST) & (after >= FIRST)
        shape = (train.n_items, train.n_items)
        ones = np.ones(int(pair.sum()), dtype=np.float32)
        counts = sparse.csr_matrix((ones, (before[pair] - FIRST, after[pair] - FIRST)), shape=shape)  # adds repeats up
        total = np.asarray(counts.sum(1)).ravel()
        self.follows = sparse.csr_matrix(sparse.diags(1 / np.maximum(total, 1.0)) @ counts).astype(np.float32)
        counted = occurrences(train.items, train.n_items).astype(np.float32)
        self.popular = counted / max(float(counted.sum()), 1.0)
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        last = history.known().last(1)
        scores = (last.matrix() @ self.follows).toarray() * np.float32(1.0 - self.backoff)
        return scores + np.float32(self.backoff) * self.popular


FLOORS: dict[str, Any] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "session_popularity": SessionPopularity,
    "markov": Markov,
    "item_knn": ItemKNN,
    "session_knn": SessionKNN,
    "stan": STAN,
    "ease": EASE,
}
