"""The command that takes in a raw click log of any size and makes it ready, once for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.cli import say
from recsys.arguments import Table


@dataclass(frozen=True)
class Prepare:
    """Raw click log of any size -> sessions, k-core and split by time, once: a folder for all other verbs, checked for leaks.

    Attributes:
        data: csv or parquet file, one row an event, or a folder `….parquet` of part files.
        out: new folder, or one that an earlier run wrote: train, validation and test.parquet (or sequences.parquet), prepared.json and
            quarantine.csv. It is there when all is done, or not at all.
        event: column of the event's type; empty takes event, event_type, …, where --keep is given.
        keep: types of event to keep, such as view addtocart; by default all.
        attributes: csv or parquet with one row an item and its attributes.
        gap: minutes; a longer pause starts a new session. By default what the user column names is one sequence.
        repeats: consecutive clicks on one item become one, or stay.
        min_item: events that an item needs in training, and
        min_length: events that a session needs, again and again until nothing changes.
        split: time, or leave-one-out, which cuts nothing: `evaluate` holds out the last two items of each user.
        test_days: length of the test, and of the validation before it; by default
        test_share: share of the sessions, the latest, for the test, and as many for the validation.
        memory: GiB for tables, joins and sorts, with about 1 more for the process; what does not fit goes to files beside --out.
        spark: URL of a Spark cluster, or local[2]; by default DuckDB works inside this process. Needs the extra `spark`.
        table: columns and limits.
    """

    data: str
    out: Path
    event: str = ""
    keep: tuple[str, ...] = ()
    attributes: Path | None = None
    gap: float | None = None
    repeats: Literal["collapse", "keep"] = "collapse"
    min_item: int = 5
    min_length: int = 2
    split: Literal["time", "leave-one-out"] = "time"
    test_days: float | None = None
    test_share: float = 0.1
    memory: float = 2.0
    spark: str | None = None
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> None:
        from contextlib import closing

        from core.engines import DuckDB, Engine, Spark
        from core.files import scratch
        from recsys.clicks import Log
        from recsys.prepare import Recipe, check_place, prepare

        recipe = Recipe(
            gap=self.gap, repeats=self.repeats, min_item=self.min_item, min_length=self.min_length, split=self.split,
            test_days=self.test_days, test_share=self.test_share, limits=self.table.limits(),
        )  # fmt: skip
        log = Log.of(self.data, self.table.columns(), self.event, self.keep)
        check_place(log, self.out)
        with scratch(self.out.absolute().parent, "duckdb") as place:
            engine: Engine = DuckDB(self.memory, place) if self.spark is None else Spark(self.spark, self.memory)
            with closing(engine):
                made = prepare(log, self.out, engine, recipe, self.attributes, say)
        for stage, count in made["stages"].items():
            print(f"{count} {stage}")
        for reason, count in made["quarantine"].items():
            print(f"  {count} × {reason}")
        print(f"k-core {made['k-core']}: {len(made['rounds'])} rounds")
        for name, unseen in made["unseen"].items():
            print(
                f"{name}: {unseen['targets that training never saw']} of {unseen['targets']} targets are of items unknown to training, and dropped"
            )
        for name, counts in made["parts"].items():
            print(f"{name}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
        print(f"no leaks: {self.out}")
