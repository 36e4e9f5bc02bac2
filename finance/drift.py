"""How far the payments of some days lie from earlier ones: the population stability index of all that the network reads, and of the score.

The index (Siddiqi 2006) is the symmetric Kullback-Leibler divergence between the shares of bins. By convention up to 0.1 nothing has
moved, and beyond 0.25 a model should be looked at; in small samples chance alone gives more than that, so each figure stands beside
the one that chance exceeds in one case of twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from finance.estimators import Data, FraudScorer, TransactionEncoder

BINS = 10
MOVED, FAR = 0.1, 0.25
Verdict = Literal["stable", "moved", "far"]


@dataclass(frozen=True)
class Stability:
    """Of one column: its index, and the value that the index of equal periods exceeds in one case of twenty (payments taken as
    independent, so that the true one is somewhat larger)."""

    psi: float
    chance: float

    @property
    def verdict(self) -> Verdict:
        """What the convention says, where chance alone does not explain it."""
        if self.psi <= max(MOVED, self.chance):
            return "stable"
        return "moved" if self.psi <= max(FAR, self.chance) else "far"


def stability(past: NDArray, present: NDArray, bins: int = BINS) -> Stability:
    """Of numbers (N,) and (M,): bins hold equal shares of the past; NaN is a bin of its own, and so is each value that fills one.

    Raises:
        UserError: no value on one side.
    """
    known = past[~np.isnan(past)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else np.zeros(0)
    sides = [np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="left")) for x in (past, present)]
    return of_classes(sides[0], sides[1])


def of_classes(past: NDArray, present: NDArray) -> Stability:
    """Of classes (N,) and (M,), each a bin.

    Raises:
        UserError: no value on one side.
    """
    n, m = len(past), len(present)
    if not n or not m:
        raise UserError("nothing to compare", where="drift", mend="choose days that have payments on both sides")
    place = np.unique(np.concatenate([past, present]), return_inverse=True)[1]
    count = int(place.max()) + 1
    return _of_counts(*(np.bincount(x, minlength=count).astype(float) for x in (place[:n], place[n:])))


def of_weekdays(past: NDArray[np.int64], present: NDArray[np.int64]) -> Stability:
    """Of the days (N,) and (M,), since 1970, of payments: how many fall on an average Monday, Tuesday, … of each period.

    A period need not be whole weeks: a weekday counts as often as it lies between the period's first day and its last, and one that a
    period lacks is left out.

    Raises:
        UserError: no value on one side.
    """
    if not len(past) or not len(present):
        raise UserError("nothing to compare", where="drift", mend="choose days that have payments on both sides")
    counts, days = [], []
    for side in (past, present):
        counts.append(np.bincount((side + 3) % 7, minlength=7).astype(float))
        days.append(np.bincount((np.arange(side.min(), side.max() + 1) + 3) % 7, minlength=7))
    both = (days[0] > 0) & (days[1] > 0)
    means = [c[both] / d[both] for c, d in zip(counts, days, strict=True)]
    totals = [float(c[both].sum()) for c in counts]
    return _of_counts(*(mean * total / max(mean.sum(), 1e-9) for mean, total in zip(means, totals, strict=True)))


def _of_counts(past: NDArray[np.float64], present: NDArray[np.float64]) -> Stability:
    """Of the payments in each bin (C,)."""
    from scipy.stats import chi2

    count, n, m = len(past), max(past.sum(), 1.0), max(present.sum(), 1.0)
    if not count:
        return Stability(0.0, 0.0)
    # half a payment in each bin: one that a side lacks makes the index large, not infinite
    p, q = past + 0.5, present + 0.5
    p, q = p / p.sum(), q / q.sum()
    psi = float(((q - p) * np.log(q / p)).sum())
    return Stability(psi, float(chi2.ppf(0.95, max(count - 1, 1)) * (1 / n + 1 / m)))


def drift(
    encoder: TransactionEncoder, data: Data, since: int, days: int = 28, scorer: FraudScorer | None = None
) -> pd.DataFrame:
    """Columns `column`, `psi`, `chance` and `verdict`, the farthest first: of each field as the encoder reads it, and of the score.

    Args:
        since: first day (since 1970) of the present.
        days: of the past, just before it, with which it is compared.
        scorer: what gives the score, where it is to be compared too.

    Raises:
        UserError: no payment on one of the sides.
    """
    encoded = encoder.encode(data)
    table = encoded.table
    past, present = (table.day >= since - days) & (table.day < since), table.day >= since
    if not past.any() or not present.any():
        raise UserError(
            f"{int(past.sum())} payments in the {days} days before {np.datetime64(since, 'D')}, {int(present.sum())} from it on",
            where="--since", mend="choose a day inside the log",
        )  # fmt: skip
    histories = encoded.histories
    found: dict[str, Stability] = {}
    for field in encoder.codec_.fields:
        values = histories.to_table(histories.ragged.fields[field.name])
        if field.name == "weekday":
            found["weekday"] = of_weekdays(table.day[past], table.day[present])
            continue
        if field.table and encoder.codec_.title(field.name) in found:
            continue  # of a text its first word is compared
        compare = stability if field.kind == "numeric" else of_classes
        found[encoder.codec_.title(field.name)] = compare(values[past], values[present])
    if scorer is not None:
        score = scorer.score_samples(encoded, past | present)
        found["score"] = stability(score[past], score[present])
    rows = [{"column": name, "psi": s.psi, "chance": s.chance, "verdict": s.verdict} for name, s in found.items()]
    return pd.DataFrame(rows).sort_values("psi", ascending=False, kind="stable").reset_index(drop=True)
