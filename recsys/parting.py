"""Which part of a log a session belongs to, by time.

A session belongs to the part that its last event falls into, as in GRU4Rec's and session-rec's splits. One that began before that part did
is set apart, since training would hold events as late as its own: so every event of training lies before every one of validation, and
those before every one of the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ibis
from ibis import ir

from core.errors import UserError
from recsys.clock import CLOCK
from recsys.kcore import size

ACROSS = 9  # the part of a session that began before its part did
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


@dataclass(frozen=True)
class Split:
    """First microsecond of validation and test; both None where nothing is cut."""

    validation: int | None = None
    test: int | None = None

    def json(self) -> dict[str, Any]:
        if self.validation is None or self.test is None:
            return {}
        found: dict[str, Any] = {"validation": self.validation, "test": self.test}
        if self.validation > CLOCK * _SECOND:
            found["in words"] = {
                name: datetime.fromtimestamp(value / _SECOND, UTC).isoformat() for name, value in list(found.items())
            }
        return found


def split_times(sessions: ir.Table, split: str, days: float | None, share: float) -> Split:
    """Split times from the sessions' ends.

    Args:
        sessions: `end` in microseconds.
        split: `time` or `leave-one-out`.
        days: length of the test before the log's last event, and of validation before that; or
        share: of the sessions, by their ends; the split time follows the end of the last earlier session.

    Raises:
        UserError: too few sessions, or too short a log.
    """
    if split != "time":
        return Split()
    count = size(sessions)
    span = sessions.aggregate(first=sessions.start.min(), last=sessions.end.max()).to_pyarrow().to_pylist()[0]
    if days is not None:
        test = int(span["last"]) - round(days * _DAY)
        validation = test - round(days * _DAY)
        if validation <= span["first"]:
            raise UserError(
                f"the log spans {(span['last'] - span['first']) / _DAY:.1f} days", where="--test-days",
                mend="give fewer: validation and test take that many each, and training needs some",
            )  # fmt: skip
        return Split(validation, test)
    held = max(1, round(count * share))
    if count < 2 * held + 1:
        raise UserError(
            f"there are {count} sessions", where="--test-share", mend="give a longer log, or a smaller share"
        )

    def end_of(place: int) -> int:
        return int(sessions.order_by("end").limit(1, offset=place).select("end").to_pyarrow()["end"][0].as_py())

    return Split(end_of(count - 2 * held - 1) + 1, end_of(count - held - 1) + 1)


def parted(sessions: ir.Table, split: Split) -> ir.Table:
    """Adds the `part`: 0 training, 1 validation, 2 test, ACROSS."""
    if split.validation is None or split.test is None:
        return sessions.mutate(part=ibis.literal(0, "int64"))
    start, end = sessions.start, sessions.end
    part = ibis.cases(
        (end < split.validation, 0),
        (end < split.test, (start >= split.validation).ifelse(1, ACROSS)),
        else_=(start >= split.test).ifelse(2, ACROSS),
    )
    return sessions.mutate(part=part.cast("int64"))
