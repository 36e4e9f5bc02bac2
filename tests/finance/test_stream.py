"""Arrow batches, cut anywhere, give what the whole log gives; no row is lost; the same function runs under Spark."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core.engines import Spark
from core.errors import UserError
from core.training import TrainConfig
from finance.data import Transactions
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.presets import Recipe
from finance.scoring import Score
from finance.stream import embed_batches, embedded_schema, score_batches, scored_schema


@pytest.fixture(scope="module")
def run(log: Transactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape, score = Shape(dim=16, depth=2, heads=2, context=24), Score(horizon=6, stride=5, memory=3)
    recipe = Recipe(shape=shape, score=score, batch_size=8, train=TrainConfig(steps=5))
    encoder = TransactionEncoder(recipe).fit(log, note=lambda line: None)
    return encoder.save(tmp_path_factory.mktemp("run") / "run")


def arrow(folder: Path, rows: int = 2500) -> pa.Table:
    frame = pd.read_parquet(folder / "transactions.parquet").sort_values("time", kind="stable").head(rows)
    return pa.Table.from_pandas(frame.drop(columns=["fraud", "scenario"]), preserve_index=False)


def first_of(log: Transactions, rows: int = 2500) -> Transactions:
    return log.where(np.arange(len(log)) < rows)


def close(a: object, b: object) -> None:
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 700, 10_000])
def test_batches_cut_anywhere_give_what_the_whole_log_gives(
    run: Path, folder: Path, log: Transactions, size: int
) -> None:
    rows = 60 if size == 1 else 2500
    table, whole = arrow(folder, rows), first_of(log, rows)
    scored = pa.Table.from_batches(score_batches(run, table.to_batches(size), alert=2.0)).to_pandas()
    close(scored[["score", "card's past"]], FraudScorer.load(run).parts(whole)[:, [0, 2]])
    assert (scored["alert"] == (scored["score"] >= 2.0)).all() and scored["refused"].isna().all()
    assert scored["card"].tolist() == whole.frame["entity"].tolist()
    embedded = pa.Table.from_batches(embed_batches(run, table.to_batches(size))).to_pandas()
    close(embedded[[str(i) for i in range(16)]], TransactionEncoder.load(run).transform(whole))


def test_cards_one_after_the_other_give_the_same_and_schemas_are_as_said(
    run: Path, folder: Path, log: Transactions
) -> None:
    table = (
        arrow(folder).append_column("at", pa.array(range(2500))).sort_by([("card", "ascending"), ("at", "ascending")])
    )
    scored = pa.Table.from_batches(score_batches(run, table.to_batches(400)))
    order = table.column("at").to_numpy()
    close(scored.column("score").to_numpy(), FraudScorer.load(run).score_samples(first_of(log))[order])
    assert scored.schema.equals(scored_schema(run, table.schema))
    assert next(embed_batches(run, table.to_batches())).schema.equals(embedded_schema(run, table.schema))


def test_no_row_is_lost_and_what_is_refused_says_why(run: Path, folder: Path) -> None:
    table = arrow(folder, 400)
    amount = table.column("amount").to_pylist()
    amount[7] = None
    table = table.set_column(table.schema.get_field_index("amount"), "amount", pa.array(amount))
    late, early = table.slice(200), table.slice(0, 200)
    batches = [early.combine_chunks().to_batches()[0], late.to_batches()[0], early.slice(0, 3).to_batches()[0], table.slice(0, 0).to_batches(), ]  # fmt: skip
    batches = [b for b in batches if isinstance(b, pa.RecordBatch)]
    found = [
        b.to_pandas()
        for b in score_batches(FraudScorer.load(run), [*batches, pa.RecordBatch.from_pylist([], table.schema)])
    ]
    assert [len(f) for f in found] == [200, 200, 3, 0]
    assert found[0]["refused"].dropna().to_dict() == {7: "amount is not a finite number"} and np.isnan(
        found[0].loc[7, "score"]
    )
    again = found[2]["refused"]
    assert again.notna().any() and again.dropna().str.contains("before the card's last").all()
    with pytest.raises(UserError, match="'amount' is missing"):
        next(score_batches(run, table.drop_columns(["amount"]).to_batches()))


@pytest.mark.spark
def test_spark_gives_the_same_scores(spark: Spark, run: Path, folder: Path, log: Transactions) -> None:
    from pyspark.sql.pandas.types import from_arrow_schema

    table = arrow(folder).append_column("at", pa.array(range(2500)))
    frame = spark.session.createDataFrame(table.to_pandas()).repartition(3, "card")
    ordered = frame.sortWithinPartitions("card", "time", "at")
    said = from_arrow_schema(scored_schema(str(run), table.schema))
    found = ordered.mapInArrow(partial(score_batches, str(run)), said).toPandas()
    whole = first_of(log)
    expected = pd.Series(FraudScorer.load(run).score_samples(whole), index=whole.frame["id"])
    assert len(found) == len(whole) and found["refused"].isna().all()
    close(found["score"], expected[found[log.schema.id]])
