"""Tables for the data's owner: csv safe to open in a spreadsheet, or parquet."""

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
