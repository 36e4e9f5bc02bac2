"""The shapes that images come in: MedMNIST's npz, a folder by class, a manifest. Each becomes a listing of records."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.arrays import from_npz
from healthcare.listing import Listing, Record
from healthcare.manifest import SPLIT_NAMES, from_manifest
from healthcare.readers import SUFFIXES, Reading, contained, suffix


def listed(path: Path, reading: Reading, quarantine: Quarantine) -> Listing:
    """What a file or folder lists.

    Raises:
        UserError: not one of the three shapes, or its keys or columns are wrong.
    """
    if path.is_dir():
        if (path / "manifest.csv").is_file():
            return from_manifest(path / "manifest.csv", reading, quarantine)
        archives = sorted(path.glob("*.npz"))
        if len(archives) == 1:
            return from_npz(archives[0], quarantine)
        if archives:
            raise UserError(f"{len(archives)} npz files in one folder", where=path, mend="name the one that is meant")
        return from_folder(path, reading, quarantine)
    if suffix(path) == ".npz":
        return from_npz(path, quarantine)
    if suffix(path) == ".csv":
        return from_manifest(path, reading, quarantine)
    raise UserError(
        "not a data set of images",
        where=path,
        mend="give an .npz file, a manifest .csv, or a folder of images by class",
    )


def from_folder(root: Path, reading: Reading, quarantine: Quarantine) -> Listing:
    """`[split/]class/…/image`; an image outside any class folder has no label. No patients: each image is its own."""
    records: list[Record] = []
    resolved = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(file for file in files if not file.startswith(".")):
            file = Path(folder) / name
            parts = list(file.relative_to(root).parts[:-1])
            split = SPLIT_NAMES[parts.pop(0).lower()] if parts and parts[0].lower() in SPLIT_NAMES else None
            load = partial(contained, file, resolved, reading)
            records.append(Record(str(file.relative_to(root)), load, parts[0] if parts else None, split, None))
    if not any(suffix(Path(record.where)) in SUFFIXES for record in records):
        raise UserError(
            "no image in the folder", where=root, mend=f"images end in {' '.join(s for s in SUFFIXES if s)}"
        )
    return Listing(records, named=False)
