from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import UserError
from finance.data import read
from finance.engines import Spark
from finance.estimators import FraudScorer, TransactionEncoder
from finance.schema import Schema
from finance.stream import embed_batches, score_batches, whole_cards
from finance.tables import embedding_table, score_table
from tests.finance.test_cli import SMALL, tacit_finance


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert tacit_finance("pretrain", "--data", folder, "--out", out, "--steps", 3, *SMALL) == 0
    return out


@pytest.fixture(scope="module")
def ready(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated log, prepared."""
    out = tmp_path_factory.mktemp("prepared")
    assert tacit_finance("prepare", "--data", folder, "--out", out) == 0
    return out


def in_batches(folder: Path, size: int) -> list[pa.RecordBatch]:
    return pq.read_table(folder / "transactions.parquet").to_batches(max_chunksize=size)


def joined(batches: list[pa.RecordBatch]) -> pd.DataFrame:
    return in_order(pa.Table.from_batches(batches).to_pandas())


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("row" if "row" in frame else "card").reset_index(drop=True)


@pytest.mark.parametrize("size", [7, 1000])
def test_a_stream_gives_what_the_whole_table_gives(ready: Path, run: Path, size: int) -> None:
    schema, table = Schema.read(ready / "schema.toml"), read(ready)
    scores = list(score_batches(run, schema, in_batches(ready, size), rows=500))
    assert len(scores) > 2
    pd.testing.assert_frame_equal(
        joined(scores), score_table(FraudScorer.load(run), table), check_dtype=False, rtol=1e-4
    )
    encoder = TransactionEncoder.load(run)
    for per in ("payment", "card"):
        found = joined(list(embed_batches(run, schema, in_batches(ready, size), per, rows=500)))  # type: ignore[arg-type]
        expected = in_order(embedding_table(encoder, table, per))  # type: ignore[arg-type]
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-4)


def test_no_card_is_cut_and_no_row_is_lost() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        cards = np.repeat(np.arange(8), random.integers(1, 9, 8))
        table = pa.table({"card": cards, "n": np.arange(len(cards))})
        parts = list(
            whole_cards(table.to_batches(max_chunksize=int(random.integers(1, 9))), "card", int(random.integers(1, 20)))
        )
        assert pa.concat_tables(parts).equals(table)
        names = [set(part["card"].to_pylist()) for part in parts]
        assert sum(map(len, names)) == 8


def test_rows_of_a_card_that_stand_apart_and_bad_rows_are_refused(ready: Path, run: Path) -> None:
    schema, batches = Schema.read(ready / "schema.toml"), in_batches(ready, 100)
    with pytest.raises(UserError, match="do not stand together"):
        list(score_batches(run, schema, [*batches, batches[0]], rows=300))
    bad = batches[0].set_column(
        batches[0].schema.get_field_index("amount"), "amount", pa.nulls(len(batches[0]), pa.float64())
    )
    with pytest.raises(UserError, match="amount is not a finite number"):
        list(score_batches(run, schema, [bad]))


@pytest.mark.spark
def test_the_same_function_runs_under_spark(spark: Spark, ready: Path, run: Path) -> None:
    from pyspark.sql.pandas.types import from_arrow_schema

    schema = Schema.read(ready / "schema.toml")
    expected = score_table(FraudScorer.load(run), read(ready))
    rows = spark.session.read.parquet(str(ready / "transactions.parquet")).repartition(3, "card")
    kinds = from_arrow_schema(pa.Schema.from_pandas(expected, preserve_index=False))
    made = rows.sortWithinPartitions("card", "time", "row").mapInArrow(partial(score_batches, str(run), schema), kinds)
    found = made.toArrow().to_pandas().sort_values("row").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)
