"""What recommendation lists look like beyond hits: how new, how various, how much of the catalogue, how tied to what is popular anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.statistics import Estimate, mean_interval
from recsys.estimators import popularity
from recsys.ranking import Ranking
from recsys.sequences import Sequences

LISTS = 2000  # lists of which the pairs of items are compared, at most


@dataclass(frozen=True)
class Shelf:
    """The catalogue as training saw it.

    Attributes:
        counts: (items,) events of each item.
        cosine: (items, items) sparse, of the sequences that hold both items.
    """

    counts: NDArray[np.int64]
    cosine: sparse.csr_matrix

    @classmethod
    def of(cls, train: Sequences) -> Shelf:
        users = train.matrix()
        norm = np.sqrt(np.maximum(np.asarray(users.sum(0)).ravel(), 1.0))
        users = sparse.csr_matrix(users @ sparse.diags(1 / norm))
        return cls(popularity(train), sparse.csr_matrix(users.T @ users))


def list_quality(
    ranking: Ranking, shelf: Shelf, target: NDArray[np.int64], k: int = 10, seed: int = 0
) -> dict[str, Estimate]:
    """What the first `k` items of each question are like; intervals by user or session where there is one.

    - novelty: mean −log2 of the share of training events that the shown items have (Zhou et al. 2010), in bits; one event is added
      to each item, so that unseen ones count.
    - diversity: 1 − mean cosine of the pairs of items in a list, by who had both (Ziegler et al. 2005); 0 to 1.
    - popularity: mean training events of shown items ÷ that of the items that came; above 1 the model prefers what is popular.
    - coverage: share of the catalogue shown to anyone; gini: inequality of how often items are shown, 0 (equal) to 1.

    Args:
        target: (M,) item numbers from 0 that came.
    """
    first = ranking.first[:, :k]
    there = first >= 0
    filled = np.where(there, first, 0)
    share = (shelf.counts + 1) / (shelf.counts + 1).sum()
    length = np.maximum(there.sum(1), 1)
    bits = (-np.log2(share)[filled] * there).sum(1) / length
    shown = (shelf.counts[filled] * there).sum(1) / length
    rows = np.sort(np.random.default_rng(seed).permutation(len(first))[:LISTS])
    a, b = np.triu_indices(first.shape[1], 1)
    left, right, both = filled[rows][:, a], filled[rows][:, b], (there[rows][:, a] & there[rows][:, b])
    alike = np.asarray(shelf.cosine[left.ravel(), right.ravel()]).reshape(left.shape)
    various = 1 - (alike * both).sum(1) / np.maximum(both.sum(1), 1)
    usual = float(np.maximum(shelf.counts[target].mean(), 1e-9))
    none = float("nan")
    return {
        f"novelty@{k}": mean_interval(bits, ranking.group, seed=seed),
        f"diversity@{k}": mean_interval(various, ranking.group[rows], seed=seed),
        f"popularity@{k}": mean_interval(shown / usual, ranking.group, seed=seed),
        f"coverage@{k}": Estimate(ranking.coverage(k), none, none),
        f"gini@{k}": Estimate(gini(np.bincount(first[there], minlength=ranking.items)), none, none),
    }


def gini(counts: NDArray) -> float:
    """Inequality of non-negative numbers: 0 where all are equal, towards 1 where one has everything (Gini 1912)."""
    ordered = np.sort(np.asarray(counts, dtype=float))
    total, n = ordered.sum(), len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total)) if total > 0 else 0.0
