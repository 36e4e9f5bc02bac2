"""What a data set lists before anything is read: records, and what is said about all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from healthcare.readers import Loaded

Load = Callable[[], "NDArray | Loaded"]


@dataclass(frozen=True)
class Record:
    """One entry before it is read: where it is named, how to get its values, and what is said about it.

    Attributes:
        where: row number, or path relative to the data.
        load: gives one image (H, W) or (H, W, 3) in [0, 1], or, of a file that may hold several or volumes, `Loaded`; raises
            `Unreadable`.
        label: class name; in multi-label data the findings' names joined by `|`; None where there is none.
        split: train, val, test, or None.
        patient: id as the data's owner writes it; None where the data names none.
        study: as `patient`.
        unknown: findings of which it is not known whether they are there.
    """

    where: str
    load: Load
    label: str | None
    split: str | None
    patient: str | None
    study: str | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """Records of a data set.

    Attributes:
        records: in the data's order.
        named: whether the data names patients.
        findings: names of the findings where several may stand in one image; None where each image has one class.
        notes: what listing decided by itself, one sentence each.
        files: whether each record is a file of its own, which several processes may read.
        by_folder: whether labels are names of folders, which may turn out to be patients.
    """

    records: Sequence[Record]
    named: bool
    findings: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    files: bool = False
    by_folder: bool = False
