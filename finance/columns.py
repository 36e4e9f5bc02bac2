"""A raw column, whatever its type, as text, numbers or seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def text(column: pd.Series) -> pd.Series:
    """Values as text, missing kept missing; 3 and 3.0 read the same."""
    missing = column.isna()
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(object).map(str).where(~missing, None)


def number(column: pd.Series) -> NDArray[np.float64]:
    """Numbers as float64; what is not a number becomes NaN."""
    if pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if is_text(column):
        column = column.astype(object).where(column.notna(), None)
        column = column.map(
            lambda v: {"true": "1", "false": "0"}.get(str(v).strip().lower(), v) if v is not None else v
        )
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def seconds(column: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Seconds since 1970 and where they are readable. Numbers are seconds; text is ISO 8601, with any offset, read as UTC."""
    number = None
    if pd.api.types.is_numeric_dtype(column):
        number = column.to_numpy(dtype=np.float64, na_value=np.nan)
    elif is_text(column) and not pd.api.types.is_datetime64_any_dtype(column):
        as_number = pd.to_numeric(column, errors="coerce")
        if as_number.notna().any() and as_number.notna().mean() > 0.5:
            number = as_number.to_numpy(dtype=np.float64, na_value=np.nan)
    if number is None:
        stamps = pd.to_datetime(
            column,
            errors="coerce",
            utc=True,
            format=None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601",
        )
        readable = stamps.notna().to_numpy()
        stamps = stamps.fillna(pd.Timestamp(0, tz="UTC")).astype("datetime64[s, UTC]")
        return stamps.astype("int64").to_numpy(), readable
    readable = np.isfinite(number) & (np.abs(number) < 4e10)  # the year 3237: more is milliseconds, or rubbish
    return np.where(readable, np.nan_to_num(number, posinf=0, neginf=0), 0).astype(np.int64), readable
