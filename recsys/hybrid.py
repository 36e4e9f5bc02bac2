"""The hybrid: a sequence model and neighbours, pooled as probabilities. Figures of it are labelled `hybrid`, never as the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.errors import UserError
from recsys.ranking import Scorer, exclude, per_user, ranks_of
from recsys.sequences import Sequences
from recsys.split import Examples
from recsys.votes import blocks

Pool = Literal["linear", "logarithmic"]
SMOOTH = 0.2  # of the model in the votes of a logarithmic pool
WEIGHTS = tuple(float(w) for w in np.round(np.arange(0.0, 1.01, 0.1), 2))


@dataclass
class Hybrid:
    """Two opinions about what comes next, p = softmax(model) and q = votes / all votes, as one.

    A sequence model spreads its probability over items that it takes for alike; neighbours put theirs on the few that past sessions
    held. A linear pool, weight · p + (1 - weight) · q, keeps what either is sure of (Stone 1961; for session kNN with a recurrent
    network: Jannach & Ludewig 2017). A logarithmic one, p^weight · q'^(1 - weight) over its sum with q' = .8 q + .2 p, asks both to
    agree (Genest & Zidek 1986); the part of p keeps an item that no neighbour voted for from being ruled out. A history for which no
    neighbour votes gets the model alone.

    Attributes:
        model: its scores are log-probabilities, or logits.
        neighbours: its scores are votes, none below zero.
        weight: of the model, from 0 to 1; `chosen` finds it on validation examples.
        sharpness: power of the votes before they are shares; above 1 the leading items gain.
        pool: of the two.
    """

    model: Scorer
    neighbours: Scorer
    weight: float = 0.5
    sharpness: float = 1.0
    pool: Pool = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UserError(f"weight is {self.weight}", where="hybrid", mend="use 0 (neighbours) to 1 (model)")
        if not self.sharpness > 0:
            raise UserError(f"sharpness is {self.sharpness}", where="hybrid", mend="use a number above 0")
        if self.pool not in get_args(Pool):
            raise UserError(f"no pool '{self.pool}'", where="hybrid", mend=f"use {' or '.join(get_args(Pool))}")

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items) probabilities."""
        model = softmax(self.model.scores(history))
        votes = shares(self.neighbours.scores(history), self.sharpness, model)
        return pooled(opinions(model, votes, self.pool), self.weight, self.pool)


def softmax(scores: NDArray) -> NDArray[np.float32]:
    """Rows of scores as probabilities; log-probabilities give themselves back."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    raised /= raised.sum(axis=1, keepdims=True)
    return raised.astype(np.float32, copy=False)


def shares(votes: NDArray, sharpness: float, otherwise: NDArray) -> NDArray[np.float32]:
    """Each row's votes, to the power of `sharpness`, over their sum; a row without any is that of `otherwise`.

    Raises:
        ValueError: a vote below zero.
    """
    if (votes < 0).any():
        raise ValueError("a vote is below zero: it cannot be a share")
    most = votes.max(axis=1, keepdims=True)
    part = votes / np.where(most > 0, most, 1.0)  # first by the largest, so that no power over- or underflows it
    if sharpness != 1.0:
        part **= sharpness
    total = part.sum(axis=1, keepdims=True)
    return np.where(total > 0, part / np.where(total > 0, total, 1.0), otherwise).astype(np.float32, copy=False)


def opinions(
    model: NDArray[np.float32], votes: NDArray[np.float32], pool: Pool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two opinions (N, items) as a pool adds them up: probabilities as they are, or their logarithms, `Hybrid` says of which."""
    if pool == "linear":
        return model, votes
    tiny = np.finfo(np.float32).tiny  # an item that the model rules out
    return np.log(np.maximum(model, tiny)), np.log(np.maximum(_mixture(model, votes, SMOOTH), tiny))


def pooled(both: tuple[NDArray[np.float32], NDArray[np.float32]], weight: float, pool: Pool) -> NDArray[np.float32]:
    """Probabilities (N, items): `weight` of the first of two `opinions` and the rest of the second."""
    added = _mixture(*both, weight)
    return added if pool == "linear" else softmax(added)


def _mixture(one: NDArray[np.float32], other: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    return (np.float32(weight) * one + np.float32(1.0 - weight) * other).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Trial:
    """What one hybrid reached on the validation examples: recall@20 (of one target, whether it is among the first 20) and mrr@20."""

    weight: float
    sharpness: float
    pool: Pool
    recall: float
    mrr: float


def trials(
    model: Scorer, neighbours: Scorer, asked: Examples,
    weights: Sequence[float] = WEIGHTS, sharpness: Sequence[float] = (1.0,), pools: Sequence[Pool] = ("linear",), block: int = 512,
    repeats: bool = True,
) -> list[Trial]:  # fmt: skip
    """Every weight, sharpness and pool on validation examples that neither part was trained on; both are asked once.

    Args:
        repeats: whether items of the history are ranked.
    """
    settings = list(product(pools, sharpness, weights))
    ranks = np.empty((len(settings), len(asked)))
    start = 0
    for part in blocks(asked.history, block):
        rows = slice(start, start + len(part))
        start += len(part)
        one, two = softmax(model.scores(part)), neighbours.scores(part)
        other = {power: shares(two, power, one) for power in sharpness}
        told = {(pool, power): opinions(one, other[power], pool) for pool in pools for power in sharpness}
        for number, (pool, power, weight) in enumerate(settings):
            found = pooled(told[pool, power], weight, pool)
            if not repeats:
                exclude(found, part)
            ranks[number, rows] = ranks_of(found, asked.target[rows] - FIRST)
    recall, mrr = per_user(ranks, "recall@20").mean(-1), per_user(ranks, "mrr@20").mean(-1)
    return [
        Trial(weight, power, pool, float(recall[number]), float(mrr[number]))
        for number, (pool, power, weight) in enumerate(settings)
    ]


def chosen(
    model: Scorer, neighbours: Mapping[str, Scorer], asked: Examples, repeats: bool = True,
    pools: Sequence[Pool] = ("linear", "logarithmic"),
) -> tuple[str, Hybrid]:  # fmt: skip
    """The best hybrid on validation examples with one of several neighbours, see `best_of`, and that one's name."""
    found = {name: trials(model, near, asked, pools=pools, repeats=repeats) for name, near in neighbours.items()}
    first = best_of([trial for each in found.values() for trial in each])
    name = next(name for name, each in found.items() if first in each)
    return name, Hybrid(model, neighbours[name], first.weight, first.sharpness, first.pool)


def best_of(found: Sequence[Trial]) -> Trial:
    """The one with the largest sum of recall@20 and mrr@20, each as a share of the best found."""
    recall, mrr = max(max(t.recall for t in found), 1e-12), max(max(t.mrr for t in found), 1e-12)
    return max(found, key=lambda t: t.recall / recall + t.mrr / mrr)
