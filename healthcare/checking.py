"""What `check` tells: a table of counts, a table of findings with what to do about each, and lists for the data's owner."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from core.config import settings
from core.datasets import locate
from core.files import whole
from core.quarantine import csv_safe
from healthcare.audit import MEANING
from healthcare.data import KNOWN, Images, Reading, Twin, scan
from healthcare.prepared import is_prepared, open_prepared, prepared_reading


def check(data: str, size: int | None, changes: Sequence[str], out: Path) -> int:
    """Print what is found, write the lists, and return the exit code: 1 where nothing usable is left or a patient leaks.

    Raises:
        UserError: see `scan`.
    """
    place = locate(data, KNOWN)
    before = prepared_reading(place)
    start = before or Reading()
    reading = settings(Reading(**{**vars(start), "size": size or start.size}), changes)
    images = open_prepared(place, reading, verify=True) if is_prepared(place) else scan(data, reading)
    for line in report(images):
        print(line)
    if len(images.quarantine):
        print(f"each with its reason: {images.quarantine.write(out / 'quarantine.csv')}")
    if images.copies:
        print(f"copies and near copies: {write_copies(images.copies, out / 'copies.csv')}")
    return 1 if not len(images) or images.audit.patients_in_two_splits else 0


def report(images: Images) -> list[str]:
    """Lines without a name or path of the data."""
    kind = "volumes" if images.pixels.ndim == 5 else "images"
    lines = [f"{len(images)} {kind} of {' × '.join(map(str, images.pixels.shape[1:]))}"]
    for split, table in images.counts().items():
        lines.append(f"{split}: " + (", ".join(f"{count} {name}" for name, count in table.items()) or "no image"))
    lines.extend(images.notes)
    if images.findings is None and len(set(images.label[images.labelled].tolist())) == 1:
        lines.append("one class only: nothing can be learned from these labels")
    for name, count in images.audit.json().items():
        lines.append(f"{name.replace('_', ' ')}: {count}" + (f"  ({MEANING[name]})" if count else ""))
    lines.append(images.quarantine.summary())
    return lines


def write_copies(copies: Sequence[Twin], path: Path) -> Path:
    """A row for each image that repeats another, safe to open in a spreadsheet."""
    with whole(path, "the list of copies") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["where", "split", "repeats", "in split", "correlation"])
        writer.writerows([csv_safe(cell) for cell in copy] for copy in copies)
    return path
