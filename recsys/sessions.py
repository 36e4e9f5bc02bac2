"""Session sets with their own test: training sessions in order of time, and test sessions expanded to every prefix and what followed.

The published protocol (SR-GNN, Wu et al. 2019, and those after it): the target is ranked among all items, those of the prefix
too, since shoppers go back to what they saw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.codec import FIRST, Categories
from core.datasets import locate, verify
from core.errors import UserError
from recsys.known import SESSIONS
from recsys.sequences import Sequences
from recsys.split import Examples, Split, prefixes

TRAIN, TEST = "train_sessions.parquet", "test_examples.parquet"


def read_sessions(data: str | Path) -> Split:
    """A folder of `train_sessions.parquet` (session_id, items) and `test_examples.parquet` (prefix, target), or a known set's name.

    Validation questions are of the last tenth of the training sessions.

    Args:
        data: a folder, or `diginetica`, `tmall`, `nowplaying` or `retailrocket`, whose checksums are verified.

    Raises:
        UserError: files that are missing, differ from the published ones, or hold something else.
    """
    folder = locate(data, SESSIONS)
    if str(data) in SESSIONS:
        verify(folder, SESSIONS[str(data)])
    sessions, asked = _table(folder / TRAIN, ("items",)), _table(folder / TEST, ("prefix", "target"))
    items, offsets = _lists(sessions["items"], folder / TRAIN)
    prefixes, starts = _lists(asked["prefix"], folder / TEST)
    catalogue = Categories.fit(items, max_size=len(items))
    names = sessions["session_id"] if "session_id" in sessions else np.arange(len(sessions))
    history = Sequences(np.arange(len(asked)).astype(str).astype(object), catalogue.encode(prefixes), starts, catalogue)
    target = catalogue.encode(asked["target"])
    train = Sequences(np.array(names).astype(str).astype(object), catalogue.encode(items), offsets, catalogue)
    earlier, validation = last_sessions(train)
    return Split(
        name="later sessions, as published: each test prefix asks what followed; all items ranked, repeats allowed",
        train=train, validation=validation, test=Examples(history, target, groups(history, target)),
        repeats=True, unit="sessions", held_out=0, earlier=earlier,
    )  # fmt: skip


def is_session_set(data: str | Path) -> bool:
    """Whether `read_sessions` reads this: a known session set, or a folder of its two files."""
    return str(data) in SESSIONS or (Path(data) / TEST).is_file()


def groups(history: Sequences, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) from 0, for examples of one session that follow one another, the longest prefix first.

    Example i + 1 is of the session of example i where its prefix and target together are the prefix of i.
    """
    lengths, ends = history.lengths, history.offsets[1:]
    same = np.zeros(len(history), dtype=bool)
    shorter = np.flatnonzero((lengths[1:] == lengths[:-1] - 1) & (lengths[:-1] > 0))
    same[1 + shorter[history.items[ends[shorter] - 1] == target[shorter + 1]]] = True
    # the prefix itself must agree too: compare it item by item
    asked = np.flatnonzero(same)
    counts = lengths[asked]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    here = history.items[np.repeat(history.offsets[asked], counts) + within]
    there = history.items[np.repeat(history.offsets[asked - 1], counts) + within]
    differ = np.bincount(np.repeat(np.arange(len(asked)), counts), weights=here != there, minlength=len(asked))
    same[asked[differ > 0]] = False
    return np.cumsum(~same) - 1


def last_sessions(train: Sequences, share: float = 0.1) -> tuple[Sequences, Examples]:
    """The sessions before the last `share` of them, and what those ask.

    Targets that no earlier session holds are left out, as the published tests leave them out.
    """
    first = len(train) - max(1, round(share * len(train)))
    earlier = train.select(np.arange(first))
    asked = prefixes(train.select(np.arange(first, len(train))))
    known = np.zeros(train.catalogue.size, dtype=bool)
    known[earlier.items] = True
    known[:FIRST] = False
    return earlier, asked.select(np.flatnonzero(known[asked.target]))


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    from recsys.data import read_table

    if not path.is_file():
        raise UserError(
            "a file of the session set is missing", where=path, mend=f"give a folder with {TRAIN} and {TEST}"
        )
    table = read_table(path)
    lost = [column for column in columns if column not in table]
    if lost or table.empty:
        raise UserError(
            f"no column {lost[0]}" if lost else "the table has no rows",
            where=path.name,
            mend=f"give {', '.join(columns)}",
        )
    return table


def _lists(column: pd.Series, path: Path) -> tuple[NDArray, NDArray[np.int64]]:
    """The lists' values one after the other, and where each begins."""
    if not column.map(lambda value: isinstance(value, (list, tuple, np.ndarray))).all():
        raise UserError(f"column {column.name} does not hold lists", where=path.name, mend="give lists of items")
    lengths = column.map(len).to_numpy(dtype=np.int64)
    flat = np.concatenate([np.asarray(value) for value in column]) if len(column) else np.zeros(0)
    return flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
