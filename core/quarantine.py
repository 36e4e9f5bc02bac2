"""Bad records, each with its place and reason: set aside, counted and shown, never silently dropped."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core.files import whole

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")


def csv_safe(value: object) -> object:
    """Prefix a string cell that a spreadsheet would run as a formula (OWASP ASVS 1.2.10, CWE-1236)."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


@dataclass
class Quarantine:
    """Records that were set aside: `(where, reason, detail)`; `where` is a row number or a path relative to the data."""

    records: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, where: object, reason: str, detail: object = "") -> None:
        self.records.append((str(where), reason, str(detail)))

    def __len__(self) -> int:
        return len(self.records)

    def counts(self) -> dict[str, int]:
        """Records by reason, most frequent first."""
        return dict(Counter(reason for _, reason, _ in self.records).most_common())

    def summary(self) -> str:
        """One line: `3 records set aside: unreadable 2, empty 1`."""
        if not self.records:
            return "no record set aside"
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.counts().items())
        return f"{len(self)} record{'s' if len(self) > 1 else ''} set aside: {reasons}"

    def write(self, path: Path) -> Path:
        """Write `where,reason,detail` rows as CSV, safe to open in a spreadsheet."""
        write_records(path, self.records)
        return path

    def tell(self, folder: Path, name: str = "quarantine.csv") -> None:
        """Print each reason with its count, and where the list of records, a file of that name in a folder, was written."""
        for reason, count in self.counts().items():
            print(f"  {count} × {reason}")
        if len(self):
            print(f"each with its reason: {self.write(folder / name)}")


def write_records(path: Path, records: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    """Write `where,reason,detail` rows as CSV, safe to open in a spreadsheet, without holding them.

    Returns:
        Records by reason, most frequent first.
    """
    counts: Counter[str] = Counter()
    with (
        whole(path, "the list of bad records") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["where", "reason", "detail"])
        for record in records:
            counts[record[1]] += 1
            writer.writerow([csv_safe(cell) for cell in record])
    return dict(counts.most_common())
