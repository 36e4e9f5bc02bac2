"""The table beside recordings: csv or parquet, one row a recording or a stretch of one.

Columns: `file` (or `path`, `filename`), and any of `label` (or `digit`), `speaker`, `split`, `fold`, `text` (or `transcript`), `start` and
`end` in seconds, `n_samples`. Paths are relative to the table's folder and may not leave it.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path, PurePosixPath

import pandas as pd

from core.errors import UserError
from core.files import unreadable
from core.quarantine import Quarantine

NAMES = ("metadata.csv", "manifest.csv", "manifest.parquet")  # what is looked for in a folder
TABLES = (".csv", ".parquet")
MAX_BYTES = 64 * 1024 * 1024
COLUMNS = {
    "file": ("file", "path", "filename"), "label": ("label", "digit"), "speaker": ("speaker",), "split": ("split",),
    "fold": ("fold",), "text": ("text", "transcript"), "start": ("start",), "end": ("end",), "n_samples": ("n_samples",),
}  # fmt: skip
SPLITS = {
    "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "testing": "test",
}  # fmt: skip
Facts = dict[str, str]


def plain(name: str) -> str:
    """A path with forward slashes and no `./`."""
    return str(PurePosixPath(name.replace("\\", "/"))) if name else ""


def outside(name: str) -> bool:
    """Whether a relative path leaves its folder."""
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name


def table_of(manifest: Path | bytes, quarantine: Quarantine) -> dict[str, list[Facts]]:
    """Facts of each file, a list of one or, where stretches of it are listed, of several.

    The same row twice is set aside once; a file (or stretch) listed with different facts wholly: its list is empty then.

    Raises:
        UserError: not a readable table, no column of files, or no rows.
    """
    where = manifest.name if isinstance(manifest, Path) else NAMES[0]
    frame = _frame(manifest, where)
    chosen = {key: next((a for a in aliases if a in frame.columns), None) for key, aliases in COLUMNS.items()}
    if chosen["file"] is None:
        there = ", ".join(str(column)[:40] for column in frame.columns[:12])
        raise UserError(f"no column `file` among: {there}", where=where, mend="name the column of recordings `file`")
    if len(frame) == 0:
        raise UserError("the table has no rows", where=where, mend="list the recordings, one a row")
    tidy = pd.DataFrame({key: frame[name].str.strip() for key, name in chosen.items() if name is not None})
    tidy["file"] = tidy["file"].map(plain)
    if "split" in tidy:
        tidy["split"] = tidy["split"].str.lower().replace(SPLITS)
    key = [name for name in ("file", "start", "end") if name in tidy]
    different = tidy.drop_duplicates()
    torn = set(map(tuple, different.loc[different.duplicated(key), key].to_numpy()))
    table: dict[str, list[Facts]] = {}
    seen: set[tuple[str, ...]] = set()
    for row, line in zip(tidy.index, tidy.to_dict("records"), strict=True):
        facts = {str(k): str(v) for k, v in line.items()}
        name, one = facts["file"], tuple(facts[k] for k in key)
        if name == "":
            quarantine.add(f"row {row + 1}", "no file named")
            continue
        listed = table.setdefault(name, [])
        if one in torn:
            if one not in seen:
                quarantine.add(called(facts), "listed twice with different facts")
        elif one in seen:
            quarantine.add(called(facts), "listed twice", "the first row is kept")
        else:
            listed.append(facts)
        seen.add(one)
    return table


def called(facts: Facts) -> str:
    """A recording's name: its file, and the stretch of it where one is listed."""
    start, end = facts.get("start", ""), facts.get("end", "")
    return f"{facts['file']}#{start}-{end}" if start or end else facts["file"]


def stretch(facts: Facts) -> tuple[float, float] | None:
    """(start, end) in seconds, the end infinite where it is not given; None for the whole recording.

    Raises:
        ValueError: no number, or nothing between the two.
    """
    if not facts.get("start") and not facts.get("end"):
        return None
    start = float(facts.get("start") or 0)
    end = float(facts["end"]) if facts.get("end") else math.inf
    if not (0 <= start < math.inf and start < end):
        raise ValueError
    return start, end


def _frame(manifest: Path | bytes, where: str) -> pd.DataFrame:
    """The table, all of it text and nothing missing."""
    if isinstance(manifest, Path) and manifest.suffix.lower() == ".parquet":
        try:
            frame = pd.read_parquet(manifest)
        except Exception as error:  # pyarrow raises a dozen kinds on a damaged file
            raise unreadable(Path(where), error) from error
        frame = frame.astype(object)
        return frame.where(frame.notna(), "").astype(str)
    content = manifest.read_bytes() if isinstance(manifest, Path) else manifest
    try:
        return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        raise UserError("the table cannot be read", where=where, mend="give a UTF-8 CSV with a header line") from error
