"""A prepared folder: sequences by part, and what was done to get them. Written by recsys.prepare, read by whoever trains and evaluates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.codec import Categories
from core.errors import UserError
from core.files import unreadable
from recsys.sequences import Sequences

RECORD, QUARANTINE, ITEMS = "prepared.json", "quarantine.csv", "items.parquet"
FORMAT = "tacit.recsys.prepared/1"
PARTS = {"time": ("train", "validation", "test"), "leave-one-out": ("sequences",)}
SCHEMA = pa.schema(
    [
        (
            "user_id",
            pa.string(),
        ),  # of the sequence; the user and the session's number where users were cut into sessions
        ("group", pa.string()),  # the user, whose sessions belong together in an interval
        ("items", pa.list_(pa.string())),
        ("times", pa.list_(pa.int64())),  # microseconds since 1970, or of whatever counter the log has
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]
)
BATCH = 200_000  # events, or sequences, at a time


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote.

    Attributes:
        folder: where it lies.
        record: `prepared.json`: settings, counts by stage, rounds of the k-core, split times, the raw files' sha256.
        parts: sequences by name, `train`, `validation` and `test`, or `sequences` of leave-one-out, all over the catalogue of training.
        groups: (N,) by part, the user of each sequence, as text.
        starts, ends: (N,) by part, the times of the first and last event in microseconds.
    """

    folder: Path
    record: dict[str, Any]
    parts: dict[str, Sequences]
    groups: dict[str, NDArray]
    starts: dict[str, NDArray[np.int64]]
    ends: dict[str, NDArray[np.int64]]

    @property
    def settings(self) -> dict[str, Any]:
        return self.record["settings"]

    @property
    def split(self) -> str:
        """`time` or `leave-one-out`."""
        return self.record["settings"]["split"]

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each part."""
        return {name: self.folder / f"{name}.parquet" for name in self.parts}

    @property
    def catalogue(self) -> Categories:
        """The items of training."""
        return next(iter(self.parts.values())).catalogue

    @property
    def attributes(self) -> Path | None:
        """The items' attributes, where they were given: `item_id` and the other columns, items of the catalogue alone."""
        return attributes_in(self.folder)


def read_prepared(folder: str | Path) -> Prepared:
    """Read a prepared folder; `audit` is for whoever did not write it.

    Raises:
        UserError: no prepared folder, or one of its files is missing or cannot be read.
    """
    folder = Path(folder)
    record = read_record(folder)
    tables = {name: _table(folder / f"{name}.parquet") for name in PARTS[record["settings"]["split"]]}
    catalogue: Categories | None = None
    parts = {}
    for name, table in tables.items():  # the first is the one that training sees
        parts[name] = _sequences(table, catalogue)
        catalogue = parts[name].catalogue
    return Prepared(
        folder, record, parts,
        groups={name: table["group"].to_numpy() for name, table in tables.items()},
        starts={name: table["start"].to_numpy() for name, table in tables.items()},
        ends={name: table["end"].to_numpy() for name, table in tables.items()},
    )  # fmt: skip


def _table(path: Path) -> pa.Table:
    try:
        if pq.read_schema(path).remove_metadata().equals(SCHEMA):
            return pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    raise UserError("the columns are not those of a prepared folder", where=path, mend="prepare the log again")


def attributes_in(folder: Path) -> Path | None:
    """The table of the items' attributes in a prepared folder; None where there is none."""
    path = folder / ITEMS
    return path if path.exists() else None


def is_prepared(folder: str | Path) -> bool:
    """Whether `prepare` wrote this folder."""
    return (Path(folder) / RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """`prepared.json`, checked as far as reading the parts needs it."""
    if not is_prepared(folder):
        raise UserError("this is no prepared folder", where=folder, mend="write one with `prepare`")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        good = record["format"] == FORMAT and record["settings"]["split"] in PARTS
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise UserError(
            f"{RECORD} cannot be read, or is of another version", where=folder, mend="prepare the log again"
        )
    return record


def write_part(
    path: Path, events: Iterable[pa.RecordBatch], keys: Iterable[pa.RecordBatch], names: pa.Array, cut: bool
) -> dict[str, int]:
    """Write a part from its events, without holding them.

    Args:
        events: by session, in order: `sid` and `code`, whole numbers, and `at` in microseconds.
        keys: of each of these sessions, in the same order, `sid`, the user's `name`, and the `number` of the session.
        names: text of each code.
        cut: users were cut into sessions, so that the user alone names none.

    Returns:
        Counts of sequences, events and items.
    """
    sequences = total = 0
    known = np.zeros(len(names), dtype=bool)
    owners = _Reel(keys)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for batch in _whole_sessions(events):
            sid = batch["sid"].to_numpy()
            first = np.concatenate([[0], np.flatnonzero(np.diff(sid)) + 1])
            owner = owners.take(len(first))
            if not np.array_equal(owner["sid"].to_numpy(), sid[first]):
                raise AssertionError("sessions and their users are out of step")
            table = _packed(batch, first, owner, names, cut)
            sequences, total = sequences + len(table), total + len(batch)
            known[batch["code"].to_numpy()] = True
            writer.write_table(table)
    return {"sequences": sequences, "events": total, "items": int(known.sum())}


class _Reel:
    """Batches read a number of rows at a time."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self.batches = iter(batches)
        self.rest: list[pa.RecordBatch] = []

    def take(self, count: int) -> pa.Table:
        taken, wanted = [], count
        while wanted > 0:
            batch = self.rest.pop() if self.rest else next(self.batches)
            taken.append(batch.slice(0, wanted))
            if len(batch) > wanted:
                self.rest.append(batch.slice(wanted))
            wanted -= len(taken[-1])
        return pa.Table.from_batches(taken).combine_chunks()


def _whole_sessions(events: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables that end where a session does."""
    rest: pa.Table | None = None
    for batch in events:
        table = pa.Table.from_batches([batch])
        table = table if rest is None else pa.concat_tables([rest, table])
        if not len(table):
            continue
        sid = table["sid"].to_numpy()
        last = int(np.flatnonzero(sid != sid[-1])[-1]) + 1 if sid[0] != sid[-1] else 0
        rest = table.slice(last)
        if last:
            yield table.slice(0, last).combine_chunks()
    if rest is not None and len(rest):
        yield rest.combine_chunks()


def _packed(events: pa.Table, first: NDArray[np.int64], owner: pa.Table, names: pa.Array, cut: bool) -> pa.Table:
    """Events of whole sessions, which begin at `first`, as one row a session."""
    at = events["at"].to_numpy()
    ends = np.append(first[1:], len(at))
    offsets = pa.array(np.append(first, len(at)).astype(np.int32))
    user = owner["name"].combine_chunks().cast(pa.string())
    key = user
    if cut:
        key = pc.binary_join_element_wise(user, owner["number"].combine_chunks().cast(pa.string()), "/")
    items = names.take(pa.array(events["code"].to_numpy()))
    lists = (pa.ListArray.from_arrays(offsets, values) for values in (items, pa.array(at)))
    return pa.table([key, user, *lists, pa.array(at[first]), pa.array(at[ends - 1])], schema=SCHEMA)


def _sequences(table: pa.Table, catalogue: Categories | None) -> Sequences:
    """A part as sequences; over its own items where no catalogue is given."""
    places: dict[str, int] = {}  # of each item, by first appearance
    codes = [np.zeros(0, np.int64)]
    for chunk in table["items"].chunks:
        flat = chunk.flatten().dictionary_encode()
        here = np.array([places.setdefault(name, len(places)) for name in flat.dictionary.to_pylist()], np.int64)
        codes.append(here[flat.indices.to_numpy()] if len(flat) else here)
    names, at = np.array(list(places), dtype=object), np.concatenate(codes)
    if catalogue is None:  # as Categories.fit, without a Python object for every event
        counts = np.bincount(at, minlength=len(names))
        catalogue = Categories(tuple(names[i] for i in sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))))
    lengths = pc.list_value_length(table["items"]).to_numpy()
    return Sequences(
        keys=np.array(table["user_id"].to_pylist(), dtype=object),
        items=catalogue.encode(names)[at] if len(at) else at,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        catalogue=catalogue,
    )
