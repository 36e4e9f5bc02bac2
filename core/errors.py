"""The one exception that a user may see: what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations


class UserError(Exception):
    """Input that a user can mend. Command lines print it as one line and end with exit code 2.

    Args:
        what: what is wrong, without a full stop.
        where: the file, column, row or setting.
        mend: what to do about it.
    """

    def __init__(self, what: str, *, where: object = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, str(where), mend
        place = f" ({where})" if str(where) else ""
        cure = f"; {mend}" if mend else ""
        super().__init__(" ".join(f"{what}{place}{cure}".split()))
