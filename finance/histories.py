"""Validated transactions -> each card's history as sequences of encoded fields.

Every event has: amount (signed log, standardised), gap (log seconds since the card's previous event), hour, weekday, and the
schema's categorical and numeric columns, and the subwords of its text. Codecs are fitted on days before the test period and saved with the run.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.batches import Ragged
from core.codec import FIRST, MISSING, Categories, Codec, Scale, as_text, from_json, is_missing
from core.encoders import Field
from core.errors import UserError
from core.tokens import Batch
from finance.data import DAY, Schema, Transactions
from finance.words import Words

T = TypeVar("T", float, NDArray[np.float64])
GAP_LIMIT = 365 * DAY
OWN = ("hour", "weekday", "amount", "gap")  # fields that every log has


@dataclass(frozen=True)
class Hashed:
    """A column of many values, each put into one of a fixed number of buckets: stores no value, and knows no unknown one."""

    buckets: int

    @property
    def size(self) -> int:
        return self.buckets + FIRST

    def encode(self, column: object) -> NDArray[np.int64]:
        """Ids (N,): 0 where missing, else 3 + CRC-32 of the text modulo the buckets, equal on every machine."""
        codes, values = pd.factorize(pd.Series(column))  # type: ignore[call-overload]
        ids = np.array([self.id(v) for v in values], dtype=np.int64)
        return np.where(codes < 0, MISSING, ids[codes] if len(ids) else MISSING)

    def id(self, value: object) -> int:
        """What `encode` gives of one value, without a table."""
        return MISSING if is_missing(value) else zlib.crc32(as_text(value).encode()) % self.buckets + FIRST

    def json(self) -> dict[str, Any]:
        return {"kind": "hashed", "buckets": self.buckets}


@dataclass(frozen=True)
class EventCodec:
    """How a table becomes fields.

    Attributes:
        schema: the columns' roles.
        columns: a codec by field key: `amount`, `gap`, then `category0` … and `number0` … in the schema's order, and `text`, of
            which the fields `word0` … are made. Keys are ours, since a column may have any name.
    """

    schema: Schema
    columns: dict[str, Codec | Hashed | Words]

    @classmethod
    def fit(
        cls,
        data: Transactions,
        *,
        max_categories: int = 1000,
        buckets: int = 256,
        min_count: int = 5,
        words: int = 8,
        vocabulary: int = 1000,
        hashed: Container[str] = (),
    ) -> EventCodec:
        """Codecs from every row of `data`; a column of more than `max_categories` values is hashed into `buckets`, as those
        named in `hashed` are, whose values are not to be kept; of a text `words` subwords are read, of a vocabulary of at most so
        many."""
        columns: dict[str, Codec | Hashed | Words] = {"amount": Scale.fit(data.amount, log=True)}
        columns["gap"] = Scale.fit(_gap(data), log=True)
        for i, name in enumerate(data.schema.categorical):
            values = data.frame[name]
            few = name not in hashed and values.nunique() <= max_categories
            columns[f"category{i}"] = Categories.fit(values, min_count=min_count) if few else Hashed(buckets)
        for i, name in enumerate(data.schema.numeric):
            columns[f"number{i}"] = Scale.fit(data.frame[name].to_numpy(dtype=float))
        if data.schema.text and words:
            columns["text"] = Words.fit(data.frame["text"], size=vocabulary, count=words, min_count=min_count)
        return cls(data.schema, columns)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The stem's fields."""
        made = [Field("hour", "categorical", 24 + FIRST), Field("weekday", "categorical", 7 + FIRST)]
        for key, codec in self.columns.items():
            if isinstance(codec, Words):
                made += [Field(f"word{i}", "categorical", codec.size, table="words") for i in range(codec.count)]
            else:
                made.append(
                    Field(key, "numeric") if isinstance(codec, Scale) else Field(key, "categorical", codec.size)
                )
        return tuple(made)

    def title(self, key: str) -> str:
        """What a field is called in the user's own data."""
        if key.startswith("category"):
            return self.schema.categorical[int(key[8:])]
        if key.startswith("number"):
            return self.schema.numeric[int(key[6:])]
        if key == "text" or key.startswith("word"):
            return self.schema.text
        return self.schema.amount if key == "amount" else key

    def by_title(self, values: Mapping[str, T]) -> dict[str, T]:
        """Numbers by field as numbers by column; those of a text's words are summed."""
        made: dict[str, T] = {}
        for key, value in values.items():
            title = self.title(key)
            made[title] = made[title] + value if key.startswith("word") and title in made else value
        return made

    def encode(self, data: Transactions, before: NDArray[np.float64] | None = None) -> Histories:
        """Sequences by card, in time order, ties in the table's order.

        Args:
            before: (C,) when each card paid last before this table, seconds since 1970; nan where it did not. None: no card did.

        Raises:
            UserError: a column that the codec was fitted on is missing.
        """
        for name in (*self.schema.categorical, *self.schema.numeric, *(["text"] if "text" in self.columns else [])):
            if name not in data.frame:
                raise UserError(
                    f"column '{self.schema.text if name == 'text' else name}' is missing",
                    where="schema",
                    mend="the run was made with it; name it in the schema",
                )
        order = np.argsort(data.card, kind="stable")
        values: dict[str, NDArray] = {
            "hour": hour_of(data.time),
            "weekday": weekday_of(data.time),
            "amount": self.columns["amount"].encode(data.amount),
            "gap": self.columns["gap"].encode(_gap(data, before)),
        }
        for i, name in enumerate(self.schema.categorical):
            values[f"category{i}"] = self.columns[f"category{i}"].encode(data.frame[name])
        if "text" in self.columns:
            values |= {f"word{i}": ids for i, ids in enumerate(self.columns["text"].encode(data.frame["text"]).T)}
        for i, name in enumerate(self.schema.numeric):
            values[f"number{i}"] = self.columns[f"number{i}"].encode(data.frame[name].to_numpy(dtype=float))
        counts = np.bincount(data.card, minlength=int(data.card.max()) + 1 if len(data) else 0)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(Ragged({k: np.ascontiguousarray(v[order]) for k, v in values.items()}, offsets), order)

    def encode_one(
        self, time: int, amount: float, before: int | None, others: Mapping[str, object]
    ) -> dict[str, float]:
        """One payment's fields, as `encode` gives them of a table.

        Args:
            time, before: of it and of the card's payment before, seconds since 1970.
            others: values of the schema's categorical, numeric and text columns by the column's name.
        """
        gap = math.nan if before is None else float(min(time - before, GAP_LIMIT))
        given = {
            "amount": amount,
            "gap": gap,
            **{key: others[self.title(key)] for key in self.columns if key not in OWN},
        }
        made: dict[str, float] = {"hour": hour_of(time), "weekday": weekday_of(time)}
        for key, value in given.items():
            codec = self.columns[key]
            if isinstance(codec, Words):
                ids = codec.encode(np.array([value], dtype=object))[0].tolist()
                made |= {f"word{i}": id for i, id in enumerate(ids)}
                continue
            made[key] = (
                float(codec.encode(np.array([value], dtype=np.float64))[0])
                if isinstance(codec, Scale)
                else codec.id(value)
            )
        return made

    def json(self) -> dict[str, Any]:
        return {"schema": self.schema.json(), "columns": {k: c.json() for k, c in self.columns.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EventCodec:
        columns: dict[str, Codec | Hashed | Words] = {}
        for key, c in data["columns"].items():
            if c["kind"] == "words":
                columns[key] = Words.from_json(c)
            else:
                columns[key] = Hashed(int(c["buckets"])) if c["kind"] == "hashed" else from_json(c)
        return cls(Schema.from_dict(data["schema"], where="config.json"), columns)


@dataclass(frozen=True)
class Histories:
    """Encoded events.

    Attributes:
        ragged: one sequence a card.
        rows: (N,) the table's row of each event.
    """

    ragged: Ragged
    rows: NDArray[np.int64]

    def to_table(self, values: NDArray) -> NDArray:
        """Values by event (N, …) in the table's order."""
        out = np.empty_like(values)
        out[self.rows] = values
        return out

    def from_table(self, values: NDArray) -> NDArray:
        """Values by table row (N, …) in the events' order."""
        return values[self.rows]


@dataclass(frozen=True)
class Windows:
    """Cuts of histories: window i is events `[start[i], start[i] + length[i])` of the whole event table.

    Attributes:
        scored: (W,) how many of a window's last events it is there for.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    scored: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def over(
        cls,
        ragged: Ragged,
        wanted: NDArray[np.bool_],
        context: int,
        stride: int,
        begun: NDArray[np.int64] | None = None,
    ) -> Windows:
        """Windows of at most `context` events, so that every wanted event (N,) is among the last `stride` of exactly one.

        They end at every `stride`-th event of a card, counted from its first: what an event is shown does not depend on
        events after it, nor on where a table that holds only the end of its history begins.

        Args:
            begun: (C,) events of each card that came before those in `ragged`; None: none did.

        Raises:
            UserError: more events to score than a window holds.
        """
        if not 0 < stride <= context:
            raise UserError(
                f"{stride} events to score do not fit into windows of {context}", where="score.stride",
                mend="use a stride of at most shape.context",
            )  # fmt: skip
        n = int(ragged.offsets[-1])
        first = np.repeat(ragged.offsets[:-1], ragged.lengths)  # (N,) the card's first event
        last = np.repeat(ragged.offsets[1:], ragged.lengths)
        earlier = 0 if begun is None else np.repeat(begun, ragged.lengths)
        chunk = np.arange(n) - (np.arange(n) - first + earlier) % stride
        begin = np.unique(chunk[wanted])  # (W,) first event of each chunk that holds a wanted one
        end = np.minimum(begin + stride, last[begin])
        start = np.maximum(first[begin], begin + stride - context)
        return cls(start, end - start, end - begin)

    def batch(self, ragged: Ragged, at: NDArray[np.int64]) -> tuple[Batch, NDArray[np.int64]]:
        """Windows `at` as a batch padded on the right, and (B, T) the event that stands at each place, -1 where padding."""
        import torch

        place = np.arange(int(self.length[at].max()))[None]
        pad = place >= self.length[at][:, None]
        event = np.where(pad, 0, self.start[at][:, None] + place)
        batch = {}
        for name, values in ragged.fields.items():
            taken = values[event]
            taken[pad] = 0
            batch[name] = torch.from_numpy(taken)
        return {**batch, "pad": torch.from_numpy(pad), "index": torch.from_numpy(at)}, np.where(pad, -1, event)

    def batches(self, size: int) -> list[tuple[NDArray[np.int64], int]]:
        """Window numbers in batches of at most `size`, each with the place at which the scored events of all its windows begin.

        So the past of no window is padded, and what is scored lies at the end of the batch.
        """
        begin = self.length - self.scored
        order = np.lexsort((self.length, begin))
        edges = np.flatnonzero(np.diff(begin[order])) + 1
        return [
            (part[i : i + size], int(begin[part[0]]))
            for part in np.split(order, edges)
            for i in range(0, len(part), size)
        ]


def hour_of(time: Any) -> Any:
    """Id of the hour of day, of seconds since 1970."""
    return time % DAY // 3600 + FIRST


def weekday_of(time: Any) -> Any:
    """Id of the weekday, Monday first, of seconds since 1970."""
    return (time // DAY + 3) % 7 + FIRST


def _gap(data: Transactions, before: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Seconds since the card's previous event (N,), at most a year; nan for its first."""
    gap = pd.Series(data.time).groupby(data.card).diff().to_numpy(dtype=np.float64, copy=True)
    if before is not None:
        cards, first = np.unique(data.card, return_index=True)
        gap[first] = data.time[first] - before[cards]
    return np.minimum(gap, GAP_LIMIT)
