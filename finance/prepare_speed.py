"""How long `prepare` takes and how much memory: the real log, and a generated one that does not fit into what it may take."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from core.bench import Row, row
from core.measured import measured as command
from finance.schema import Schema

REAL = "fdh_simulated"
LARGE = 20_000_000  # rows of the generated log
CARDS, SHOPS, SPAN = 400_000, 20_000, 365 * 86_400
CHUNK = 1_000_000  # rows made at a time
MEMORY = 2.0  # GiB, of --memory
MEMORY_GOAL, SECONDS_GOAL = 4.0, 60.0


def prepare_speed(out: Path) -> list[Row]:
    """Seconds and peak memory of `prepare` on the real log and on 20 million generated rows, a process each.

    Raises:
        UserError: a child process failed.
    """
    made = []
    seconds, peak = measured(REAL)
    made.append(row(REAL, "prepare", "ours", "seconds", seconds, goal=SECONDS_GOAL, note=f"--memory {MEMORY:g}"))
    made.append(row(REAL, "prepare", "ours", "peak GiB", peak, goal=MEMORY_GOAL, note=f"--memory {MEMORY:g}"))
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        seconds, peak = measured(str(large_log(Path(folder), LARGE)))
    note = f"{LARGE:,} rows, in no order, --memory {MEMORY:g}"
    made.append(row("generated log", "prepare", "ours", "seconds", seconds, note=note))
    made.append(row("generated log", "prepare", "ours", "peak GiB", peak, goal=MEMORY_GOAL, note=note))
    return made


def measured(data: str) -> tuple[float, float]:
    """Seconds and GiB of one `prepare` in a process of its own."""
    with TemporaryDirectory(dir=None if data == REAL else Path(data).parent) as folder:
        return command("finance.cli", ["prepare", "--data", data, "--out", folder, "--memory", str(MEMORY)], data)


def large_log(folder: Path, rows: int, seed: int = 0) -> Path:
    """A folder with a log of payments by cards at shops, with its schema, in the order of nothing; made in chunks."""
    folder = folder / "log"
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        moment = random.integers(1_700_000_000, 1_700_000_000 + SPAN, n)
        table = pa.table(
            {
                "id": np.arange(start, start + n),
                "time": pa.array(moment, pa.timestamp("s")),
                "card": pa.compute.binary_join_element_wise("card", pa.array(random.integers(0, CARDS, n)).cast("string"), "-"),
                "shop": random.integers(0, SHOPS, n),
                "amount": random.lognormal(3, 1, n).round(2),
                "distance": random.random(n),
                "fraud": (random.random(n) < 0.005).astype(np.int8),
            }
        )  # fmt: skip
        writer = writer or pq.ParquetWriter(folder / "log.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    schema = Schema(
        entity="card", time="time", amount="amount", id="id", label="fraud", counterparty="shop", categorical=("shop",),
        numeric=("distance",), file="log.parquet",
    )  # fmt: skip
    (folder / "schema.toml").write_text(schema.toml(), encoding="utf-8")
    return folder
