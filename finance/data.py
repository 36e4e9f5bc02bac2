"""Transactions: a csv or parquet file and a schema -> a validated table; bad records go to quarantine.

finance.schema says what a schema holds, finance.faults why a row is set aside. `prepare` does the same to logs that are larger than
memory; what it writes is read here like any other table.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
from numpy.typing import NDArray

from core.datasets import sha256
from core.errors import UserError
from core.files import unreadable
from core.lines import RAGGED, ROW, columns_of, lines
from core.quarantine import Quarantine
from finance import faults
from finance.columns import Mask, is_text, moments, names, number
from finance.schema import Schema, View
from finance.source import KNOWN, Source, bad_row_numbers, find, source
from finance.zones import DAY

__all__ = ["DAY", "KNOWN", "Schema", "Transactions", "examine", "find", "read", "validate"]


@dataclass(frozen=True)
class Transactions:
    """A validated table, in time order (ties in file order).

    Attributes:
        frame: columns `row` (0 = first after the header), `entity` (text), `time` (seconds since 1970, int64), `amount`
            (float64), `label` (1, 0, or -1 where not known), `label_time` (seconds since 1970, int64), `scenario` (0 = genuine),
            `id` (or the row number); where the schema names them `counterparty`, `currency` and `text` (text, None where
            missing); and every categorical and numeric column under its own name.
        schema: the columns' roles.
        quarantine: the rows that were set aside.
        name: of a known data set, else "own data".
        rows_read: rows in the file.
        view: whose history the `entity` is; see `seen_by`.
    """

    frame: pd.DataFrame
    schema: Schema
    quarantine: Quarantine = field(default_factory=Quarantine)
    name: str = "own data"
    rows_read: int = 0
    sha256: str = ""
    view: View = "card"

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def card(self) -> NDArray[np.int64]:
        """Number of each row's entity, 0 … cards-1, (N,)."""
        return pd.factorize(self.frame["entity"], sort=True)[0].astype(np.int64)

    @cached_property
    def time(self) -> NDArray[np.int64]:
        """Seconds since 1970, (N,)."""
        return self.frame["time"].to_numpy()

    @cached_property
    def day(self) -> NDArray[np.int64]:
        """Days since 1970, (N,)."""
        return self.time // DAY

    @cached_property
    def amount(self) -> NDArray[np.float64]:
        return self.frame["amount"].to_numpy()

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """1 fraud, 0 genuine, -1 not known, (N,)."""
        return self.frame["label"].to_numpy()

    @cached_property
    def label_time(self) -> NDArray[np.int64]:
        """Seconds since 1970 from which on a label is known, (N,): as the table says, else the schema's delay after `time`."""
        return self.frame["label_time"].to_numpy()

    @cached_property
    def scenario(self) -> NDArray[np.int64]:
        return self.frame["scenario"].to_numpy()

    @cached_property
    def last(self) -> NDArray[np.int64]:
        """Row of each card's last payment (cards,)."""
        return len(self) - 1 - np.unique(self.card[::-1], return_index=True)[1]

    @property
    def labelled(self) -> bool:
        return bool(self.schema.label) and bool((self.label >= 0).any())

    def describe(self) -> str:
        """One line: rows, cards, days, labels."""
        if not len(self):
            return f"{self.rows_read} rows read, none usable"
        first, last = (np.datetime64(int(d), "D") for d in (self.day.min(), self.day.max()))
        cards = len(np.unique(self.card))
        labels = (
            f"{int((self.label == 1).sum())} frauds of {int((self.label >= 0).sum())} labels"
            if self.labelled
            else "no labels"
        )
        return f"{self.rows_read} rows read, {len(self)} usable, {cards} cards, {first} to {last}, {labels}"

    def where(self, keep: NDArray[np.bool_]) -> Transactions:
        """The rows of a mask, as a table of their own."""
        return replace(self, frame=self.frame[keep].reset_index(drop=True))

    def seen_by(self, view: View) -> Transactions:
        """The same payments as histories of cards, as they were read, or of counterparties: entity and counterparty change roles, and
        the card becomes a category. Payments without a counterparty are set aside.

        Raises:
            UserError: no counterparty in the schema, or in any payment; or cards are asked of what was turned already.
        """
        if view == self.view:
            return self
        if view == "card":
            raise UserError("the log is already seen by counterparty", where="data", mend="give it as it was read")
        schema, frame = self.schema.turned(), self.frame
        known = frame["counterparty"].notna()
        fault = (faults.MISSING.format(role="counterparty"), f"column {self.schema.counterparty}")
        aside = Quarantine([*self.quarantine.records, *((f"row {n}", *fault) for n in frame["row"][~known])])
        if not known.any():
            mend = f"give payments that name their {self.schema.counterparty}, or view=card"
            raise UserError(f"no usable row is left; {aside.summary()}", where="data", mend=mend)
        roles = {"entity": frame["counterparty"], "counterparty": frame["entity"], schema.counterparty: frame["entity"]}
        turned = frame.assign(**roles)[known].reset_index(drop=True)
        return replace(self, frame=turned, schema=schema, quarantine=aside, view=view)


def read(data: str | Path, schema: str | Path | Schema | None = None, *, labels: bool = True) -> Transactions:
    """Reads and validates a table. Arguments as `find`; with `labels=False` label columns need not be there.

    Raises:
        UserError: no such file, no schema, a missing column, an unreadable file, or no usable row.
    """
    table = examine(data, schema, labels=labels)
    if len(table) == 0:
        mend = "the verb check lists each row with its reason"
        raise UserError(f"no usable row is left; {table.quarantine.summary()}", where=data, mend=mend)
    return table


def examine(data: str | Path, schema: str | Path | Schema | None = None, *, labels: bool = True) -> Transactions:
    """As `read`, but a table of which no row is usable is returned, with its quarantine."""
    found = source(data, schema, labels=labels)
    raw = load(found)
    if len(raw) == 0:
        raise UserError("the file holds no rows", where=found.path, mend="give a log of one row a payment")
    digests = [sha256(part) for part in found.parts]
    if found.name in KNOWN and digests[0] != KNOWN[found.name].sha256.get(found.path.name):
        raise UserError(
            "the file differs from the published one",
            where=found.path,
            mend=f"get it again from {KNOWN[found.name].source}",
        )
    table = validate(raw, found.schema)
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return Transactions(table.frame, found.schema, table.quarantine, found.name, len(raw), digest)


def validate(raw: pd.DataFrame, schema: Schema, now: int | None = None) -> Transactions:
    """A table with the schema's columns -> Transactions; every row that is set aside is in the quarantine with its first fault.

    Args:
        now: seconds since 1970 after which a time lies in the future; None: the clock's.

    Raises:
        UserError: row numbers that the schema names are missing or occur twice.
    """
    rows = _rows(raw, schema)
    raw = raw.iloc[np.argsort(rows)].reset_index(drop=True)
    n = len(raw)
    found = _Faults(n)
    out = pd.DataFrame({"row": np.sort(rows)})
    if RAGGED in raw:
        found.add(raw[RAGGED].to_numpy(), faults.RAGGED)
    late = (time.time() if now is None else now) if not schema.future else np.inf
    too_long = faults.LONG.format(limit=schema.max_text)

    def named(role: str, column: str, required: bool) -> pd.Series:
        values, wrong = names(raw[column])
        if required:
            found.add(values.isna().to_numpy() & ~wrong, faults.MISSING.format(role=role), column)
        found.add(wrong, faults.FRACTION.format(role=role), column)
        found.add(_longer(values, schema.max_text), too_long, column)
        return values

    out["entity"] = named("entity", schema.entity, True)
    moment = moments(raw[schema.time], schema.zone)
    found.add(~moment.readable & ~moment.zoneless, faults.NO_TIME, schema.time)
    found.add(moment.zoneless, faults.NO_ZONE, schema.time)
    found.add(moment.seconds > late, faults.FUTURE, schema.time)
    out["time"] = moment.seconds
    out["amount"], wrong = number(raw[schema.amount])
    found.add(wrong | np.isnan(out["amount"].to_numpy()), faults.NO_AMOUNT, schema.amount)
    ids = named("id", schema.id, True) if schema.id else None
    if ids is not None:
        out["id"] = ids if is_text(raw[schema.id]) else raw[schema.id]
    else:
        out["id"] = out["row"]
    for column in schema.numeric:
        out[column], wrong = number(raw[column])
        found.add(wrong, faults.NO_NUMBER, column)
    for column in schema.categorical:
        out[column] = named("category", column, False) if _is_name(raw[column]) else raw[column]
    for role in ("counterparty", "currency", "text"):
        if column := getattr(schema, role):
            out[role] = named(role, column, False)
    _add_labels(out, raw, schema, found)
    if ids is not None:
        again = ids.where(found.free()).duplicated().to_numpy() & found.free()
        found.add(again, faults.REPEATED, schema.id)
    events = out["entity"].where(found.free()).map(out["entity"][found.free()].value_counts())
    found.add((events > schema.max_events).to_numpy(), faults.CROWDED.format(limit=schema.max_events), schema.entity)
    frame = out[found.free()].sort_values(["time", "row"], kind="stable").reset_index(drop=True)
    return Transactions(_plain(frame), schema, found.quarantine(np.sort(rows)), rows_read=n)


class _Faults:
    """The first fault of each row."""

    def __init__(self, rows: int) -> None:
        self.which = np.zeros(rows, np.int64)  # 0: none
        self.kinds: list[tuple[str, str]] = [("", "")]

    def add(self, mask: Mask, reason: str, column: str = "") -> None:
        self.which[mask & (self.which == 0)] = len(self.kinds)
        self.kinds.append((reason, f"column {column}" if column else ""))

    def free(self) -> Mask:
        """Rows without a fault so far."""
        return self.which == 0

    def quarantine(self, rows: NDArray[np.int64]) -> Quarantine:
        return Quarantine([(f"row {rows[i]}", *self.kinds[self.which[i]]) for i in np.flatnonzero(self.which)])


def _rows(raw: pd.DataFrame, schema: Schema) -> NDArray[np.int64]:
    if not schema.row:
        return raw[ROW].to_numpy() if ROW in raw else np.arange(len(raw), dtype=np.int64)
    values, wrong = number(raw[schema.row])
    if wrong.any() or np.isnan(values).any() or (values % 1 != 0).any() or len(np.unique(values)) < len(values):
        raise bad_row_numbers(schema.row)
    return values.astype(np.int64)


def _add_labels(out: pd.DataFrame, raw: pd.DataFrame, schema: Schema, found: _Faults) -> None:
    out["label"] = np.int64(-1)
    if schema.label:
        value, wrong = number(raw[schema.label])
        found.add(wrong | ~(np.isin(value, (0, 1)) | np.isnan(value)), faults.NO_LABEL, schema.label)
        out["label"] = np.where(np.isin(value, (0, 1)), value, -1).astype(np.int64)
    delayed = out["time"].to_numpy() + schema.label_delay_days * DAY
    out["label_time"] = delayed
    if schema.label_time:
        known = moments(raw[schema.label_time], schema.zone)
        found.add(known.given & ~(known.readable & ~known.zoneless), faults.NO_LABEL_TIME, schema.label_time)
        found.add(known.given & (known.seconds < out["time"].to_numpy()), faults.EARLY_LABEL, schema.label_time)
        out["label_time"] = np.where(known.given, known.seconds, delayed)
    out["scenario"] = np.int64(0)
    if schema.scenario:
        value, _ = number(raw[schema.scenario])
        out["scenario"] = np.where(np.abs(value) < 2**31, np.floor(np.nan_to_num(value)), 0).astype(np.int64)


def _is_name(column: pd.Series) -> bool:
    """Whether a category is text; other values stay as they are."""
    return is_text(column) and pd.api.types.infer_dtype(column, skipna=True) != "boolean"


def _longer(values: pd.Series, limit: int) -> Mask:
    codes, texts = pd.factorize(values)
    return np.append(np.array([len(t) > limit for t in texts], dtype=bool), False)[codes]


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers in numpy's own type where none is missing."""
    whole = [c for c in frame if frame[c].dtype in _NULLABLE.values() and not frame[c].isna().any()]
    return frame.assign(**{c: frame[c].to_numpy(dtype=frame[c].dtype.numpy_dtype) for c in whole})


def load(found: Source) -> pd.DataFrame:
    """The schema's columns; text columns of a csv stay text, so that `0012` and `NA` survive."""
    columns = found.schema.columns()
    if found.csv:
        return pa.Table.from_batches(lines(found.path, columns), columns_of(columns)).to_pandas()
    try:
        return frame_of(pa.dataset.dataset([str(p) for p in found.parts], format="parquet").to_table(columns=columns))
    except Exception as error:
        raise unreadable(found.path, error) from None


def frame_of(table: pa.Table) -> pd.DataFrame:
    """An arrow table as `validate` takes it."""
    plain = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    table = table.cast(pa.schema(list(zip(table.column_names, plain, strict=True))))
    return table.to_pandas(types_mapper=_NULLABLE.get)


# whole numbers with gaps stay whole: as floats, large ids would lose their last digits
_NULLABLE = {
    getattr(pa, f"{sign}int{bits}")(): pd.api.types.pandas_dtype(f"{sign.upper()}Int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
