"""Which column of a table is what: a TOML file (`schema.toml` beside the data, or `--schema PATH`) that names the columns.

file = "transactions.parquet"   # optional, relative to the schema
entity = "card"                 # whose history it is
time = "time"                   # ISO 8601, or seconds since 1970
zone = "Europe/Brussels"        # optional: of times that name none; UTC where not given
amount = "amount"               # not converted: one currency, or amounts that can be compared
currency = "currency"           # optional
counterparty = "terminal"       # optional: the other side; may be named in categorical too
categorical = ["terminal"]
numeric = []
text = "description"            # optional: free text
label = "fraud"                 # optional: 0, 1, or empty where not known
label_time = "reported"         # optional: when the label became known; where empty or not given:
label_delay_days = 7            # a label is known this many days after its transaction
scenario = "scenario"           # optional: kind of fraud, 0 = genuine; only ever used to report
id = "transaction"              # optional: must be unique; kept in outputs
row = "row"                     # optional: the row number that outputs show; `prepare` keeps that of the raw file
max_text = 1000                 # characters; a longer text is set aside
max_events = 100000             # an entity with more is no card: its rows are set aside
future = false                  # whether a time later than now is possible
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from core.errors import UserError

View = Literal["card", "counterparty"]  # whose history a payment belongs to

# keys that name one column each
SINGLE = (
    "entity", "time", "amount", "counterparty", "currency", "text", "label", "label_time", "scenario", "id", "row",
)  # fmt: skip
REQUIRED = ("entity", "time", "amount")
FROM_LABELS = ("label", "label_time", "scenario")  # columns that new data does not have yet


@dataclass(frozen=True)
class Schema:
    """Which column is what; the keys are those of the file above."""

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
    counterparty: str = ""
    currency: str = ""
    text: str = ""
    label_time: str = ""
    row: str = ""
    zone: str = ""
    max_text: int = 1000
    max_events: int = 100_000
    future: bool = False

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: object = "schema") -> Schema:
        """A schema from parsed TOML or JSON; raises UserError on a missing, unknown or mistyped key."""
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - names)
        if unknown:
            raise UserError(f"unknown key '{unknown[0]}'", where=where, mend=f"keys are {', '.join(sorted(names))}")
        for key in REQUIRED:
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
        for key, least in (("label_delay_days", 0), ("max_text", 1), ("max_events", 1)):
            value = clean.get(key, least)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"'{key}' must be a whole number, {least} or more", where=where)
        for key in (*SINGLE, "file", "zone"):
            if not isinstance(clean.get(key, ""), str):
                raise UserError(f"'{key}' must be text", where=where)
        if not isinstance(clean.get("future", False), bool):
            raise UserError("'future' must be true or false", where=where)
        schema = cls(**clean)
        schema._check(where)
        return schema

    @classmethod
    def of(cls, given: Schema | Mapping[str, Any] | str | Path) -> Schema:
        """A schema, its keys and values, or the path of its file."""
        if isinstance(given, Schema):
            return given
        return cls.from_dict(dict(given)) if isinstance(given, Mapping) else cls.read(Path(given))

    @classmethod
    def read(cls, path: Path) -> Schema:
        """A schema from a TOML file."""
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")), where=path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError("the schema is not valid TOML", where=path, mend=str(error)) from None

    def turned(self) -> Schema:
        """Entity and counterparty in each other's role: the history is the counterparty's, and the entity is a category.

        Raises:
            UserError: no counterparty is named, or an entity's column whose name a category cannot have.
        """
        if not self.counterparty:
            raise UserError(
                "the schema names no counterparty", where="schema", mend='name its column, as counterparty = "terminal"'
            )
        others = tuple(c for c in self.categorical if c != self.counterparty)
        made = replace(self, entity=self.counterparty, counterparty=self.entity, categorical=(self.entity, *others))
        made._check("schema")
        return made

    def columns(self) -> list[str]:
        """Every column that must be there, once."""
        named = [getattr(self, key) for key in SINGLE]
        return list(dict.fromkeys(c for c in (*named, *self.categorical, *self.numeric) if c))

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def toml(self) -> str:
        """The file's text: required keys and those that differ from the default."""
        lines = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in REQUIRED or value != f.default:
                lines.append(f"{f.name} = {toml_value(value)}")
        return "\n".join(lines) + "\n"

    def _check(self, where: object) -> None:
        named = [c for c in (*(getattr(self, key) for key in SINGLE), *self.categorical, *self.numeric) if c]
        both = {c for c in (self.counterparty, self.currency) if c in self.categorical}  # a role, and a field of events
        repeated = [c for c in named if named.count(c) > 1 + (c in both)]
        if repeated:
            raise UserError(f"column '{repeated[0]}' has two roles", where=where, mend="give each column one role")
        for column in (*self.categorical, *self.numeric):
            if column in SINGLE and getattr(self, column) != column:
                raise UserError(
                    f"a categorical or numeric column cannot be called '{column}'", where=where,
                    mend="that is the name of a role; rename the column in the table",
                )  # fmt: skip
        if self.zone:
            try:
                ZoneInfo(self.zone)
            except (ValueError, OSError, KeyError):
                raise UserError(
                    f"there is no time zone '{self.zone}'", where=where, mend="give an IANA name, as Europe/Brussels"
                ) from None


def toml_value(value: str | int | bool | tuple[str, ...]) -> str:
    """A text, whole number, truth value or list of texts as TOML writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
