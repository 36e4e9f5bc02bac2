"""A drafted schema names what a reader of the table would name, says why, and can be used as it stands."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from finance.data import read
from finance.draft import draft
from finance.schema import Schema
from finance.synthetic import World, generate

ROLES = {"entity": "card", "time": "time", "amount": "amount", "counterparty": "terminal", "label": "fraud",
         "scenario": "scenario", "id": "transaction"}  # fmt: skip


def drafted(frame: pd.DataFrame, path: Path) -> dict:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return tomllib.loads(draft(path))


@pytest.mark.parametrize("file", ["log.csv", "log.parquet"])
def test_a_generated_log_can_be_read_with_its_draft(tmp_path: Path, file: str) -> None:
    found = drafted(generate(World(cards=50, days=30, leaked=12.0)), tmp_path / file)
    assert {key: found.get(key) for key in ROLES} == ROLES
    assert found["categorical"] == ["terminal", "channel"] and found["numeric"] == []
    table = read(tmp_path / file, Schema.from_dict(found))
    assert not len(table.quarantine) and table.labelled


def export(rows: int = 400) -> pd.DataFrame:
    """Columns as exports of card processors have them, with names that are not ours."""
    random = np.random.default_rng(0)
    when = pd.Timestamp("2024-03-01") + pd.to_timedelta(np.sort(random.integers(0, 10**6, rows)), unit="s")
    return pd.DataFrame(
        {
            "seq": np.arange(rows),
            "trans_num": [f"{i:032x}" for i in random.permutation(rows)],
            "trans_date": when.strftime("%Y-%m-%d %H:%M:%S"),
            "fraudReportedAt": (when + pd.Timedelta(days=3)).strftime("%Y-%m-%d %H:%M:%S"),
            "cc_num": random.integers(4 * 10**15, 4 * 10**15 + 30, rows),
            "merchantName": random.choice(["Ada & Co", "Bern Ltd", "Cato", "Dido"], rows),
            "AMT": random.lognormal(3, 1, rows).round(2),
            "ccy": random.choice(["EUR", "USD"], rows),
            "purpose": [f"order {i} at the till" for i in range(rows)],
            "mcc": random.choice([5411, 5812, 6011], rows),
            "distance": random.random(rows),
            "branch": "main",
            "dob": "1980-02-03",
            "entity": random.choice(["x", "y"], rows),
            "isFraud": random.choice([0, 1], rows, p=[0.9, 0.1]),
        }
    )


def test_roles_are_found_by_names_and_values(tmp_path: Path) -> None:
    found = drafted(export(), tmp_path / "export.csv")
    assert found == {
        "entity": "cc_num", "time": "trans_date", "amount": "AMT", "counterparty": "merchantName", "currency": "ccy",
        "text": "purpose", "label": "isFraud", "label_time": "fraudReportedAt", "id": "trans_num",
        "categorical": ["merchantName", "ccy", "mcc"], "numeric": ["distance"],
    }  # fmt: skip
    assert not len(read(tmp_path / "export.csv", Schema.from_dict(found)).quarantine)


def test_each_guess_says_why_without_a_value_and_what_was_left_out(tmp_path: Path) -> None:
    export().to_csv(tmp_path / "export.csv", index=False)
    text = draft(tmp_path / "export.csv", "export.csv")
    lines = text.splitlines()
    assert 'entity = "cc_num"  # 30 values, each in 13.3 rows on average; its name says so' in lines
    assert '# left out: "seq", never falls from row to row: a clock or a counter' in lines
    assert '# left out: "entity", called like a role: rename it to use it' in lines
    assert '# left out: "branch", one value at most' in lines
    assert any(line.startswith("# zone =") for line in lines)
    assert "Ada" not in text and "4000000000000000" not in text and "order" not in text


def test_what_is_not_found_is_left_open_and_refused_with_its_name(tmp_path: Path) -> None:
    found = drafted(pd.DataFrame({"a": ["x", "y", "x"], "b": [1.5, 2.5, 3.5]}), tmp_path / "log.parquet")
    assert found["entity"] == "" and found["time"] == "" and found["amount"] == "b"
    with pytest.raises(UserError, match="must name the column 'entity'"):
        Schema.from_dict(found)


def test_odd_names_and_empty_tables_still_give_toml(tmp_path: Path) -> None:
    odd = pd.DataFrame({'a "b"\n# c': ["x", "y"] * 5, "\x7f=1": [0.5] * 10, "é": [None] * 10})
    assert drafted(odd, tmp_path / "odd.parquet")["categorical"] == ['a "b"\n# c']
    (tmp_path / "empty.csv").write_text("card,time,amount\n")
    assert tomllib.loads(draft(tmp_path / "empty.csv"))["entity"] == ""
