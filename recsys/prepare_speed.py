"""How long `prepare` takes and how much memory, on ten million generated events."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from core.bench import Row, row
from core.measured import measured as command

EVENTS = 10_000_000
USERS, ITEMS, SPAN = 700_000, 100_000, 60 * 86_400  # users, items, seconds
CHUNK = 1_000_000  # events made at a time
MEMORY = 2.0  # GiB, of --memory
MEMORY_GOAL, SECONDS_GOAL = 4.0, 60.0


def prepare_speed(out: Path, events: int = EVENTS) -> list[Row]:
    """Seconds and peak memory of `prepare` on generated events, as parquet and as csv, a process each.

    Raises:
        UserError: a child process failed.
    """
    made = []
    out.mkdir(parents=True, exist_ok=True)
    for form in ("parquet", "csv"):
        with TemporaryDirectory(dir=out) as folder:
            seconds, peak = measured(large_log(Path(folder), events, form))
        note = f"{events:,} events as {form}, --gap 30 --memory {MEMORY:g}"
        data = f"generated clicks, {form}"
        made.append(row(data, "prepare", "ours", "seconds", seconds, goal=SECONDS_GOAL, note=note))
        made.append(row(data, "prepare", "ours", "peak GiB", peak, goal=MEMORY_GOAL, note=note))
    return made


def measured(log: Path) -> tuple[float, float]:
    """Seconds and GiB of one `prepare` in a process of its own."""
    flags = ["--data", str(log), "--out", str(log.parent / "prepared"), "--gap", "30", "--memory", str(MEMORY)]
    return command("recsys.cli", ["prepare", *flags], log.name)


def large_log(folder: Path, events: int, form: str = "parquet", seed: int = 0) -> Path:
    """A log of clicks in bursts, in no order: popular items (Zipf), a click of eight repeated, one of a thousand an exact duplicate."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"log.{form}"
    random = np.random.default_rng(seed)
    writer: pq.ParquetWriter | pa.csv.CSVWriter | None = None
    share = np.cumsum(1 / np.arange(1.0, ITEMS + 1))
    for start in range(0, events, CHUNK):
        n = min(CHUNK, events - start)
        burst = np.cumsum(random.random(n) < 0.2)  # five clicks each, a few minutes apart at most
        user, opened = random.integers(0, USERS, burst[-1] + 1), random.integers(0, SPAN, burst[-1] + 1)
        _, first = np.unique(burst, return_index=True)
        pause = random.integers(1, 200, n).cumsum()
        moment = 1_700_000_000 + opened[burst] + pause - np.repeat(pause[first], np.diff(np.append(first, n)))
        item = np.searchsorted(share, random.random(n) * share[-1])
        again = random.random(n) < 0.125
        again[0] = False
        item[again] = item[np.flatnonzero(again) - 1]
        place = random.permutation(n)
        twin = random.random(n) < 0.001
        place[1:][twin[1:]] = place[:-1][twin[1:]]
        ids = pa.array(user[burst][place]).cast("string")
        table = pa.table(
            {
                "user_id": pa.compute.binary_join_element_wise("user", ids, "-"),
                "item_id": item[place],
                "timestamp": moment[place],
            }
        )
        if writer is None:
            kind = pq.ParquetWriter if form == "parquet" else pa.csv.CSVWriter
            writer = kind(str(path), table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path
