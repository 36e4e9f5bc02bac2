"""The classifier's hand-made features: the Handbook's, and what analysts add to them. Past-only, labels only once they are known.

Beyond finance.features: of the card and of each categorical column, how many frauds became known in windows that end with the
payment, and how many days ago the first and the last of them took place; of each categorical column, whether its newest known labels are
frauds one after the other, and since when; of the amount, how it stands to the card's own past.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.codec import Categories
from finance.data import DAY, Transactions
from finance.features import WINDOWS, Features, Windows, amount_over_median, fraud_rate, handbook_features

COUNTED = (3, 7, 14, 28)  # days in which frauds became known
REMEMBERED = 35  # days; a fraud that became known earlier is as none
NEVER = 99.0  # days since a payment where there is none
NEWEST = 5  # known labels, of which the share of frauds is taken
RATIO = "amount / card median"
RATIOS = (3, 10)  # payments of the card, the present one included, over which its amounts' ratios are joined


class HandMade:
    """The features of a log, by which labels are known: what does not depend on labels is computed once.

    Args:
        data: the log; its labels need not be those that `features` is given.
        base: the Handbook's features of it, where they are there already.
    """

    def __init__(self, data: Transactions, base: Features | None = None) -> None:
        self.data = data
        base = handbook_features(data) if base is None else base
        free = dict(zip(np.array(base.names)[~base.from_labels].tolist(), base.label_free().T, strict=True))
        free |= _ratios(data)
        self.groups = {"card": data.card}
        for name in dict.fromkeys([*data.schema.categorical, *filter(None, [data.schema.counterparty])]):
            column = data.frame[name] if name in data.frame else data.frame["counterparty"]
            group = self.groups[name] = Categories.fit(column).encode(column)
            recent = Windows(group, data.time)
            free[f"{name} payments, to now, 1 d"] = recent.total(np.ones(len(data)), 1)
            count = recent.total(np.ones(len(data)), 30)
            free[f"{name} payments, to now, 30 d"] = count
            free[f"{name} mean amount, to now, 30 d"] = recent.total(data.amount, 30) / count
        self.free = free
        self.known = {name: Windows(group, data.time, data.label_time) for name, group in self.groups.items()}

    def features(self, label: NDArray[np.int64]) -> Features:
        """Features of every row (N, F), from the row itself, earlier rows, and those of the labels (N,) that are known by then."""
        made: dict[str, NDArray[np.float64]] = {}
        if (label >= 0).any():
            for name, place in self.known.items():
                if name != "card":
                    made |= {f"{name} fraud rate, {days} d": fraud_rate(place, label, days) for days in WINDOWS}
                    made |= _row_of_frauds(self.data, self.groups[name], label, name)
                made |= _frauds(self.data, self.groups[name], place, label, name)
        names = (*self.free, *made)
        return Features(np.column_stack([*self.free.values(), *made.values()]), names, np.isin(names, list(made)))


def handmade_features(data: Transactions, base: Features | None = None) -> Features:
    """Features of every row (N, F), from the row itself, earlier rows, and labels that are known by then.

    Args:
        base: the Handbook's features of the log, where they are there already.
    """
    return HandMade(data, base).features(data.label)


def _ratios(data: Transactions) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The amount over the card's past median, and the largest and the mean of the card's last such ratios."""
    ratio = amount_over_median(data)
    yield RATIO, ratio
    order = np.argsort(data.card, kind="stable")  # the table is in time order
    by_card = pd.Series(ratio[order]).groupby(data.card[order])
    for count in RATIOS:
        last = by_card.rolling(count, min_periods=1)
        for what, values in (("largest", last.max()), ("mean", last.mean())):
            back = np.empty(len(data))
            back[order] = values.to_numpy()
            yield f"{what} of the last {count} ratios", back


def _frauds(
    data: Transactions, group: NDArray[np.int64], known: Windows, label: NDArray[np.int64], name: str
) -> dict[str, NDArray[np.float64]]:
    """Frauds of a row's group that are known by then: how many of late, and days since the first and the last of them."""
    made = {f"{name} frauds known, {days} d": known.total((label == 1).astype(float), days) for days in COUNTED}
    at, begin, end = _remembered(data, group, label == 1)
    for which, place in (("first", begin), ("last", end - 1)):
        made[f"days since the {which} known fraud, {name}"] = _days_since(data, at, place, end > begin)
    return made


def _row_of_frauds(
    data: Transactions, group: NDArray[np.int64], label: NDArray[np.int64], name: str
) -> dict[str, NDArray[np.float64]]:
    """Of a row's group, the newest labels that are known by then: frauds after the last genuine payment, and since when.

    A place where every payment of late was a fraud is not what one is where a fraud was among many, or was followed by a genuine payment.
    """
    at, begin, end = _remembered(data, group, label >= 0)
    fraud = label[at] == 1
    frauds = np.append(0, np.cumsum(fraud))
    last_genuine = np.maximum.accumulate(np.where(fraud, -1, np.arange(len(at))))
    some = end > begin
    genuine = np.full(len(data), -1)
    genuine[some] = last_genuine[end[some] - 1]
    genuine = np.maximum(genuine, begin - 1)  # begin - 1: none that is remembered
    newest = np.maximum(end - NEWEST, begin)
    return {
        f"{name} frauds known in a row": (frauds[end] - frauds[genuine + 1]).astype(float),
        f"days since the first of the row, {name}": _days_since(data, at, genuine + 1, genuine + 1 < end),
        f"days since the last known genuine payment, {name}": _days_since(data, at, genuine, genuine >= begin),
        f"{name} fraud share, newest {NEWEST}": (frauds[end] - frauds[newest]) / np.maximum(end - newest, 1),
    }


def _remembered(
    data: Transactions, group: NDArray[np.int64], which: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows (K,) of `which` by group and by when their label became known; of every row (N,), which of those it knows: begin, end."""
    at = np.flatnonzero(which)
    at = at[np.lexsort((data.label_time[at], group[at]))]
    zero = int(data.time.min())
    span = int(max(data.time.max(), data.label_time.max())) - zero + (REMEMBERED + 1) * DAY
    key, now = group[at] * span + data.label_time[at] - zero, group * span + data.time - zero
    begin = np.searchsorted(key, np.maximum(now - REMEMBERED * DAY, group * span))
    return at, begin, np.searchsorted(key, now)  # known before this second


def _days_since(
    data: Transactions, at: NDArray[np.int64], place: NDArray[np.int64], some: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Days (N,) between each row and the row at its place in `at`; NEVER where it has none."""
    since = np.full(len(data), NEVER)
    since[some] = (data.time[some] - data.time[at[place[some]]]) / DAY
    return since
