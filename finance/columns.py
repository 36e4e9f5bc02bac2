"""A raw column of a pandas table, whatever its type, as names, numbers or seconds. core.expressions says the same to an engine."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.patterns import FAR, NUMBER, WHOLE
from finance.zones import to_utc

Mask = NDArray[np.bool_]
_NUMBER = re.compile(NUMBER)
_MOMENT = (
    r"^ *([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?) ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)? *\Z"
)


def is_text(column: pd.Series) -> bool:
    """Whether values are text, or whole numbers that not every engine has a type for."""
    return not pd.api.types.is_numeric_dtype(column) or column.dtype in ("uint64", "UInt64")


def names(column: pd.Series) -> tuple[pd.Series, Mask]:
    """Values as text, None where missing or empty, so that 3 and 3.0 read the same; and where a number is no name (N,)."""
    codes, values = pd.factorize(column)
    wrong = np.zeros(len(values) + 1, bool)  # the last stands for missing ones, whose code is -1
    made = np.full(len(values) + 1, None, object)
    for i, value in enumerate(values):
        if isinstance(value, float | np.floating):
            wrong[i] = not (float(value).is_integer() and abs(float(value)) < WHOLE)
            made[i] = None if wrong[i] else str(int(value))
        else:
            made[i] = str(value) or None
    return pd.Series(made[codes], index=column.index, dtype=object), wrong[codes]


def number(column: pd.Series) -> tuple[NDArray[np.float64], Mask]:
    """Values (N,), NaN where missing or at fault; and where they are infinite or no number."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        wrong = np.isinf(values)
        return np.where(wrong, np.nan, values), wrong
    codes, texts = pd.factorize(column)
    made = np.full(len(texts) + 1, np.nan)
    wrong = np.zeros(len(texts) + 1, bool)
    for i, value in enumerate(texts):
        said = str(value)
        word = said.strip(" ").lower()
        if word in ("true", "false"):
            made[i] = word == "true"
        elif _NUMBER.fullmatch(said):
            made[i] = float(said)
        else:
            wrong[i] = said != "" and word != "nan"
    return made[codes], wrong[codes]


class Moments(NamedTuple):
    """Seconds since 1970 (N,), 0 where not readable; where a value stands (N,), where it can be read (N,), and where it lacks
    the zone that others of the column have (N,)."""

    seconds: NDArray[np.int64]
    given: Mask
    readable: Mask
    zoneless: Mask


def moments(column: pd.Series, zone: str = "") -> Moments:
    """Numbers are seconds; text is ISO 8601, with or without an offset, or numbers where those are the more; fractions are cut.

    Args:
        zone: of values that name none; where it is given, none is `zoneless`. UTC where it is not.
    """
    given = column.notna().to_numpy()
    if pd.api.types.is_datetime64_any_dtype(column):
        aware = isinstance(column.dtype, pd.DatetimeTZDtype)
        plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if aware else column
        stamps = plain.fillna(pd.Timestamp(0)).dt.floor("s").to_numpy().astype("datetime64[s]").astype(np.int64)
        return _bounded(stamps if aware else to_utc(stamps, zone or "UTC"), given, given, np.zeros_like(given))
    if pd.api.types.is_numeric_dtype(column):
        return _numbers(column.to_numpy(dtype=np.float64, na_value=np.nan), given)
    texts = column.where(column.notna(), "").map(str)
    given = (texts != "").to_numpy()
    parts = texts.str.extract(_MOMENT)
    iso = parts[0].notna().to_numpy()
    values, wrong = number(texts)
    if (~np.isnan(values)).sum() > iso.sum():
        return _numbers(values, ~np.isnan(values) | wrong)
    zoned = parts[2].notna().to_numpy()
    local = pd.to_datetime(parts[0] + "T" + parts[1].fillna("00:00").str.slice(0, 8), errors="coerce", format="ISO8601")
    hours, minutes = (parts[2].str.replace(":", "").str.slice(i, i + 2) for i in (1, 3))
    east = [pd.to_numeric(p.replace("", None)).fillna(0).to_numpy(np.int64) for p in (hours, minutes)]
    sign = np.where(parts[2].str.startswith("-", na=False), -1, 1)
    real = local.notna().to_numpy() & (east[0] < 24) & (east[1] < 60)
    wall = local.fillna(pd.Timestamp(0)).to_numpy().astype("datetime64[s]").astype(np.int64)
    seconds = np.where(zoned, wall - sign * (east[0] * 3600 + east[1] * 60), to_utc(wall, zone or "UTC"))
    zoneless = iso & ~zoned if zoned.any() and not zone else np.zeros_like(iso)
    return _bounded(seconds, given, iso & real, zoneless)


def _numbers(values: NDArray[np.float64], given: Mask) -> Moments:
    readable = np.isfinite(values) & (np.abs(values) < FAR)
    seconds = np.floor(np.where(readable, values, 0)).astype(np.int64)
    return _bounded(seconds, given, readable, np.zeros_like(readable))


def _bounded(seconds: NDArray[np.int64], given: Mask, readable: Mask, zoneless: Mask) -> Moments:
    readable = readable & (np.abs(seconds) < FAR)
    return Moments(np.where(readable, seconds, 0), given, readable, zoneless)
