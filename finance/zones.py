"""Local time to UTC, by the same table of offsets in every engine.

A local time that occurs twice (clocks are put back) is the earlier moment; one that does not occur (clocks are put forward) is
read with the offset that held before, as Python's `fold=0` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from core.patterns import DAY

LAST = 130 * 366 * DAY  # about the year 2100; later times keep that offset


@lru_cache
def offsets(zone: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Local times (T,) in seconds from which on a new offset holds, and the offsets (T + 1,) in seconds east of UTC."""
    info = ZoneInfo(zone)

    def at(moment: int) -> int:
        shift = datetime.fromtimestamp(moment, UTC).astimezone(info).utcoffset()
        return int(shift.total_seconds()) if shift is not None else 0

    starts, found = [], [at(0)]
    for day in range(0, LAST, DAY):
        low, high, after = day, day + DAY, at(day + DAY)
        if after == found[-1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if at(middle) == found[-1] else (low, middle)
        starts.append(high + max(found[-1], after))
        found.append(after)
    return tuple(starts), tuple(found)


def to_utc(local: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Seconds since 1970 of local wall-clock seconds (N,)."""
    starts, found = offsets(zone)
    return local - np.array(found)[np.searchsorted(np.array(starts, dtype=np.int64), local, side="right")]


def by_day(zone: str) -> dict[str, NDArray[np.int64]]:
    """For an engine to join: days `of` 1970 on (T,) until LAST; and of each the local second since 1970 at which the offset
    changes (`switch`), the offset `before` that second, and the one `after` it began."""
    starts, found = (np.array(values, dtype=np.int64) for values in offsets(zone))
    days = np.arange(LAST // DAY, dtype=np.int64)
    at = np.searchsorted(starts, days * DAY, side="right")
    switch = np.append(starts, np.iinfo(np.int64).max)[at]
    return {"of": days, "switch": switch, "before": found[at], "after": np.append(found, found[-1])[at + 1]}
