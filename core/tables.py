"""Tables for the data's owner, as csv that is safe to open in a spreadsheet, or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import whole
from core.quarantine import csv_safe

if TYPE_CHECKING:
    import pandas as pd


def check_format(out: Path) -> None:
    """Raise `UserError` where a table's name ends in neither .csv nor .parquet: better before the work than after it."""
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"no table format '{out.suffix}'", where=out, mend="end the name in .csv or .parquet")


def write_table(table: pd.DataFrame, out: Path) -> Path:
    """Write a table by the ending of its name, whole or not at all.

    Raises:
        UserError: another ending, or a place that cannot be written.
    """
    from pandas.api.types import is_numeric_dtype

    check_format(out)
    with whole(out, "the table") as temporary:
        if out.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            safe = table.copy(deep=False)
            for name in table:
                if not is_numeric_dtype(table[name]):
                    safe[name] = table[name].map(csv_safe)
            safe.rename(columns=csv_safe).to_csv(temporary, index=False)
    return out
