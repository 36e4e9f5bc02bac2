"""Ranking the whole catalogue: ranks, and the metrics made of them. Never sampled (Krichene & Rendle 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.statistics import Estimate, mean_interval
from recsys.sequences import Sequences

METRICS = ("ndcg@10", "hr@10", "mrr@10")


class Scorer(Protocol):
    """What every model and every floor offers."""

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items): the higher, the likelier the item comes next. Column 0 is the catalogue's first item."""


@dataclass(frozen=True)
class Ranking:
    """How one model ranked each user's target.

    Attributes:
        ranks: (M,) from 0, over all items that the user's history does not hold.
        coverage: share of the catalogue that stands in some user's first ten.
    """

    ranks: NDArray[np.float64]
    coverage: float

    def per_user(self, metric: str) -> NDArray[np.float64]:
        """(M,) values of `hr@K`, `ndcg@K` or `mrr@K`."""
        return per_user(self.ranks, metric)

    def metrics(self, seed: int = 0) -> dict[str, Estimate]:
        """Means with an interval from a bootstrap over users; the coverage has no such interval and gets none."""
        found = {name: mean_interval(self.per_user(name), seed=seed) for name in METRICS}
        return {**found, "coverage@10": Estimate(self.coverage, float("nan"), float("nan"))}


def per_user(ranks: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """One relevant item a user, so: hit = 1 where rank < K; ndcg = 1 / log2(rank + 2); mrr = 1 / (rank + 1); else 0."""
    kind, _, cut = metric.partition("@")
    formulas: dict[str, Callable[[NDArray], NDArray]] = {
        "hr": np.ones_like,
        "ndcg": lambda rank: 1 / np.log2(rank + 2),
        "mrr": lambda rank: 1 / (rank + 1),
    }
    return np.where(ranks < int(cut), formulas[kind](ranks), 0.0)


def ranks_of(scores: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Rank from 0 of each row's target column: the strictly higher scores plus half of the equal ones.

    So a model that gives one score to all gets the middle rank, as by chance, whatever the order of the catalogue.

    Args:
        scores: (M, items); `-inf` is what is not offered.
        target: (M,) columns.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    own = scores[np.arange(len(scores)), target][:, None]
    higher = (scores > own).sum(1)
    equal = (scores == own).sum(1) - 1
    return higher + equal / 2


def exclude(scores: NDArray, history: Sequences) -> NDArray:
    """Set each row's own past items to -inf, in place: they are not recommended again."""
    known = history.items >= FIRST
    scores[history.rows()[known], history.items[known] - FIRST] = -np.inf
    return scores


def rank_all(model: Scorer, history: Sequences, target: NDArray[np.int64], batch: int = 512) -> Ranking:
    """Rank every item for every user, in blocks of `batch` users; a target that the history holds is never offered,
    so it ranks last."""
    ranks = np.empty(len(history))
    seen = np.zeros(history.n_items, dtype=bool)
    order = np.argsort(history.lengths, kind="stable")  # users of like length together: sequence models pad less
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        part = history.select(rows)
        scores = exclude(np.array(model.scores(part), dtype=np.float32), part)
        ranks[rows] = ranks_of(scores, target[rows] - FIRST)
        top = np.argpartition(scores, -min(10, scores.shape[1]), axis=1)[:, -10:]
        offered = np.isfinite(np.take_along_axis(scores, top, 1))
        seen[top[offered]] = True
    return Ranking(ranks, float(seen.mean()))
