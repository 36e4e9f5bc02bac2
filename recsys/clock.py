"""Times of a log: read, brought to seconds, and the impossible ones named."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# a number's size tells its unit: seconds since 1970 stay below 1e11 until the year 5138
UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (np.inf, 1e9))
CLOCK = 1e8  # numbers below are not a date: an order of events, or seconds from some start
EARLIEST, LATEST = 315_532_800.0, 4_102_444_800.0  # 1980 and 2100


def clean_times(column: pd.Series) -> tuple[NDArray[np.float64], NDArray]:
    """Seconds (N,) and faults (N,): None, or why a time cannot be used.

    Numbers are seconds, milli-, micro- or nanoseconds since 1970, told apart by size, or any increasing counter; text is
    read as ISO 8601 dates. The unit of most rows is the file's: rows in another one are faults, since a row off by a
    factor of 1000 would put a session out of order.
    """
    missing = column.isna().to_numpy()
    if pd.api.types.is_datetime64_any_dtype(column):
        values = _epoch(column)
    elif isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        values = column.to_numpy(dtype=np.float64, copy=True)
    else:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        text = np.isnan(values) & ~missing
        if text.any():
            values[text] = _epoch(pd.to_datetime(column[text], errors="coerce", utc=True, format="ISO8601"))
    fault = np.full(len(values), None, dtype=object)
    fault[missing] = "missing time"
    fault[~missing & ~np.isfinite(values)] = "unreadable time"
    fine = np.isfinite(values)
    fault[fine & (values < 0)] = "negative time"
    fine &= values >= 0
    if not fine.any():
        return values, fault
    unit = np.searchsorted([limit for limit, _ in UNITS], values, side="right").clip(max=len(UNITS) - 1)
    usual = np.bincount(unit[fine]).argmax()
    fault[fine & (unit != usual)] = "time in another unit"
    fine &= unit == usual
    values = values / UNITS[usual][1]
    if np.median(values[fine]) >= CLOCK:
        fault[fine & ((values < EARLIEST) | (values > LATEST))] = "absurd time"
    return values, fault


def _epoch(dates: pd.Series) -> NDArray[np.float64]:
    """Dates as seconds since 1970; NaN where there is none."""
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    seconds = (dates - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    return seconds.to_numpy(dtype=np.float64, na_value=np.nan)
