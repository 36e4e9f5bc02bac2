"""The commands that take in raw data: draft a schema, say what is wrong, and write a clean table once for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import say


@dataclass(frozen=True)
class DraftSchema:
    """Guess which column of a table is what, and print a schema.toml that says why; read it before it is used.

    Attributes:
        data: csv or parquet file, or a folder that holds one.
        out: file to write instead, as log/schema.toml; one that is there is left alone.
    """

    data: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None

    def run(self) -> None:
        from core.datasets import locate
        from core.errors import UserError
        from core.files import whole
        from finance.draft import draft
        from finance.source import table_in

        path = locate(self.data)
        if path.is_dir() and path.suffix != ".parquet":
            path = table_in(path)
        if self.out is not None and self.out.exists():
            raise UserError("there is a file already", where=self.out, mend="give another --out, or remove it")
        beside = self.out is None or self.out.resolve().parent == path.resolve().parent
        text = draft(path, path.name if beside else "")
        if self.out is None:
            print(text, end="")
            return
        with whole(self.out, "the schema") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"schema, to be read before it is used: {self.out}")


@dataclass(frozen=True)
class Check:
    """Read every row, say what is wrong and where; exit 1 where nothing usable is left.

    Attributes:
        data: csv or parquet file, folder with schema.toml, or a known name (fdh_simulated).
        schema: TOML file that says which column is what; by default schema.toml beside the data.
        out: folder for quarantine.csv.
    """

    data: str
    schema: Path | None = None
    out: Path = Path(".")

    def run(self) -> int:
        from finance.data import examine

        table = examine(self.data, self.schema)
        print(table.describe())
        table.quarantine.tell(self.out)
        return 0 if len(table) else 1


@dataclass(frozen=True)
class Prepare:
    """Validate a log of any size once, and write it as typed parquet, sorted by entity, time and row: a folder for all other verbs.

    Attributes:
        data: csv or parquet file, folder with schema.toml, or a known name (fdh_simulated).
        out: folder for transactions.parquet, schema.toml and quarantine.csv.
        schema: TOML file that says which column is what; by default schema.toml beside the data.
        spark: URL of a Spark cluster, or local[2]; by default DuckDB works inside this process. Needs the extra `spark`.
        memory: GiB for tables, joins and sorts, with about 1 more for the process itself; what does not fit goes to files in --out.
    """

    data: str
    out: Path
    schema: Path | None = None
    spark: str | None = None
    memory: float = 2.0

    def run(self) -> None:
        from contextlib import closing

        from core.engines import DuckDB, Engine, Spark
        from core.files import scratch
        from finance.prepare import check_place, prepare
        from finance.source import find, source

        found = source(self.data, self.schema, labels=False)
        check_place(found, self.out)
        absent = [c for c in find(self.data, self.schema)[1].columns() if c not in found.schema.columns()]
        if absent:
            say(f"without {', '.join(absent)}: the file has no such column, and new data needs none")
        with scratch(self.out, "duckdb") as place:
            engine: Engine = DuckDB(self.memory, place) if self.spark is None else Spark(self.spark, self.memory)
            with closing(engine):
                made = prepare(found, self.out, engine, note=say)
        for reason, count in made.faults.items():
            print(f"  {count} × {reason}")
        if made.faults:
            print(f"each with its reason: {self.out / 'quarantine.csv'}")
        print(f"{made.rows} rows: {self.out}")
