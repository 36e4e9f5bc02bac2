from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from finance.data import Schema, Transactions, read, validate

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
    data = table(time=["2024-01-01T01:00:00+02:00", "2024-01-01T00:00:00Z", "2024-01-02", "2024-01-03"])
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
