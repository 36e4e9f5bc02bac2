"""Transactions: a csv or parquet file and a schema -> a validated table; bad records go to quarantine.

The schema is a TOML file (`schema.toml` beside the data, or `--schema PATH`) that names the columns:

    file = "transactions.parquet"   # optional, relative to the schema
    entity = "card"                 # whose history it is
    time = "time"                   # ISO 8601, or seconds since 1970; read as UTC
    amount = "amount"
    categorical = ["terminal"]
    numeric = []
    label = "fraud"                 # optional: 0, 1, or empty where not known
    scenario = "scenario"           # optional: kind of fraud, 0 = genuine; only ever used to report
    id = "transaction"              # optional: must be unique; kept in outputs
    label_delay_days = 7            # a label is known this many days after its transaction
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.datasets import Known, locate, sha256
from core.errors import UserError
from core.quarantine import Quarantine
from finance.columns import is_text, number, seconds, text

DAY = 86_400  # seconds

KNOWN = {
    "fdh_simulated": Known(
        folder="finance/fdh_simulated",
        sha256={
            "transactions.parquet": "85d9fad1e29024e5097eb359e30e65a8f84585f49bf572d8727a6eebaf571ff1",
            "features_2018-06-11_2018-09-14.parquet": "67fd5053065185081ba31a9ac2c27f119452ebdcc699aeb6a3224ef3dc6cbd0f",
        },
        source="github.com/Fraud-Detection-Handbook/simulated-data-raw (6e67dbd) and simulated-data-transformed (6e3ca58)",
        licence="none stated; synthetic, no personal data",
    )
}


@dataclass(frozen=True)
class Schema:
    """Which column is what."""

    entity: str
    time: str
    amount: str
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    label: str = ""
    scenario: str = ""
    id: str = ""
    file: str = ""
    label_delay_days: int = 7

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: object = "schema") -> Schema:
        """A schema from parsed TOML or JSON; raises UserError on a missing, unknown or mistyped key."""
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - names)
        if unknown:
            raise UserError(f"unknown key '{unknown[0]}'", where=where, mend=f"keys are {', '.join(sorted(names))}")
        for key in ("entity", "time", "amount"):
            if not isinstance(data.get(key), str) or not data[key]:
                raise UserError(f"the schema must name the column '{key}'", where=where, mend=f'add {key} = "column"')
        clean = dict(data)
        for key in ("categorical", "numeric"):
            value = clean.get(key, [])
            if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
                raise UserError(
                    f"'{key}' must be a list of column names", where=where, mend=f'as in {key} = ["a", "b"]'
                )
            clean[key] = tuple(value)
        delay = clean.get("label_delay_days", 7)
        if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
            raise UserError("'label_delay_days' must be a whole number, 0 or more", where=where)
        for key in ("label", "scenario", "id", "file"):
            if not isinstance(clean.get(key, ""), str):
                raise UserError(f"'{key}' must be text", where=where)
        schema = cls(**clean)
        repeated = [c for c in schema.columns() if schema.columns().count(c) > 1]
        if repeated:
            raise UserError(f"column '{repeated[0]}' has two roles", where=where, mend="give each column one role")
        return schema

    @classmethod
    def read(cls, path: Path) -> Schema:
        """A schema from a TOML file."""
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")), where=path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError("the schema is not valid TOML", where=path, mend=str(error)) from None

    def columns(self) -> list[str]:
        """Every column that must be there."""
        named = [self.entity, self.time, self.amount, self.label, self.scenario, self.id]
        return [c for c in named if c] + list(self.categorical) + list(self.numeric)

    def json(self) -> dict[str, Any]:
        return asdict(self)


FDH_SCHEMA = Schema(
    entity="CUSTOMER_ID",
    time="TX_DATETIME",
    amount="TX_AMOUNT",
    categorical=("TERMINAL_ID",),
    label="TX_FRAUD",
    scenario="TX_FRAUD_SCENARIO",
    id="TRANSACTION_ID",
    file="transactions.parquet",
)


@dataclass(frozen=True)
class Transactions:
    """A validated table, in time order (ties in file order).

    Attributes:
        frame: columns `row` (0 = first after the header), `entity` (text), `time` (seconds since 1970, int64), `amount`
            (float64), `label` (1, 0, or -1 where not known), `scenario` (0 = genuine), `id` (or the row number), and every
            categorical and numeric column under its own name.
        schema: the columns' roles.
        quarantine: the rows that were set aside.
        name: of a known data set, else "own data".
        rows_read: rows in the file.
    """

    frame: pd.DataFrame
    schema: Schema
    quarantine: Quarantine = field(default_factory=Quarantine)
    name: str = "own data"
    rows_read: int = 0
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def card(self) -> NDArray[np.int64]:
        """Number of each row's entity, 0 … cards-1, (N,)."""
        return pd.factorize(self.frame["entity"], sort=True)[0].astype(np.int64)

    @cached_property
    def time(self) -> NDArray[np.int64]:
        """Seconds since 1970, (N,)."""
        return self.frame["time"].to_numpy()

    @cached_property
    def day(self) -> NDArray[np.int64]:
        """Days since 1970, (N,)."""
        return self.time // DAY

    @cached_property
    def amount(self) -> NDArray[np.float64]:
        return self.frame["amount"].to_numpy()

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """1 fraud, 0 genuine, -1 not known, (N,)."""
        return self.frame["label"].to_numpy()

    @cached_property
    def scenario(self) -> NDArray[np.int64]:
        return self.frame["scenario"].to_numpy()

    @property
    def labelled(self) -> bool:
        return bool(self.schema.label) and bool((self.label >= 0).any())

    def describe(self) -> str:
        """One line: rows, cards, days, labels."""
        if not len(self):
            return f"{self.rows_read} rows read, none usable"
        first, last = (np.datetime64(int(d), "D") for d in (self.day.min(), self.day.max()))
        cards = len(np.unique(self.card))
        labels = (
            f"{int((self.label == 1).sum())} frauds of {int((self.label >= 0).sum())} labels"
            if self.labelled
            else "no labels"
        )
        return f"{self.rows_read} rows read, {len(self)} usable, {cards} cards, {first} to {last}, {labels}"

    def where(self, keep: NDArray[np.bool_]) -> Transactions:
        """The rows of a mask, as a table of their own."""
        return Transactions(
            self.frame[keep].reset_index(drop=True),
            self.schema,
            self.quarantine,
            self.name,
            self.rows_read,
            self.sha256,
        )


def find(data: str | Path, schema: str | Path | Schema | None = None) -> tuple[Path, Schema, str]:
    """The table's file, its schema and the set's name.

    Args:
        data: a csv or parquet file, a folder that holds one (with `schema.toml`), or a known set's name.
        schema: a schema, a TOML file, or None for the built-in one of a known set or the `schema.toml` beside the data.
    """
    path = locate(data, KNOWN)
    name = str(data) if str(data) in KNOWN else "own data"
    folder = path if path.is_dir() else path.parent
    if isinstance(schema, Schema):
        found = schema
    elif schema is not None:
        found = Schema.read(locate(schema))
    elif name in KNOWN:
        found = FDH_SCHEMA
    elif (folder / "schema.toml").exists():
        found = Schema.read(folder / "schema.toml")
    else:
        example = "entity, time, amount, categorical, numeric, label and id"
        raise UserError("there is no schema", where=folder, mend=f"write schema.toml there, naming {example}")
    if path.is_dir():
        path = _table_in(path, found)
    return path, found, name


def read(data: str | Path, schema: str | Path | Schema | None = None, *, labels: bool = True) -> Transactions:
    """Reads and validates a table. Arguments as `find`; with `labels=False` label columns need not be there.

    Raises:
        UserError: no such file, no schema, a missing column, an unreadable file, or no usable row.
    """
    table = examine(data, schema, labels=labels)
    if len(table) == 0:
        mend = "the verb check lists each row with its reason"
        raise UserError(f"no usable row is left; {table.quarantine.summary()}", where=data, mend=mend)
    return table


def examine(data: str | Path, schema: str | Path | Schema | None = None, *, labels: bool = True) -> Transactions:
    """As `read`, but a table of which no row is usable is returned, with its quarantine."""
    path, found, name = find(data, schema)
    columns = found.columns()
    raw = _load(path, found)
    if not labels:
        optional = {c for c in (found.label, found.scenario) if c and c not in raw.columns}
        found = Schema(**{**found.json(), **{k: "" for k in ("label", "scenario") if getattr(found, k) in optional}})
        columns = found.columns()
    missing = [c for c in columns if c not in raw.columns]
    if missing:
        there = ", ".join(map(str, raw.columns[:12]))
        raise UserError(
            f"column '{missing[0]}' is missing", where=path, mend=f"the file holds {there}; mend the schema or the file"
        )
    if len(raw) == 0:
        raise UserError("the file holds no rows", where=path)
    digest = sha256(path)
    if name in KNOWN and digest != KNOWN[name].sha256.get(path.name):
        raise UserError(
            "the file differs from the published one", where=path, mend=f"get it again from {KNOWN[name].source}"
        )
    table = validate(raw[columns], found)
    return Transactions(table.frame, found, table.quarantine, name, len(raw), digest)


def validate(raw: pd.DataFrame, schema: Schema) -> Transactions:
    """A table with the schema's columns -> Transactions; every row that is set aside is in the quarantine with its reason."""
    raw = raw.reset_index(drop=True)
    n = len(raw)
    out = pd.DataFrame({"row": np.arange(n, dtype=np.int64)})
    bad = np.zeros(n, dtype=bool)
    quarantine = Quarantine()

    def set_aside(mask: NDArray[np.bool_], reason: str, column: str) -> None:
        nonlocal bad
        for row in np.flatnonzero(mask & ~bad):
            quarantine.add(f"row {row}", reason, f"column {column}")
        bad |= mask

    entity = text(raw[schema.entity])
    set_aside(entity.isna().to_numpy(), "entity is missing", schema.entity)
    out["entity"] = entity.fillna("")
    moment, readable = seconds(raw[schema.time])
    set_aside(~readable, "time is missing or unreadable", schema.time)
    out["time"] = moment
    amount = number(raw[schema.amount])
    set_aside(~np.isfinite(amount), "amount is not a finite number", schema.amount)
    out["amount"] = amount
    if schema.id:
        ids = text(raw[schema.id])
        set_aside(ids.isna().to_numpy(), "id is missing", schema.id)
        usable = pd.Series(ids.to_numpy()).where(~bad)
        set_aside((usable.duplicated() & usable.notna()).to_numpy(), "id occurs twice; the first is kept", schema.id)
        out["id"] = raw[schema.id].to_numpy()
    else:
        out["id"] = out["row"]
    for column in schema.numeric:
        value = number(raw[column])
        unreadable = (
            np.isnan(value) & raw[column].notna().to_numpy() & (text(raw[column]).str.lower() != "nan").to_numpy()
        )
        set_aside(np.isinf(value) | unreadable, "number is infinite or unreadable", column)
        out[column] = value
    for column in schema.categorical:
        out[column] = raw[column].to_numpy() if not is_text(raw[column]) else text(raw[column]).to_numpy(dtype=object)
    for key in ("label", "scenario"):
        column = getattr(schema, key)
        if not column:
            out[key] = np.int64(-1 if key == "label" else 0)
            continue
        value = number(raw[column])
        if key == "label":
            known = np.isin(value, (0, 1))
            set_aside(
                ~known & ~np.isnan(value) | (np.isnan(value) & raw[column].notna().to_numpy()),
                "label is neither 0 nor 1",
                column,
            )
            out[key] = np.where(known, np.nan_to_num(value, posinf=0, neginf=0), -1).astype(np.int64)
        else:
            out[key] = np.nan_to_num(value, nan=0, posinf=0, neginf=0).astype(np.int64)
    frame = out[~bad].sort_values(["time", "row"], kind="stable").reset_index(drop=True)
    return Transactions(frame, schema, quarantine, rows_read=n)


def _table_in(folder: Path, schema: Schema) -> Path:
    if schema.file:
        path = folder / schema.file
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                "the schema's file lies outside its folder", where=schema.file, mend="give the file itself as --data"
            )
        return locate(path)
    tables = sorted(p for p in folder.iterdir() if p.suffix in (".csv", ".parquet"))
    if len(tables) != 1:
        what = "no csv or parquet file" if not tables else f"{len(tables)} tables"
        raise UserError(
            f"the folder holds {what}", where=folder, mend='name one in the schema, as in file = "transactions.csv"'
        )
    return tables[0]


def _load(path: Path, schema: Schema) -> pd.DataFrame:
    """The file's table; text columns of a csv stay text, so that `0012` and `NA` survive."""
    locate(path)
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(
            f"cannot read '{path.suffix or path.name}' files", where=path, mend="give a csv or a parquet file"
        )
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
    except Exception as error:  # the readers raise a dozen kinds; the user needs one line
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            "the file cannot be read", where=path, mend=f"check that it is a whole {path.suffix[1:]} file: {reason}"
        ) from None
