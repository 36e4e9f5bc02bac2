"""Lists of items that people write by hand."""

from __future__ import annotations

from pathlib import Path

from core.errors import UserError


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
