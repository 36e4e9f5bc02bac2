"""Where ibis expressions are computed: DuckDB inside this process, or Spark. Both read parquet and number its rows in file order."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import ibis
import pyarrow as pa
import pyarrow.parquet
from ibis import ir

from core.errors import UserError

PLACE = "tacit place"
LEAST = 0.5  # GiB


class Engine(Protocol):
    """What `prepare` needs of an engine.

    Attributes:
        name: in words.
        failures: what it raises where a file cannot be read, memory is too little or the disk is full; no more can be told apart.
    """

    name: str
    failures: tuple[type[Exception], ...]

    def table(self, parts: list[Path]) -> ir.Table:
        """Parquet files as one table, with each row's place in it in the column PLACE."""

    def keep(self, expression: ir.Table, path: Path) -> ir.Table:
        """Computes an expression, writes it as parquet to `path`, and reads it from there."""

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """An expression's rows in their order."""

    def close(self) -> None:
        """Gives back what the engine holds."""


class DuckDB:
    """Embedded, and out of core: what does not fit into `memory` goes to files in `scratch`.

    Args:
        memory: GiB that tables, joins and sorts may take; the process takes about 1 GiB more.
        scratch: folder for what does not fit.
        threads: None for all cores.
    """

    def __init__(self, memory: float, scratch: Path, threads: int | None = None) -> None:
        import duckdb

        _check_memory(memory)
        self.name = "DuckDB"
        self.failures: tuple[type[Exception], ...] = (duckdb.Error,)
        settings = {"memory_limit": f"{int(memory * 1024)}MiB", "temp_directory": str(scratch)}
        self.connection = ibis.duckdb.connect(**settings, **({} if threads is None else {"threads": threads}))
        self.connection.raw_sql("SET TimeZone = 'UTC'")

    def table(self, parts: list[Path]) -> ir.Table:
        return self.connection.read_parquet([str(part) for part in parts]).mutate(ibis.row_number().name(PLACE))

    def keep(self, expression: ir.Table, path: Path) -> ir.Table:
        self.connection.to_parquet(expression, path)
        return self.connection.read_parquet(path)

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        yield from self.connection.to_pyarrow_batches(expression, chunk_size=100_000)

    def close(self) -> None:
        self.connection.disconnect()


class Spark:
    """A cluster, or `local[2]`: files must be where driver and workers can read them.

    Args:
        master: the cluster's URL.
        memory: GiB for the driver.

    Raises:
        UserError: pyspark or Java is missing, or the cluster does not answer.
    """

    def __init__(self, master: str, memory: float = 1.0) -> None:
        _check_memory(memory)
        self.warehouse = TemporaryDirectory(
            prefix="spark."
        )  # nothing is kept there, but Spark makes one in the working folder
        try:
            from py4j.protocol import Py4JError
            from pyspark.errors import PySparkException
            from pyspark.sql import SparkSession
        except ImportError:
            raise UserError(
                "pyspark is not installed", where="--spark", mend="install the extra: pip install 'tacit[spark]'"
            ) from None
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise UserError("Spark needs Java, which was not found", where="--spark", mend="install Java 17")
        self.name = "Spark"
        self.failures: tuple[type[Exception], ...] = (PySparkException, Py4JError)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        settings = {
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.driver.memory": f"{int(memory * 1024)}m",
            "spark.sql.legacy.parquet.nanosAsLong": "true",  # or they could not be read at all
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        }
        if master.startswith("local"):
            settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
            settings["spark.sql.shuffle.partitions"] = str(os.cpu_count())
            settings["spark.sql.warehouse.dir"] = self.warehouse.name
        builder = SparkSession.builder.master(master).appName("tacit")
        for key, value in settings.items():
            builder = builder.config(key, value)
        try:
            self.session = builder.getOrCreate()
        except Exception as error:
            raise UserError(
                "Spark cannot be reached", where=master, mend=(str(error).splitlines() or ["is the URL right?"])[0]
            ) from None
        self.session.sparkContext.setLogLevel("ERROR")
        self.connection = ibis.pyspark.connect(self.session)
        ibis.options.pyspark.treat_nan_as_null = False
        self.views = 0

    def table(self, parts: list[Path]) -> ir.Table:
        from pyspark.sql import functions as f

        frame, before = None, 0
        for part in parts:  # a row's place: the rows of the parts before, and its place in its own
            read = self.session.read.parquet(part.absolute().as_uri())
            for field in pa.parquet.read_schema(part):
                if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
                    column = f.col(f"`{field.name.replace('`', '``')}`")
                    micros = f.round((column - f.pmod(column, f.lit(1000))) / 1000)  # a quotient of floats, a bit off
                    moment = f.timestamp_micros(micros.cast("long"))
                    read = read.withColumn(field.name, moment if field.type.tz else moment.cast("timestamp_ntz"))
            read = read.select("*", (f.col("_metadata.row_index") + before).alias(PLACE))
            before += pa.parquet.read_metadata(part).num_rows
            frame = read if frame is None else frame.unionByName(read)
        return self._named(frame)

    def keep(self, expression: ir.Table, path: Path) -> ir.Table:
        place = path.absolute().as_uri()
        self.session.sql(self.connection.compile(expression)).write.mode("overwrite").parquet(place)
        return self._named(self.session.read.parquet(place))

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        yield from self.connection.to_pyarrow(expression).to_batches()

    def close(self) -> None:
        self.session.stop()
        self.warehouse.cleanup()

    def _named(self, frame: object) -> ir.Table:
        self.views += 1
        view = f"tacit_{self.views}"
        frame.createOrReplaceTempView(view)  # type: ignore[attr-defined]
        return self.connection.table(view)


def _check_memory(memory: float) -> None:
    if memory < LEAST:
        raise UserError(f"{memory:g} GiB are too little", where="--memory", mend=f"give {LEAST} or more")
