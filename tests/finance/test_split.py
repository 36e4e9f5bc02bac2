from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from finance.data import DAY, Schema, Transactions, validate
from finance.split import FDH_TEST, FDH_VALIDATION, Split, default_split, require_both_classes, rows


def log_of(days: list[int], cards: list[str], fraud: list[int]) -> Transactions:
    import pandas as pd

    frame = pd.DataFrame({"card": cards, "time": [float(d * DAY) for d in days], "amount": 1.0, "fraud": fraud})
    return validate(frame, Schema(entity="card", time="time", amount="amount", label="fraud"))


def test_the_published_weeks_are_seven_days_apart():
    assert FDH_TEST.json() == {
        "train": "2018-07-25 to 2018-07-31", "test": "2018-08-08 to 2018-08-14", "label_delay_days": 7,
    }  # fmt: skip
    assert FDH_VALIDATION.end <= FDH_TEST.test


def test_cards_known_by_the_test_day_are_dropped_and_others_are_not():
    # split: train days 0-6, delay 7-13, test 14-20
    data = log_of(
        days=[2, 14, 6, 20, 7, 14, 7, 15, 13, 20, 14, 15],
        cards=["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f"],
        fraud=[1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0],
    )
    split = Split(train=0)
    kept = {(data.frame["entity"][i], int(data.day[i])) for i in np.flatnonzero(rows(data, split).unknown)}
    # a, b: defrauded in training; c on day 14: its fraud of day 7 is not known yet; d on day 15: known by then;
    # e on day 20: fraud of day 13 not known before day 21; f: found in the test days themselves
    assert kept == {("c", 14), ("e", 20), ("f", 14), ("f", 15)}


def test_rows_without_a_label_are_neither_trained_nor_tested_on():
    data = log_of([1, 2, 15, 16], ["a", "b", "c", "d"], [0, 1, 0, 1])
    blank = Transactions(data.frame.assign(label=[0, -1, -1, 1]), data.schema)
    split = rows(blank, Split(train=0))
    assert split.train.sum() == 1 and split.test.sum() == 1


@pytest.mark.parametrize("days", [4, 9, 30, 90, 400])
def test_the_default_split_ends_with_the_data_and_leaves_the_delay(days):
    data = log_of(list(range(days)), ["a"] * days, [0] * days)
    split = default_split(data)
    assert split.end == days and split.test_days >= 1 and split.train >= 0 and split.train_days >= 1
    assert split.test == split.train + split.train_days + split.delay_days


def test_too_short_a_log_and_one_class_are_refused():
    with pytest.raises(UserError, match="4 or more"):
        default_split(log_of([1, 2], ["a", "a"], [0, 1]))
    with pytest.raises(UserError, match="every label is genuine"):
        require_both_classes(np.zeros(5, dtype=int), "training days")
    with pytest.raises(UserError, match="no labelled"):
        require_both_classes(np.zeros(0, dtype=int), "test days")
