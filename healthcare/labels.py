"""From what the data calls its images to class numbers, or to findings that are there, are not, or are not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.quarantine import Quarantine
from healthcare.listing import Record

MARK = "|"  # between the findings of one image, as ChestX-ray14 writes them
NOTHING = "no finding"  # written out, as ChestX-ray14 does, or left empty
UNSEEN = -2  # code of a class that training never saw


def one_label(text: str | None) -> str | None:
    """Class name; 1 and 1.0 are the same class, empty or nan is none."""
    if text is None or text.lower() in ("", "nan"):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if np.isnan(number):
        return None
    return str(int(number)) if np.isfinite(number) and number == int(number) else str(number)


def parts(label: str | None) -> list[str]:
    """Findings of one image: of `a|b` a and b, of `No Finding` or nothing, none."""
    found = [part.strip() for part in (label or "").split(MARK)]
    return [part for part in found if part and part.lower() != NOTHING]


def findings_named(labels: Sequence[str | None]) -> tuple[str, ...] | None:
    """Names of the findings, where some image has several; None where each has at most one."""
    if not any(label is not None and MARK in label for label in labels):
        return None
    return tuple(sorted({part for label in labels for part in parts(label)}, key=natural))


def codes(
    records: Sequence[Record], split: NDArray[np.str_], quarantine: Quarantine
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names of the training images, and codes: −1 unlabelled, −2 for a class that training never saw."""
    train = {r.label for r, s in zip(records, split, strict=True) if r.label is not None and s == "train"}
    named = train or {r.label for r in records if r.label is not None}  # a set without train is only ever predicted on
    classes = tuple(sorted(named, key=natural))
    code = {name: i for i, name in enumerate(classes)}
    label = np.array([-1 if r.label is None else code.get(r.label, UNSEEN) for r in records], dtype=np.int64)
    for row in np.flatnonzero(label == UNSEEN).tolist():
        quarantine.add(records[row].where, "class that training never saw", f"in {split[row]}")
    return classes, label


def findings_of(records: Sequence[Record], names: tuple[str, ...]) -> NDArray[np.int8]:
    """(N, L): 1 where the finding is there, 0 where it is not, −1 where that is not known."""
    column = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(records), len(names)), dtype=np.int8)
    for row, record in enumerate(records):
        for name in parts(record.label):
            table[row, column[name]] = 1
        for name in record.unknown:
            table[row, column[name]] = -1
    return table


def natural(name: str) -> tuple[int, float, str]:
    """Numbers in their order, then words in theirs."""
    return (0, float(name), name) if name.isdecimal() else (1, 0.0, name)
