"""Click logs larger than memory: raw table -> sessions, k-core, split by time, as a folder that is whole or not there at all.

Written once in ibis expressions; core.engines says where they are computed. What recsys.data.load makes of the same file is what it
makes of a folder prepared with nothing but the checks; a test holds them together.

The order of steps is part of the result, so here it is: rows are checked; users are cut into sessions at pauses; consecutive clicks on
one item become the first of them; of an over-long session the latest events stay; split times are taken; the k-core is computed on
training alone; validation and test keep the items that training knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import ir

from core.datasets import locate, sha256
from core.engines import Engine
from core.errors import UserError
from core.files import whole_folder
from core.lines import as_parquet
from core.quarantine import write_records
from recsys.audit import audit
from recsys.clicks import FAULTS, OVER_LONG, SECOND, TWICE, Log, clocked, judged, readable, seen, texts, vocabulary
from recsys.data import Limits
from recsys.described import described
from recsys.kcore import core, remove, size, without
from recsys.parting import ACROSS, Split, parted, split_times
from recsys.prepared import BATCH, FORMAT, PARTS, QUARANTINE, RECORD, is_prepared, write_part

MINUTE = 60 * SECOND


@dataclass(frozen=True)
class Recipe:
    """What is made of a log.

    Attributes:
        gap: minutes; a longer pause starts a new session. None: what the user column names is one sequence.
        repeats: consecutive clicks on one item in a session become one (`collapse`), or stay.
        min_item: events that an item needs, and
        min_length: events that a session needs, until nothing changes.
        split: by time, or leave-one-out: nothing is cut, `evaluate` holds out each user's last two items.
        test_days: length of the test, and of the validation before it; or
        test_share: share of the sessions, the latest, for the test, and as many before them for the validation.
        limits: what is still believed.
    """

    gap: float | None = None
    repeats: Literal["collapse", "keep"] = "collapse"
    min_item: int = 5
    min_length: int = 2
    split: Literal["time", "leave-one-out"] = "time"
    test_days: float | None = None
    test_share: float = 0.1
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.gap is not None and not 0 < self.gap <= 10_000_000:
            raise UserError(f"the gap is {self.gap:g} minutes", where="--gap", mend="give a number above 0")
        if self.test_days is not None and not 0 < self.test_days <= 36_500:
            raise UserError(f"test-days is {self.test_days:g}", where="--test-days", mend="give a number above 0")
        if not 0 < self.test_share < 0.5:
            raise UserError(
                f"test-share is {self.test_share:g}", where="--test-share", mend="give a number between 0 and 0.5"
            )
        for name in ("min_item", "min_length"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} is {getattr(self, name)}", where=f"--{name.replace('_', '-')}", mend="give 1 or more"
                )
        if self.limits.longest < max(2, self.min_length):
            raise UserError(
                f"longest is {self.limits.longest}", where="--longest", mend=f"give {max(2, self.min_length)} or more"
            )


def check_place(log: Log, out: Path) -> None:
    """Raise `UserError` where `out` holds something that `prepare` did not write, the raw log above all."""
    if out.exists() and not is_prepared(out) and any(out.iterdir()):
        raise UserError("there is something else in that folder", where=out, mend="give a new folder as --out")
    if log.path.resolve().is_relative_to(out.resolve()):
        raise UserError("the raw log stands there", where=out, mend="give another folder as --out")


def prepare(
    log: Log,
    out: Path,
    engine: Engine,
    recipe: Recipe | None = None,
    attributes: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make sessions of a log and write them, each part in the order in which its sessions ended, before any item went.

    Args:
        log: the raw table.
        out: folder to write. It takes its name when all is done and audited; what an earlier run wrote there is replaced.
        engine: where it is computed.
        recipe: what is made of it.
        attributes: csv or parquet of items' attributes, its column of items named as the log's, or `item_id`.
        note: told what is being done.

    Returns:
        What `prepared.json` holds.

    Raises:
        UserError: the place is taken, the file cannot be read to its end, too much is set aside, nothing is left of a part, or a leak.
    """
    recipe = recipe or Recipe()
    if "time" not in log.columns and (recipe.gap is not None or recipe.split == "time"):
        raise UserError(
            "the rows' own order is no time", where="--time row", mend="leave --gap out, and give --split leave-one-out"
        )
    if attributes is not None:
        locate(attributes)
    check_place(log, out)
    with whole_folder(out, "the prepared folder") as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        try:
            record = _Run(log, engine, recipe, folder, scratch, note).record()
        except engine.failures as error:
            reason = (str(error).splitlines() or ["it does not say why"])[0][:300]
            raise UserError(
                f"{engine.name} could not read or write all rows", where=log.path.name, mend=reason
            ) from None
        remove(scratch)
        if attributes is not None:
            (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            record["attributes"] = described(attributes, log.columns["item"], folder)
        (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        note("looking for leaks")
        record["audit"] = audit(folder)
        (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return record


class _Run:
    """One run, step by step; `stages` counts what each took away."""

    def __init__(
        self, log: Log, engine: Engine, recipe: Recipe, folder: Path, scratch: Path, note: Callable[[str], None]
    ) -> None:
        self.log, self.engine, self.recipe, self.folder, self.scratch, self.note = (
            log,
            engine,
            recipe,
            folder,
            scratch,
            note,
        )
        self.stages: dict[str, int] = {}
        self.bad: list[ir.Table] = []  # `row` and `fault` of what is set aside

    def record(self) -> dict[str, Any]:
        recipe = self.recipe
        raw, rows = self.read()
        events, sessions = self.cut(self.checked(rows, raw))
        quarantine = self.set_aside()
        split = split_times(sessions, recipe.split, recipe.test_days, recipe.test_share)
        events, sessions, names = self.coded(events, sessions, split)
        parts, rounds, unseen = self.parts(events, sessions, names)
        return {
            "format": FORMAT,
            "settings": asdict(recipe),
            "columns": self.log.columns,
            "events kept": list(self.log.kept),
            "raw": {part.name: sha256(part) for part in self.log.parts},
            "engine": self.engine.name,
            "stages": self.stages,
            "quarantine": quarantine,
            "rounds": [asdict(one) for one in rounds],
            "k-core": "of training alone"
            if recipe.split == "time"
            else "of all events, held-out ones too, as the published sets",
            "split": split.json(),
            "unseen": unseen,
            "parts": parts,
        }

    def keep(self, expression: ir.Table, name: str) -> ir.Table:
        return self.engine.keep(expression, self.scratch / f"{name}.parquet")

    def read(self) -> tuple[ir.Table, ir.Table]:
        """All rows, and those of the kept types with their ids, times and first faults."""
        log = self.log
        self.note("reading")
        if log.path.suffix == ".csv":
            parts = [as_parquet(log.path, list(dict.fromkeys(log.columns.values())), self.scratch / "raw.parquet")]
        else:
            parts = log.parts
        raw = self.engine.table(readable(parts))
        self.stages["rows"] = size(raw)
        return raw, self.keep(clocked(raw, log), "clocked")

    def checked(self, rows: ir.Table, raw: ir.Table) -> ir.Table:
        """The rows without a fault: `row`, `user`, `item`, `at`."""
        self.note(f"checking {self.stages['rows']} rows")
        habits = seen(rows, self.log)
        if self.log.kept:
            self.stages["rows of other types"] = self.stages["rows"] - habits.rows
        if self.log.kept and habits.rows == habits.unreadable:
            raise UserError(
                f"no row is of type {', '.join(self.log.kept)}", where=f"column {self.log.columns.get('event', '')}",
                mend="name a type that occurs with --keep",
            )  # fmt: skip
        self.users, self.items = (
            self.keep(vocabulary(self.keep(texts(rows, role, self.log), f"{role}.texts"), role, self.log), role)
            for role in ("user", "item")
        )
        rows = self.keep(judged(rows, self.users, self.items, habits), "judged")
        self.bad.append(rows.filter(rows.fault.notnull()).select("row", "fault"))
        good = rows.filter(rows.fault.isnull()).select("row", "user", "item", "at")
        twice = good.group_by("user", "item", "at").aggregate(first=good.row.min(), times=good.count())
        twice = self.keep(twice.filter(twice.times > 1).select("user", "item", "at", "first"), "twice")
        if not size(twice):
            return good
        joined = good.left_join(twice, ["user", "item", "at"])
        again = (joined.row > joined["first"]).fill_null(False)
        self.bad.append(self.keep(joined.filter(again).select("row", fault=ibis.literal(TWICE, "int64")), "again"))
        return joined.filter(~again).select("row", "user", "item", "at")

    def cut(self, events: ir.Table) -> tuple[ir.Table, ir.Table]:
        """Events with the `number` of their session, and the sessions: `events`, `start`, `end`."""
        recipe = self.recipe
        self.note("cutting sessions")
        order = ["at", "row"]
        by_user = ibis.window(group_by="user", order_by=order)
        number: Any = ibis.literal(0, "int64")
        fresh: Any = ibis.literal(False)
        if recipe.gap is not None:
            before = events.at.lag().over(by_user)
            fresh = (before.isnull() | (events.at - before > round(recipe.gap * MINUTE))).fill_null(True)
        if recipe.repeats == "collapse":
            repeat = ((events.item == events.item.lag().over(by_user)) & ~fresh).fill_null(False)
        else:
            repeat = ibis.literal(False)
        events = events.mutate(fresh=fresh, repeat=repeat)
        if recipe.gap is not None:
            number = events.fresh.cast("int64").sum().over(ibis.cumulative_window(group_by="user", order_by=order))
        events = events.mutate(number=number)
        kept = self.keep(events.filter(~events.repeat).select("row", "user", "number", "item", "at"), "sessions.raw")
        kept, sessions = self.capped(kept)
        return kept, sessions

    def capped(self, events: ir.Table) -> tuple[ir.Table, ir.Table]:
        """Only the latest events of an over-long session; and the sessions."""
        longest, key = self.recipe.limits.longest, ["user", "number"]
        sessions = self.sessions(events, "sessions.all")
        robots = sessions.filter(sessions.events > longest).select(*key)
        if not size(robots):
            return events, sessions
        theirs = events.semi_join(robots, key)
        back = ibis.row_number().over(ibis.window(group_by=key, order_by=[ibis.desc("at"), ibis.desc("row")]))
        theirs = theirs.mutate(back=back)
        early = theirs.filter(theirs.back >= longest).select("row", fault=ibis.literal(OVER_LONG, "int64"))
        early = self.keep(early, "early")
        self.bad.append(early)
        events = self.keep(events.anti_join(early, "row"), "sessions.capped")
        return events, self.sessions(events, "sessions.again")

    def sessions(self, events: ir.Table, name: str) -> ir.Table:
        grouped = events.group_by("user", "number")
        return self.keep(grouped.aggregate(events=events.count(), start=events.at.min(), end=events.at.max()), name)

    def set_aside(self) -> dict[str, int]:
        """Writes the quarantine; counts by reason."""
        bad = [
            table.mutate(fault=table.fault.cast("int64")) for table in self.bad
        ]  # a literal may have been kept narrower
        listed = (ibis.union(*bad) if len(bad) > 1 else bad[0]).order_by("row")

        def records() -> Iterator[tuple[str, str, str]]:
            for batch in self.engine.batches(listed):
                for row, fault in zip(*(batch[c].to_pylist() for c in ("row", "fault")), strict=True):
                    yield f"row {row}", FAULTS[fault], ""

        counts = write_records(self.folder / QUARANTINE, records())
        lost, rows = sum(counts.values()), self.stages["rows"] - self.stages.get("rows of other types", 0)
        summary = ", ".join(f"{reason} {count}" for reason, count in counts.items())
        self.stages["rows set aside"] = lost
        if lost == rows:
            raise UserError(f"nothing usable is left ({summary})", where=self.log.path.name, mend="see `check`")
        if lost > self.recipe.limits.bad * rows:
            raise UserError(
                f"{lost} of {rows} rows had to be set aside ({summary})", where=self.log.path.name,
                mend="mend the data, see `check`, or raise --max-bad",
            )  # fmt: skip
        return counts

    def coded(self, events: ir.Table, sessions: ir.Table, split: Split) -> tuple[ir.Table, ir.Table, pa.Array]:
        """Events as whole numbers, `sid` and `code`, with their `part`; the sessions that are long enough; the items by code."""
        self.note("splitting")
        self.stages["sessions"], self.stages["events in sessions"] = size(sessions), size(events)
        usual = self.stages["rows"] - self.stages.get("rows of other types", 0) - self.stages["rows set aside"]
        self.stages["repeated clicks collapsed"] = usual - self.stages["events in sessions"]
        long = sessions.filter(sessions.events >= self.recipe.min_length)
        order = ibis.row_number().over(ibis.window(order_by=["end", "user", "number"]))
        known = self.keep(parted(long.mutate(sid=order), split), "known")
        self.stages[f"sessions with fewer than {self.recipe.min_length} events"] = self.stages["sessions"] - size(known)
        if self.recipe.split == "time":
            self.stages["sessions across a split time, set apart"] = across = size(known.filter(known.part == ACROSS))
            held = size(known.filter(known.part.isin([1, 2])))
            if across > held:
                raise UserError(
                    f"of {across + held} sequences that end in validation or test, {across} began before it",
                    where="--split time", mend="cut users into sessions with --gap 30, or give --split leave-one-out",
                )  # fmt: skip
        names = self.items.select("code", "name").distinct().order_by("code").select("name")
        batches = [batch.column(0).cast(pa.string()) for batch in self.engine.batches(names)]
        inside = known.filter(known.part != ACROSS).select("user", "number", "sid", "part")
        joined = (
            events.inner_join(inside, ["user", "number"]).rename(code="item").select("sid", "part", "code", "at", "row")
        )
        return self.keep(joined, "coded"), known, pa.chunked_array(batches, pa.string()).combine_chunks()

    def parts(
        self, events: ir.Table, sessions: ir.Table, names: pa.Array
    ) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
        """Computes the k-core of training, and writes every part."""
        recipe, counts, unseen = self.recipe, {}, {}
        self.note("k-core")
        train, rounds = core(
            self.engine, events.filter(events.part == 0), recipe.min_item, recipe.min_length, self.scratch
        )
        known = self.keep(train.select("code").distinct(), "catalogue")
        for place, name in enumerate(PARTS[recipe.split]):
            chosen = train
            if place:
                chosen, unseen[name] = self.held_out(events.filter(events.part == place), known, name)
            counts[name] = self.write(name, chosen, sessions, names)
            if not counts[name]["sequences"]:
                raise UserError(f"no sequence is left for {name}", where=name, mend=self.cure(rounds))
        return counts, rounds, unseen

    def held_out(self, events: ir.Table, known: ir.Table, name: str) -> tuple[ir.Table, dict[str, int]]:
        """Events of items that training knows, in sessions that have one to go by and one to predict; and what was left out."""
        first = events.mutate(place=ibis.row_number().over(ibis.window(group_by="sid", order_by=["at", "row"])))
        targets = first.filter(first.place > 0)
        lost = targets.anti_join(known, "code")
        familiar = self.keep(events.semi_join(known, "code"), f"familiar.{name}")
        left, short = without(
            self.engine, familiar, "sid", max(2, self.recipe.min_length), self.scratch / f"short.{name}.parquet"
        )
        all_of = events.aggregate(sessions=events.sid.nunique(), events=events.count()).to_pyarrow().to_pylist()[0]
        said = {
            "targets": size(targets),
            "targets that training never saw": size(lost),
            "events dropped": int(all_of["events"]) - size(familiar),
            "sessions dropped": int(all_of["sessions"]) - int(familiar.sid.nunique().to_pyarrow().as_py()) + short,
        }
        return left, said

    def write(self, name: str, events: ir.Table, sessions: ir.Table, names: pa.Array) -> dict[str, int]:
        self.note(f"writing {name}")
        ordered = events.order_by(["sid", "at", "row"]).select("sid", "code", "at")
        people = self.users.select("code", "name").distinct()
        keys = sessions.semi_join(events.select("sid").distinct(), "sid").inner_join(
            people, sessions.user == people.code
        )
        keys = keys.order_by("sid").select("sid", "name", "number")
        streams = (self.streamed(ordered, f"events.{name}"), self.streamed(keys, f"keys.{name}"))
        return write_part(self.folder / f"{name}.parquet", *streams, names, self.recipe.gap is not None)

    def streamed(self, ordered: ir.Table, name: str) -> Iterator[pa.RecordBatch]:
        """Rows in their order, from where the engine keeps them: they need not fit into memory."""
        path = self.scratch / f"{name}.parquet"
        self.engine.keep(ordered, path)
        for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
            yield from pq.ParquetFile(file).iter_batches(BATCH)
        remove(path)

    def cure(self, rounds: list[Any]) -> str:
        if self.stages[f"sessions with fewer than {self.recipe.min_length} events"] == self.stages["sessions"]:
            return f"every session has fewer than {self.recipe.min_length} events: give a longer --gap, or a smaller --min-length"
        return (
            "give a smaller --min-item or --min-length, or more of the log"
            if rounds
            else "give more of the log, or a larger test"
        )
