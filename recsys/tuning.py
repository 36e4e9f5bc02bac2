"""Settings of a floor chosen on validation examples, one at a time: a floor that nobody tuned is no floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from recsys.neighbours import STAN
from recsys.ranking import per_user

T = TypeVar("T")
INF = float("inf")
START = STAN(neighbours=500, half_life=1.5, age=0.3, reach=3.0, length=0.5, power=1.5, idf=0.5, before=1.0, again=1.0)
GRID: dict[str, Sequence[float]] = {
    "age": (0.03, 0.1, 0.3, 0.5, 1.0, INF),
    "half_life": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0),
    "power": (1.0, 1.5, 2.0, 3.0),
    "idf": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
    "reach": (1.0, 2.0, 3.0, 5.0, 10.0, INF),
    "before": (0.5, 0.7, 1.0),
    "again": (0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0),
    "length": (0.0, 0.25, 0.5, 0.75, 1.0),
    "neighbours": (100, 500, 2000),
}


def climb(
    start: T, grid: Mapping[str, Sequence[Any]], worth: Callable[[T], float], least: float = 5e-4, rounds: int = 5
) -> tuple[T, float]:
    """The best settings found by moving one at a time along its grid, as long as that gains, and what they are worth.

    Args:
        start: a dataclass whose settings stand in `grid`.
        grid: values of each setting, rising.
        worth: the higher, the better; asked once of each combination.
        least: a gain below that is taken for noise.
        rounds: passes over all settings, at most.

    Raises:
        UserError: a setting of `start` that its grid does not hold.
    """
    known: dict[tuple[Any, ...], float] = {}

    def ask(candidate: T) -> float:
        key = tuple(getattr(candidate, name) for name in grid)
        if key not in known:
            known[key] = worth(candidate)
        return known[key]

    for name, values in grid.items():
        if getattr(start, name) not in values:
            raise UserError(
                f"{name} starts at {getattr(start, name)}, off its grid", where="tuning", mend="start on the grid"
            )
    best, value = start, ask(start)
    for _ in range(rounds):
        before = value
        for name, values in grid.items():
            for step in (1, -1):
                place = values.index(getattr(best, name)) + step
                while 0 <= place < len(values):
                    candidate = replace(best, **{name: values[place]})  # type: ignore[type-var]
                    if ask(candidate) <= value + least:
                        break
                    best, value, place = candidate, ask(candidate), place + step
        if value == before:
            break
    return best, value


def session_worth(ranks: NDArray[np.float64]) -> float:
    """recall@20 + 2 · mrr@20 of ranks from 0: on the session sets the second is a third to a half of the first."""
    return float(per_user(ranks, "recall@20").mean() + 2 * per_user(ranks, "mrr@20").mean())
