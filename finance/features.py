"""The Fraud Detection Handbook's hand-made features (chapter 3), past-only, for any schema; the floors are fed with them.

Of each card: payments and mean amount in the 1, 7 and 30 days up to and with the payment. Of each categorical column:
payments there, and the share that turned out fraudulent, in windows that end one label delay before the payment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.codec import Categories
from finance.data import DAY, Transactions

WINDOWS = (1, 7, 30)  # days


@dataclass(frozen=True)
class Features:
    """Values (N, F) by column; `from_labels` marks the columns (F,) that are made from delayed labels."""

    values: NDArray[np.float64]
    names: tuple[str, ...]
    from_labels: NDArray[np.bool_]

    def label_free(self) -> NDArray[np.float64]:
        """(N, F'): without the columns made from labels."""
        return self.values[:, ~self.from_labels]


def handbook_features(data: Transactions) -> Features:
    """Features of every row, from the row itself and earlier ones; fraud rates from labels at least one delay old."""
    columns: dict[str, NDArray[np.float64]] = {"amount": data.amount}
    columns["weekend"] = ((data.day + 3) % 7 >= 5).astype(float)  # day 0, 1970-01-01, was a Thursday
    columns["night"] = (data.time % DAY // 3600 <= 6).astype(float)
    card = _Windows(data.card, data.time)
    for days in WINDOWS:
        count = card.total(np.ones(len(data)), 0, days)
        columns[f"card payments, {days} d"] = count
        columns[f"card mean amount, {days} d"] = card.total(data.amount, 0, days) / count
    for name in data.schema.numeric:
        columns[name] = np.nan_to_num(data.frame[name].to_numpy(dtype=float))
    fraud = (data.label == 1).astype(float)
    known = (data.label >= 0).astype(float)
    from_labels = []
    delay = data.schema.label_delay_days
    for name in data.schema.categorical:
        place = _Windows(Categories.fit(data.frame[name]).encode(data.frame[name]), data.time)
        for days in WINDOWS:
            columns[f"{name} payments, {days} d"] = place.total(np.ones(len(data)), delay, days)
            if data.labelled:
                seen = place.total(known, delay, days)
                found = place.total(fraud, delay, days)
                columns[f"{name} fraud rate, {days} d"] = np.divide(
                    found, seen, out=np.zeros(len(data)), where=seen > 0
                )
                from_labels.append(f"{name} fraud rate, {days} d")
    names = tuple(columns)
    return Features(np.column_stack(list(columns.values())), names, np.isin(names, from_labels))


def amount_over_median(data: Transactions) -> NDArray[np.float64]:
    """Amount over the median of the card's earlier amounts, (N,); 1 where there are none: the floor for leaked cards."""
    import pandas as pd

    by_card = pd.Series(data.amount).groupby(data.card)
    past = by_card.transform(lambda amounts: amounts.expanding().median().shift())
    ratio = data.amount / past.to_numpy()
    return np.where(np.isfinite(ratio), ratio, 1.0)


class _Windows:
    """Sums over time windows of each group, by prefix sums and binary search."""

    def __init__(self, group: NDArray[np.int64], time: NDArray[np.int64]) -> None:
        # stable: ties keep the table's order. Times of one group are made to follow those of the group before, so that one
        # sorted array serves every group; the gap is longer than any window.
        self.order = np.lexsort((np.arange(len(time)), time, group))
        span = int(time.max() - time.min()) + 100_000 * DAY
        rank = np.unique(group, return_inverse=True)[1].astype(np.int64)
        self.key = (rank * span + (time - time.min()))[self.order]
        self.place = np.arange(len(time))

    def total(self, values: NDArray[np.float64], delay: int, days: int) -> NDArray[np.float64]:
        """Sum of `values` over (t − delay − days, t − delay], per row in table order.

        With no delay the window ends with the row itself: rows at the same second that come later are not seen.
        """
        prefix = np.concatenate([[0.0], np.cumsum(values[self.order])])
        end = self.place + 1 if delay == 0 else self._upto(self.key - delay * DAY)
        begin = self._upto(self.key - (delay + days) * DAY)
        out = np.empty(len(values))
        out[self.order] = prefix[end] - prefix[begin]
        return out

    def _upto(self, key: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.key, key, side="right")
