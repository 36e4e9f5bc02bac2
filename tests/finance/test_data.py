from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from finance.data import DAY, Schema, Transactions, read, validate
from finance.zones import to_utc

SCHEMA = Schema(
    entity="card", time="time", amount="amount", categorical=("shop",), numeric=("risk",), label="fraud", id="id"
)


def rows(**columns: list) -> pd.DataFrame:
    """Four good rows, with the columns given put in their place."""
    good = {
        "id": ["a", "b", "c", "d"],
        "card": ["x", "x", "y", "y"],
        "time": ["2024-01-01T10:00:00", "2024-01-01T11:00:00", "2024-01-02T09:00:00", "2024-01-03T09:30:00"],
        "amount": [10.0, 20.0, 5.0, 7.5],
        "shop": ["s", "t", "s", "u"],
        "risk": [0.1, 0.2, 0.3, 0.4],
        "fraud": [0, 1, 0, 0],
    }
    return pd.DataFrame(good | columns)


def table(**columns: list) -> Transactions:
    return validate(rows(**columns), SCHEMA)


TOML = 'entity = "card"\ntime = "time"\namount = "amount"\ncategorical = ["shop"]\nnumeric = ["risk"]\nlabel = "fraud"\nid = "id"\n'


def folder_with(path: Path, text: str | None, schema: str = TOML, name: str = "log.csv") -> Path:
    path.mkdir(exist_ok=True)
    (path / "schema.toml").write_text(schema)
    if text is not None:
        (path / name).write_text(text)
    return path


def test_good_rows_are_all_kept_in_time_order():
    data = validate(rows().iloc[::-1], SCHEMA)
    assert len(data) == 4 and len(data.quarantine) == 0
    assert data.frame["id"].tolist() == ["a", "b", "c", "d"]
    assert (np.diff(data.time) >= 0).all()


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("card", [None, "x", "y", "y"], "entity is missing"),
        ("time", ["yesterday", "2024-01-01", "2024-01-02", "2024-01-03"], "time is missing or unreadable"),
        ("time", [None, "2024-01-01", "2024-01-02", "2024-01-03"], "time is missing or unreadable"),
        ("amount", [np.nan, 1, 2, 3], "amount is not a finite number"),
        ("amount", [np.inf, 1, 2, 3], "amount is not a finite number"),
        ("amount", ["ten", "1", "2", "3"], "amount is not a finite number"),
        ("risk", [-np.inf, 1, 2, 3], "number is infinite or unreadable"),
        ("risk", ["high", "1", "2", "3"], "number is infinite or unreadable"),
        ("fraud", [2, 0, 1, 0], "label is neither 0 nor 1"),
        ("fraud", ["maybe", "0", "1", "0"], "label is neither 0 nor 1"),
        ("id", [None, "b", "c", "d"], "id is missing"),
        ("id", ["", "b", "c", "d"], "id is missing"),
        ("id", [0.5, 1.0, 2.0, 3.0], "id is a fraction"),
        ("card", [2.0**60, 1.0, 2.0, 2.0], "entity is a fraction"),
        ("card", ["x" * 1001, "x", "y", "y"], "text is longer than 1000 characters"),
        ("shop", ["é" * 1001, "s" * 1000, "y", "y"], "text is longer than 1000 characters"),
        ("time", ["2999-01-01", "2024-01-01", "2024-01-02", "2024-01-03"], "time lies in the future"),
        ("time", ["2024-02-30", "2024-01-01", "2024-01-02", "2024-01-03"], "time is missing or unreadable"),
        ("time", ["2024-01-01T10:00", *["2024-01-01T10:00Z"] * 3], "time has no zone, while others of the column do"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason_and_the_others_stay(column, values, reason):
    data = table(**{column: values})
    assert len(data) == 3
    assert data.quarantine.records == [("row 0", reason, f"column {column}")]


def test_of_rows_with_one_id_the_first_is_kept():
    data = table(id=["a", "b", "a", "a"])
    assert data.frame["row"].tolist() == [0, 1]
    assert data.quarantine.counts() == {"id occurs twice; the first is kept": 2}


def test_a_bad_first_row_does_not_take_its_id_from_a_good_one():
    data = table(id=["a", "a", "c", "d"], amount=[np.nan, 1, 2, 3])
    assert data.frame["row"].tolist() == [1, 2, 3]


def test_a_missing_number_category_or_label_is_no_fault():
    data = table(risk=[np.nan, 1, 2, 3], shop=[None, "t", "s", "u"], fraud=[None, 1, 0, 0])
    assert len(data) == 4
    assert data.label.tolist() == [-1, 1, 0, 0]
    assert np.isnan(data.frame["risk"].iloc[0])


def test_offsets_are_read_as_utc_and_numbers_as_seconds():
    data = table(time=["2024-01-01T01:00:00+02:00", "2024-01-01T00:00:00Z", "2024-01-02 00:00+00", "2024-01-03T00:00Z"])
    assert len(data) == 4
    assert data.time[0] == pd.Timestamp("2023-12-31T23:00:00").timestamp()
    assert table(time=[5.0, 6.0, 7.0, 8.0]).time.tolist() == [5, 6, 7, 8]
    assert table(time=[5.0, 6.0, 7.0, np.inf]).quarantine.counts() == {"time is missing or unreadable": 1}


def test_csv_keeps_leading_zeros_and_the_country_na(tmp_path):
    text = "id,card,time,amount,shop,risk,fraud\n1,007,2024-01-01,5,NA,,0\n2,7,2024-01-02,6,,1,\n"
    data = read(folder_with(tmp_path / "d", text))
    assert data.frame["entity"].tolist() == ["007", "7"]
    assert data.frame["shop"].iloc[0] == "NA" and data.frame["shop"].isna().tolist() == [False, True]
    assert data.label.tolist() == [0, -1]


def test_csv_and_parquet_read_the_same(tmp_path):
    csv, parquet = folder_with(tmp_path / "a", rows().to_csv(index=False)), folder_with(tmp_path / "b", None)
    rows().to_parquet(parquet / "log.parquet")
    a, b = read(csv), read(parquet)
    pd.testing.assert_frame_equal(a.frame, b.frame, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "schema", "says"),
    [
        ("", TOML, "the file is empty"),
        ("id,card,time,amount,shop,risk,fraud\n", TOML, "no rows"),
        ("id,card,time,shop,risk,fraud\n1,2,3,4,5,0\n", TOML, "column 'amount' is missing"),
        ("id,card,time,amount,shop,risk,fraud\n1,x,never,1,s,1,0\n", TOML, "no usable row is left"),
        ('a,"b\n1,2,3\n', TOML, "cannot be read"),
        (None, TOML, "holds no csv or parquet"),
        ("x", "entity = ", "not valid TOML"),
        ("x", 'entity = "card"\n', "must name the column 'time'"),
        ("x", TOML + 'colour = "red"\n', "unknown key 'colour'"),
        ("x", TOML.replace('["risk"]', '["shop"]'), "has two roles"),
        ("x", TOML.replace('["risk"]', "3"), "must be a list"),
        ("x", TOML + "label_delay_days = -1\n", "0 or more"),
        ("x", TOML + 'file = "../../elsewhere.csv"\n', "outside its folder"),
    ],
)
def test_unusable_input_is_one_line_that_says_what_and_where(tmp_path, text, schema, says):
    with pytest.raises(UserError, match=says) as error:
        read(folder_with(tmp_path / "d", text, schema))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_parquet_that_is_none_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read(folder_with(tmp_path / "d", "not parquet", name="log.parquet"))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "log.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match="there is no schema"):
        read(tmp_path / "e")


def test_labels_may_be_absent_where_none_are_needed(tmp_path):
    place = folder_with(tmp_path / "d", rows().drop(columns="fraud").to_csv(index=False))
    assert not read(place, labels=False).labelled
    with pytest.raises(UserError, match="column 'fraud' is missing"):
        read(place)


def test_a_schema_survives_json():
    assert Schema.from_dict(SCHEMA.json()) == SCHEMA


BRUSSELS = replace(SCHEMA, zone="Europe/Brussels")


def test_a_zone_is_that_of_times_that_name_none():
    data = validate(
        rows(time=["2024-07-01T12:00", "2024-12-01T12:00", "2024-12-01T12:00Z", "2024-03-31T02:30"]), BRUSSELS
    )
    stamps = pd.to_datetime(data.frame.set_index("id")["time"], unit="s")
    assert stamps["a"] == pd.Timestamp("2024-07-01T10:00") and stamps["b"] == pd.Timestamp("2024-12-01T11:00")
    assert stamps["c"] == pd.Timestamp("2024-12-01T12:00")
    assert stamps["d"] == pd.Timestamp("2024-03-31T01:30")  # a time that the clocks left out


@pytest.mark.parametrize("zone", ["Europe/Brussels", "America/St_Johns", "Africa/Casablanca", "Asia/Kolkata", "UTC"])
def test_offsets_are_those_of_zoneinfo(zone):
    local = np.random.default_rng(0).integers(0, 4_000_000_000, 500)
    theirs = [
        datetime.fromtimestamp(int(t), UTC).replace(tzinfo=ZoneInfo(zone)).timestamp() for t in local
    ]  # fold=0, as ours
    assert to_utc(local, zone).tolist() == theirs


def test_a_label_is_known_when_the_table_says_else_after_the_delay():
    schema = replace(SCHEMA, label_time="known")
    given = ["2024-01-05T00:00:00", None, "2023-12-01", "soon"]
    data = validate(rows(known=given), schema)
    assert data.label_time.tolist() == [pd.Timestamp(given[0]).timestamp(), data.time[1] + 7 * DAY]
    assert data.quarantine.counts() == {"label time is before the transaction": 1, "label time is unreadable": 1}


def test_an_entity_with_absurdly_many_events_is_set_aside_whole():
    data = validate(rows(card=["x", "x", "x", "y"]), replace(SCHEMA, max_events=2))
    assert data.frame["entity"].tolist() == ["y"]
    assert data.quarantine.counts() == {"entity has more than 2 transactions": 3}


def test_the_future_may_be_allowed():
    late = rows(time=["2999-01-01", "2024-01-01", "2024-01-02", "2024-01-03"])
    assert len(validate(late, replace(SCHEMA, future=True))) == 4


def test_row_numbers_of_the_table_are_kept_and_break_ties():
    same = ["2024-01-01"] * 4
    data = validate(rows(row=[30, 10, 20, 5], time=same, amount=[1, 2, 3, np.nan]), replace(SCHEMA, row="row"))
    assert data.frame["row"].tolist() == [10, 20, 30]
    assert data.quarantine.records == [("row 5", "amount is not a finite number", "column amount")]
    with pytest.raises(UserError, match="row numbers"):
        validate(rows(row=[1, 1, 2, 3]), replace(SCHEMA, row="row"))


def test_large_ids_with_a_gap_keep_their_last_digits(tmp_path):
    place = folder_with(tmp_path / "d", None)
    ids = pd.array([2**60 + 1, 2**60 + 2, None, 4], dtype="Int64")
    rows(id=ids).to_parquet(place / "log.parquet")
    assert read(place).frame["id"].tolist() == [2**60 + 1, 2**60 + 2, 4]


def test_a_folder_of_parts_is_one_table(tmp_path):
    place = folder_with(tmp_path / "d", None)
    (place / "log.parquet").mkdir()
    rows().iloc[2:].to_parquet(place / "log.parquet" / "part-1.parquet")
    rows().iloc[:2].to_parquet(place / "log.parquet" / "part-0.parquet")
    assert read(place).frame["id"].tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"zone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"max_events": 0}, "whole number, 1 or more"),
        ({"future": 1}, "true or false"),
        ({"categorical": ["shop", "entity"]}, "cannot be called 'entity'"),
        ({"currency": "time"}, "two roles"),
        ({"text": "shop"}, "two roles"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(extra, says):
    with pytest.raises(UserError, match=says):
        Schema.from_dict({**SCHEMA.json(), **extra})


def test_a_counterparty_may_be_a_category_too_and_toml_says_the_same_again(tmp_path):
    schema = replace(SCHEMA, counterparty="shop", zone="Europe/Brussels", file='odd "name" \x7f.csv')
    (tmp_path / "s.toml").write_text(schema.toml(), encoding="utf-8")
    assert Schema.read(tmp_path / "s.toml") == schema
    assert validate(rows(shop=[1, 2, 3, 4]), schema).frame["counterparty"].tolist() == ["1", "2", "3", "4"]


def test_a_column_of_a_type_that_its_role_cannot_have_is_refused(tmp_path):
    place = folder_with(tmp_path / "d", None)
    rows(shop=pd.to_datetime(["2024-01-01"] * 4)).to_parquet(place / "log.parquet")
    with pytest.raises(UserError, match="'shop' holds timestamps, which cannot be categorical"):
        read(place)
