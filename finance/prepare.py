"""Logs larger than memory: raw table -> validated, typed parquet, sorted by entity, time and row, with its schema and quarantine.

Written once in ibis expressions; core.engines says where they are computed. What `finance.data.validate` gives of the same file
is what it gives of the prepared one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import ir

from core.engines import PLACE, Engine
from core.errors import UserError
from core.expressions import Habits, habits, is_text, matches, name, number, to_utc, wall
from core.files import scratch, whole
from core.lines import RAGGED, ROW, as_parquet, check_case
from core.patterns import ISO
from core.quarantine import write_records
from finance import faults
from finance.schema import Schema
from finance.source import Source, bad_row_numbers
from finance.zones import by_day, offsets

TABLE = "transactions.parquet"


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes:
        out: the folder: `transactions.parquet`, `schema.toml`, and `quarantine.csv` where a row was set aside.
        rows: rows of the table.
        faults: rows that were set aside, by reason, most frequent first.
    """

    out: Path
    rows: int
    faults: dict[str, int]


def check_place(found: Source, out: Path) -> None:
    """Raise UserError where what stands in `out` is not what an earlier run wrote: a raw table is never replaced."""
    there = out / TABLE
    schema = out / "schema.toml"
    own = schema.exists() and Schema.read(schema).row and Schema.read(schema).file == TABLE
    if found.path.resolve().is_relative_to(out.resolve()) or (there.exists() and not own):
        raise UserError("the raw table stands there", where=out, mend="give another folder as --out")


def prepare(
    found: Source, out: Path, engine: Engine, now: int | None = None, note: Callable[[str], None] = lambda line: None
) -> Prepared:
    """Validate a table and write it.

    Args:
        found: the raw table.
        out: folder to write; what an earlier run left there is replaced when all is done.
        now: seconds since 1970 after which a time lies in the future; None: the clock's.
        note: told what is being done.

    Raises:
        UserError: the place holds a raw table, the file cannot be read to its end, no row is usable, or the place cannot be written.
    """
    check_place(found, out)
    check_case(found.types.names, found.path)
    now = int(time.time()) if now is None else now
    with scratch(out, "prepare") as place:
        return _prepared(found, out, engine, now, note, place)


def _prepared(found: Source, out: Path, engine: Engine, now: int, note: Callable[[str], None], place: Path) -> Prepared:
    """`prepare`, with a folder for what is made on the way."""
    try:
        note("reading")
        raw = engine.table(
            [as_parquet(found.path, found.schema.columns(), place / "raw.parquet")] if found.csv else found.parts
        )
        if found.schema.row:
            _check_rows(raw[found.schema.row])
        seen = {c: habits(raw, c) for c in _times(found.schema)}
        rows = engine.keep(clocked(raw, found.schema, seen), place / "clocked.parquet")
        rows = engine.keep(timed(rows, found.schema, engine, place), place / "timed.parquet")
        note("checking each row")
        examination, kinds = examined(rows, found.schema, seen, now)
        rows = engine.keep(examination, place / "examined.parquet")
        note("checking rows against each other")
        rows = engine.keep(judged(rows, found.schema, kinds), place / "judged.parquet")
        counts = _quarantine(engine, rows, kinds, out / "quarantine.csv")
        written = int(rows.filter(rows.which < 0).count().to_pyarrow().as_py())
        note(f"sorting {written} rows")
        schema = prepared_schema(found)
        engine.keep(ordered(rows, found.schema, schema.row), place / TABLE)
        if not written:
            raise UserError("no usable row is left", where=found.path, mend=f"see {out / 'quarantine.csv'}")
        _replace(place / TABLE, out / TABLE)
        with whole(out / "schema.toml", "the schema") as temporary:
            temporary.write_text(schema.toml(), encoding="utf-8")
    except engine.failures as error:
        reason = (str(error).splitlines() or ["it does not say why"])[0][:300]
        raise UserError(f"{engine.name} could not read or write all rows", where=found.path, mend=reason) from None
    return Prepared(out, written, counts)


def clocked(raw: ir.Table, schema: Schema, seen: dict[str, Habits | None]) -> ir.Table:
    """The schema's columns as they are, the row number, and of each time column what its clock shows: `local`, `east`, `given`.

    It is computed and kept before anything is made of it, as is `timed`: expressions are text to an engine, and would be repeated
    wherever they are used.
    """
    walls = {c: wall(raw[c], seen[c]) for c in seen}
    made = {f"tacit {part} {i}": value for i, w in enumerate(walls.values()) for part, value in w._asdict().items()}
    row = raw[schema.row] if schema.row else raw[ROW] if ROW in raw.columns else raw[PLACE]
    ragged = raw[RAGGED] if RAGGED in raw.columns else ibis.literal(False)
    return raw.select(*_columns(schema), row.cast("int64").name(ROW), ragged.name(RAGGED), **made)


def timed(rows: ir.Table, schema: Schema, engine: Engine, place: Path) -> ir.Table:
    """What `clocked` gave, with the seconds since 1970 of each time column."""
    days, edges = None, (0, 0)
    if schema.zone:
        pq.write_table(pa.table(by_day(schema.zone)), place / "days.parquet")
        days, known = engine.table([place / "days.parquet"]), offsets(schema.zone)[1]
        edges = (known[0], known[-1])
    for i in range(len(_times(schema))):
        rows = to_utc(rows, days, edges, f"tacit local {i}", f"tacit east {i}", f"tacit seconds {i}")
    return rows


def examined(
    raw: ir.Table, schema: Schema, seen: dict[str, Habits | None], now: int
) -> tuple[ir.Table, list[tuple[str, str]]]:
    """Of what `timed` gave, each row typed, with its first fault as far as the row alone tells.

    Returns:
        The table: `row`; `which` fault, -1 where none; `key` of its id; `c0`, `c1`, … in the order of the schema's columns.
        And reason and detail of each fault, in order; the last two are for `judged`.
    """
    found: list[tuple[Any, str, str]] = [(raw[RAGGED], faults.RAGGED, "")]
    typed: dict[str, Any] = {}
    too_long = faults.LONG.format(limit=schema.max_text)

    def named(role: str, column: str, required: bool = False) -> Any:
        value, wrong = name(raw[column])
        if required:
            found.append((value.isnull() & ~wrong, faults.MISSING.format(role=role), column))
        found.append((wrong, faults.FRACTION.format(role=role), column))
        found.append((value.length() > schema.max_text, too_long, column))
        return value

    def moment(i: int) -> tuple[Any, Any, Any]:
        """Seconds, where they lack the zone that others of the column have, and where a value is given."""
        habit = list(seen.values())[i]
        mixed = habit is not None and habit.iso >= habit.numbers and habit.zoned > 0 and not schema.zone
        iso = matches(raw[_times(schema)[i]], ISO).fill_null(False) if mixed else ibis.literal(False)
        return raw[f"tacit seconds {i}"], iso & raw[f"tacit east {i}"].isnull(), raw[f"tacit given {i}"]

    typed[schema.entity] = named("entity", schema.entity, True)
    at, zoneless, _ = moment(0)
    found.append((at.isnull() & ~zoneless, faults.NO_TIME, schema.time))
    found.append((zoneless, faults.NO_ZONE, schema.time))
    if not schema.future:
        found.append((at > now, faults.FUTURE, schema.time))
    typed[schema.time] = at
    amount, _ = number(raw[schema.amount])
    found.append((amount.isnull(), faults.NO_AMOUNT, schema.amount))
    typed[schema.amount] = amount
    key = ibis.null("string")
    if schema.id:
        key = named("id", schema.id, True)
        typed[schema.id] = key if is_text(raw[schema.id]) else raw[schema.id]
    for column in schema.numeric:
        typed[column], wrong = number(raw[column])
        found.append((wrong, faults.NO_NUMBER, column))
    for column in schema.categorical:
        typed[column] = named("category", column) if is_text(raw[column]) else raw[column]
    for role in ("counterparty", "currency", "text"):
        if column := getattr(schema, role):
            typed.setdefault(column, named(role, column))
    if schema.label:
        value, wrong = number(raw[schema.label])
        found.append((wrong | (value.notnull() & ~value.isin([0.0, 1.0])), faults.NO_LABEL, schema.label))
        typed[schema.label] = value.isin([0.0, 1.0]).ifelse(value, ibis.null("float64")).cast("int8")
    if schema.label_time:
        known, zoneless, given = moment(1)
        found.append((given & (known.isnull() | zoneless), faults.NO_LABEL_TIME, schema.label_time))
        found.append((given & (known < at), faults.EARLY_LABEL, schema.label_time))
        typed[schema.label_time] = known
    if schema.scenario:
        value, _ = number(raw[schema.scenario])
        near = value.abs() < 2**31
        typed[schema.scenario] = near.ifelse(value, 0.0).floor().cast("int64").fill_null(0)
    which = ibis.cases(*((mask.fill_null(False), i) for i, (mask, _, _) in enumerate(found)), else_=-1)
    table = raw.select(
        raw[ROW].name("row"),
        which.cast("int64").name("which"),
        key.name("key"),
        **{f"c{i}": typed[c] for i, c in enumerate(_columns(schema))},
    )
    crowded = faults.CROWDED.format(limit=schema.max_events)
    kinds = [*((why, column) for _, why, column in found), (faults.REPEATED, schema.id), (crowded, schema.entity)]
    return table, [(why, f"column {column}" if column else "") for why, column in kinds]


def judged(rows: ir.Table, schema: Schema, kinds: list[tuple[str, str]]) -> ir.Table:
    """What `examined` gave, with the faults that other rows tell of: ids that occur twice, entities with too many events."""
    if schema.id:
        free = rows.filter(rows.which < 0)
        twice = free.group_by(twin=free.key).aggregate(first=free.row.min(), times=free.count())
        joined = rows.left_join(twice.filter(twice.times > 1), rows.key == twice.twin)
        again = (joined.which < 0) & (joined.row > joined["first"]).fill_null(False)
        rows = joined.select("row", *_typed(schema), which=again.ifelse(len(kinds) - 2, joined.which))
    free = rows.filter(rows.which < 0)
    crowds = free.group_by(whose=free.c0).aggregate(events=free.count())
    joined = rows.left_join(crowds.filter(crowds.events > schema.max_events), rows.c0 == crowds.whose)
    crowded = (joined.which < 0) & joined.events.notnull()
    return joined.select("row", *_typed(schema), which=crowded.ifelse(len(kinds) - 1, joined.which))


def ordered(rows: ir.Table, schema: Schema, row: str) -> ir.Table:
    """The rows without a fault under the schema's names, by entity, time and row."""
    columns = dict(zip(_columns(schema), _typed(schema), strict=True))
    free = rows.filter(rows.which < 0).order_by([columns[schema.entity], columns[schema.time], "row"])
    shown = {c: free[typed].as_timestamp("s") if c in _times(schema) else free[typed] for c, typed in columns.items()}
    return free.select(**{row: free["row"]}, **shown)


def prepared_schema(found: Source) -> Schema:
    """The schema of what is written: its own file, the raw file's row numbers, and times that name their zone."""
    row = "row"
    while row.lower() in (c.lower() for c in _columns(found.schema)):
        row += "_"
    return replace(found.schema, file=TABLE, row=row, zone="")


def _columns(schema: Schema) -> list[str]:
    """The columns that are kept: the entity first, the row number aside."""
    return [c for c in schema.columns() if c != schema.row]


def _times(schema: Schema) -> list[str]:
    return [c for c in (schema.time, schema.label_time) if c]


def _typed(schema: Schema) -> list[str]:
    return [f"c{i}" for i in range(len(_columns(schema)))]


def _check_rows(row: Any) -> None:
    table = row.as_table()
    counts = table.aggregate(rows=table.count(), different=row.nunique()).to_pyarrow().to_pylist()[0]
    if counts["rows"] != counts["different"]:
        raise bad_row_numbers(row.get_name())


def _quarantine(engine: Engine, rows: ir.Table, kinds: list[tuple[str, str]], path: Path) -> dict[str, int]:
    """Writes the rows that were set aside, without holding them; counts by reason."""
    bad = rows.filter(rows.which >= 0)

    def records() -> Iterator[tuple[str, str, str]]:
        for batch in engine.batches(bad.order_by("row").select("row", "which")):
            for row, which in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield f"row {row}", *kinds[which]

    counts = write_records(path, records())
    if not counts:
        path.unlink()
    return counts


def _replace(made: Path, out: Path) -> None:
    """Puts a file or folder in the place of what was there."""
    if out.is_dir():
        shutil.rmtree(out)
    os.replace(made, out)
