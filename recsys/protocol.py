"""Which questions a data set asks: its published test, the later sessions of a prepared folder, or each user's last item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.codec import Categories
from core.datasets import locate, sha256
from recsys.data import Columns, Limits, load
from recsys.known import SESSIONS
from recsys.prepared import QUARANTINE, attributes_in, is_prepared, read_prepared, read_record
from recsys.sessions import TRAIN, is_session_set, read_sessions
from recsys.split import Split, later_sessions, leave_one_out


@dataclass(frozen=True)
class Protocol:
    """A split, and where it is from.

    Attributes:
        split: training sequences and questions.
        digest: sha256 of the file that training sequences are from.
        aside: in words, what was set aside.
    """

    split: Split
    digest: str
    aside: str = "nothing"


def has_test(data: str | Path) -> bool:
    """Whether the data bring later sessions to be asked, so that nothing of the training sessions need be held out."""
    return is_session_set(data) or (is_prepared(data) and _by_time(Path(data)))


def _by_time(folder: Path) -> bool:
    """Whether a prepared folder is split by time."""
    return bool(read_record(folder)["settings"]["split"] == "time")


def protocol_of(
    data: str | Path, columns: Columns | None = None, limits: Limits | None = None, catalogue: Categories | None = None
) -> Protocol:
    """Read data with the questions that they ask.

    Args:
        data: a session set or its name; a folder that `prepare` wrote, which is audited again; or sequences or interactions, of which
            each user's last items are asked.
        catalogue: of a run, where it may be another than that of the data.

    Raises:
        UserError: data that cannot be read, or that leak.
    """
    if is_session_set(data):
        split = read_sessions(data)
        return Protocol(split if catalogue is None else split.over(catalogue), sha256(training_file(data)))
    if is_prepared(data):
        from recsys.audit import audit

        audit(Path(data))
        if _by_time(Path(data)):
            prepared = read_prepared(data)
            parts = prepared.parts
            split = later_sessions(parts["train"], parts["validation"], parts["test"])
            aside = f"{prepared.record['stages']['rows set aside']} rows, see {QUARANTINE}"
            return Protocol(
                split if catalogue is None else split.over(catalogue), sha256(prepared.paths["train"]), aside
            )
    loaded = load(data, columns, limits, catalogue)
    return Protocol(leave_one_out(loaded.sequences), sha256(loaded.file), loaded.quarantine.summary())


def attributes_of(data: str | Path) -> Path | None:
    """The items' attributes in a prepared folder; None where there are none."""
    return attributes_in(Path(data)) if is_prepared(data) else None


def training_file(data: str | Path) -> Path:
    """The file of the training sessions of a session set."""
    return locate(data, SESSIONS) / TRAIN
