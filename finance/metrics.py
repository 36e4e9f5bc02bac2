"""Fraud metrics with intervals that resample whole cards.

A card's payments stand or fall together, so a bootstrap draw gives every card a weight; all metrics here take weights and
are computed for all draws at once from one sort.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.statistics import Estimate

Array = NDArray[np.float64]


def auroc(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> Array:
    """Area under the ROC curve, ties counted half; one value per row of `weight` (R, N). nan where a class is absent."""
    pos, neg, _ = _steps(label, score, weight)  # (R, G) in rising order of score
    below = np.cumsum(neg, 1) - neg
    with np.errstate(invalid="ignore", divide="ignore"):
        return (pos * (below + 0.5 * neg)).sum(1) / (pos.sum(1) * neg.sum(1))


def average_precision(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> Array:
    """Average precision (no interpolation), tied scores taken together; one value per row of `weight` (R, N)."""
    pos, neg, _ = _steps(label, score, weight)
    pos, neg = pos[:, ::-1], neg[:, ::-1]
    found, seen = np.cumsum(pos, 1), np.cumsum(pos + neg, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, found / seen, 0.0)
        return (pos * precision).sum(1) / pos.sum(1)


def card_precision(
    day: NDArray, card: NDArray, label: NDArray, score: NDArray, k: int = 100, weight: Array | None = None
) -> Array:
    """Card precision at k (Fraud Detection Handbook, chapter 4): alerts that an investigator's day would find right.

    Each day the k cards with the highest payment score are looked at; the share of them that has a fraud that day is averaged
    over the days. Cards found on an earlier day are not looked at again.

    Args:
        day, card, label, score: (N,); cards are numbered 0 … C-1.
        weight: (R, C) copies of each card; None for one of each.

    Returns:
        (R,), one value per row of `weight`.
    """
    copies = np.ones((1, int(card.max()) + 1)) if weight is None else weight
    days = []
    for at, cards in cards_by_day(day, card, score):
        fraud = np.zeros(len(copies[0]))
        np.maximum.at(fraud, card[at], (label[at] == 1).astype(float))
        days.append((cards, fraud[cards]))
    out = np.empty(len(copies))
    for r, copy in enumerate(copies):
        open_ = copy.copy()
        shares = []
        for cards, fraud in days:
            left = open_[cards]
            taken = np.clip(k - (np.cumsum(left) - left), 0, left)  # copies of each card among the first k
            shares.append((taken * fraud).sum() / k)
            open_[cards[(taken > 0) & (fraud > 0)]] = 0
        out[r] = np.mean(shares)
    return out


def cards_by_day(day: NDArray, card: NDArray, score: NDArray) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
    """Of each day its payments' rows, and its cards by their highest score, the highest first; ties in the order of rows."""
    for d in np.unique(day):
        at = np.flatnonzero(day == d)
        order = at[np.lexsort((at, -score[at]))]
        cards, first = np.unique(card[order], return_index=True)  # first = the card's highest score that day
        yield at, cards[np.argsort(first)]


def resampled(values: Array, seed: int) -> Array:
    """(1 + draws,): the mean of several seeds' or samples' values (S, 1 + draws), which are resampled, too, but for the first."""
    pick = np.random.default_rng(seed).integers(0, len(values), (len(values), values.shape[1] - 1))
    return np.concatenate([values[:, :1].mean(0), np.take_along_axis(values[:, 1:], pick, 0).mean(0)])


def estimate(values: Array) -> Estimate:
    """The figure (1 + draws,), and the interval of its resamples; those on which it is undefined are left out."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(values[0]), float(low), float(high))


def _steps(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Weight of frauds and of genuine rows at each distinct score, in rising order: (R, G), (R, G), (G,)."""
    y, s = np.asarray(label) == 1, np.asarray(score, dtype=np.float64)
    w = np.ones((1, len(y))) if weight is None else np.atleast_2d(np.asarray(weight, dtype=np.float64))
    order = np.argsort(s, kind="stable")
    s, y, w = s[order], y[order], w[:, order]
    start = np.flatnonzero(np.r_[True, np.diff(s) > 0]) if len(s) else np.zeros(0, int)
    if not len(s):
        return np.zeros((len(w), 0)), np.zeros((len(w), 0)), s
    return np.add.reduceat(w * y, start, axis=1), np.add.reduceat(w * ~y, start, axis=1), s[start]


@dataclass(frozen=True)
class Panel:
    """Test rows, and the same card resamples for every score: so differences between scores are paired.

    Attributes:
        label, scenario, card, day: (N,).
        draws: bootstrap draws.
        k: cards looked at a day.
    """

    label: NDArray[np.int64]
    scenario: NDArray[np.int64]
    card: NDArray[np.int64]
    day: NDArray[np.int64]
    draws: int = 200
    k: int = 100
    seed: int = 0

    @cached_property
    def _cards(self) -> NDArray[np.int64]:
        return np.unique(self.card, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _copies(self) -> Array:
        """(1 + draws, C): one of each card first, then the resamples."""
        cards = int(self._cards.max()) + 1
        drawn = np.random.default_rng(self.seed).multinomial(cards, np.full(cards, 1 / cards), size=self.draws)
        return np.concatenate([np.ones((1, cards)), drawn.astype(float)])

    @property
    def names(self) -> list[str]:
        """Metrics that these rows can give."""
        kinds = sorted(set(self.scenario[self.label == 1].tolist()) - {0})
        return ["auroc", "average_precision", f"card_precision@{self.k}"] + [f"auroc@scenario={s}" for s in kinds]

    def counts(self) -> dict[str, int]:
        """Rows, cards and frauds, by scenario too."""
        out = {"rows": len(self.label), "cards": len(np.unique(self.card)), "frauds": int((self.label == 1).sum())}
        for s in sorted(set(self.scenario[self.label == 1].tolist()) - {0}):
            out[f"frauds of scenario {s}"] = int(((self.label == 1) & (self.scenario == s)).sum())
        return out

    def values(self, metric: str, score: NDArray) -> Array:
        """(1 + draws,): the metric on all rows, then on each resample."""
        if metric.startswith("card_precision@"):
            return card_precision(self.day, self._cards, self.label, score, self.k, self._copies)
        rows = np.arange(len(self.label))
        name = metric
        if "@scenario=" in metric:
            name, kind = metric.split("@scenario=")
            rows = np.flatnonzero((self.label == 0) | (self.scenario == int(kind)))
        function = {"auroc": auroc, "average_precision": average_precision}[name]
        label, at, card = self.label[rows], score[rows], self._cards[rows]
        blocks = np.array_split(self._copies, max(1, len(rows) * len(self._copies) // 2_000_000))  # bounds memory
        return np.concatenate([function(label, at, block[:, card]) for block in blocks])

    def measure(self, scores: NDArray | Sequence[NDArray], metrics: Sequence[str] | None = None) -> dict[str, Estimate]:
        """Each metric with its interval; of several scores (one a seed) the mean, resampling seeds too."""
        return {m: self._estimate(self._matrix(m, scores)) for m in metrics or self.names}

    def compare(self, metric: str, ours: NDArray | Sequence[NDArray], other: NDArray | Sequence[NDArray]) -> Estimate:
        """Paired difference `ours − other` with its interval, over cards and seeds."""
        a, b = self._matrix(metric, ours), self._matrix(metric, other)
        if len(a) != len(b):  # a floor without seeds beside seeded scores
            a, b = (np.repeat(a, len(b), 0), b) if len(a) == 1 else (a, np.repeat(b, len(a), 0))
        return self._estimate(a - b)

    def _matrix(self, metric: str, scores: NDArray | Sequence[NDArray]) -> Array:
        several = [scores] if isinstance(scores, np.ndarray) and scores.ndim == 1 else list(scores)
        return np.stack([self.values(metric, np.asarray(s)) for s in several])  # (S, 1 + draws)

    def _estimate(self, values: Array) -> Estimate:
        return estimate(resampled(values, self.seed + 1))
