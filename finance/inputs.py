"""What the estimators of finance take for a log, and in which order they answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import Transactions, read, validate
from finance.histories import EventCodec, Histories
from finance.schema import FROM_LABELS, Schema


@dataclass(frozen=True)
class Encoded:
    """A table and its histories, so that whoever asks an encoder for several things of it encodes it once."""

    table: Transactions
    histories: Histories
    codec: EventCodec
    _values: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def values(self, key: str) -> NDArray[np.int64]:
        """A category of every event (N,), in the order of histories: ids, but for hashed and unknown values, which stay apart here."""
        if key not in self._values:
            self._values[key] = self.histories.ragged.fields[key]
            title = self.codec.title(key)
            if title in self.table.frame:
                names = pd.factorize(self.table.frame[title])[0].astype(np.int64)
                self._values[key] = names[self.histories.rows]
        return self._values[key]


Data: TypeAlias = str | Path | Transactions | Encoded | pd.DataFrame
Values = TypeVar("Values", bound=NDArray[Any])


def as_transactions(data: Data) -> Transactions:
    """Transactions, read where a path or name is given; labels may be absent.

    Raises:
        UserError: what cannot be read, such as an array, or a DataFrame, whose schema only an encoder knows.
    """
    if isinstance(data, Encoded):
        return data.table
    if isinstance(data, Transactions):
        return data
    if isinstance(data, str | Path):
        return read(data, labels=False)
    raise UserError(
        f"{type(data).__name__} is no log of transactions", where="data",
        mend="give a path, or finance.data.validate(frame, schema); an encoder with a schema also takes a DataFrame",
    )  # fmt: skip


def of_frame(frame: pd.DataFrame, schema: Schema) -> Transactions:
    """A DataFrame's transactions, all of them; `row` is the place in the frame. Labels may be absent.

    Raises:
        UserError: a column that is not there, or rows that cannot be used.
    """
    absent: dict[str, Any] = {key: "" for key in FROM_LABELS if getattr(schema, key) not in frame}
    schema = replace(schema, row="", **absent)
    missing = [name for name in schema.columns() if name not in frame]
    if missing:
        raise UserError(f"column '{missing[0]}' is missing", where="data", mend="give every column of the schema")
    table = validate(frame[schema.columns()].reset_index(drop=True), schema)
    if len(table) < len(frame) or not len(frame):
        raise UserError(
            f"{len(table)} of {len(frame)} rows are usable: {table.quarantine.summary()}", where="data",
            mend="leave the others out: finance.data.validate(frame, schema) sets them aside",
        )  # fmt: skip
    return table


def given_rows(data: Data, table: Transactions, rows: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """A mask of the data's rows (N,) in its table's order; None stands for all."""
    if rows is None:
        return np.ones(len(table), bool)
    return rows[table.frame["row"].to_numpy()] if isinstance(data, pd.DataFrame) else rows


def in_order(data: Data, table: Transactions, values: Values) -> Values:
    """Values by row of a table (N, …) in the order of the data that it was made of: a DataFrame's own, else time."""
    if not isinstance(data, pd.DataFrame):
        return values
    out = np.empty_like(values)
    out[table.frame["row"].to_numpy()] = values
    return out
