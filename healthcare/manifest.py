"""A manifest: a csv with a row an image, which says where it lies, whose it is, and what is known about it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.labels import findings_named, one_label
from healthcare.listing import Listing, Record
from healthcare.readers import Reading, contained

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
COLUMNS = ("path", "patient_id", "study_id", "label", "split", "mask")


def from_manifest(path: Path, reading: Reading, quarantine: Quarantine) -> Listing:
    """Rows of a csv; paths are relative to its folder and may not leave it. A `mask` column is for segmentation: not read here.

    Labels with several findings, `a|b`, make the data multi-label: an empty label or `No Finding` then says that none is there.

    Raises:
        UserError: not a csv, no rows, or columns missing or given twice.
    """
    table = manifest_table(path)
    named = bool(table["patient_id"].notna().any())
    table = _once(table, quarantine)
    findings = findings_named([None if pd.isna(label) else str(label) for label in table["label"]])
    root, records = path.parent.resolve(), []
    for row, line in zip(table.index, table[list(COLUMNS)].to_dict("records"), strict=True):
        where = f"row {row + 2}"  # as a spreadsheet counts, the header being row 1
        cells = {name: None if pd.isna(value) else str(value) for name, value in line.items()}
        split = SPLIT_NAMES.get((cells["split"] or "").lower())
        label = one_label(cells["label"]) if findings is None else cells["label"]
        if cells["path"] is None:
            quarantine.add(where, "no path")
        elif cells["split"] is not None and split is None:
            quarantine.add(where, "unknown split", f"'{cells['split'][:40]}'")
        elif named and cells["patient_id"] is None:
            quarantine.add(where, "no patient id")
        elif label in ("inf", "-inf"):
            quarantine.add(where, "label is not finite")
        else:
            load = partial(contained, path.parent / cells["path"], root, reading)
            records.append(Record(where, load, label, split, cells["patient_id"], cells["study_id"]))
    return Listing(records, named, findings, files=True)


def manifest_table(path: Path) -> pd.DataFrame:
    """The manifest's rows as text, missing cells as NaN; columns that are not given are there and empty.

    Raises:
        UserError: not a csv, no rows, or columns missing or given twice.
    """
    try:
        lines = pd.read_csv(
            path, dtype=str, encoding="utf-8", header=None
        )  # with a header, pandas renames a second `path`
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"not a readable csv: {error}", where=path, mend="give a UTF-8 csv with a header row"
        ) from error
    table = lines.iloc[1:].reset_index(drop=True)
    table.columns = [str(column).strip().lstrip("\ufeff").lower() for column in lines.iloc[0]]
    if "path" not in table or table.columns.duplicated().any():
        raise UserError(
            f"columns {list(table.columns)[:8]} are not those of a manifest", where=path,
            mend=f"give each once: {', '.join(COLUMNS)} (only path is compulsory)",
        )  # fmt: skip
    if table.empty:
        raise UserError("the manifest has no rows", where=path, mend="list at least one image")
    for column in COLUMNS:
        table[column] = table[column].str.strip().replace("", None) if column in table else None
    return table


def _once(table: pd.DataFrame, quarantine: Quarantine) -> pd.DataFrame:
    """Rows whose path is new; a path that is listed with two labels is set aside altogether."""
    listed = table["path"].notna()
    again = listed & table["path"].duplicated()
    labels = table.assign(label=table["label"].fillna("")).groupby("path")["label"].transform("nunique")
    torn = listed & (labels > 1)
    for row in table.index[torn]:
        quarantine.add(f"row {row + 2}", "path listed with two labels")
    for row in table.index[again & ~torn]:
        quarantine.add(f"row {row + 2}", "path listed twice")
    return table[~(torn | again)]
