"""Click logs and item sequences to validated sequences. What cannot be used goes to quarantine, with its row and reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

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
    everyone = events["key"].dropna().unique()
    events = _valid(events, quarantine)
    events = _capped(events, limits.longest, quarantine)
    if (events.empty and not keep_empty) or not len(everyone):
        raise UserError(f"nothing usable is left ({quarantine.summary()})", where=where, mend="see `check`")
    if rows - len(events) > limits.bad * rows and not keep_empty:
        raise UserError(
            f"{rows - len(events)} of {rows} rows had to be set aside ({quarantine.summary()})", where=where,
            mend="mend the data, see `check`, or raise --max-bad",
        )  # fmt: skip
    catalogue = catalogue or Categories.fit(events["item"])
    _, first, counts = np.unique(events["user"].to_numpy(), return_index=True, return_counts=True)
    keys = events["key"].to_numpy(dtype=object)[first]
    if keep_empty:
        lost = everyone[~pd.Index(everyone).isin(keys)]
        keys, counts = np.concatenate([keys, lost]), np.concatenate([counts, np.zeros(len(lost), counts.dtype)])
    sequences = Sequences(
        keys=keys,
        items=catalogue.encode(events["item"]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        catalogue=catalogue,
    )
    if keep_empty:  # users in the order of their first row, whether or not it could be used
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


def text_ids(column: pd.Series) -> pd.Series:
    """Ids as text, None where missing or infinite; 3 and 3.0 read the same."""
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.astype("Float64") if column.dtype != bool else column
        whole = pd.api.types.is_integer_dtype(column) or (numbers.dropna() % 1 == 0).all()
        finite = ~column.isna() & np.isfinite(column.astype(float))
        column = column.where(finite)
        if whole and finite.any() and not pd.api.types.is_unsigned_integer_dtype(column):  # these may not fit
            column = column.astype("Int64")
        return column.astype(object).map(str).where(finite, None)
    missing = column.isna()
    text = column.astype(object).map(str)
    missing |= text.str.strip().str.lower().isin(_NOT_AN_ID)
    text = text.where(~missing, None)
    if text[~missing].str.fullmatch(r"-?\d+\.0+").all():  # whole numbers that a table with gaps wrote as 3.0
        text = text.str.replace(re.compile(r"\.0+$"), "", regex=True)
    return text


def _events(frame: pd.DataFrame, columns: Columns, where: str) -> pd.DataFrame:
    """One row an event: key (user as text), item (text), time (as given), row (from 1)."""
    user = named(list(frame.columns), columns.user, USERS, "user", where)
    item = named(list(frame.columns), columns.item, ITEMS, "item", where)
    time = None if columns.time == "row" else named(list(frame.columns), columns.time, TIMES, "time", where)
    rows = np.arange(1, len(frame) + 1)
    return pd.DataFrame(
        {
            "key": text_ids(frame[user]).to_numpy(dtype=object),
            "item": text_ids(frame[item]).to_numpy(dtype=object),
            "time": rows.astype(float) if time is None else frame[time].to_numpy(),
            "row": rows,
        }
    )


def _exploded(frame: pd.DataFrame, columns: Columns, where: str) -> pd.DataFrame:
    """One row an event from lists of items, whose place stands for time."""
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
    return pd.DataFrame(
        {
            "key": np.repeat(text_ids(frame[user]).to_numpy(dtype=object), repeats),
            "item": text_ids(filled.infer_objects()).to_numpy(dtype=object),
            "time": place.astype(float),
            "row": np.repeat(np.arange(1, len(frame) + 1), repeats),
        }
    )


def _valid(events: pd.DataFrame, quarantine: Quarantine) -> pd.DataFrame:
    """Events in order (user, time, row), without those that cannot be used; adds `user` (0 … N-1, by first appearance)."""
    seconds, faults = clean_times(events["time"])
    reason = pd.Series(faults, index=events.index, dtype=object)
    reason = reason.where(events["item"].notna(), "missing item").where(events["key"].notna(), "missing user")
    events = events.assign(time=seconds, user=pd.factorize(events["key"])[0])
    repeat = reason.isna() & events[reason.isna()].duplicated(["user", "item", "time"]).reindex(
        events.index, fill_value=False
    )
    reason = reason.where(~repeat, "duplicate row")
    for row, why in zip(events["row"][reason.notna()], reason[reason.notna()], strict=True):
        quarantine.add(f"row {row}", why)
    kept = events[reason.isna()].copy()
    kept["user"] = pd.factorize(kept["key"])[0]
    return kept.sort_values(["user", "time"], kind="stable")


def _capped(events: pd.DataFrame, longest: int, quarantine: Quarantine) -> pd.DataFrame:
    """Only the latest `longest` events of each user."""
    from_end = events.groupby("user", sort=False).cumcount(ascending=False)
    over = from_end >= longest
    for row in events["row"][over]:
        quarantine.add(f"row {row}", "over-long session", f"more than {longest} events follow in it")
    return events[~over]
