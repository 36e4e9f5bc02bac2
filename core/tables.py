"""Tables for the data's owner, as csv that is safe to open in a spreadsheet, or parquet."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import whole
from core.quarantine import csv_safe

if TYPE_CHECKING:
    import pandas as pd


KEY = "TACIT_KEY"


def check_table(out: Path, pseudonymise: bool = False) -> None:
    """Raise `UserError` where a table's name ends in neither .csv nor .parquet, or ids are to be hashed and there is no key: better
    before the work than after it."""
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"no table format '{out.suffix}'", where=out, mend="end the name in .csv or .parquet")
    if pseudonymise:
        _secret()


def _secret() -> bytes:
    """What ids are hashed with. It is read from the environment: a flag would stay in the shell's history."""
    key = os.environ.get(KEY, "")
    if not key:
        raise UserError(
            "there is no key to hash ids with", where=f"{KEY} is not set", mend=f"set {KEY} to a long secret"
        )
    return key.encode()


def pseudonyms(ids: Iterable[object]) -> list[str]:
    """Keyed hashes (HMAC-SHA-256, 32 hex digits): equal ids stay equal, and nobody without the key can try ids.

    Raises:
        UserError: the environment has no key.
    """
    key = _secret()
    return [hmac.new(key, str(one).encode(), hashlib.sha256).hexdigest()[:32] for one in ids]


def write_table(table: pd.DataFrame, out: Path) -> Path:
    """Write a table by the ending of its name, whole or not at all.

    Raises:
        UserError: another ending, or a place that cannot be written.
    """
    from pandas.api.types import is_numeric_dtype

    check_table(out)
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
