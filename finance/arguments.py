"""What the commands of finance share: reading a log, reading a date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import say

if TYPE_CHECKING:
    from finance.data import Transactions
    from finance.schema import View


def load(data: str, schema: Path | None, *, labels: bool, view: View = "card") -> Transactions:
    """Read a log, as histories of cards or counterparties, and say in one line what was set aside."""
    from finance.data import read

    table = read(data, schema, labels=labels).seen_by(view)
    if len(table.quarantine):
        say(f"{table.quarantine.summary()} (verb check lists them)")
    return table


def day_of(date: str, flag: str) -> int:
    """Days since 1970 of an ISO date, or one clear line that names the flag."""
    import datetime

    from core.errors import UserError

    try:
        return datetime.date.fromisoformat(date).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError:
        raise UserError(f"'{date}' is no date", where=flag, mend="write it as 2024-12-31") from None
