"""From a raw log to a prepared folder: the same by every engine as in plain Python, whole or not there at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys.prepare
from core.codec import Categories
from core.engines import Engine
from core.errors import UserError
from recsys.clicks import Log
from recsys.data import Columns, Limits, load
from recsys.prepare import Recipe, prepare
from recsys.prepare_speed import large_log, measured
from recsys.prepared import read_prepared
from tests.recsys.reference import expected, random_log
from tests.recsys.test_cli import call

ROOT = Path(__file__).parents[2]
ALL = Recipe(None, "keep", 1, 1, "leave-one-out", limits=Limits(bad=1.0))  # every usable event


def made(engine: Engine, table: pd.DataFrame, folder: Path, recipe: Recipe, form: str = "parquet") -> dict:
    """Writes a table as a raw log, and prepares it."""
    raw = folder / f"log.{form}"
    if form == "csv":
        table.to_csv(raw, index=False)
    else:
        table.to_parquet(raw, index=False)
    return prepare(Log.of(raw), folder / "out", engine, recipe)


def parts(folder: Path) -> dict[str, dict[str, tuple[list[str], list[int]]]]:
    """`key: (items, times)` of every part, as it was written."""
    found = {}
    for path in folder.glob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        found[path.stem] = {row["user_id"]: (row["items"], row["times"]) for row in rows}
        assert len(found[path.stem]) == len(rows)
        assert all(row["start"] == row["times"][0] and row["end"] == row["times"][-1] for row in rows)
    return found


def quarantined(folder: Path) -> dict[int, str]:
    rows = pd.read_csv(folder / "quarantine.csv")
    return {int(where.split()[1]): reason for where, reason in zip(rows["where"], rows["reason"], strict=True)}


def engines(values: Iterable, both: Iterable) -> list:
    """Cases `(engine, value)`: every value by DuckDB, some by Spark too, which takes seconds for what DuckDB does at once."""
    cases = [pytest.param("duckdb", value, id=f"duckdb-{value}") for value in values]
    return cases + [pytest.param("spark", value, id=f"spark-{value}", marks=pytest.mark.spark) for value in both]


@pytest.mark.parametrize(("engine", "seed"), engines(range(6), (2, 3)), indirect=["engine"])
def test_engines_agree_with_plain_python(engine: Engine, seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    recipe = Recipe(
        gap=[5, None, 10, 10, 5, 15][seed],
        repeats="keep" if seed % 3 == 2 else "collapse",
        min_item=1 + seed % 3 * 2,
        min_length=1 + seed % 3,
        split="leave-one-out" if seed in (1, 2) else "time",
        test_share=0.2,
        limits=Limits(longest=6, bad=1.0),
    )
    table = random_log(random, rows=500)
    reference = expected(table, recipe)
    record = made(engine, table, tmp_path, recipe, "csv" if seed % 2 else "parquet")
    assert parts(tmp_path / "out") == reference.parts
    assert quarantined(tmp_path / "out") == reference.bad
    assert len(record["rounds"]) == reference.rounds
    assert record["stages"].get("sessions across a split time, set apart", 0) == reference.across
    assert record["parts"]["train" if recipe.split == "time" else "sequences"]["events"] > 20


HOSTILE = [
    "",
    "x",
    "ä",
    "null",
    "nan",
    " ",
    "0012",
    "7",
    "-2",
    'a,"b"',
    "two\nlines",
    "=1+1",
    "🤦🏽" * 6,
    "y" * 5000,
    "Infinity",
    "<NA>",
]
TIMES = {
    "seconds": ["1700000000", "1700000000.25", " 1700000300 ", "-5", "1.7e9", "17", "1700000000000", "inf", "soon", ""],
    "milliseconds": ["1700000000000", "1700000000001", "1700000000", "1.7e12", "9999999999999", "", "-1"],
    "nanoseconds": ["1700000000123456789", "1700000000123457789", "1700000000000001000", "1700000000", ""],
    "dates": ["2024-01-01", "2024-02-30", "2024-01-01T10:00:00.25Z", "2024-01-01 12:00:00.25+02:00", "1700000000", "1960-01-01", "soon",
              "2024-01-01T10:00:00.000001", "2150-01-01"],
    "a counter": ["1", "2", "3.5", "10", "1700000000", "-1", ""],
}  # fmt: skip


@pytest.mark.parametrize(("engine", "kind"), engines(TIMES, ("seconds", "dates")), indirect=["engine"])
def test_what_is_prepared_is_what_the_raw_file_loads_as(engine: Engine, kind: str, tmp_path: Path) -> None:
    """recsys.data, in pandas, is the second opinion on ids, times and their faults."""
    random = Random(kind)
    times = TIMES[kind][:2] * 8 + TIMES[kind]
    table = pd.DataFrame(
        {
            "user": random.choices([*"ab", "a", *HOSTILE], k=150),
            "item": random.choices([*"cdef", *HOSTILE], k=150),
            "time": random.choices(times, k=150),
        }
    )
    made(engine, table, tmp_path, ALL, "csv")
    raw = load(tmp_path / "log.csv", limits=Limits(bad=1.0))
    assert quarantined(tmp_path / "out") == {int(w.split()[1]): reason for w, reason, _ in raw.quarantine.records}
    ours, theirs = read_prepared(tmp_path / "out").parts["sequences"], raw.sequences
    assert ours.catalogue == theirs.catalogue
    theirs = theirs.select([list(theirs.keys).index(key) for key in ours.keys])
    assert len(ours) == len(raw.sequences) and list(ours.items) == list(theirs.items)
    again = load(tmp_path / "out").sequences  # the folder itself is data for every other command
    assert list(again.items) == list(ours.items) and list(again.keys) == list(ours.keys)


IDS = {
    "whole": pa.array([1, 2, 2, None, 3] * 4, pa.int64()),
    "float": pa.array([1.0, 2.0, 2.0, float("nan"), float("inf")] * 4, pa.float64()),
    "text": pa.array(["1.0", "2.0", "2.0", None, "3.0"] * 4, pa.string()),
    "unsigned": pa.array([1, 2, 2, 3, 2**63 + 5] * 4, pa.uint64()),
}


@pytest.mark.parametrize(("engine", "kind"), engines(IDS, ("float", "unsigned")), indirect=["engine"])
def test_an_id_reads_the_same_whatever_its_type(engine: Engine, kind: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": IDS[kind], "item": ["x", "y"] * 10, "time": range(20)}), tmp_path / "log.parquet")
    prepare(Log.of(tmp_path / "log.parquet"), tmp_path / "out", engine, ALL)
    raw = load(tmp_path / "log.parquet", limits=Limits(bad=1.0))
    assert set(read_prepared(tmp_path / "out").parts["sequences"].keys) == set(raw.sequences.keys)
    assert quarantined(tmp_path / "out") == {int(w.split()[1]): reason for w, reason, _ in raw.quarantine.records}


def test_each_fault_is_named_with_its_row(duckdb: Engine, tmp_path: Path) -> None:
    lines = {
        "a,x,1700000000": "over-long session",
        ",x,1700000001": "missing user",
        "a,null,1700000002": "missing item",
        "a,x,": "missing time",
        "a,x,soon": "unreadable time",
        "a,x,-5": "negative time",
        "a,x,1700000000000": "time in another unit",
        "a,x,17": "absurd time",
        "a,x,1700000000.0": "duplicate row",
        "a,y,1700000010": None,
        "a,x,1700000030,more": "unreadable line",
        "a,x": "unreadable line",
        "a,x,1700000030": None,
    }
    (tmp_path / "log.csv").write_text("user,item,time\n" + "\n".join(lines))
    prepare(Log.of(tmp_path / "log.csv"), tmp_path / "out", duckdb, replace(ALL, limits=Limits(2, 1.0)))
    assert quarantined(tmp_path / "out") == {row: why for row, why in enumerate(lines.values(), 1) if why}
    assert parts(tmp_path / "out")["sequences"]["a"][0] == ["y", "x"]


def test_a_fraction_is_no_id(duckdb: Engine, tmp_path: Path) -> None:
    record = made(duckdb, pd.DataFrame({"user": [1.5, 2, 2], "item": [1, 2.5, 3], "time": range(3)}), tmp_path, ALL)
    assert record["quarantine"] == {"fraction as user": 1, "fraction as item": 1}


CLOCKS = [f"{form} {unit}" for form in ("timestamp", "zoned", "whole") for unit in ("s", "ms", "us", "ns")]


@pytest.mark.parametrize(("engine", "clock"), engines(CLOCKS, ("timestamp ns",)), indirect=["engine"])
def test_times_of_every_unit_keep_their_microseconds(engine: Engine, clock: str, tmp_path: Path) -> None:
    form, unit = clock.split()
    step = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}[unit]
    at = [1_700_000_000_000_000 + step * (n * 7_919_003 % 4_000_037) for n in range(200)]
    counts = [micro * 1000 for micro in at] if unit == "ns" else [micro // step for micro in at]
    kind = pa.int64() if form == "whole" else pa.timestamp(unit, "Europe/Paris" if form == "zoned" else None)
    table = pa.table(
        {"user": ["a"] * 200, "item": [str(n) for n in range(200)], "time": pa.array(counts, pa.int64()).cast(kind)}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    prepare(Log.of(tmp_path / "log.parquet"), tmp_path / "out", engine, ALL)
    assert parts(tmp_path / "out")["sequences"]["a"][1] == sorted(at)


def test_a_pause_as_long_as_the_gap_is_none(duckdb: Engine, tmp_path: Path) -> None:
    table = pd.DataFrame({"user": ["a"] * 4, "item": list("wxyz"), "time": [0, 1800, 3601, 3602]})
    made(duckdb, table, tmp_path, replace(ALL, gap=30))
    found = parts(tmp_path / "out")["sequences"]
    assert {key: items for key, (items, _) in found.items()} == {"a/1": ["w", "x"], "a/2": ["y", "z"]}
    assert list(read_prepared(tmp_path / "out").groups["sequences"]) == ["a", "a"]


def test_ties_break_by_original_row_and_returns_are_no_repeats(duckdb: Engine, tmp_path: Path) -> None:
    table = pd.DataFrame({"user": ["a"] * 6, "item": list("xyyxxz"), "time": [5, 5, 6, 5, 7, 7]}).drop_duplicates()
    made(duckdb, table, tmp_path, replace(ALL, repeats="collapse"))
    assert parts(tmp_path / "out")["sequences"]["a"][0] == ["x", "y", "x", "z"]


def test_only_the_kept_types_of_event_count(duckdb: Engine, tmp_path: Path) -> None:
    raw = tmp_path / "log.csv"
    raw.write_text("user,item,time,event\na,x,1,view\na,y,2,buy\na,z,3,view\na,w\nb,x,4,\n")
    record = prepare(Log.of(raw, kept=("view",)), tmp_path / "out", duckdb, ALL)
    assert parts(tmp_path / "out")["sequences"] == {"a": (["x", "z"], [1_000_000, 3_000_000])}
    assert record["stages"]["rows of other types"] == 2 and record["quarantine"] == {"unreadable line": 1}
    with pytest.raises(UserError, match="no row is of type sale"):
        prepare(Log.of(raw.with_name("log.csv"), kept=("sale",)), tmp_path / "none", duckdb, ALL)


def test_the_k_core_of_a_k_core_is_itself(duckdb: Engine, tmp_path: Path) -> None:
    recipe = replace(ALL, min_item=6, min_length=5)
    first = made(duckdb, random_log(Random(5), users=40, items=30), tmp_path, recipe)
    assert len(first["rounds"]) > 1
    flat = pq.read_table(tmp_path / "out" / "sequences.parquet").to_pandas().explode(["items", "times"])
    table = pd.DataFrame({"user": flat["user_id"], "item": flat["items"], "time": flat["times"].astype("int64")})
    (tmp_path / "again").mkdir()
    second = made(duckdb, table, tmp_path / "again", recipe)
    assert not second["rounds"] and second["parts"] == first["parts"]


def test_held_out_events_change_nothing_of_training(duckdb: Engine, tmp_path: Path) -> None:
    table = random_log(Random(1), rows=600)
    recipe = Recipe(gap=5, repeats="keep", min_item=3, test_share=0.2, limits=Limits(bad=1.0))
    made(duckdb, table, tmp_path, recipe)
    times = read_prepared(tmp_path / "out").record["split"]
    later = (table["timestamp"] >= times["validation"] / 1_000_000) & table["item_id"].notna()
    other = table.assign(item_id=table["item_id"].where(~later, "i13"))
    (tmp_path / "other").mkdir()
    made(duckdb, other, tmp_path / "other", recipe)
    assert parts(tmp_path / "out")["train"] == parts(tmp_path / "other" / "out")["train"]


def test_days_cut_before_the_last_event(duckdb: Engine, tmp_path: Path) -> None:
    day = 86_400
    rows = [
        (f"u{d}{n}", item, 1_700_000_000 + d * day + n * 60 + i)
        for d in range(10)
        for n in range(3)
        for i, item in enumerate("xyz")
    ]
    table = pd.DataFrame(rows, columns=["session", "item", "time"])
    record = made(duckdb, table, tmp_path, Recipe(test_days=2))
    last = table["time"].max()
    assert record["split"]["test"] == (last - 2 * day) * 1_000_000
    assert record["split"]["validation"] == (last - 4 * day) * 1_000_000
    assert record["split"]["in words"]["test"].startswith("2023-11-2")
    found = parts(tmp_path / "out")
    assert {key[1] for key in found["test"]} <= set("789") and {key[1] for key in found["train"]} == set("012345")
    with pytest.raises(UserError, match="the log spans 9"):
        prepare(Log.of(tmp_path / "log.parquet"), tmp_path / "none", duckdb, Recipe(test_days=5))


def test_unseen_targets_are_counted_before_they_go(duckdb: Engine, tmp_path: Path) -> None:
    rows = [(f"s{n}", item, 1_700_000_000 + 1000 * n + i) for n in range(30) for i, item in enumerate("abc")]
    rows += [("new", item, 1_700_090_000 + i) for i, item in enumerate(["a", "unheard", "b", "unheard of"])]
    record = made(duckdb, pd.DataFrame(rows, columns=["session", "item", "time"]), tmp_path, Recipe(test_share=0.1))
    assert record["unseen"]["test"] == {
        "targets": 7, "targets that training never saw": 2, "events dropped": 2, "sessions dropped": 0,
    }  # fmt: skip
    assert parts(tmp_path / "out")["test"]["new"][0] == ["a", "b"]


def test_parts_stand_over_the_catalogue_of_training(duckdb: Engine, tmp_path: Path) -> None:
    made(duckdb, random_log(Random(3), rows=600), tmp_path, Recipe(gap=5, test_share=0.2, limits=Limits(bad=1.0)))
    found = read_prepared(tmp_path / "out")
    raw = parts(tmp_path / "out")
    flat = [item for items, _ in raw["train"].values() for item in items]
    assert found.catalogue == Categories.fit(flat)
    for name, sequences in found.parts.items():
        assert sequences.catalogue == found.catalogue and (sequences.items > 2).all()
        assert list(sequences.catalogue.decode(sequences.items)) == [
            i for items, _ in raw[name].values() for i in items
        ]
        assert list(found.groups[name]) == [key.rpartition("/")[0] for key in sequences.keys]
        assert (found.starts[name] <= found.ends[name]).all()
    assert load(tmp_path / "out").file.name == "train.parquet"


def test_attributes_of_the_catalogues_items_alone(duckdb: Engine, tmp_path: Path) -> None:
    table = pd.DataFrame({"user": list("aabb"), "item": [1, 2, 1, 2], "time": range(4)})
    table.to_parquet(tmp_path / "log.parquet")
    items = tmp_path / "items.csv"
    items.write_text("item,brand\n1,acme\n1,again\n9,other\n,none\n")
    log = Log.of(tmp_path / "log.parquet")
    record = prepare(log, tmp_path / "out", duckdb, ALL, items)
    assert list(record["attributes"].values()) == [4, 2, 1, 1]
    found = read_prepared(tmp_path / "out").attributes
    assert found is not None and pd.read_parquet(found).to_dict("list") == {"item_id": ["1"], "brand": ["acme"]}
    items.write_text("item\n1\n")
    with pytest.raises(UserError, match="no attribute beside the item"):
        prepare(log, tmp_path / "out", duckdb, ALL, items)


def test_parts_of_a_log_are_numbered_through(duckdb: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "log.parquet"
    folder.mkdir()
    for part in range(3):
        table = pd.DataFrame({"user": ["a"] * 3, "item": list("xyz"), "time": [part, None, part]})
        table.to_parquet(folder / f"{part}.parquet")
    record = prepare(Log.of(folder), tmp_path / "out", duckdb, ALL)
    assert list(quarantined(tmp_path / "out")) == [2, 5, 8] and len(record["raw"]) == 3
    pd.DataFrame({"user": ["a"]}).to_parquet(folder / "3.parquet")
    with pytest.raises(UserError, match="the parts have different columns"):
        prepare(Log.of(folder), tmp_path / "none", duckdb, ALL)


SOUND = "user,item,time\n" + "".join(f"u{n % 5},i{n % 3},{1_700_000_000 + n * 600}\n" for n in range(60))


@pytest.mark.parametrize(
    ("text", "flags", "says"),
    [
        ("user,item\na,x\n", (), "no time column"),
        ("", (), "is empty"),
        ("user,item,time\n", (), "has no rows"),
        ("user,item,time\na,x,-1\n", (), "nothing usable is left (negative time 1)"),
        ("user,item,time\na,x,1\na,x,1\na,x,1\na,x,1\n", (), "3 of 4 rows had to be set aside"),
        ('user,item,time\na,"x,1\n', (), "a quotation is never closed"),
        ("user,item,time\na,x,1\n", ("--split", "leave-one-out", "--min-item", 1), "every session has fewer than 2 events"),
        ("user,item,time\na,x,1\nb,y,2\n", (), "there are 2 sessions"),
        (SOUND, ("--split", "leave-one-out", "--min-item", 40), "give a smaller --min-item"),
        (SOUND, (), "that end in validation or test, 2 began before it"),
        (SOUND, ("--gap", 0), "the gap is 0"),
        (SOUND, ("--test-share", 0.5), "test-share is 0.5"),
        (SOUND, ("--min-length", 0), "min_length is 0"),
        (SOUND, ("--time", "row"), "rows' own order is no time"),
        (SOUND, ("--keep", "view"), "no event column"),
        (SOUND, ("--memory", 0.1), "are too little"),
        (SOUND, ("--longest", 1), "longest is 1"),
        (SOUND, ("--attributes", "nowhere.csv", "--gap", 5, "--min-length", 1), "no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(
    text: str, flags: tuple, says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    raw = tmp_path / "log.csv"
    raw.write_text(text)
    assert call("prepare", "--data", raw, "--out", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1], error[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_by_command_alone_and_over_what_it_wrote_itself(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw, out = tmp_path / "data", tmp_path / "out"
    assert call("synth", "--out", raw, "--size", 300) == 0
    assert call("prepare", "--data", raw, "--out", out, "--gap", 30) == 0
    assert "no leaks" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        "prepared.json", "quarantine.csv", "test.parquet", "train.parquet", "validation.parquet",
    ]  # fmt: skip
    assert call("prepare", "--data", raw, "--out", out, "--split", "leave-one-out") == 0
    assert sorted(p.name for p in out.iterdir()) == ["prepared.json", "quarantine.csv", "sequences.parquet"]
    assert json.loads((out / "prepared.json").read_text())["audit"]["leaks"] == 0
    assert call("check", "--data", out, "--out", tmp_path) == 0
    for place, says in ((raw, "there is something else"), (tmp_path, "there is something else")):
        assert call("prepare", "--data", raw, "--out", place) == 2
        assert says in capsys.readouterr().err


def test_a_failed_run_leaves_what_was_there(duckdb: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(duckdb, random_log(Random(0)), tmp_path, ALL)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def leak(folder: Path) -> dict:
        raise UserError("a leak")

    monkeypatch.setattr(recsys.prepare, "audit", leak)
    with pytest.raises(UserError, match="a leak"):
        made(duckdb, random_log(Random(1)), tmp_path, ALL)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "scratch") == ["log.parquet", "out"]


def test_a_killed_run_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    random_log(Random(0)).to_parquet(tmp_path / "log.parquet")
    script = (
        "import os, signal, sys, recsys.prepare\nfrom recsys.cli import main\n"
        "recsys.prepare.audit = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "prepare",
        "--data",
        str(tmp_path / "log.parquet"),
        "--out",
        str(tmp_path / "out"),
        "--gap",
        "5",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".out.*.tmp"))  # all but the name was there


def test_the_log_that_speed_is_measured_on_is_what_it_says(tmp_path: Path) -> None:
    log = large_log(tmp_path / "speed", 20_000)
    seconds, peak = measured(log)
    record = read_prepared(log.parent / "prepared").record
    assert seconds > 0 and 0.05 < peak < 4
    assert 0 < record["quarantine"]["duplicate row"] < 60
    assert 3 < record["stages"]["events in sessions"] / record["stages"]["sessions"] < 6


def test_a_column_may_be_named(duckdb: Engine, tmp_path: Path) -> None:
    table = pd.DataFrame({"who": list("aabb"), "what": list("xyxy"), "when": [3, 1, 2, 4], "item": ["no"] * 4})
    table.to_parquet(tmp_path / "log.parquet")
    log = Log.of(tmp_path / "log.parquet", Columns("who", "what", "when"))
    prepare(log, tmp_path / "out", duckdb, ALL)
    assert parts(tmp_path / "out")["sequences"]["a"] == (["y", "x"], [1_000_000, 3_000_000])
