"""Where a table is and what it holds: a csv file, a parquet file, or a folder `….parquet` of parts read in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from core.datasets import Known, locate
from core.errors import UserError
from core.lines import header
from finance.schema import FROM_LABELS, SINGLE, Schema

KNOWN = {
    "fdh_simulated": Known(
        folder="finance/fdh_simulated",
        sha256={
            "transactions.parquet": "85d9fad1e29024e5097eb359e30e65a8f84585f49bf572d8727a6eebaf571ff1",
            "features_2018-06-11_2018-09-14.parquet": "67fd5053065185081ba31a9ac2c27f119452ebdcc699aeb6a3224ef3dc6cbd0f",
        },
        source="github.com/Fraud-Detection-Handbook/simulated-data-raw (6e67dbd) and simulated-data-transformed (6e3ca58)",
        licence="none stated; synthetic, no personal data",
    ),
    "cdnow_purchases": Known(
        folder="finance/cdnow_purchases",
        sha256={"purchases.parquet": "71cdcfb71b9ec176a537db840fbbe46b43523e7ffacbfaf770713abd1b2cc6ca"},
        source="brucehardie.com/datasets (CDNOW_master), as purchases.parquet with columns customer_id, date, cds, amount",
        licence="none stated; circulated for teaching and research",
    ),
}

FDH_SCHEMA = Schema(
    entity="CUSTOMER_ID",
    time="TX_DATETIME",
    amount="TX_AMOUNT",
    categorical=("TERMINAL_ID",),
    label="TX_FRAUD",
    scenario="TX_FRAUD_SCENARIO",
    id="TRANSACTION_ID",
    file="transactions.parquet",
    counterparty="TERMINAL_ID",
)
CDNOW_SCHEMA = Schema(entity="customer_id", time="date", amount="amount", numeric=("cds",), file="purchases.parquet")
SCHEMAS = {"fdh_simulated": FDH_SCHEMA, "cdnow_purchases": CDNOW_SCHEMA}

_NAMES = ("text", "whole numbers", "numbers")
_NUMBERS = (*_NAMES, "truth values", "decimals")
_TIMES = (*_NAMES, "timestamps", "dates")
_FIELDS = (*_NAMES, "truth values")
# what a column of each role may hold; those not named here: _NAMES
_MAY_HOLD = {"amount": _NUMBERS, "label": _NUMBERS, "scenario": _NUMBERS, "numeric": _NUMBERS, "time": _TIMES,
             "label_time": _TIMES, "categorical": _FIELDS, "row": ("whole numbers",)}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A table with its schema, checked as far as its header tells.

    Attributes:
        path: the file, or the folder of parts.
        schema: what it holds; columns made from labels are left out where they are not there and not needed.
        name: of a known data set, else "own data".
        types: Arrow types of all columns; text for every column of a csv.
    """

    path: Path
    schema: Schema
    name: str
    types: pa.Schema

    @property
    def parts(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]

    @property
    def csv(self) -> bool:
        return self.path.suffix == ".csv"


def find(data: str | Path, schema: str | Path | Schema | None = None) -> tuple[Path, Schema, str]:
    """The table's file, its schema and the set's name.

    Args:
        data: a csv or parquet file, a folder that holds one (with `schema.toml`), or a known set's name.
        schema: a schema, a TOML file, or None for the built-in one of a known set or the `schema.toml` beside the data.
    """
    path = locate(data, KNOWN)
    name = str(data) if str(data) in KNOWN else "own data"
    folder = path if path.is_dir() and path.suffix != ".parquet" else path.parent
    if isinstance(schema, Schema):
        found = schema
    elif schema is not None:
        found = Schema.read(locate(schema))
    elif name in KNOWN:
        found = SCHEMAS[name]
    elif (folder / "schema.toml").exists():
        found = Schema.read(folder / "schema.toml")
    else:
        raise UserError(
            "there is no schema",
            where=folder,
            mend=f"draft one: tacit-finance schema {path} --out {folder}/schema.toml",
        )
    if path == folder:
        path = table_in(path, found.file)
    return path, found, name


def source(data: str | Path, schema: str | Path | Schema | None = None, *, labels: bool = True) -> Source:
    """Finds a table and checks its header. Arguments as `find`; with `labels=False` label columns need not be there.

    Raises:
        UserError: no such file, no schema, a missing column, one of a type that its role cannot have, or an unreadable file.
    """
    path, found, name = find(data, schema)
    types = header(path)
    if not labels:
        absent: dict[str, Any] = {k: "" for k in FROM_LABELS if getattr(found, k) not in types.names}
        found = replace(found, **absent)
    missing = [c for c in found.columns() if c not in types.names]
    if missing:
        there = ", ".join(types.names[:12])
        raise UserError(
            f"column '{missing[0]}' is missing", where=path, mend=f"the file holds {there}; mend the schema or the file"
        )
    roles = [(key, getattr(found, key)) for key in SINGLE if getattr(found, key)]
    roles += [(key, c) for key in ("categorical", "numeric") for c in getattr(found, key)]
    for role, column in () if path.suffix == ".csv" else roles:
        kind, allowed = kind_of(types.field(column).type), _MAY_HOLD.get(role, _NAMES)
        if kind not in allowed:
            raise UserError(
                f"column '{column}' holds {kind}, which cannot be {role}", where=path,
                mend=f"make it {' or '.join(allowed)}",
            )  # fmt: skip
    return Source(path, found, name, types)


def bad_row_numbers(column: str) -> UserError:
    """The line for a column of row numbers that does not number the rows."""
    return UserError(
        "row numbers must be whole and each there once", where=f"column {column}",
        mend="leave `row` out of the schema, and rows are counted",
    )  # fmt: skip


def kind_of(kind: pa.DataType) -> str:
    """What a column of a type holds, in words."""
    t = pa.types
    if t.is_dictionary(kind):
        return kind_of(kind.value_type)
    kinds = {
        "text": t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind),
        "whole numbers": t.is_integer(kind),
        "numbers": t.is_floating(kind),
        "truth values": t.is_boolean(kind),
        "decimals": t.is_decimal(kind),
        "timestamps": t.is_timestamp(kind),
        "dates": t.is_date(kind),
    }
    return next((words for words, holds in kinds.items() if holds), f"values of type {kind}")


def table_in(folder: Path, file: str = "") -> Path:
    """The table of a folder: the file named, or the only one there."""
    if file:
        path = folder / file
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                "the schema's file lies outside its folder", where=file, mend="give the file itself as --data"
            )
        return locate(path)
    tables = sorted(p for p in folder.iterdir() if p.suffix in (".csv", ".parquet"))
    if len(tables) != 1:
        what = "no csv or parquet file" if not tables else f"{len(tables)} tables"
        raise UserError(
            f"the folder holds {what}", where=folder, mend='name one in the schema, as in file = "transactions.csv"'
        )
    return tables[0]
