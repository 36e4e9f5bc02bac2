"""Tables for the data's owner: csv safe to open in a spreadsheet, or parquet; and lists of items from them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.errors import UserError
from core.quarantine import csv_safe


def write_table(table: pd.DataFrame, out: Path) -> Path:
    """Write `table` to a .csv or .parquet file, by way of a temporary one."""
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"'{out.suffix}' is not a format written here", where=out, mend="name a .csv or .parquet file")
    temporary = out.with_name(out.name + ".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            texts = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
            table.assign(**{c: table[c].map(csv_safe) for c in texts}).to_csv(temporary, index=False)
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"the table could not be written: {error.strerror}", where=out, mend="give another --out"
        ) from error
    return out


def read_items(path: Path) -> list[str]:
    """Items of a text file, one a line, empty lines left out; `UserError` where it cannot be read or names none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the list of items cannot be read ({type(error).__name__})",
            where=path,
            mend="give a text file, one item a line",
        ) from None
    items = [line.strip() for line in lines if line.strip()]
    if not items:
        raise UserError("the list names no item", where=path, mend="write one item a line")
    return items
