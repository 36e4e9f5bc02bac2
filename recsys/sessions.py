"""Session sets with their own test: training sessions in order of time, and test sessions expanded to every prefix and what followed.

The published protocol (SR-GNN, Wu et al. 2019, and those after it): the target is ranked among all items, those of the prefix
too, since shoppers go back to what they saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.codec import FIRST, Categories
from core.datasets import locate, verify
from core.errors import UserError
from recsys.known import SESSIONS
from recsys.sequences import Sequences

TRAIN, TEST = "train_sessions.parquet", "test_examples.parquet"


@dataclass(frozen=True)
class SessionSet:
    """Training sessions, and examples to rank.

    Attributes:
        name: of the set.
        train: training sessions, the oldest first; their items are the catalogue.
        history: (M sequences) test prefixes over the same catalogue.
        target: (M,) ids of what followed; 1 where training never saw the item.
        group: (M,) number of the session that each example was cut from.
    """

    name: str
    train: Sequences
    history: Sequences
    target: NDArray[np.int64]
    group: NDArray[np.int64]


def read_sessions(data: str | Path) -> SessionSet:
    """A folder of `train_sessions.parquet` (session_id, items) and `test_examples.parquet` (prefix, target), or a known set's name.

    Args:
        data: a folder, or `diginetica`, `tmall`, `nowplaying` or `retailrocket`, whose checksums are verified.

    Raises:
        UserError: files that are missing, differ from the published ones, or hold something else.
    """
    folder = locate(data, SESSIONS)
    if str(data) in SESSIONS:
        verify(folder, SESSIONS[str(data)])
    train, test = _table(folder / TRAIN, ("items",)), _table(folder / TEST, ("prefix", "target"))
    items, offsets = _lists(train["items"], folder / TRAIN)
    prefixes, starts = _lists(test["prefix"], folder / TEST)
    catalogue = Categories.fit(items, max_size=len(items))
    names = train["session_id"] if "session_id" in train else np.arange(len(train))
    history = Sequences(np.arange(len(test)).astype(str).astype(object), catalogue.encode(prefixes), starts, catalogue)
    target = catalogue.encode(test["target"])
    return SessionSet(
        name=folder.name,
        train=Sequences(np.array(names).astype(str).astype(object), catalogue.encode(items), offsets, catalogue),
        history=history,
        target=target,
        group=groups(history, target),
    )


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


def expand(sessions: Sequences, shortest: int = 1) -> tuple[Sequences, NDArray[np.int64], NDArray[np.int64]]:
    """Every prefix of at least `shortest` events with what followed: history (M sequences), target (M,), session number (M,)."""
    rows = sessions.rows()
    at = np.arange(len(sessions.items))
    starts = sessions.offsets[rows]
    target = np.flatnonzero(at - starts >= shortest)
    return sessions.window(starts[target], target, sessions.keys[rows[target]]), sessions.items[target], rows[target]


def validation_of(
    train: Sequences, share: float = 0.1, limit: int = 10_000, shortest: int = 1, seed: int = 0
) -> tuple[Sequences, Sequences, NDArray[np.int64], NDArray[np.int64]]:
    """The last `share` of the training sessions as examples: earlier sessions, history, target and session number.

    Targets that no earlier session holds are left out, as the published tests leave them out.

    Args:
        limit: examples at most, drawn evenly.
    """
    first = len(train) - max(1, round(share * len(train)))
    earlier = train.select(np.arange(first))
    history, target, group = expand(train.select(np.arange(first, len(train))), shortest)
    known = np.zeros(train.catalogue.size, dtype=bool)
    known[earlier.items] = True
    known[:FIRST] = False
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(known[target]))[:limit]
    rows = np.sort(rows)
    return earlier, history.select(rows), target[rows], group[rows]


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
