"""A raw click log as events in ibis expressions that mean the same in DuckDB and Spark: ids as text, times in microseconds, faults named.

What recsys.data and recsys.clock do to a pandas table; a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import ir

from core.engines import PLACE
from core.errors import UserError
from core.expressions import Habits, is_text, matches, name, number, wall
from core.lines import RAGGED, ROW, check_case, header
from core.patterns import NUMBER
from recsys.clock import CLOCK, EARLIEST, LATEST, UNITS
from recsys.data import ITEMS, TIMES, USERS, Columns, find, named

SECOND = 1_000_000  # microseconds
EVENTS = ("event", "event_type", "action", "behavior", "type")
FAULTS = (
    "unreadable line", "fraction as user", "fraction as item", "missing user", "missing item", "missing time", "unreadable time",
    "negative time", "time in another unit", "absurd time", "duplicate row", "over-long session",
)  # fmt: skip
_CODES = {fault: code for code, fault in enumerate(FAULTS)}
TWICE, OVER_LONG = _CODES["duplicate row"], _CODES["over-long session"]
_BLANK = "[ \t\r\n]*"
_NO_ID = f"^{_BLANK}(nan|[+]?infinity|-infinity|[+]?inf|-inf|null|none|<na>)?{_BLANK}"  # as recsys.data, lower case
_NO_TIME = f"^{_BLANK}(nan|null|none|<na>)?{_BLANK}"
_WHOLE = "^ *-?[0-9]{1,18} *"
_DECIMAL = "^-?[0-9]+[.]0+"  # a whole number that a table with gaps wrote as 3.0
_HUGE = 4e18  # microseconds; larger ones do not fit
_ISO = Habits(0, 1, 0)


class Moment(NamedTuple):
    """What a time says: `at` in microseconds since 1970, read in its own `unit` (0 seconds, 1 milli-, 2 micro-, 3 nanoseconds), and
    whether one is `given`. Both are null where it cannot be read; `at` is -1 where it is negative."""

    at: Any
    unit: Any
    given: Any


@dataclass(frozen=True)
class Log:
    """A raw log, as far as its header tells.

    Attributes:
        path: a csv or parquet file, or a folder `….parquet` of parts.
        columns: names by role: user, item, and time and event where they are read.
        kept: types of event that are kept; none: all.
        types: of the columns.
    """

    path: Path
    columns: dict[str, str]
    kept: tuple[str, ...]
    types: pa.Schema

    @property
    def parts(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]

    @classmethod
    def of(cls, data: str | Path, columns: Columns | None = None, event: str = "", kept: tuple[str, ...] = ()) -> Log:
        """Find a log and the columns of each role.

        Args:
            data: a file, a folder that holds one, a folder `….parquet` of part files, or a known set.
            columns: their names; `time="row"` takes the rows' own order.
            event: column of the event's type; empty takes a usual name, where `kept` is given.
            kept: types to keep.

        Raises:
            UserError: nothing there, unreadable, or a column is missing.
        """
        columns = columns or Columns()
        path = Path(data)
        if not (path.is_dir() and path.suffix == ".parquet"):
            path = find(data)
        types = header(path)
        if columns.items in types.names and not {*TIMES, columns.time} & {*types.names}:
            raise UserError(
                "these are sequences already: one row a user", where=path.name,
                mend="give a log with one row an event; sequences go to `pretrain` as they are",
            )  # fmt: skip
        roles = {
            "user": named(types.names, columns.user, USERS, "user", path.name),
            "item": named(types.names, columns.item, ITEMS, "item", path.name),
        }
        if columns.time != "row":
            roles["time"] = named(types.names, columns.time, TIMES, "time", path.name)
        if event or kept:
            roles["event"] = named(types.names, event, EVENTS, "event", path.name)
        check_case([c for c in types.names if c.lower() in {r.lower() for r in roles.values()}], path)
        for role, column in roles.items():
            kind = types.field(column).type
            if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_boolean(kind):
                raise UserError(
                    f"column '{column}' holds {kind}, which is no {role}", where=path.name, mend="name another one"
                )
        return cls(path, roles, kept, types)


def readable(parts: list[Path]) -> list[Path]:
    """The parts, or `UserError` where one is no whole parquet file with the first one's columns."""
    first = header(parts[0])
    for part in parts:
        if header(part).names != first.names:
            raise UserError("the parts have different columns", where=part.name, mend="export them again")
        if not pq.read_metadata(part).num_rows and len(parts) == 1:
            raise UserError("the table has no rows", where=part.name, mend="give at least one interaction")
    return parts


def clocked(raw: ir.Table, log: Log) -> ir.Table:
    """Of each row of the kept types its `row` (from 1), `user` and `item` as text, `at` and `unit`, and a first `fault`.

    It is to be kept before more is made of it: expressions are text to an engine, and would be repeated wherever they are used.
    """
    row = (raw[ROW] if ROW in raw.columns else raw[PLACE]).cast("int64") + 1
    ragged = raw[RAGGED] if RAGGED in raw.columns else ibis.literal(False)
    raw = raw.mutate(row.name("tacit n"), ragged.name("tacit ragged row"))
    if log.kept:
        kind, _ = name(raw[log.columns["event"]])
        raw = raw.filter(raw["tacit ragged row"] | kind.isin(list(log.kept)))
    user, no_user = identity(raw[log.columns["user"]])
    item, no_item = identity(raw[log.columns["item"]])
    if "time" in log.columns:
        time = moment(raw[log.columns["time"]])
    else:
        time = Moment(raw["tacit n"] * SECOND, ibis.literal(0, "int64"), ibis.literal(True))
    checks = {
        "unreadable line": raw["tacit ragged row"],
        "fraction as user": no_user,
        "fraction as item": no_item,
        "missing time": ~time.given,
    }  # fmt: skip; what `at` and `unit` tell is asked when they are there, in `judged`
    fault = ibis.cases(
        *((mask.fill_null(False), _CODES[why]) for why, mask in checks.items()), else_=ibis.null("int64")
    )
    return raw.select(
        raw["tacit n"].name("row"), user.name("user"), item.name("item"), time.at.name("at"), time.unit.name("unit"),
        fault.cast("int64").name("fault"),
    )  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a log is like as a whole: rows of the kept types and unreadable ones, the unit of most times, whether they are dates."""

    rows: int
    unreadable: int
    unit: int
    dates: bool


def seen(rows: ir.Table, log: Log) -> Seen:
    """Counted in the engine over what `clocked` gave."""
    sound = (rows.at >= 0).fill_null(False)
    counts = {f"u{u}": (sound & (rows.unit == u)).sum() for u in range(len(UNITS))}
    counts["unreadable"] = (rows.fault == _CODES["unreadable line"]).sum()
    counts["old"] = (sound & (rows.unit == 0) & (rows.at < int(CLOCK * SECOND))).sum()
    found = rows.aggregate(rows=rows.count(), **counts).to_pyarrow().to_pylist()[0]
    found = {key: int(value or 0) for key, value in found.items()}
    units = [found[f"u{u}"] for u in range(len(UNITS))]
    unit = units.index(max(units))
    dates = "time" in log.columns and not (unit == 0 and 2 * found["old"] > units[0])
    return Seen(found["rows"], found["unreadable"], unit, dates)


def texts(rows: ir.Table, role: str, log: Log) -> ir.Table:
    """The different ids of a role as `text`, those that mean a missing one left out: what is costly is asked once of each."""
    found = rows.filter(rows[role].notnull()).select(rows[role].name("text")).distinct()
    return found.filter(~matches(found.text.lower(), _NO_ID)) if _is_text(log, role) else found


def vocabulary(found: ir.Table, role: str, log: Log) -> ir.Table:
    """Of what `texts` gave the `name` that each has, and the name's `code`, in their order from 0.

    Where all ids of a column are whole numbers that a table with gaps wrote as 3.0, they are named 3.
    """
    name: Any = found.text
    if _is_text(log, role):
        counts = found.aggregate(all=found.count(), decimal=matches(found.text, _DECIMAL).sum())
        counted = counts.to_pyarrow().to_pylist()[0]
        if counted["all"] and counted["all"] == counted["decimal"]:
            name = found.text.re_extract("^(-?[0-9]+)", 1)
    named = found.mutate(name=name)
    return named.mutate(code=ibis.dense_rank().over(ibis.window(order_by="name")).cast("int64"))


def judged(rows: ir.Table, users: ir.Table, items: ir.Table, habits: Seen) -> ir.Table:
    """What `clocked` gave with ids as codes, and with the faults that only the whole log tells."""
    users, items = (
        table.select(**{f"{role} text": table.text, f"{role} code": table.code})
        for role, table in (("user", users), ("item", items))
    )
    rows = rows.left_join(users, rows.user == users["user text"]).select(*rows.columns, "user code")
    rows = rows.left_join(items, rows.item == items["item text"]).select(*rows.columns, "item code")
    user, item = rows["user code"], rows["item code"]
    checks: list[tuple[Any, Any]] = [
        (rows.fault <= _CODES["fraction as item"], rows.fault),
        (user.isnull(), _CODES["missing user"]),
        (item.isnull(), _CODES["missing item"]),
        (rows.fault.notnull(), rows.fault),
        (rows.unit.isnull(), _CODES["unreadable time"]),
        (rows["at"] < 0, _CODES["negative time"]),
        (rows.unit != habits.unit, _CODES["time in another unit"]),
    ]
    if habits.dates:
        absurd = (rows.at < int(EARLIEST * SECOND)) | (rows.at > int(LATEST * SECOND))
        checks.append((absurd, _CODES["absurd time"]))
    fault = ibis.cases(*checks, else_=ibis.null("int64")).cast("int64")
    return rows.select("row", user.name("user"), item.name("item"), "at", fault.name("fault"))


def _is_text(log: Log, role: str) -> bool:
    kind = log.types.field(log.columns[role]).type
    return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def identity(column: Any) -> tuple[Any, Any]:
    """Ids as text, null where missing, so that 3 and 3.0 read the same; and where a number is no id."""
    value, wrong = name(column)
    if column.type().is_floating():
        wrong &= column.abs() < float("1e308")  # infinity is missing, as recsys.data has it
    return value, wrong


def moment(column: Any) -> Moment:
    """Numbers are seconds, milli-, micro- or nanoseconds since 1970, told apart by size; text is such numbers, or ISO 8601 (UTC where it
    names no zone)."""
    kind, zero = column.type(), ibis.literal(0, "int64")
    if kind.is_timestamp():
        seconds = wall(column, None).local
        return _checked(
            seconds * SECOND + _fraction(column.cast("string")),
            seconds.notnull().ifelse(zero, ibis.null("int64")),
            column.notnull(),
        )
    if kind.is_date():
        column = column.cast("string")
    elif not is_text(column):
        if kind.is_integer():
            at, unit = _of_integer(column.cast("int64"))
            return Moment(at, unit, column.notnull())
        value, wrong = number(column)
        at, unit = _of_number(value)
        return Moment(at, unit, value.notnull() | wrong)
    text = column.cast("string")
    whole = matches(text, _WHOLE).ifelse(text.try_cast("int64"), ibis.null("int64"))
    value = matches(text, NUMBER).ifelse(text.try_cast("float64"), ibis.null("float64"))
    local, east, _ = wall(text, _ISO)
    dated = (local - east.fill_null(0)) * SECOND + _fraction(text)
    exact, rough, iso = (
        _of_integer(whole),
        _of_number(value),
        _checked(dated, local.notnull().ifelse(zero, ibis.null("int64")), True),
    )
    said = text.notnull() & ~matches(text.lower(), _NO_TIME).fill_null(False) & (text != "")
    given = ibis.cases((whole.notnull(), True), else_=said)  # a case is not asked further where it is answered
    pick = [ibis.cases((whole.notnull(), exact[i]), (value.notnull(), rough[i]), else_=iso[i]) for i in (0, 1)]
    return Moment(pick[0], pick[1], given.fill_null(False))


def _checked(at: Any, unit: Any, given: Any) -> Moment:
    return Moment((at < 0).ifelse(-1, at), unit, given)


def _of_integer(value: Any) -> tuple[Any, Any]:
    """Microseconds and unit of a whole number; every product fits, since its branch bounds it."""
    seconds, milli, micro = (int(limit) for limit, _ in UNITS[:-1])
    nano = ((value - value % 1000) / 1000).round().cast("int64")  # division is of floats; rounding mends its last bit
    at = ibis.cases(
        (value < 0, -1), (value < seconds, value * SECOND), (value < milli, value * 1000), (value < micro, value), else_=nano
    )  # fmt: skip
    return at, _unit(value)


def _of_number(value: Any) -> tuple[Any, Any]:
    """Microseconds, cut, and unit of a number with a fraction."""
    seconds, milli, micro = (limit for limit, _ in UNITS[:-1])
    at = ibis.cases(
        (value < 0, -1.0), (value < seconds, value * 1e6), (value < milli, value * 1e3), (value < micro, value),
        (value < _HUGE, value / 1e3), else_=value.notnull().ifelse(_HUGE, ibis.null("float64")),
    )  # fmt: skip
    return at.floor().cast("int64"), _unit(value)


def _unit(value: Any) -> Any:
    bounds = [limit for limit, _ in UNITS[:-1]]
    return ibis.cases(
        (value.isnull(), ibis.null("int64")), *((value < limit, i) for i, limit in enumerate(bounds)), else_=len(bounds)
    ).cast("int64")


def _fraction(text: Any) -> Any:
    """Microseconds of a date's fraction of a second."""
    return (text.re_extract("[.,]([0-9]{1,9})", 1) + "000000").substr(0, 6).try_cast("int64").fill_null(0)
