"""Raw tables as an engine takes them: the header of any, and a csv's lines as text, each with its number, in batches."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.datasets import locate
from core.errors import UserError
from core.files import unreadable

ROW = "tacit row"  # the row's number, 0 = first after the header
RAGGED = "tacit ragged"  # whether a row has more or fewer fields than the header; all its values are missing then
BLOCK = 16 * 2**20  # bytes read at a time; no row may be longer
_END = "tacit end of file"
_CHUNK = 100_000  # rows


def lines(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a csv file in UTF-8: `columns` as text, missing where empty, then ROW and RAGGED; ragged rows come last.

    Raises:
        UserError: the file is no UTF-8 text, a row is longer than BLOCK, or a quotation is never closed.
    """
    ragged, ended, kinds = array("q"), False, columns_of(columns)

    def set_aside(row: pa.csv.InvalidRow) -> str:
        nonlocal ended
        if row.text == _END:
            ended = True
        else:
            ragged.append(row.number - 2)  # counted from 1, and from the header
        return "skip"

    row = numbered = 0
    try:
        with path.open("rb") as file:
            reader = pa.csv.open_csv(
                _Ended(file),
                read_options=pa.csv.ReadOptions(block_size=BLOCK, use_threads=False),  # with threads no row has a number
                parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=set_aside),
                convert_options=pa.csv.ConvertOptions(
                    column_types={c: pa.string() for c in columns}, include_columns=list(columns), null_values=[""],
                    strings_can_be_null=True,
                ),
            )  # fmt: skip
            for batch in reader:
                aside = np.frombuffer(ragged[numbered:], np.int64)
                rows = np.setdiff1d(np.arange(row, row + len(batch) + len(aside)), aside)[: len(batch)]
                if len(batch):
                    row = int(rows[-1]) + 1
                    numbered += int(np.searchsorted(aside, row))
                    yield _marked(batch.columns, rows, False, kinds)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    if not ended:
        raise UserError(
            "a quotation is never closed", where=path, mend='look for a value that begins with " and does not end so'
        )
    for start in range(0, len(ragged), _CHUNK):
        rows = np.frombuffer(ragged[start : start + _CHUNK], np.int64)
        yield _marked([pa.nulls(len(rows), pa.string())] * len(columns), rows, True, kinds)


def header(path: Path) -> pa.Schema:
    """Names and types of a table's columns; raises UserError where the file cannot be read or two columns have one name."""
    locate(path)
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(
            f"cannot read '{path.suffix or path.name}' files", where=path, mend="give a csv or a parquet file"
        )
    first = path
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        if not parts:
            raise UserError("the folder holds no parquet file", where=path, mend="give a folder of part files")
        first = parts[0]
    try:
        if path.suffix == ".parquet":
            types = pq.read_schema(first)
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                types = pa.schema([(name, pa.string()) for name in next(csv.reader(file, strict=True), [])])
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise unreadable(path, error) from None
    for name in types.names:
        if types.names.count(name) > 1:
            raise UserError(f"two columns are called '{name}'", where=path, mend="rename one of them")
    return types


def as_parquet(path: Path, columns: Sequence[str], out: Path) -> Path:
    """What `lines` gives as a parquet file `out`, in which an engine can begin anywhere.

    It is read once: neither dictionaries, whose making took a quarter of the time here, nor statistics are worth their while.
    """
    cheap: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "compression": "lz4"}
    with pq.ParquetWriter(out, columns_of(columns), **cheap) as writer:
        for batch in lines(path, columns):
            writer.write_batch(batch)
    return out


def check_case(names: Sequence[str], where: Path) -> None:
    """Raise `UserError` where two columns differ in case alone: an engine takes them for one."""
    folded = [name.lower() for name in names]
    twice = [name for name in names if folded.count(name.lower()) > 1]
    if twice:
        raise UserError(f"columns {twice} differ in case alone", where=where, mend="rename one of them")


def columns_of(columns: Sequence[str]) -> pa.Schema:
    """Names and types of what `lines` gives."""
    return pa.schema([*((c, pa.string()) for c in columns), (ROW, pa.int64()), (RAGGED, pa.bool_())])


def _marked(values: list[pa.Array], rows: NDArray[np.int64], ragged: bool, kinds: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*values, pa.array(rows), pa.repeat(ragged, len(rows))], schema=kinds)


class _Ended(io.RawIOBase):
    """A file with a line after its last that no table of several columns holds: an open quotation would swallow it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file: io.BufferedIOBase = file
        self.more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = self.file.readinto(buffer)
        if not read and self.more:
            self.file, self.more = io.BytesIO(f"\n{_END}\n".encode()), False
            read = self.file.readinto(buffer)
        return read
