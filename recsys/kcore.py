"""The iterated k-core: no item with too few events, no session with too few events, until nothing changes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ibis import ir

from core.engines import Engine


@dataclass(frozen=True)
class Round:
    """What one round took away: items with too few events, then sessions with too few of what was left."""

    items: int
    sessions: int


def core(
    engine: Engine, events: ir.Table, min_item: int, min_length: int, folder: Path
) -> tuple[ir.Table, list[Round]]:
    """The largest part of a log in which every item has `min_item` events and every session `min_length`.

    An item's events are counted, not its sessions, as in GRU4Rec's preparation (Hidasi et al., 2016).

    Args:
        events: `sid` of the session and `code` of the item, whole numbers; other columns are kept.
        folder: for what the engine keeps.

    Returns:
        The events, and what each round took.
    """
    rounds: list[Round] = []
    last: Path | None = None
    while True:
        at = len(rounds)
        left, items = without(engine, events, "code", min_item, folder / f"items.{at}.parquet")
        left, sessions = without(engine, left, "sid", min_length, folder / f"sessions.{at}.parquet")
        if not items and not sessions:
            return events, rounds
        rounds.append(Round(items, sessions))
        here = folder / f"core.{at}.parquet"
        events = engine.keep(left, here)
        if last is not None:
            remove(last)
        last = here


def without(engine: Engine, events: ir.Table, key: str, least: int, path: Path) -> tuple[ir.Table, int]:
    """The events whose `key` has at least `least` of them, and how many keys had fewer."""
    if least <= 1:
        return events, 0
    rare = events.group_by(key).aggregate(events=events.count())
    rare = engine.keep(rare.filter(rare.events < least).select(key), path)
    found = size(rare)
    return (events.anti_join(rare, key), found) if found else (events, 0)


def size(table: ir.Table) -> int:
    """Rows."""
    return int(table.count().to_pyarrow().as_py())


def remove(path: Path) -> None:
    """A table that an engine kept: a file, or a folder of parts."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
