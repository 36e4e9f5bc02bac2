"""Splits by time: labelled days, the delay until labels are known, test days; and cards already known as defrauded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import DAY, Transactions


def epoch_day(date: str) -> int:
    """Days since 1970 of an ISO date."""
    return int(pd.Timestamp(date).timestamp()) // DAY


@dataclass(frozen=True)
class Split:
    """Labelled days `[train, train + train_days)`, then the delay, then the test days. Days count from 1970."""

    train: int
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7

    @property
    def test(self) -> int:
        """First test day: whatever is fitted without labels uses days before it."""
        return self.train + self.train_days + self.delay_days

    @property
    def end(self) -> int:
        return self.test + self.test_days

    def earlier(self, days: int) -> Split:
        return replace(self, train=self.train - days)

    def json(self) -> dict[str, str | int]:
        date = [
            str(np.datetime64(d, "D")) for d in (self.train, self.train + self.train_days - 1, self.test, self.end - 1)
        ]
        return {
            "train": f"{date[0]} to {date[1]}",
            "test": f"{date[2]} to {date[3]}",
            "label_delay_days": self.delay_days,
        }


# The Handbook's simple split (chapter 3) and the one 14 days earlier on which choices are made (chapters 5 and 7).
FDH_TEST = Split(epoch_day("2018-07-25"))
FDH_VALIDATION = FDH_TEST.earlier(14)


def default_split(data: Transactions, *, test_fraction: float = 0.15) -> Split:
    """The published split of a known set; else the last days for testing, the label delay, and as many days twice before.

    Raises:
        UserError: fewer than 4 days.
    """
    if data.name == "fdh_simulated":
        return FDH_TEST
    first, last = int(data.day.min()), int(data.day.max())
    days = last - first + 1
    if days < 4:
        raise UserError(
            f"the data spans {days} day(s); a split by time needs 4 or more", where="time", mend="give a longer log"
        )
    test = max(1, round(test_fraction * days))
    delay = min(data.schema.label_delay_days, (days - test) // 3)
    train = min(2 * test, days - test - delay)
    return Split(last + 1 - test - delay - train, train, delay, test)


def on_or_after(data: Transactions, day: int) -> NDArray[np.bool_]:
    """Payments (N,) on or after a day since 1970.

    Raises:
        UserError: there is none.
    """
    wanted = data.day >= day
    if not wanted.any():
        raise UserError("no payment on or after that day", where="--since", mend="give an earlier day")
    return wanted


@dataclass(frozen=True)
class Rows:
    """Masks over a table (N,): labelled training rows, test rows, and test rows of cards not yet known as defrauded."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    unknown: NDArray[np.bool_]


def rows(data: Transactions, split: Split) -> Rows:
    """Training and test rows, labelled ones only.

    `unknown` follows the published protocol: on test day d, cards are dropped that had a fraud in the training days, or on
    any later day up to d − delay − 1, whose labels have arrived by then.
    """
    day, known_label = data.day, data.label >= 0
    # the day a label arrives: as the table says; else after the split's delay, which may be shorter than the schema's
    arrival = data.label_time // DAY if data.schema.label_time else day + split.delay_days
    train = (day >= split.train) & (day < split.train + split.train_days) & known_label & (arrival < split.test)
    test = (day >= split.test) & (day < split.end) & known_label
    fraud = (data.label == 1) & (day >= split.train)
    first = np.full(
        int(data.card.max()) + 1, np.iinfo(np.int64).max
    )  # the day on which the first fraud of each card since training began is known
    np.minimum.at(first, data.card[fraud], arrival[fraud])
    return Rows(train, test, test & ~((first[data.card] < split.test) | (first[data.card] < day)))


def require_both_classes(label: NDArray[np.int64], where: str) -> None:
    """Raise UserError where labels are missing or of one class."""
    if len(label) == 0:
        raise UserError("no labelled transaction", where=where, mend="give labels there, or a longer log")
    if len(np.unique(label)) < 2:
        kind = "fraud" if label[0] == 1 else "genuine"
        raise UserError(
            f"every label is {kind}: nothing can be told apart", where=where, mend="give labels of both classes"
        )
