"""Scores and embeddings of a prepared log that comes in arrow batches: one after the other, or under Spark's `mapInArrow`.

    cards = spark.read.parquet("log/transactions.parquet").repartition("card").sortWithinPartitions("card", "time", "row")
    cards.mapInArrow(partial(score_batches, "run", Schema.read(Path("log/schema.toml"))), "row long, score double, ...")

A card's rows must stand together and in time order, as `prepare` writes them; what a card gets depends on its own rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute

from core.errors import UserError
from finance.data import Transactions, frame_of, validate
from finance.estimators import FraudScorer, TransactionEncoder
from finance.schema import Schema
from finance.tables import embedding_table, score_table

ROWS = 200_000  # that are held at a time, at least, but for the last


def score_batches(
    run: str | Path, schema: Schema, batches: Iterable[pa.RecordBatch], rows: int = ROWS
) -> Iterator[pa.RecordBatch]:
    """What `score_table` gives of whole cards, batch by batch.

    Args:
        run: folder that pretrain wrote, with method masked.
        schema: of the prepared log.

    Raises:
        UserError: a card's rows do not stand together, or one of them is not as `prepare` writes it.
    """
    scorer = FraudScorer.load(run)
    return _over(lambda table: score_table(scorer, table), schema, batches, rows)


def embed_batches(
    run: str | Path, schema: Schema, batches: Iterable[pa.RecordBatch], per: Literal["payment", "card"] = "payment",
    rows: int = ROWS,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """What `embedding_table` gives of whole cards, batch by batch; as `score_batches`."""
    encoder = TransactionEncoder.load(run)
    return _over(lambda table: embedding_table(encoder, table, per), schema, batches, rows)


def whole_cards(batches: Iterable[pa.RecordBatch], entity: str, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of at least `rows`, but for the last; no card is in two of them."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not len(batch):
            continue
        names = batch.column(entity)
        last = pa.compute.index(pa.compute.equal(names, names[-1]), True).as_py()  # the last card begins here
        if last == 0 and held and held[-1].column(entity)[-1].equals(names[-1]):
            held.append(batch)  # all of it belongs to the card that is being read
            continue
        held.append(batch[:last])
        if sum(len(b) for b in held) >= rows:
            yield pa.Table.from_batches(held)
            held = []
        held.append(batch[last:])
    if held:
        yield pa.Table.from_batches(held)


def _over(
    make: Callable[[Transactions], pd.DataFrame], schema: Schema, batches: Iterable[pa.RecordBatch], rows: int
) -> Iterator[pa.RecordBatch]:
    done: set[str] = set()
    for table in whole_cards(batches, schema.entity, rows):
        checked = validate(frame_of(table.select(schema.columns())), schema)
        if len(checked.quarantine):
            where, reason, _ = checked.quarantine.records[0]
            raise UserError(reason, where=where, mend="give a log that prepare wrote")
        cards = set(checked.frame["entity"])
        if done & cards:
            raise UserError("the rows of a card do not stand together", where=f"column {schema.entity}", mend="sort by card, time and row")  # fmt: skip
        done |= cards
        yield pa.RecordBatch.from_pandas(make(checked), preserve_index=False)
