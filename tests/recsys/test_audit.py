"""The leak audit: one leak planted at a time in a folder that was sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.engines import DuckDB
from core.errors import UserError
from recsys.audit import audit
from recsys.clicks import Log
from recsys.prepare import Recipe, prepare
from recsys.prepared import SCHEMA, read_prepared

Rows = dict[str, list[dict]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty sessions, one after the other, of eight items."""
    folder = tmp_path_factory.mktemp("audit")
    rows = [(f"u{n}", f"i{(n + i) % 8}", 1_700_000_000 + 100 * n + i) for n in range(40) for i in range(4)]
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_parquet(folder / "log.parquet")
    with closing(DuckDB(0.5, folder / "scratch", threads=1)) as engine:
        prepare(Log.of(folder / "log.parquet"), folder / "out", engine, Recipe(min_item=3))
    return folder / "out"


def read(folder: Path) -> Rows:
    return {path.stem: pq.read_table(path).to_pylist() for path in folder.glob("*.parquet")}


def write(folder: Path, rows: Rows) -> None:
    """Writes parts, and a record that counts them, as one who leaks unknowingly would."""
    record = json.loads((folder / "prepared.json").read_text())
    for name, part in rows.items():
        pq.write_table(pa.Table.from_pylist(part, SCHEMA), folder / f"{name}.parquet")
        items = [item for row in part for item in row["items"]]
        record["parts"][name] = {"sequences": len(part), "events": len(items), "items": len(set(items))}
    (folder / "prepared.json").write_text(json.dumps(record))


def late(rows: Rows) -> None:
    """A training session is moved to the time of the test's first event."""
    row, start = rows["train"][0], rows["test"][0]["start"]
    row["times"] = [start + n for n in range(len(row["times"]))]
    row["start"], row["end"] = row["times"][0], row["times"][-1]


def same_session(rows: Rows) -> None:
    rows["test"][0]["user_id"] = rows["train"][0]["user_id"]


def same_row(rows: Rows) -> None:
    twin = rows["test"][0]
    rows["train"].append({**twin, "user_id": "another name"})


def same_row_in_validation(rows: Rows) -> None:
    rows["test"].append({**rows["validation"][0], "user_id": "another name"})


def core_of_all(rows: Rows) -> None:
    """An item that is frequent enough only with the test's events."""
    rows["train"][0]["items"][0] = "rare"
    rows["test"][0]["items"][0] = rows["test"][1]["items"][0] = "rare"


def short(rows: Rows) -> None:
    row = rows["train"][0]
    row["items"], row["times"], row["end"] = row["items"][:1], row["times"][:1], row["start"]


def unseen(rows: Rows) -> None:
    rows["test"][0]["items"][1] = "never seen"


def out_of_order(rows: Rows) -> None:
    rows["train"][3]["times"][1:3] = rows["train"][3]["times"][2:0:-1]


def other_start(rows: Rows) -> None:
    rows["train"][3]["start"] -= 1


def twice(rows: Rows) -> None:
    rows["train"][1]["user_id"] = rows["train"][0]["user_id"]


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (late, "train has events at or after the first of test"),
        (same_session, "1 sequences stand in train and in test"),
        (same_row, "4 rows of the same user, item and time stand in train and in test"),
        (same_row_in_validation, "4 rows of the same user, item and time stand in validation and in test"),
        (core_of_all, "the k-core does not hold on training alone: 1 items have fewer than 3 events there"),
        (short, "the k-core does not hold on training alone: a sequence has 1 events, not 2"),
        (unseen, "test has 1 items that training never saw"),
        (out_of_order, "train: times are not in order (1)"),
        (other_start, "train: start or end is not that of the events (1)"),
        (twice, "train: sequences of a name that came before (1)"),
    ],
)
def test_each_leak_fails(sound: Path, plant: Callable[[Rows], None], says: str, tmp_path: Path) -> None:
    folder = tmp_path / "leaky"
    shutil.copytree(sound, folder)
    rows = read(folder)
    write(folder, rows)
    assert audit(folder)["leaks"] == 0  # written again, and sound
    plant(rows)
    write(folder, rows)
    with pytest.raises(UserError) as error:
        audit(folder)
    assert says in str(error.value)


def test_an_event_on_the_wrong_side_of_the_split_time_fails(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "leaky")
    record = json.loads((sound / "prepared.json").read_text())
    record["split"]["test"] -= 10_000_000_000
    (tmp_path / "leaky" / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="the wrong side of the split time of test"):
        audit(tmp_path / "leaky")


def test_counts_that_differ_from_the_record_fail(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "short")
    pq.write_table(pq.read_table(sound / "test.parquet").slice(1), tmp_path / "short" / "test.parquet")
    with pytest.raises(UserError, match="where the record says"):
        audit(tmp_path / "short")


@pytest.mark.parametrize("read_it", [audit, read_prepared])
def test_what_is_no_prepared_folder_is_one_line(sound: Path, tmp_path: Path, read_it: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match="this is no prepared folder"):
        read_it(tmp_path)
    folder = tmp_path / "broken"
    shutil.copytree(sound, folder)
    (folder / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read"):
        read_it(folder)
    pd.DataFrame({"user_id": ["a"]}).to_parquet(folder / "test.parquet")
    with pytest.raises(UserError, match="the columns are not those"):
        read_it(folder)
    (folder / "prepared.json").write_text('{"format": "tacit.recsys.prepared/0"}')
    with pytest.raises(UserError, match="another version"):
        read_it(folder)
