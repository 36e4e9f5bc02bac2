"""Reading click logs: order, quarantine, and one clear line for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.codec import UNKNOWN
from core.errors import UserError
from recsys.data import Columns, Limits, from_frame, load


def log(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"user_id": list("aabb"), "item_id": list("xyxy"), "timestamp": [1.0, 2.0, 3.0, 4.0]} | columns)


def items_of(loaded, user: str) -> list[str]:
    sequences = loaded.sequences
    row = list(sequences.keys).index(user)
    return list(sequences.catalogue.decode(sequences.items[sequences.offsets[row] : sequences.offsets[row + 1]]))


def test_events_are_ordered_by_time_and_ties_by_row():
    table = pd.DataFrame({"user_id": list("aaaa"), "item_id": list("wxyz"), "timestamp": [5, 1, 5, 5]})
    assert items_of(from_frame(table), "a") == ["x", "w", "y", "z"]


def test_interleaved_users_keep_their_own_events():
    table = pd.DataFrame({"user_id": list("abab"), "item_id": list("wxyz"), "timestamp": [2, 1, 1, 2]})
    loaded = from_frame(table)
    assert items_of(loaded, "a") == ["y", "w"]
    assert items_of(loaded, "b") == ["x", "z"]


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("user_id", [None, "a", "b", "b"], "missing user"),
        ("item_id", ["x", float("nan"), "x", "y"], "missing item"),
        ("item_id", ["x", " ", "x", "y"], "missing item"),
        ("item_id", [1.0, np.inf, 2.0, 3.0], "missing item"),
        ("timestamp", [1.0, -2.0, 3.0, 4.0], "negative time"),
        ("timestamp", [1.0, np.inf, 3.0, 4.0], "unreadable time"),
        ("timestamp", [1.0, np.nan, 3.0, 4.0], "missing time"),
        ("timestamp", ["2024-01-01", "yesterday", "2024-01-02", "2024-01-03"], "unreadable time"),
        ("timestamp", [1.7e9, 1.7e12, 1.7e9, 1.7e9], "time in another unit"),
        ("timestamp", [1.7e12, 1.7e9, 1.7e12, 1.7e12], "time in another unit"),
        ("timestamp", [1.7e9, 5.0, 1.7e9, 1.7e9 + 1], "absurd time"),
        ("timestamp", [1.7e9, 9e9, 1.7e9, 1.7e9 + 1], "absurd time"),
    ],
)
def test_a_bad_value_sets_its_row_aside_and_no_other(column, values, reason):
    loaded = from_frame(log(**{column: values}))
    assert loaded.quarantine.counts() == {reason: 1}
    where = loaded.quarantine.records[0][0]
    assert where == ("row 1" if reason == "missing user" else "row 2")
    assert len(loaded.sequences.items) == 3


def test_milliseconds_seconds_and_dates_give_one_order():
    seconds = [1_700_000_003, 1_700_000_001, 1_700_000_002, 1_700_000_004]
    tables = [
        seconds,
        [1000 * s for s in seconds],
        pd.to_datetime(seconds, unit="s"),
        [pd.Timestamp(s, unit="s").isoformat() for s in seconds],
    ]
    expected = from_frame(log(timestamp=seconds)).sequences.items
    for times in tables:
        assert np.array_equal(from_frame(log(timestamp=list(times))).sequences.items, expected)


def test_exact_repeats_are_set_aside_but_for_the_first():
    table = pd.concat([log(), log().iloc[[1]]], ignore_index=True)
    loaded = from_frame(table)
    assert loaded.quarantine.records == [("row 5", "duplicate row", "")]
    assert items_of(loaded, "a") == ["x", "y"]


def test_repeats_are_those_of_the_whole_row():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"user_id": random.choice(list("abc"), 400), "item_id": random.choice(list("xyz"), 400), "timestamp": random.integers(0, 40, 400)})  # fmt: skip
    aside = [row for row, _, _ in from_frame(table, limits=Limits(bad=0.9)).quarantine.records]
    assert aside == [f"row {row + 1}" for row in np.flatnonzero(table.duplicated())] and len(aside) > 40


def test_an_item_seen_twice_at_different_times_is_no_duplicate():
    assert items_of(from_frame(log(item_id=list("xxyy"))), "a") == ["x", "x"]


def test_a_robots_session_keeps_its_latest_events_and_the_rest_is_counted():
    table = pd.DataFrame(
        {"user_id": ["r"] * 9 + ["a"] * 9, "item_id": [str(i % 9) for i in range(18)], "timestamp": range(18)}
    )
    loaded = from_frame(table, limits=Limits(longest=5))
    assert items_of(loaded, "r") == ["4", "5", "6", "7", "8"]
    assert loaded.quarantine.counts() == {"over-long session": 8}


def test_more_bad_rows_than_allowed_fail():
    table = log(timestamp=[-1, -1, -1, 5])
    with pytest.raises(UserError, match="3 of 4 rows had to be set aside"):
        from_frame(table)
    assert len(from_frame(table, limits=Limits(bad=0.8)).sequences) == 1


def test_numbers_and_text_name_the_same_item():
    """A csv reads 3, a table with gaps 3.0, parquet the integer: one item."""
    catalogue = from_frame(log(item_id=[1, 2, 1, 2])).sequences.catalogue
    for ids in (["1", "2", "1", "2"], ["1.0", "2.0", "1.0", "2.0"], [1.0, 2.0, 1.0, 2.0]):
        assert UNKNOWN not in from_frame(log(item_id=ids), catalogue=catalogue).sequences.items


def test_an_item_outside_the_catalogue_is_unknown():
    catalogue = from_frame(log()).sequences.catalogue
    items = from_frame(log(item_id=list("xyxq")), catalogue=catalogue).sequences.items
    assert (items == UNKNOWN).sum() == 1


def test_keep_empty_keeps_users_of_whom_nothing_is_left():
    loaded = from_frame(log(item_id=["x", "y", None, None]), keep_empty=True)
    assert dict(zip(loaded.sequences.keys, loaded.sequences.lengths, strict=True)) == {"a": 2, "b": 0}


def test_item_lists_become_sequences(tmp_path: Path):
    table = pd.DataFrame({"user_id": [7, 8, 9], "items": [[1, 2, 3], [3, 1], []]})
    table.to_parquet(tmp_path / "sequences.parquet")
    loaded = load(tmp_path)
    assert items_of(loaded, "7") == ["1", "2", "3"]
    assert items_of(loaded, "8") == ["3", "1"]
    assert loaded.quarantine.records == [("row 3", "missing item", "")]


def test_csv_and_parquet_give_the_same_sequences(tmp_path: Path):
    table = pd.DataFrame({"session": [1, 1, 2, 2], "product_id": [5, 6, 6, 7], "ts": [4, 3, 2, 1]})
    table.to_csv(tmp_path / "log.csv", index=False, encoding="utf-8-sig")  # a byte order mark, as spreadsheets write it
    table.to_parquet(tmp_path / "log.parquet")
    csv, parquet = load(tmp_path / "log.csv").sequences, load(tmp_path / "log.parquet").sequences
    assert np.array_equal(csv.items, parquet.items)
    assert list(csv.keys) == list(parquet.keys) == ["1", "2"]


def test_columns_may_be_named(tmp_path: Path):
    table = log().rename(columns={"user_id": "who", "item_id": "what", "timestamp": "when"})
    with pytest.raises(UserError, match=r"no user column .* among: who, what, when"):
        from_frame(table)
    assert len(from_frame(table, Columns("who", "what", "when")).sequences) == 2
    assert items_of(from_frame(table.drop(columns="when"), Columns("who", "what", "row")), "b") == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("header.csv", b"user_id,item_id,timestamp\n", "no rows"),
        ("ragged.csv", b"user_id,item_id,timestamp\n1,2,3\n1,2,3,4,5\n", "cannot be read"),
        ("binary.csv", bytes(range(256)) * 4, "cannot be read"),
        ("broken.parquet", b"PAR1 this is no parquet PAR1", "cannot be read"),
        ("notes.txt", b"hello", "not a format"),
        ("wrong.csv", b"a,b\n1,2\n", "no user column"),
        ("nothing.csv", b"user_id,item_id,timestamp\n,,\n,,\n", "nothing usable"),
    ],
)
def test_unreadable_files_end_in_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_unclear_folders_end_in_one_clear_line(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="empty"):
        load(tmp_path)
    for name in ("one.csv", "two.csv"):
        log().to_csv(tmp_path / name)
    with pytest.raises(UserError, match="2 csv or parquet files"):
        load(tmp_path)


def test_a_known_set_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "recsys" / "s3rec_sequences"
    folder.mkdir(parents=True)
    pd.DataFrame({"user_id": [1], "items": [[1, 2, 3]]}).to_parquet(folder / "beauty.parquet")
    monkeypatch.setenv("TACIT_DATA", str(tmp_path))
    with pytest.raises(UserError, match="differs from the published one"):
        load("beauty")
