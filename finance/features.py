"""The Fraud Detection Handbook's hand-made features (chapter 3), past-only, for any schema; the floors are fed with them.

Of each card: payments and mean amount in the 1, 7 and 30 days up to and with the payment. Of each categorical column:
those payments whose labels became known in windows that end with the payment, and the share of them that was fraudulent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """Features of every row, from the row itself and earlier ones; fraud rates from labels that are known by then."""
    columns: dict[str, NDArray[np.float64]] = {"amount": data.amount}
    columns["weekend"] = ((data.day + 3) % 7 >= 5).astype(float)  # day 0, 1970-01-01, was a Thursday
    columns["night"] = (data.time % DAY // 3600 <= 6).astype(float)
    card = Windows(data.card, data.time)
    for days in WINDOWS:
        count = card.total(np.ones(len(data)), days)
        columns[f"card payments, {days} d"] = count
        columns[f"card mean amount, {days} d"] = card.total(data.amount, days) / count
    for name in data.schema.numeric:
        columns[name] = np.nan_to_num(data.frame[name].to_numpy(dtype=float))
    from_labels = []
    for name in data.schema.categorical:
        place = Windows(Categories.fit(data.frame[name]).encode(data.frame[name]), data.time, data.label_time)
        for days in WINDOWS:
            columns[f"{name} payments, {days} d"] = place.total(np.ones(len(data)), days)
            if data.labelled:
                columns[f"{name} fraud rate, {days} d"] = fraud_rate(place, data.label, days)
                from_labels.append(f"{name} fraud rate, {days} d")
    names = tuple(columns)
    return Features(np.column_stack(list(columns.values())), names, np.isin(names, from_labels))


def fraud_rate(place: Windows, label: NDArray[np.int64], days: int) -> NDArray[np.float64]:
    """Share of frauds (N,) among the labels (1, 0, or -1) that became known in the days before each payment; 0 where there are none."""
    seen, found = place.total((label >= 0).astype(float), days), place.total((label == 1).astype(float), days)
    return np.divide(found, seen, out=np.zeros(len(label)), where=seen > 0)


def amount_over_median(data: Transactions) -> NDArray[np.float64]:
    """Amount over the median of the card's earlier amounts, (N,); 1 where there are none: the floor for leaked cards."""
    import pandas as pd

    by_card = pd.Series(data.amount).groupby(data.card)
    past = by_card.transform(lambda amounts: amounts.expanding().median().shift())
    ratio = data.amount / past.to_numpy()
    return np.where(np.isfinite(ratio), ratio, 1.0)


class Windows:
    """Sums over time windows of each group, by running sums and binary search.

    Args:
        group, time: (N,) of each row.
        known: (N,) when a row may be counted, by rows after that second; None: at its own time, by itself and rows after it.
    """

    def __init__(
        self, group: NDArray[np.int64], time: NDArray[np.int64], known: NDArray[np.int64] | None = None
    ) -> None:
        # stable: ties keep the table's order. Times of one group are made to follow those of the group before, so that one
        # sorted array serves every group; the gap is longer than any window.
        at = time if known is None else known
        zero = min(int(time.min()), int(at.min()))
        span = max(int(time.max()), int(at.max())) - zero + 100 * DAY
        start = np.unique(group, return_inverse=True)[1].astype(np.int64) * span
        self.order = np.lexsort((np.arange(len(time)), at, group))
        self.key = (start + at - zero)[self.order]
        self.group = group[self.order]
        self.now = start + time - zero
        self.side: Literal["left", "right"] = "right" if known is None else "left"
        self.first = np.searchsorted(self.key, start)  # (N,) place of the group's first row
        if known is None:
            self.end = np.empty(len(time), np.int64)
            self.end[self.order] = np.arange(1, len(time) + 1)
        else:
            self.end = np.searchsorted(self.key, self.now, side="left")

    def total(self, values: NDArray[np.float64], days: int) -> NDArray[np.float64]:
        """Sum of `values` (N,) over (t − days, t], or [t − days, t) of the times they were `known`, per row in table order.

        Running sums begin anew with each group, so that no later row and no other group changes their last bit.
        """
        import pandas as pd

        running = pd.Series(values[self.order]).groupby(self.group).cumsum().to_numpy()
        begin = np.searchsorted(self.key, self.now - days * DAY, side=self.side)
        return np.where(self.end > self.first, running[self.end - 1], 0.0) - np.where(
            begin > self.first, running[begin - 1], 0.0
        )
