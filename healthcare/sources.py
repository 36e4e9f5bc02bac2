"""The shapes that images come in: MedMNIST's npz, a folder by class, a manifest. Each becomes a listing of records."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.arrays import from_npz
from healthcare.listing import Listing, Record
from healthcare.loading import each
from healthcare.manifest import SPLIT_NAMES, from_manifest
from healthcare.readers import SUFFIXES, Reading, Unreadable, contained, inside, kind_of, suffix
from healthcare.series import read_series, series_of


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
    """`[split/]class/…/image`; an image outside any class folder has no label. Patients are those that DICOM headers name.

    Where volumes are asked for, DICOM files of one class and series are one record. DICOMDIR is not read: what it lists stands beside it.
    """
    resolved = root.resolve()
    files: list[tuple[Path, str | None, str | None]] = []
    notes: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(folder) / name
            if name.upper() == "DICOMDIR":
                notes.append("DICOMDIR is not read: files are found by themselves")
                continue
            parts = list(file.relative_to(root).parts[:-1])
            split = SPLIT_NAMES[parts.pop(0).lower()] if parts and parts[0].lower() in SPLIT_NAMES else None
            files.append((file, parts[0] if parts else None, split))
        for name in folders:
            if (Path(folder) / name).is_symlink():  # os.walk does not follow it
                quarantine.add(str((Path(folder) / name).relative_to(root)), "link to a folder", "not followed")
    if not any(kind_of(file) for file, _, _ in files):
        raise UserError(
            "no image in the folder", where=root, mend=f"images end in {' '.join(s for s in SUFFIXES if s)}"
        )
    single, series = _by_series(files, resolved) if reading.dims == 3 else (files, {})
    records = [
        Record(str(file.relative_to(root)), partial(contained, file, resolved, reading), label, split, None)
        for file, label, split in single
    ]
    for (label, split, _), members in series.items():
        load = partial(read_series, tuple(members), reading)
        records.append(Record(str(members[0].relative_to(root)), load, label, split, None))
    return Listing(records, named=False, notes=tuple(dict.fromkeys(notes)), files=True, by_folder=True)


Series = dict[tuple[str | None, str | None, str], list[Path]]
Placed = tuple[Path, str | None, str | None]


def _by_series(files: list[Placed], root: Path) -> tuple[list[Placed], Series]:
    """Files that stand alone, and those of each series of a class and split."""
    single: list[Placed] = []
    series: Series = {}
    for (file, label, split), name in zip(
        files, each(partial(_series, root=root), [f for f, _, _ in files]), strict=True
    ):
        if name is None:
            single.append((file, label, split))
        else:
            series.setdefault((label, split, name), []).append(file)
    return single, series


def _series(file: Path, root: Path) -> str | None:
    """The series of a DICOM file in `root`; None of any other, which is then read by itself and gives its reason."""
    try:
        inside(file, root)
    except Unreadable:
        return None
    return series_of(file) if file.is_file() and kind_of(file) == "dicom" else None
