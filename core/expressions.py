"""A raw column as names, numbers or seconds, in ibis expressions that mean the same in DuckDB and Spark.

A domain's tests hold them together with what it does to a pandas table.
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import float_info
from typing import Any, NamedTuple

import ibis
from ibis import ir

from core.patterns import DAY, FAR, ISO, NUMBER, WHOLE

NO = ibis.literal(False)


def matches(text: ir.StringValue, pattern: str) -> ir.BooleanValue:
    """Whether the whole text follows a pattern that the empty text does not."""
    return (text != "") & (text.re_extract(pattern, 0) == text)


def is_text(column: Any) -> bool:
    """Whether values are text, or whole numbers that not every engine has a type for: unsigned ones of 64 bits, decimals in Spark."""
    kind = column.type()
    return kind.is_string() or kind.is_uint64() or kind.is_decimal()


def name(column: Any) -> tuple[ir.StringValue, ir.BooleanValue]:
    """Values as text, null where missing or empty, so that 3 and 3.0 read the same; and where a number is no name."""
    if column.type().is_string():
        return column.nullif(""), NO
    if column.type().is_integer() or column.type().is_decimal():
        return column.cast("string"), NO
    integer = column.try_cast("int64")  # rounded or cut, and null where there is none
    whole = ((integer.cast("float64") == column) & (column.abs() < WHOLE)).fill_null(False)
    return (
        whole.ifelse(integer.cast("string"), ibis.null("string")),
        (column.notnull() & ~column.isnan() & ~whole).fill_null(False),
    )


def number(column: Any) -> tuple[ir.FloatingValue, ir.BooleanValue]:
    """Values, null where missing or at fault; and where they are infinite or no number."""
    kind = column.type()
    if kind.is_boolean():
        return column.cast("int8").cast("float64"), NO
    if kind.is_floating():
        value = column.cast("float64")
        nan, infinite = value.isnan(), value.abs() > float_info.max  # of Spark, ibis takes no value for infinite
        return (nan | infinite).ifelse(ibis.null("float64"), value), (infinite & ~nan).fill_null(False)
    if kind.is_integer():
        return column.cast("float64"), NO
    text = column.cast("string")
    word = text.re_extract("^ *([a-zA-Z]+) *", 1).lower()
    spelled = matches(text, "^ *[a-zA-Z]+ *")
    reads = matches(text, NUMBER)
    value = ibis.cases(
        (reads, text.try_cast("float64")),
        (spelled & (word == "true"), 1.0),
        (spelled & (word == "false"), 0.0),
        else_=ibis.null("float64"),
    )
    missing = (text == "") | (spelled & (word == "nan"))
    return value, (text.notnull() & value.isnull() & ~missing).fill_null(False)


@dataclass(frozen=True)
class Habits:
    """What a text column of times is like as a whole: how many values are numbers, ISO 8601, and ISO 8601 with an offset."""

    numbers: int
    iso: int
    zoned: int


def habits(table: ir.Table, column: str) -> Habits | None:
    """Counted in the engine, for a column of text; None for others."""
    text = table[column]
    if not text.type().is_string():
        return None
    iso = matches(text, ISO)
    counts = table.aggregate(
        numbers=number(text)[0].notnull().sum(),
        iso=iso.sum(),
        zoned=(iso & (_zone(text.re_extract(ISO, 1)) != "")).sum(),
    )
    row = counts.to_pyarrow().to_pylist()[0]
    return Habits(**{key: int(value or 0) for key, value in row.items()})


class Wall(NamedTuple):
    """What a column of times says: `local` seconds since 1970, null where they cannot be read; seconds `east` of UTC, null where
    it names no zone; and where a value is `given`."""

    local: Any
    east: Any
    given: Any


def wall(column: Any, seen: Habits | None) -> Wall:
    """Numbers are seconds; text is ISO 8601, with or without an offset, or numbers where those are the more; fractions are cut."""
    kind, utc, nowhere = column.type(), ibis.literal(0, "int64"), ibis.null("int64")
    if kind.is_timestamp():
        return Wall(_epoch(column), utc if kind.timezone else nowhere, column.notnull())
    if kind.is_date():
        column, seen = column.cast("string"), Habits(0, 1, 0)
    if seen is None or seen.numbers > seen.iso:
        value, wrong = number(column)
        near = value.abs() < FAR  # before the cast: a larger one may not fit
        seconds = near.ifelse(value, ibis.null("float64")).floor().cast("int64")
        return Wall(seconds, utc, value.notnull() | wrong)
    core = column.re_extract(ISO, 1)
    year, month, day, hour, minute, second = (
        core.substr(at, width).try_cast("int64") for at, width in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
    )
    hour, minute = hour.fill_null(0), minute.fill_null(0)
    second = (core.substr(16, 1) == ":").ifelse(second, 0).fill_null(0)
    suffix = _zone(core)
    digits = suffix.replace(":", "")
    hours, minutes = (digits.substr(at, 2).try_cast("int64").fill_null(0) for at in (1, 3))
    real = matches(column, ISO) & _on_calendar(year, month, day) & (hour < 24) & (minute < 60) & (second < 60)
    local = _days(year, month, day) * DAY + hour * 3600 + minute * 60 + second
    east = (digits.substr(0, 1) == "-").ifelse(-1, 1) * (hours * 3600 + minutes * 60)
    real &= (hours < 24) & (minutes < 60)
    return Wall(real.ifelse(local, nowhere), (suffix != "").ifelse(east, nowhere), column.nullif("").notnull())


def to_utc(
    rows: ir.Table, days: ir.Table | None, edges: tuple[int, int], local: str, east: str, seconds: str
) -> ir.Table:
    """Adds the column `seconds` since 1970, null where they cannot be read, of what `wall` gave.

    Args:
        days: for the zone of values that name none, the days `of` 1970 on, the local second of each at which the offset changes
            (`switch`), and the offsets `before` and `after` it; None: UTC.
        edges: offsets before and after those days.
        local, east: names of columns.
    """
    if days is None:
        return rows.mutate(_bounded(rows[local] - rows[east].fill_null(0)).name(seconds))
    joined = rows.mutate((rows[local] // DAY).name("tacit day")).left_join(days, [("tacit day", "of")])
    beyond = (joined[local] < 0).ifelse(*edges)
    there = (joined[local] < joined.switch).ifelse(joined.before, joined.after).coalesce(beyond)
    value = _bounded(joined[local] - joined[east].coalesce(there))
    return joined.select(*rows.columns, value.name(seconds))


def _bounded(seconds: Any) -> Any:
    return (seconds.abs() < FAR).ifelse(seconds, ibis.null("int64"))


def _zone(core: Any) -> Any:
    """The offset at the end of an ISO 8601 text, empty where there is none."""
    return core.substr(11).re_extract("([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$", 1)


def _epoch(stamp: Any) -> Any:
    whole = stamp.truncate("s")  # a cast of a fraction rounds in one engine and cuts in the other
    return whole.epoch_seconds().cast("int64")


def _on_calendar(year: Any, month: Any, day: Any) -> Any:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    longest = ibis.cases((month == 2, leap.ifelse(29, 28)), (month.isin([4, 6, 9, 11]), 30), else_=31)
    return (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= longest)


def _days(year: Any, month: Any, day: Any) -> Any:
    """Days since 1970 of a date of the Gregorian calendar; years that begin in March, in eras of 400."""
    year = (month <= 2).ifelse(year - 1, year)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
