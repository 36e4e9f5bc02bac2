"""A first schema.toml for a table: each column's role guessed from its name and its first rows, with a comment that says why.

Comments hold counts, never values: a schema is kept and shared where the log is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset

from core.files import unreadable
from core.lines import RAGGED, header, lines
from finance.columns import moments, number
from finance.schema import REQUIRED, SINGLE, Schema, toml_value
from finance.source import kind_of

ROWS = 50_000  # the first rows, from which all is guessed
FEW = 1000  # values that a category may have
MOST = 0.95  # the share of values that must read as what a column is taken for

# words of a column's name that speak for a role, the strongest first
WORDS = {
    "label": ("fraud", "label", "chargeback", "target", "class", "default"),
    "label_time": ("reported", "labelled", "confirmed", "chargeback", "label", "fraud"),
    "scenario": ("scenario", "pattern"),
    "time": ("datetime", "timestamp", "time", "date", "when", "day"),
    "amount": ("amount", "amt", "sum", "value", "price", "total", "paid"),
    "entity": ("card", "pan", "iban", "account", "customer", "client", "user", "payer", "orig", "sender", "cc"),
    "counterparty": ("merchant", "terminal", "shop", "store", "payee", "beneficiary", "dest", "receiver", "counterparty"),
    "id": ("transaction", "tx", "trans", "uuid", "id", "reference", "number"),
    "currency": ("currency", "ccy", "cur"),
    "text": ("description", "memo", "narrative", "text", "note", "purpose"),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What is seen of a column: `words` of its name; `numbers`, `times` and `spaces` are the shares of its values that are
    numbers, times, and text of several words; `codes`: three capital letters each; `rising`: never falls from row to row."""

    name: str
    kind: str
    words: tuple[str, ...]
    rows: int
    filled: int
    distinct: int
    numbers: float
    times: float
    zoned: bool
    fractions: bool
    binary: bool
    codes: bool
    spaces: float
    rising: bool

    def says(self, role: str) -> float:
        """1 where the name holds the strongest word for a role, less for weaker ones, 0 for none."""
        words = WORDS[role]
        return max((1 - words.index(w) / (2 * len(words)) for w in self.words if w in words), default=0.0)

    @property
    def repeats(self) -> float:
        """Rows of each value, on average."""
        return self.filled / max(self.distinct, 1)


def draft(path: Path, file: str = "") -> str:
    """The text of a schema.toml for a csv or parquet table; a required column that was not found is left empty.

    Args:
        file: the key of that name; empty: none.

    Raises:
        UserError: the file cannot be read.
    """
    columns = [profile(name, kind, values) for name, kind, values in _first_rows(path)]
    roles = guess(columns)
    taken = {column.name for column, _ in roles.values()}
    rows = columns[0].rows if columns else 0
    out = [f"# Drafted from the first {rows} rows. Read every line: a guess is a guess."]
    if file:
        out.append(f"file = {toml_value(file)}")
    for key in (f.name for f in fields(Schema) if f.name in SINGLE):
        if key in roles:
            out.append(f"{key} = {toml_value(roles[key][0].name)}  # {roles[key][1]}")
        elif key in REQUIRED:
            out.append(f'{key} = ""  # no column looks like it: name one')
        if key == "time" and key in roles and roles[key][0].numbers < MOST and not roles[key][0].zoned:
            out.append(
                '# zone = "Europe/Brussels"  # the times name no zone and are taken as UTC: say here where they are local'
            )
    rest = [column for column in columns if column.name not in taken]
    kinds = {key: [c for c in rest if field_kind(c)[0] == key] for key in ("categorical", "numeric", "")}
    both = [roles[key][0] for key in ("counterparty", "currency") if key in roles]
    for key, chosen in (("categorical", [*both, *kinds["categorical"]]), ("numeric", kinds["numeric"])):
        out.append(f"{key} = [")
        out += [
            f"    {toml_value(c.name)},  # {'also a field of each event' if c in both else field_kind(c)[1]}"
            for c in chosen
        ]
        out.append("]")
    out += [f"# left out: {toml_value(column.name)}, {field_kind(column)[1]}" for column in kinds[""]]
    return "\n".join(out) + "\n"


def guess(columns: list[Column]) -> dict[str, tuple[Column, str]]:
    """Role -> column, and why. Roles choose in turn, those that values tell most about first; a column has one role."""
    found: dict[str, tuple[Column, str]] = {}

    def choose(role: str, fits: Callable[[Column], bool], why: str, by_name: bool = True) -> None:
        free = [c for c in columns if c.filled and c not in [taken for taken, _ in found.values()] and fits(c)]
        best = max(free, key=lambda c: (c.says(role), -columns.index(c)), default=None)
        if best is not None and (best.says(role) or not by_name):
            said = "its name says so" if best.says(role) else "nothing else fits better"
            found[role] = (best, f"{why.format(c=best)}; {said}")

    clocks = [c for c in columns if c.times >= MOST and c.distinct > 1]
    in_each = "{c.distinct} values, each in {c.repeats:.1f} rows on average"
    choose("label", lambda c: c.binary, "0 or 1 alone")
    choose("scenario", lambda c: c.numbers >= MOST and not c.fractions and c.distinct <= 20, "{c.distinct} values")
    if len(clocks) > 1:
        choose("label_time", lambda c: c in clocks, "{c.times:.0%} of its values are times")
    choose("time", lambda c: c in clocks, "{c.times:.0%} of its values are times", by_name=False)
    choose("currency", lambda c: c.codes and c.distinct <= 200, "{c.distinct} codes of three letters")
    choose("amount", lambda c: c.numbers >= MOST and not c.binary and c.distinct > 1, "numbers")
    if "amount" not in found:
        choose("amount", lambda c: c.fractions, "numbers with fractions", by_name=False)
    choose("counterparty", _named, "{c.distinct} values")
    choose("entity", lambda c: _named(c) and c.repeats >= 1.5, in_each)
    choose("id", lambda c: not c.fractions and c.distinct == c.rows, "another value in each row")
    choose("text", lambda c: c.kind == "text" and c.numbers < MOST and c.spaces >= 0.5, "words")
    if "entity" not in found and "time" in found:
        choose("entity", lambda c: _named(c) and c.distinct > 10 and c.repeats >= 2, in_each, by_name=False)
    return found


def field_kind(column: Column) -> tuple[str, str]:
    """`categorical`, `numeric` or nothing for a column without a role, and why."""
    if column.name in SINGLE:
        return "", "called like a role: rename it to use it"
    if column.distinct <= 1:
        return "", "one value at most"
    if column.rising:
        return "", "never falls from row to row: a clock or a counter"
    if column.kind not in ("text", "whole numbers", "numbers", "truth values", "decimals"):
        return "", f"{column.kind} without a role"
    if column.numbers >= MOST and column.kind != "truth values" and (column.fractions or column.distinct > FEW):
        return "numeric", f"numbers, {column.distinct} different ones"
    if column.times >= MOST and column.numbers < MOST:
        return "", "times without a role"
    if column.kind == "decimals":
        return "numeric", f"numbers, {column.distinct} different ones"
    if column.distinct <= FEW and column.repeats >= 2:
        return "categorical", f"{column.distinct} values"
    return "", f"{column.distinct} values in {column.filled} rows, too many for a category"


def profile(name: str, kind: str, values: pd.Series) -> Column:
    """Looks at a column's first rows."""
    known = values[values.notna() & (values.astype(str) != "")]
    text = known.astype(str)
    readable = kind in ("text", "whole numbers", "numbers", "truth values", "decimals")
    made, wrong = number(known) if readable else (np.array([]), np.array([]))
    numbers = float((~wrong & np.isfinite(made)).mean()) if len(made) else 0.0
    timely = kind in ("text", "whole numbers", "numbers", "timestamps", "dates")
    seen = moments(known) if timely and len(known) else None
    readable_times = 0.0 if seen is None else float(seen.readable.mean())
    if numbers >= MOST and not ((made > 3e8) & (made < 4e10)).mean() >= MOST:
        readable_times = 0.0  # small numbers could be anything
    finite = made[np.isfinite(made)]
    return Column(
        name=name,
        kind=kind,
        words=tuple(w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)),
        rows=len(values),
        filled=len(known),
        distinct=int(text.nunique()),
        numbers=numbers,
        times=readable_times,
        zoned=_zoned(known, text, kind),
        fractions=bool(numbers >= MOST and (finite % 1 != 0).any()),
        binary=bool(numbers >= MOST and 0 < len(np.unique(finite)) <= 2 and np.isin(finite, (0, 1)).all()),
        codes=bool(len(text) and text.str.fullmatch("[A-Z]{3}").mean() >= MOST),
        spaces=float(text.str.contains(" ").mean()) if len(text) else 0.0,
        rising=bool(numbers >= MOST and len(finite) > 1 and (np.diff(finite) >= 0).all() and finite[0] < finite[-1]),
    )


def _named(column: Column) -> bool:
    """Whether a column may hold names of somebody: text or whole numbers."""
    return column.kind in ("text", "whole numbers", "numbers") and not column.fractions and not column.binary


def _zoned(known: pd.Series, text: pd.Series, kind: str) -> bool:
    if kind == "timestamps":
        return isinstance(known.dtype, pd.DatetimeTZDtype)
    return bool(len(text) and text.str.contains(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$").mean() > 0.5 and kind == "text")


def _first_rows(path: Path) -> list[tuple[str, str, pd.Series]]:
    types = header(path)
    if path.suffix == ".csv":
        batch = next(lines(path, types.names), None)
        frame = pd.DataFrame(columns=types.names) if batch is None else batch[:ROWS].to_pandas()
        frame = frame[~frame[RAGGED]] if RAGGED in frame else frame
    else:
        try:
            parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
            frame = pa.dataset.dataset([str(p) for p in parts], format="parquet").head(ROWS).to_pandas()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise unreadable(path, error) from None
    return [(name, kind_of(types.field(name).type), frame[name]) for name in types.names]
