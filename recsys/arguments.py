"""What the commands of the recommender share: how a table is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys.data import Columns, Limits


@dataclass(frozen=True)
class Table:
    """How the data's table is read.

    Attributes:
        user: column of the user or session; empty takes the first of user_id, session_id, user, session, ….
        item: column of the item; empty takes item_id, item, product_id, ….
        time: column of the time; empty takes timestamp, time, ts, …; `row` takes the rows' own order.
        items: column of item lists, where the data hold one row a user.
        longest: events of a session beyond which its earlier ones are set aside.
        max_bad: share of the rows that may be set aside before the command fails.
    """

    user: str = ""
    item: str = ""
    time: str = ""
    items: str = "items"
    longest: int = 1000
    max_bad: float = 0.5

    def columns(self) -> Columns:
        from recsys.data import Columns

        return Columns(self.user, self.item, self.time, self.items)

    def limits(self) -> Limits:
        from recsys.data import Limits

        return Limits(self.longest, self.max_bad)
