"""The hybrid: a sequence model and neighbours, mixed as probabilities. Figures of it are labelled `hybrid`, never as the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.errors import UserError
from recsys.ranking import Scorer, exclude, per_user, ranks_of
from recsys.sequences import Sequences
from recsys.split import Examples
from recsys.votes import blocks

WEIGHTS = tuple(float(w) for w in np.round(np.arange(0.0, 1.01, 0.1), 2))


@dataclass
class Hybrid:
    """p = weight · softmax(model) + (1 - weight) · votes / all votes.

    A sequence model spreads its probability over items that it takes for alike; neighbours put theirs on the few that past sessions
    held. A mixture keeps what either is sure of (linear opinion pool, Stone 1961; for session kNN with a recurrent network:
    Jannach & Ludewig 2017). A history for which no neighbour votes gets the model alone.

    Attributes:
        model: its scores are log-probabilities, or logits.
        neighbours: its scores are votes, none below zero.
        weight: of the model, from 0 to 1; `chosen` finds it on validation examples.
        sharpness: power of the votes before they are shares; above 1 the leading items gain.
    """

    model: Scorer
    neighbours: Scorer
    weight: float = 0.5
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UserError(f"weight is {self.weight}", where="hybrid", mend="use 0 (neighbours) to 1 (model)")
        if not self.sharpness > 0:
            raise UserError(f"sharpness is {self.sharpness}", where="hybrid", mend="use a number above 0")

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items) probabilities."""
        model = softmax(self.model.scores(history))
        return mixture(model, shares(self.neighbours.scores(history), self.sharpness, model), self.weight)


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


def mixture(model: NDArray[np.float32], votes: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """`weight` of the first probabilities and the rest of the second."""
    return (np.float32(weight) * model + np.float32(1.0 - weight) * votes).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Trial:
    """What one mixture reached on the validation examples: recall@20 (of one target, whether it is among the first 20) and mrr@20."""

    weight: float
    sharpness: float
    recall: float
    mrr: float


def trials(
    model: Scorer, neighbours: Scorer, asked: Examples,
    weights: Sequence[float] = WEIGHTS, sharpness: Sequence[float] = (1.0,), block: int = 512, repeats: bool = True,
) -> list[Trial]:  # fmt: skip
    """Every pair of weight and sharpness on validation examples that neither part was trained on; both are asked once.

    Args:
        repeats: whether items of the history are ranked.
    """
    ranks = np.empty((len(sharpness), len(weights), len(asked)))
    start = 0
    for part in blocks(asked.history, block):
        rows = slice(start, start + len(part))
        start += len(part)
        one, two = softmax(model.scores(part)), neighbours.scores(part)
        for i, power in enumerate(sharpness):
            other = shares(two, power, one)
            for j, weight in enumerate(weights):
                mixed = mixture(one, other, weight)
                if not repeats:
                    exclude(mixed, part)
                ranks[i, j, rows] = ranks_of(mixed, asked.target[rows] - FIRST)
    recall, mrr = per_user(ranks, "recall@20").mean(-1), per_user(ranks, "mrr@20").mean(-1)
    return [
        Trial(weight, power, float(recall[i, j]), float(mrr[i, j]))
        for i, power in enumerate(sharpness)
        for j, weight in enumerate(weights)
    ]


def chosen(
    model: Scorer, neighbours: Mapping[str, Scorer], asked: Examples, repeats: bool = True, **grid: Sequence[float]
) -> tuple[str, Hybrid]:
    """The best mixture on validation examples with one of several neighbours, see `best_of`, and that one's name."""
    found = {
        name: trials(model, near, asked, repeats=repeats, **grid)  # type: ignore[arg-type]
        for name, near in neighbours.items()
    }
    first = best_of([trial for each in found.values() for trial in each])
    name = next(name for name, each in found.items() if first in each)
    return name, Hybrid(model, neighbours[name], first.weight, first.sharpness)


def best_of(found: Sequence[Trial]) -> Trial:
    """The one with the largest sum of recall@20 and mrr@20, each as a share of the best found."""
    recall, mrr = max(max(t.recall for t in found), 1e-12), max(max(t.mrr for t in found), 1e-12)
    return max(found, key=lambda t: t.recall / recall + t.mrr / mrr)
