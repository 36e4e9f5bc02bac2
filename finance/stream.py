"""Scores and embeddings over arrow record batches, a stream of any length in bounded memory for each card.

The functions take and give iterators, as Spark's `mapInArrow` does; there, put each card into one partition, its payments in order:

    ordered = log.repartition("card").sortWithinPartitions("card", "time")
    ordered.mapInArrow(partial(score_batches, "run"), from_arrow_schema(scored_schema("run", arrow_schema)))

What is known of a card is carried from batch to batch, so a card may be cut. Batches in which cards come whole, or nearly, go
fastest: each window of a card is then computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import UserError
from finance.data import Transactions, validate
from finance.estimators import FraudScorer, TransactionEncoder, embed_stride
from finance.online import OnlineScorer
from finance.schema import Schema
from finance.state import CardStates

if TYPE_CHECKING:
    import pyarrow as pa

EARLY = "the payment lies before the card's last one"
REFUSED = "refused"  # column: why a payment has no score; null where it has one


def score_batches(
    run: FraudScorer | str | Path, batches: Iterable[pa.RecordBatch], alert: float | None = None
) -> Iterator[pa.RecordBatch]:
    """One batch for each that is given, with the same rows: id, card and time as they came, `score`, `card's past` and `refused`.

    Args:
        run: a scorer, or the run folder of one, which is then loaded where the function runs.
        batches: the columns of the run's schema; labels need not be there. Payments of a card come in order of time.
        alert: score from which on a payment is an alert: a column of its own.

    Raises:
        UserError: a run that gives no score, or a column that is missing.
    """
    scorer = _scorer(run)
    encoder, _ = scorer.fitted()
    schema, online = unlabelled(encoder.codec_.schema), OnlineScorer(scorer)
    for batch in batches:
        table, refused = _usable(batch, schema, online.states)
        values = np.full((batch.num_rows, 2), np.nan)
        values[table.frame["row"]] = online.score_table(table)[:, [0, 2]]
        columns = {"score": values[:, 0], "card's past": values[:, 1]}
        if alert is not None:
            columns["alert"] = values[:, 0] >= alert
        yield _beside(batch, schema, columns, refused)


def embed_batches(run: TransactionEncoder | str | Path, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """As `score_batches`: columns `0` … `D-1`, the encoder's state after each payment, and `refused`."""
    encoder = run if isinstance(run, TransactionEncoder) else _encoder(str(run))
    schema = unlabelled(encoder.codec_.schema)
    context = encoder.recipe_.shape.context
    states = CardStates(encoder.codec_, context, embed_stride(context))
    for batch in batches:
        table, refused = _usable(batch, schema, states)
        values = np.full((batch.num_rows, encoder.encoder_.dim), np.nan, dtype=np.float32)
        if len(table):
            extended = states.extend(table)
            asked = np.zeros(int(extended.ragged.offsets[-1]), bool)
            asked[extended.new] = True
            made = encoder.states(extended.ragged, asked, extended.begun)[extended.new]
            values[table.frame["row"]] = extended.histories.to_table(made)
            states.advance(extended)
        yield _beside(batch, schema, {str(i): values[:, i] for i in range(values.shape[1])}, refused)


def scored_schema(run: FraudScorer | str | Path, given: pa.Schema, alert: bool = False) -> pa.Schema:
    """What `score_batches` makes of batches of a schema."""
    import pyarrow as pa

    codec = _scorer(run).fitted()[0].codec_
    more = [("score", pa.float64()), ("card's past", pa.float64())] + [("alert", pa.bool_())] * alert
    return pa.schema([*_keys(codec.schema, given), *(pa.field(*m) for m in more), pa.field(REFUSED, pa.string())])


def embedded_schema(run: TransactionEncoder | str | Path, given: pa.Schema) -> pa.Schema:
    """What `embed_batches` makes of batches of a schema."""
    import pyarrow as pa

    encoder = run if isinstance(run, TransactionEncoder) else _encoder(str(run))
    more = [pa.field(str(i), pa.float32()) for i in range(encoder.encoder_.dim)]
    return pa.schema([*_keys(encoder.codec_.schema, given), *more, pa.field(REFUSED, pa.string())])


def unlabelled(schema: Schema) -> Schema:
    """The schema without labels, which are not known yet when a payment is scored, and without row numbers: a batch has its own."""
    return replace(schema, row="", label="", label_time="", scenario="")


@lru_cache(maxsize=4)  # a Spark worker calls for each partition
def _encoder(run: str) -> TransactionEncoder:
    return TransactionEncoder.load(run)


def _scorer(run: FraudScorer | str | Path) -> FraudScorer:
    return run if isinstance(run, FraudScorer) else FraudScorer(_encoder(str(run)))


def _keys(schema: Schema, given: pa.Schema) -> list[pa.Field]:
    """The columns that say whose and which a payment is."""
    return [given.field(name) for name in (schema.id, schema.entity, schema.time) if name]


def _usable(batch: pa.RecordBatch, schema: Schema, states: CardStates) -> tuple[Transactions, dict[int, str]]:
    """The payments of a batch that can be used, and of the others why not, by row."""
    missing = [name for name in schema.columns() if name not in batch.schema.names]
    if missing:
        raise UserError(
            f"column '{missing[0]}' is missing", where="batch", mend="give every column of the run's schema"
        )
    table = validate(batch.select(schema.columns()).to_pandas(), schema)
    refused = {int(where.removeprefix("row ")): reason for where, reason, _ in table.quarantine.records}
    early = states.too_early(table) if len(table) else np.zeros(0, bool)
    refused |= {int(row): EARLY for row in table.frame["row"][early]}
    return table.where(~early), refused


def _beside(
    batch: pa.RecordBatch, schema: Schema, columns: dict[str, np.ndarray], refused: dict[int, str]
) -> pa.RecordBatch:
    """New columns beside the batch's keys; null where a payment was refused."""
    import pyarrow as pa

    no = np.zeros(batch.num_rows, bool)
    no[list(refused)] = True
    fields = _keys(schema, batch.schema)
    arrays = [batch.column(field.name) for field in fields] + [pa.array(v, mask=no) for v in columns.values()]
    why = pa.array([refused.get(row) for row in range(batch.num_rows)], pa.string())
    return pa.RecordBatch.from_arrays([*arrays, why], names=[*(field.name for field in fields), *columns, REFUSED])
