"""What is known of a row comes from the row itself and from earlier ones: changing the future changes nothing past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from finance.data import DAY, Schema, Transactions, validate
from finance.features import amount_over_median
from finance.handmade import handmade_features
from finance.histories import EventCodec

SCHEMA = Schema(
    entity="card", time="time", amount="amount", categorical=("shop",), numeric=("risk",), label="fraud",
    label_time="known", row="row",
)  # fmt: skip
Row = dict[str, Any]


def log(rows: list[Row]) -> Transactions:
    """A row that both labels and starts every log, then `rows`; those of a second are in the order of their numbers."""
    first = {"time": 0, "card": "a", "amount": 1.0, "shop": "s", "risk": 0.0, "fraud": 0.0, "delay": 0.0, "row": -1}
    frame = pd.DataFrame([first, *rows])
    table = validate(frame.assign(known=frame["time"] + frame["delay"]).drop(columns="delay"), SCHEMA)
    assert len(table) == len(rows) + 1
    return table


def of_a_row(seconds: st.SearchStrategy[int], numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(
        {
            "time": seconds,
            "card": st.sampled_from("abc"),
            "amount": st.floats(0.01, 1e6),
            "shop": st.sampled_from(["s", "s", "t", None]),
            "risk": st.sampled_from([0.5, -2.0, np.nan]),
            "fraud": st.sampled_from([0.0, 1.0, np.nan]),
            "delay": st.sampled_from([0.0, 1.0, 8.0 * DAY, np.nan]),
            "row": numbers,
        }
    )


def rows(first: int, last: int, begin: int, most: int = 15) -> st.SearchStrategy[list[Row]]:
    """Rows with times of `first` to `last` half days, so that ties are common, and numbers from `begin` on."""
    near = st.integers(max(first, 46), min(last, 74))  # where the past ends and the future begins
    times = st.one_of(st.integers(first, last), near).map(lambda half: half * DAY // 2)
    return st.lists(
        of_a_row(times, st.integers(begin, begin + 999)), min_size=5, max_size=most, unique_by=lambda row: row["row"]
    )


def label_time(row: Row) -> float:
    return row["time"] + (SCHEMA.label_delay_days * DAY if np.isnan(row["delay"]) else row["delay"])


def past_of(table: Transactions, numbers: set[int]) -> dict[str, Any]:
    """All that is made of the rows with these numbers, by name."""
    at = np.flatnonzero(table.frame["row"].isin(numbers))
    features = handmade_features(table)
    made: dict[str, Any] = dict(zip(features.names, features.values.T, strict=True))
    histories = CODEC.encode(table)
    made |= {f"event {key}": histories.to_table(values) for key, values in histories.ragged.fields.items()}
    made |= {"order": table.frame["row"].to_numpy(), "over median": amount_over_median(table)}
    return {name: values[at] for name, values in made.items()}


CODEC = EventCodec.fit(
    log([
        {"time": i * DAY, "card": "b", "amount": i + 1.0, "shop": "st"[i % 2], "risk": i / 3, "fraud": 0.0, "delay": 0.0, "row": i}
        for i in range(1, 20)
    ])
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows(1, 60, begin=0), rows(60, 90, begin=1000), rows(60, 90, begin=1000), st.randoms(use_true_random=False))
def test_changing_the_future_changes_nothing_past(
    past: list[Row], future: list[Row], other: list[Row], random: Any
) -> None:
    cut = 60 * DAY // 2  # rows of this second stand on both sides; the past has the smaller numbers
    # a label that is not known by then is of the future, too
    changed = [row | {"fraud": 1.0 - row["fraud"]} if label_time(row) >= cut else row for row in past]
    random.shuffle(changed)
    numbers = {row["row"] for row in past} | {-1}
    before, after = past_of(log(past + future), numbers), past_of(log(other + changed), numbers)
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert np.array_equal(values, after[name], equal_nan=True), name


def test_the_past_does_change_what_follows() -> None:
    later = {
        "time": 40 * DAY,
        "card": "a",
        "amount": 5.0,
        "shop": "s",
        "risk": 0.0,
        "fraud": np.nan,
        "delay": 0.0,
        "row": 1,
    }
    earlier = later | {"time": 39 * DAY, "amount": 7.0, "row": 0}
    alone, with_past = past_of(log([later]), {1}), past_of(log([earlier, later]), {1})
    changed = {name for name, values in alone.items() if not np.array_equal(values, with_past[name], equal_nan=True)}
    assert {"card payments, 7 d", "card mean amount, 30 d", "over median", "event gap"} <= changed
