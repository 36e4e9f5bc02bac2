"""What the session itself held, put beside what neighbours vote for: shoppers and listeners come back to what they saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from core.codec import FIRST
from core.errors import UserError
from recsys.neighbours import recency
from recsys.sequences import Sequences
from recsys.votes import Votes, rows_of


@dataclass
class Reminded(Votes):
    """p = weight · share of the session's own events + (1 - weight) · share of the neighbours' votes.

    The mixture of repeating and exploring is that of RepeatNet (Ren et al. 2019), with one weight for all sessions. Where neighbours have
    no vote, what is left of the weight is left out; the order is that of the session's own items.

    Attributes:
        neighbours: gives the votes.
        weight: of the session's own items, from 0 to 1.
        half_life: places back at which an event of the session counts half; infinite, events are counted as S-POP counts them.
    """

    neighbours: Votes
    weight: float = 0.2
    half_life: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or not self.half_life > 0:
            raise UserError(
                f"weight {self.weight}, half-life {self.half_life}",
                where="reminded",
                mend="use 0 to 1, and more than 0",
            )

    def fit(self, train: Sequences) -> Reminded:
        self.neighbours.fit(train)  # type: ignore[attr-defined]
        return self

    def votes(self, history: Sequences) -> sparse.csr_matrix:
        known = history.items >= FIRST
        events = (history.rows()[known], history.items[known] - FIRST)
        own = sparse.csr_matrix(
            (recency(history, self.half_life)[known], events), shape=(len(history), history.n_items)
        )  # repeats add up
        return part(self.neighbours.votes(history), 1.0 - self.weight) + part(own, self.weight)


def part(votes: sparse.csr_matrix, weight: float) -> sparse.csr_matrix:
    """Votes scaled so that each row that has any sums to `weight`."""
    scaled = sparse.csr_matrix(votes, dtype=np.float32, copy=True)
    total = np.asarray(scaled.sum(1)).ravel()
    scaled.data *= (np.float32(weight) / np.where(total > 0, total, 1.0))[rows_of(scaled)].astype(np.float32)
    return scaled
