from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.engines import Engine
from core.errors import UserError
from finance.data import Transactions, load, read, validate
from finance.features import handbook_features
from finance.prepare import Prepared, check_place, prepare
from finance.prepare_speed import large_log, measured
from finance.schema import Schema
from finance.source import source
from finance.synthetic import World, generate
from tests.finance.hostile import NOW, SCHEMA, csv_log, parquet_log
from tests.finance.test_cli import tacit_finance


def prepared(engine: Engine, path: Path, schema: Schema, out: Path) -> Prepared:
    return prepare(source(path, schema), out, engine, NOW)


def same(path: Path, schema: Schema, out: Path) -> None:
    """What was prepared in `out` is what pandas makes of the raw file: values, order, row numbers, quarantine and features."""
    raw = validate(load(source(path, schema)), schema, NOW)
    if len(raw.quarantine):
        raw.quarantine.write(out / "expected.csv")
        assert (out / "quarantine.csv").read_text().splitlines() == (out / "expected.csv").read_text().splitlines()
    else:
        assert not (out / "quarantine.csv").exists()
    if len(raw):
        again = read(out)
        assert not len(again.quarantine)
        pd.testing.assert_frame_equal(plain(again), plain(raw))
        ours, theirs = handbook_features(again), handbook_features(raw)
        assert ours.names == theirs.names and np.array_equal(ours.values, theirs.values, equal_nan=True)


def plain(table: Transactions) -> pd.DataFrame:
    """Values alone: an engine may give text or whole numbers another type of pandas."""
    return (
        table.frame.astype(object).where(table.frame.notna(), None).map(lambda v: v.item() if hasattr(v, "item") else v)
    )


def check(engine: Engine, path: Path, schema: Schema, out: Path) -> None:
    try:
        made = prepared(engine, path, schema, out)
    except UserError as error:
        assert "no usable row is left" in str(error)
        same(path, schema, out)
    else:
        same(path, schema, out)
        assert made.rows == len(read(out))


@pytest.mark.parametrize("seed", range(3))
def test_engines_agree_with_pandas_on_hostile_csv(engine: Engine, seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    schema = replace(SCHEMA, zone="Europe/Brussels", future=True, max_text=10_000) if seed % 2 else SCHEMA
    lines = csv_log(random).to_csv(index=False, lineterminator="\r\n").split("\r\n")
    for line in ("few", "too,many" * 12, ""):
        lines.insert(random.randrange(1, len(lines)), line)
    (tmp_path / "log.csv").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    check(engine, tmp_path / "log.csv", schema, tmp_path / "out")


@pytest.mark.parametrize("seed", range(3))
def test_engines_agree_with_pandas_on_hostile_parquet(engine: Engine, seed: int, tmp_path: Path) -> None:
    pq.write_table(parquet_log(Random(seed)), tmp_path / "log.parquet")
    check(engine, tmp_path / "log.parquet", replace(SCHEMA, zone="America/New_York"), tmp_path / "out")


def test_ties_break_by_original_row_and_what_is_prepared_again_stays_as_it_is(engine: Engine, tmp_path: Path) -> None:
    log = pd.DataFrame(
        {"id": range(4), "card": ["b", "a", "b", "a"], "time": ["2024-01-01"] * 4, "amount": [1.0, 2.0, None, 4.0]}
    )
    log.to_csv(tmp_path / "log.csv", index=False)
    schema = Schema(entity="card", time="time", amount="amount", id="id")
    first = prepared(engine, tmp_path / "log.csv", schema, tmp_path / "one")
    assert first.faults == {"amount is not a finite number": 1} and first.rows == 3
    assert pd.read_parquet(tmp_path / "one" / "transactions.parquet")["row"].tolist() == [1, 3, 0]
    assert read(tmp_path / "one").frame["row"].tolist() == [0, 1, 3]
    again = prepare(source(tmp_path / "one"), tmp_path / "two", engine)
    assert again.rows == 3 and not again.faults
    pd.testing.assert_frame_equal(plain(read(tmp_path / "two")), plain(read(tmp_path / "one")))


def test_a_log_without_a_usable_row_leaves_the_quarantine_and_what_was_there(engine: Engine, tmp_path: Path) -> None:
    schema = Schema(entity="card", time="time", amount="amount")
    good = pd.DataFrame({"card": ["a"], "time": [5], "amount": [1.0]})
    good.to_parquet(tmp_path / "log.parquet")
    prepared(engine, tmp_path / "log.parquet", schema, tmp_path / "out")
    good.assign(amount=float("nan")).to_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match="no usable row"):
        prepared(engine, tmp_path / "log.parquet", schema, tmp_path / "out")
    assert len(read(tmp_path / "out")) == 1
    assert "amount is not a finite number" in (tmp_path / "out" / "quarantine.csv").read_text()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "quarantine.csv",
        "schema.toml",
        "transactions.parquet",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("card,time,amount,Amount\na,5,1,2\n", "differ in case alone"),
        ("card,time,amount\na,5,1,2,3\n", "no usable row"),
        ('card,time,amount\na,5,"1\n', "a quotation is never closed"),
        ("card,time,amount\na,5," + "1" * 2**25, "cannot be read"),
        ("card,time\na,5\n", "'amount' is missing"),
    ],
)
def test_a_file_that_cannot_be_prepared_is_one_line(engine: Engine, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(UserError, match=says) as error:
        prepared(engine, tmp_path / "log.csv", Schema(entity="card", time="time", amount="amount"), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_from_a_raw_file_to_a_prepared_folder_by_commands_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw, out = tmp_path / "raw" / "transactions.csv", tmp_path / "out"
    log = generate(World(cards=20, days=20))
    log.loc[5, "amount"] = np.nan
    raw.parent.mkdir()
    log.to_csv(raw, index=False)
    assert tacit_finance("schema", raw) == 0
    assert 'entity = "card"' in capsys.readouterr().out
    assert tacit_finance("schema", raw, "--out", raw.parent / "schema.toml") == 0
    assert tacit_finance("prepare", "--data", raw.parent, "--out", out) == 0
    said = capsys.readouterr()
    assert "1 × amount is not a finite number" in said.out and f"{len(log) - 1} rows" in said.out
    assert sorted(p.name for p in out.iterdir()) == ["quarantine.csv", "schema.toml", "transactions.parquet"]
    assert tacit_finance("check", "--data", out) == 0
    table = read(out)
    assert table.frame["row"].tolist() == [i for i in range(len(log)) if i != 5]
    assert table.frame["id"].tolist() == log["transaction"].drop(5).astype(str).tolist()
    # again, over what it wrote itself; and with new data, which has no labels yet
    log.drop(columns=["fraud", "scenario"]).to_csv(raw, index=False)
    assert tacit_finance("prepare", "--data", raw.parent, "--out", out) == 0
    assert "without fraud, scenario" in capsys.readouterr().err
    assert not read(out).labelled


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["schema", "RAW", "--out", "OTHER"], "there is a file already"),
        (["schema", "nothing.csv"], "no such file"),
        (["prepare", "--data", "RAW", "--out", "FOLDER"], "the raw table stands there"),
        (["prepare", "--data", "RAW", "--schema", "OTHER", "--out", "new", "--memory", "0.1"], "are too little"),
        (["prepare", "--data", "RAW", "--out", "new"], "there is no schema"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    raw, other = tmp_path / "raw" / "transactions.parquet", tmp_path / "other.toml"
    raw.parent.mkdir()
    pd.DataFrame({"card": ["a"], "time": [5], "amount": [1.0]}).to_parquet(raw)
    other.write_text('entity = "card"\ntime = "time"\namount = "amount"\n')
    places = {"RAW": raw, "FOLDER": raw.parent, "OTHER": other}
    if says == "the raw table stands there":
        arguments = [*arguments, "--schema", str(other)]
    before = raw.read_bytes(), other.read_bytes()
    assert tacit_finance(*[places.get(a, a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1] and len(error) == 1
    assert (raw.read_bytes(), other.read_bytes()) == before


def test_another_table_in_the_place_is_never_replaced(tmp_path: Path) -> None:
    raw = pd.DataFrame({"card": ["a"], "time": [5], "amount": [1.0]})
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        raw.to_parquet(tmp_path / name / "transactions.parquet")
        (tmp_path / name / "schema.toml").write_text('entity = "card"\ntime = "time"\namount = "amount"\n')
    with pytest.raises(UserError, match="the raw table stands there"):
        check_place(source(tmp_path / "one"), tmp_path / "two")


def test_parts_that_do_not_fit_together_are_one_line(engine: Engine, tmp_path: Path) -> None:
    parts = tmp_path / "log.parquet"
    parts.mkdir()
    log = pd.DataFrame({"card": ["a"] * 9, "time": range(9), "amount": [1.0] * 9})
    log.to_parquet(parts / "0.parquet")
    log.drop(columns="amount").to_parquet(parts / "1.parquet")
    with pytest.raises(UserError, match="could not read or write all rows") as error:
        prepared(engine, parts, Schema(entity="card", time="time", amount="amount"), tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


def test_rows_of_parts_are_numbered_through(engine: Engine, tmp_path: Path) -> None:
    parts = tmp_path / "log.parquet"
    parts.mkdir()
    for part in range(3):
        numbers = range(part * 5000, part * 5000 + 5000)
        log = pd.DataFrame({"card": ["ab"[i % 2] for i in numbers], "time": 5, "amount": [float(i) for i in numbers]})
        log.to_parquet(parts / f"{part}.parquet", row_group_size=1000)
    prepared(engine, parts, Schema(entity="card", time="time", amount="amount"), tmp_path / "out")
    table = read(tmp_path / "out")
    assert table.frame["row"].tolist() == table.amount.astype(int).tolist() == list(range(15_000))


def test_the_log_that_speed_is_measured_on_is_sound(tmp_path: Path) -> None:
    place = large_log(tmp_path, 3000)
    seconds, peak = measured(str(place))
    assert len(read(place)) == 3000 and seconds > 0 and 0.05 < peak < 4
