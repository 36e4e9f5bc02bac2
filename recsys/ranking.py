"""Ranking the whole catalogue: ranks, and the metrics made of them. Sampled on request alone (Krichene & Rendle 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.statistics import Estimate, mean_interval
from recsys.sequences import Sequences
from recsys.split import Examples
from recsys.votes import Votes

MAIN = "ndcg@10"
GROUP = 64  # columns of which `first_of` takes one maximum
METRICS = (MAIN, "hr@10", "mrr@10", "recall@20", "mrr@20")


class Scorer(Protocol):
    """What every model and every floor offers."""

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items): the higher, the likelier the item comes next. Column 0 is the catalogue's first item."""


@dataclass(frozen=True)
class Ranking:
    """How one model ranked each question's answer.

    Attributes:
        ranks: (M,) from 0, over all items that may be the answer.
        first: (M, K) numbers of the items ranked first, from 0, best first; -1 where fewer may be the answer.
        items: in the catalogue.
        group: (M,) user or session of each question.
    """

    ranks: NDArray[np.float64]
    first: NDArray[np.int32]
    items: int
    group: NDArray[np.int64]

    def per_user(self, metric: str) -> NDArray[np.float64]:
        """(M,) values of `hr@K`, `recall@K`, `ndcg@K`, `mrr@K` or `map@K`."""
        return per_user(self.ranks, metric)

    def interval(self, metric: str, seed: int = 0) -> Estimate:
        """The mean over questions, with a bootstrap over users or sessions."""
        return mean_interval(self.per_user(metric), self.group, seed=seed)

    def coverage(self, k: int = 10) -> float:
        """Share of the catalogue that stands in some question's first `k`."""
        shown = self.first[:, :k]
        return len(np.unique(shown[shown >= 0])) / self.items

    def metrics(self, names: Sequence[str] = METRICS, seed: int = 0) -> dict[str, Estimate]:
        """Means with intervals; the coverage has no such interval and gets none."""
        found = {name: self.interval(name, seed) for name in names}
        return {**found, "coverage@10": Estimate(self.coverage(), float("nan"), float("nan"))}


_FORMULAS: dict[str, Callable[[NDArray], NDArray]] = {
    "hr": np.ones_like,
    "recall": np.ones_like,
    "ndcg": lambda rank: 1 / np.log2(rank + 2),
    "mrr": lambda rank: 1 / (rank + 1),
    "map": lambda rank: 1 / (rank + 1),
}


def per_user(ranks: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """The metric of each question, from ranks (M,) from 0.

    There is one right answer, so where rank < K: hr and recall are 1, ndcg is 1 / log2(rank + 2), mrr and map are
    1 / (rank + 1); elsewhere all are 0.
    """
    kind, _, cut = metric.partition("@")
    return np.where(ranks < int(cut), _FORMULAS[kind](ranks), 0.0)


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


def among(scores: NDArray, target: NDArray, count: int, generators: Sequence[np.random.Generator]) -> NDArray:
    """Leave, in place, each row's target and `count` of its other offered items; the rest are set to `-inf`."""
    for row, generator in enumerate(generators):
        offered = np.flatnonzero(np.isfinite(scores[row]))
        drawn = generator.permutation(offered[offered != target[row]])[:count]
        keep = np.append(drawn, target[row])
        left = scores[row, keep]
        scores[row] = -np.inf
        scores[row, keep] = left
    return scores


def first_of(scores: NDArray, k: int) -> NDArray[np.int32]:
    """Columns of each row's `k` highest scores (M, k), best first, equal ones in the columns' order; -1 where it is `-inf`.

    The `k`th highest of the maxima of groups of columns is a bound that `k` scores reach, and most do not: what is left is sorted. A
    group's columns stand far apart, so that the maxima of many groups are taken side by side.
    """
    rows, columns = scores.shape
    k = min(k, columns)
    found = np.full((rows, k), -1, dtype=np.int32)
    whole = columns // GROUP * GROUP
    if whole < k * GROUP:  # fewer groups than are asked for
        bounds = np.partition(scores, -k, axis=1)[:, -k]
    else:
        bounds = np.partition(scores[:, :whole].reshape(rows, GROUP, -1).max(1), -k, axis=1)[:, -k]
    for row, bound, into in zip(scores, bounds, found, strict=True):
        left = np.flatnonzero(row >= bound if bound > -np.inf else row > bound)
        values = row[left]
        if len(left) > k:
            least = np.partition(values, -k)[-k]
            keep = values > least
            keep[np.flatnonzero(values == least)[: k - np.count_nonzero(keep)]] = True
            left, values = left[keep], values[keep]
        into[: len(left)] = left[np.argsort(-values, kind="stable")]
    return found


def rank_all(
    model: Scorer, asked: Examples, repeats: bool = False, *, batch: int = 512, first: int = 20, sampled: int = 0, seed: int = 0
) -> Ranking:  # fmt: skip
    """Rank every item for every question, in blocks of `batch`.

    Args:
        repeats: whether items of the history may be the answer; if not, a target that the history holds ranks last.
        first: items of each question to keep.
        sampled: rank the answer among so many items drawn evenly, as older papers did. Such figures are flattering, and can
            order models wrongly (Krichene & Rendle 2020): only for setting beside theirs.
        seed: of what is drawn.
    """
    items = asked.history.n_items
    if repeats and not sampled and isinstance(model, Votes):  # sparse scores are ranked as they are
        ranks, ids = model.ranked(asked.history, asked.target, min(first, items))
        return Ranking(ranks, np.where(ids >= FIRST, ids - FIRST, -1).astype(np.int32), items, asked.group)
    ranks = np.empty(len(asked))
    kept = np.empty((len(asked), min(first, items)), dtype=np.int32)
    order = np.argsort(
        asked.history.lengths, kind="stable"
    )  # histories of like length together: sequence models pad less
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        part = asked.history.select(rows)
        scores = np.array(model.scores(part), dtype=np.float32)
        if not repeats:
            exclude(scores, part)
        if sampled:
            among(scores, asked.target[rows] - FIRST, sampled, [np.random.default_rng([seed, row]) for row in rows])
        ranks[rows] = ranks_of(scores, asked.target[rows] - FIRST)
        kept[rows] = first_of(scores, first)
    return Ranking(ranks, kept, items, asked.group)
