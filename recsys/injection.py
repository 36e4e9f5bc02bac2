"""How much recommendations move when someone injects made-up sessions (Betello et al. 2024: figures like ndcg hide it, lists do not)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.errors import UserError
from recsys.estimators import popularity
from recsys.ranking import Ranking
from recsys.sequences import Sequences


def inject(sequences: Sequences, share: float, pushed: NDArray[np.int64], seed: int = 0) -> Sequences:
    """The sequences and, behind them, made-up ones that want items recommended: `share` of as many.

    Each copies the start of a real sequence, so that it looks like one, and ends in one of the pushed items.

    Args:
        share: of the sequences, above 0.
        pushed: item numbers from 0.
    """
    if not 0 < share <= 1 or not len(pushed):
        raise UserError(
            f"{share} of the sessions, {len(pushed)} items to push",
            where="inject",
            mend="give a share up to 1 and an item",
        )
    generator = np.random.default_rng(seed)
    long = np.flatnonzero(sequences.lengths >= 2)
    rows = generator.choice(long, max(1, round(share * len(sequences))))
    copies = sequences.window(sequences.offsets[rows], sequences.offsets[rows + 1], sequences.keys[rows])
    items = copies.items.copy()
    items[copies.offsets[1:] - 1] = generator.choice(pushed, len(rows)) + FIRST
    return replace(
        sequences,
        keys=np.concatenate([sequences.keys, np.array([f"injected {i}" for i in range(len(rows))], dtype=object)]),
        items=np.concatenate([sequences.items, items]),
        offsets=np.concatenate([sequences.offsets, sequences.offsets[-1] + copies.offsets[1:]]),
    )  # fmt: skip


def rare_items(sequences: Sequences, count: int, seed: int = 0) -> NDArray[np.int64]:
    """`count` item numbers among the rarer half of the catalogue: what nobody would push without a reason."""
    order = np.argsort(popularity(sequences), kind="stable")
    return np.random.default_rng(seed).choice(order[: max(count, len(order) // 2)], count, replace=False)


def overlap(one: Ranking, other: Ranking, k: int = 10) -> NDArray[np.float64]:
    """(M,) share of the first `k` items of each question that both models show; 1 where the lists hold the same items."""
    a, b = one.first[:, :k], other.first[:, :k]
    both = ((a[:, :, None] == b[:, None, :]) & (a[:, :, None] >= 0)).any(2).sum(1)
    return both / np.maximum((a >= 0).sum(1), 1)


def shown(ranking: Ranking, pushed: NDArray[np.int64], k: int = 10) -> NDArray[np.float64]:
    """(M,) whether one of the pushed items stands in the first `k`."""
    return np.isin(ranking.first[:, :k], pushed).any(1).astype(float)
