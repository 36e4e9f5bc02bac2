"""Click logs and item sequences to validated sequences. What cannot be used goes to quarantine, with its row and reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.codec import FIRST, Categories
from core.datasets import locate, verify
from core.errors import UserError
from core.quarantine import Quarantine
from recsys.clock import clean_times
from recsys.known import KNOWN
from recsys.sequences import Sequences

USERS = ("user_id", "session_id", "user", "session", "visitorid", "customer_id")
ITEMS = ("item_id", "item", "product_id", "itemid", "aid", "sku")
TIMES = ("timestamp", "time", "ts", "datetime", "date", "event_time")
NAMES = (
    "interactions.parquet",
    "interactions.csv",
    "sequences.parquet",  # this and the next: what `prepare` writes
    "train.parquet",
    "train_sessions.parquet",
)
_WHOLE = re.compile(r"-?\d+\.0+")
_NOT_AN_ID = {"", "nan", "inf", "-inf", "+inf", "infinity", "-infinity", "null", "none", "<na>"}


@dataclass(frozen=True)
class Columns:
    """Names of the columns; an empty name means the first usual one that is there.

    Attributes:
        user: user or session.
        item: item.
        time: time; `row` takes the rows' own order instead.
        items: column of item lists, where the data hold one row a user.
    """

    user: str = ""
    item: str = ""
    time: str = ""
    items: str = "items"


@dataclass(frozen=True)
class Limits:
    """What is still believed.

    Attributes:
        longest: events a session may have; the earlier ones of a longer session are set aside (robots).
        bad: share of the rows that may be set aside before loading fails.
    """

    longest: int = 1000
    bad: float = 0.5


@dataclass(frozen=True)
class Loaded:
    """What a file gave: sequences, what was set aside, and rows read."""

    sequences: Sequences
    quarantine: Quarantine
    rows: int
    file: Path


def load(
    data: str | Path,
    columns: Columns | None = None,
    limits: Limits | None = None,
    catalogue: Categories | None = None,
    keep_empty: bool = False,
) -> Loaded:
    """Read interactions (csv or parquet: user, item, time) or item sequences (parquet: user_id, items).

    Events of a user are ordered by time, equal times by their order in the file. Exact repeats (same user, item and
    time) are set aside but for the first.

    Args:
        data: a file, a folder that holds one, or a known set (`beauty`, `movielens_100k`, …), whose checksums are verified; of a
            session set its training sessions (`recsys.sessions` gives its test too).
        columns: their names.
        limits: what is still believed.
        catalogue: known items; others become id 1 (unknown). None: every item of the data is known.
        keep_empty: users of whom nothing usable is left stay, with no events, and nothing counts as too much set aside:
            for recommending, where every user asks for an answer.

    Raises:
        UserError: unreadable or empty file, missing columns, too much set aside, nothing left.
    """
    path = find(data)
    frame = read_table(path)
    loaded = from_frame(frame, columns, limits, catalogue, keep_empty, where=path.name)
    return Loaded(loaded.sequences, loaded.quarantine, loaded.rows, path)


def find(data: str | Path) -> Path:
    """The one file that `data` names; a known set's checksum is verified."""
    path = locate(data, KNOWN)
    if str(data) in KNOWN:
        verify(path if path.is_dir() else path.parent, KNOWN[str(data)])
    if path.is_file():
        return path
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.iterdir() if file.suffix in (".csv", ".parquet") and file.is_file())
    if len(files) != 1:
        raise UserError(
            f"the folder holds {len(files)} csv or parquet files", where=data,
            mend=f"name the file itself, or call it {' or '.join(NAMES)}",
        )  # fmt: skip
    return files[0]


def read_table(path: Path) -> pd.DataFrame:
    """A csv (ids kept as text, a byte order mark allowed) or parquet file as a table; `UserError` where it cannot be read."""
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, encoding="utf-8-sig")
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            "the table cannot be read", where=path.name, mend=f"mend or export it again ({first})"
        ) from None
    raise UserError(f"'{path.suffix}' is not a format read here", where=path.name, mend="give .csv or .parquet")


def from_frame(
    frame: pd.DataFrame,
    columns: Columns | None = None,
    limits: Limits | None = None,
    catalogue: Categories | None = None,
    keep_empty: bool = False,
    where: str = "table",
) -> Loaded:
    """As `load`, for a table in memory."""
    columns, limits = columns or Columns(), limits or Limits()
    if frame.empty:
        raise UserError("the table has no rows", where=where, mend="give at least one interaction")
    quarantine = Quarantine()
    events = _exploded(frame, columns, where) if columns.items in frame.columns else _events(frame, columns, where)
    rows = len(events)
    everyone = pd.unique(events.key[~pd.isna(events.key)])
    events, user = _valid(events, quarantine)
    events, user = _capped(events, user, limits.longest, quarantine)
    if (not len(events) and not keep_empty) or not len(everyone):
        raise UserError(f"nothing usable is left ({quarantine.summary()})", where=where, mend="see `check`")
    if rows - len(events) > limits.bad * rows and not keep_empty:
        raise UserError(
            f"{rows - len(events)} of {rows} rows had to be set aside ({quarantine.summary()})", where=where,
            mend="mend the data, see `check`, or raise --max-bad",
        )  # fmt: skip
    catalogue = catalogue or Categories.fit(events.item)
    _, first, counts = np.unique(user, return_index=True, return_counts=True)
    keys = events.key[first]
    complete = np.array_equal(keys, everyone)
    if keep_empty and not complete:
        lost = everyone[~pd.Index(everyone).isin(keys)]
        keys, counts = np.concatenate([keys, lost]), np.concatenate([counts, np.zeros(len(lost), counts.dtype)])
    sequences = Sequences(
        keys=keys,
        items=catalogue.encode(events.item),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        catalogue=catalogue,
    )
    if keep_empty and not complete:  # users in the order of their first row, whether or not it could be used
        sequences = sequences.select(pd.Index(keys).get_indexer(everyone))
    return Loaded(sequences, quarantine, rows, Path(where))


def check_catalogue(sequences: Sequences) -> None:
    """Raise `UserError` where there is nothing to rank: one item only."""
    if sequences.catalogue.size - FIRST < 2:
        raise UserError("there is one item only: nothing to rank", where="item", mend="give data with 2 items or more")


def named(columns: Sequence[str], name: str, usual: tuple[str, ...], flag: str, where: str) -> str:
    """The one of `columns` called `name`, or the first usual one."""
    found = [column for column in ((name,) if name else usual) if column in columns]
    if found:
        return found[0]
    have = ", ".join(map(str, columns[:12]))
    looked = name or ", ".join(usual)
    raise UserError(f"no {flag} column ({looked}) among: {have}", where=where, mend=f"name it with --{flag}")


def text_ids(column: pd.Series) -> NDArray:
    """Ids as text (N,), None where missing or infinite; 3 and 3.0 read the same."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return np.array([str(value) for value in column.tolist()], dtype=object)
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.astype("Float64") if column.dtype != bool else column
        whole = pd.api.types.is_integer_dtype(column) or (numbers.dropna() % 1 == 0).all()
        finite = ~column.isna() & np.isfinite(column.astype(float))
        column = column.where(finite)
        if whole and finite.any() and not pd.api.types.is_unsigned_integer_dtype(column):  # these may not fit
            column = column.astype("Int64")
        return column.astype(object).map(str).where(finite, None).to_numpy(dtype=object)
    values = column.to_numpy(dtype=object)
    text = [None if lost else str(value) for value, lost in zip(values, pd.isna(values), strict=True)]
    text = [None if one is None or one.strip().lower() in _NOT_AN_ID else one for one in text]
    if all(_WHOLE.fullmatch(one) for one in text if one is not None):  # which a table with gaps wrote as 3.0
        text = [None if one is None else one.partition(".")[0] for one in text]
    return np.array(text, dtype=object)


@dataclass(frozen=True)
class _Events:
    """One row an event: user and item as text, None where missing; time as given; row of the table, from 1; (N,) each.

    Arrays rather than a table: of one session, pandas takes longer to look at the columns than a model to answer.
    """

    key: NDArray
    item: NDArray
    time: pd.Series
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)

    def at(self, places: NDArray) -> _Events:
        """The events at these places, in that order."""
        return _Events(self.key[places], self.item[places], self.time, self.row[places])


def _events(frame: pd.DataFrame, columns: Columns, where: str) -> _Events:
    """The events of a table of one row each."""
    user = named(list(frame.columns), columns.user, USERS, "user", where)
    item = named(list(frame.columns), columns.item, ITEMS, "item", where)
    time = None if columns.time == "row" else named(list(frame.columns), columns.time, TIMES, "time", where)
    rows = np.arange(1, len(frame) + 1)
    times = pd.Series(rows.astype(float)) if time is None else frame[time]
    return _Events(text_ids(frame[user]), text_ids(frame[item]), times, rows)


def _exploded(frame: pd.DataFrame, columns: Columns, where: str) -> _Events:
    """Events from lists of items, whose place stands for time."""
    user = named(list(frame.columns), columns.user, USERS, "user", where)
    lists = frame[columns.items]
    if not lists.map(lambda value: isinstance(value, (list, tuple, np.ndarray)) or value is None).all():
        raise UserError(
            f"column {columns.items} does not hold lists", where=where, mend="give lists of items, or one row an event"
        )
    lengths = lists.map(lambda value: 0 if value is None else len(value)).to_numpy(dtype=np.int64)
    filled = lists.where(lengths > 0, None).explode()  # an empty list becomes one event without an item
    repeats = np.maximum(lengths, 1)
    starts = np.concatenate([[0], np.cumsum(repeats)[:-1]])
    place = np.arange(repeats.sum()) - np.repeat(starts, repeats)
    return _Events(
        np.repeat(text_ids(frame[user]), repeats),
        text_ids(filled.infer_objects()),
        pd.Series(place.astype(float)),
        np.repeat(np.arange(1, len(frame) + 1), repeats),
    )


def _valid(events: _Events, quarantine: Quarantine) -> tuple[_Events, NDArray[np.int64]]:
    """Events in order (user, time, row), without those that cannot be used, and their users (0 … N-1, by first appearance)."""
    seconds, faults = clean_times(events.time)
    faults[pd.isna(events.item)] = "missing item"
    faults[pd.isna(events.key)] = "missing user"
    fine = np.flatnonzero(pd.isna(faults))
    user, item = pd.factorize(events.key[fine])[0], pd.factorize(events.item[fine])[0]
    repeat = pd.Index(_paired(_paired(user, item), pd.factorize(seconds[fine])[0])).duplicated()
    faults[fine[repeat]] = "duplicate row"
    for place in np.flatnonzero(~pd.isna(faults)):
        quarantine.add(f"row {events.row[place]}", faults[place])
    kept, user = fine[~repeat], user[~repeat]  # a user's first event is no repeat: the numbers have no gap
    order = np.lexsort((seconds[kept], user))
    return events.at(kept[order]), user[order]


def _paired(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers below N of N pairs of numbers below N, the same of equal pairs: their product fits 64 bits, as that of three would not."""
    return pd.factorize(left * (right.max(initial=0) + 1) + right)[0]


def _capped(
    events: _Events, user: NDArray[np.int64], longest: int, quarantine: Quarantine
) -> tuple[_Events, NDArray[np.int64]]:
    """Only the latest `longest` events of each user."""
    ends = np.cumsum(np.bincount(user))
    over = ends[user] - np.arange(len(user)) > longest
    if not over.any():
        return events, user
    for row in events.row[over]:
        quarantine.add(f"row {row}", "over-long session", f"more than {longest} events follow in it")
    return events.at(np.flatnonzero(~over)), user[~over]
