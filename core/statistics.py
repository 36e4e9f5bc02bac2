"""Uncertainty: bootstrap intervals, clustered by patient, card, speaker or user, and paired differences; and a metric that all domains share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Callable[[NDArray, NDArray], float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.low):  # one draw only, or nothing to draw from
            return f"{self.value:.3f}" if np.isfinite(self.value) else "not measured"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def json(self) -> dict[str, float]:
        return asdict(self)


def _clusters(groups: ArrayLike | None, n: int) -> list[NDArray]:
    """Row numbers of each cluster; every row is its own where no groups are given."""
    if groups is None:
        return [np.array([i]) for i in range(n)]
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def resamples(n: int, groups: ArrayLike | None, draws: int, seed: int) -> list[NDArray]:
    """Row numbers of `draws` bootstrap samples that draw whole clusters with replacement."""
    generator = np.random.default_rng(seed)
    if groups is None:
        return [generator.integers(0, n, n) for _ in range(draws)]
    clusters = _clusters(groups, n)
    return [
        np.concatenate([clusters[c] for c in generator.integers(0, len(clusters), len(clusters))]) for _ in range(draws)
    ]


def _interval(values: Sequence[float], level: float) -> tuple[float, float]:
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2 * 100
    return float(np.percentile(finite, tail)), float(np.percentile(finite, 100 - tail))


def bootstrap(
    metric: Metric,
    target: ArrayLike,
    score: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap (Efron 1979) of `metric(target, score)`, resampling whole `groups` where given.

    Samples on which the metric is undefined (`nan`, or a `ValueError` such as one class only) are left out.
    """
    target, score = np.asarray(target), np.asarray(score)

    def on(rows: NDArray) -> float:
        try:
            return float(metric(target[rows], score[rows]))
        except ValueError:
            return float("nan")

    values = [on(rows) for rows in resamples(len(target), groups, draws, seed)]
    low, high = _interval(values, level)
    return Estimate(float(metric(target, score)), low, high)


def paired(
    metric: Metric,
    target: ArrayLike,
    ours: ArrayLike,
    other: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap of `metric(ours) − metric(other)` on the same resampled rows: the paired test for "better"."""
    target, ours, other = np.asarray(target), np.asarray(ours), np.asarray(other)

    def difference(rows: NDArray) -> float:
        try:
            return float(metric(target[rows], ours[rows])) - float(metric(target[rows], other[rows]))
        except ValueError:
            return float("nan")

    values = [difference(rows) for rows in resamples(len(target), groups, draws, seed)]
    low, high = _interval(values, level)
    return Estimate(difference(np.arange(len(target))), low, high)


def mean_interval(values: ArrayLike, groups: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0) -> Estimate:
    """Mean of per-row values (a hit, an ndcg, a difference) with a bootstrap interval, clustered where groups are given."""
    values = np.asarray(values, dtype=float)
    if groups is None:
        sums, sizes = values, np.ones(len(values))
    else:
        _, inverse = np.unique(np.asarray(groups), return_inverse=True)
        sums, sizes = np.bincount(inverse, values), np.bincount(inverse).astype(float)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        picked = generator.integers(0, len(sums), len(sums))
        means.append(sums[picked].sum() / sizes[picked].sum())
    low, high = _interval(means, 0.95)
    return Estimate(float(values.mean()), low, high)


def auroc(target: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve (Mann & Whitney 1947), ties counted half; nan where one class is missing.

    Args:
        target: (N,) bool, or 1 and 0.
        score: (N,), the higher the likelier.
    """
    from scipy.stats import rankdata

    there = np.asarray(target, dtype=bool)
    positive = int(there.sum())
    if positive in (0, len(there)):
        return float("nan")
    rank = rankdata(score)
    return float((rank[there].sum() - positive * (positive + 1) / 2) / (positive * (len(there) - positive)))
