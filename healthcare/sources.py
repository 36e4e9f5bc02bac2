"""The three shapes that images come in: MedMNIST's npz, a folder by class, a manifest. Each becomes a list of records."""

from __future__ import annotations

import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.data import Reading, Record, plain
from healthcare.nuclei import KEYS, records_of_nuclei
from healthcare.readers import SUFFIXES, Limits, Unreadable, read_image, suffix

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
COLUMNS = ("path", "patient_id", "label", "split")
KINDS = ("images", "labels", "patients", "masks", "split")  # what an npz may hold for us; the rest is not decoded
NPZ_BYTES = 8_000_000_000  # decoded size of one array


def records_of(path: Path, reading: Reading, quarantine: Quarantine) -> tuple[list[Record], bool]:
    """Records of a file or folder, and whether they name patients.

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
        return from_folder(path, reading, quarantine), False
    if suffix(path) == ".npz":
        return from_npz(path, quarantine)
    if suffix(path) == ".csv":
        return from_manifest(path, reading, quarantine)
    raise UserError(
        "not a data set of images",
        where=path,
        mend="give an .npz file, a manifest .csv, or a folder of images by class",
    )


def from_npz(path: Path, quarantine: Quarantine) -> tuple[list[Record], bool]:
    """Arrays `{split}_images` (N, H, W) or (N, H, W, 3), `{split}_labels` (N,) or (N, 1), and, beyond MedMNIST's own
    keys, `{split}_patients` (N,); at least one split. Or, for nuclei, `images`, `instance_masks` and `split`.
    """
    arrays = _npz(path)
    if set(arrays) >= KEYS:
        return records_of_nuclei(arrays), True
    splits = [name for name in ("train", "val", "test") if f"{name}_images" in arrays]
    if not splits:
        raise UserError(
            f"no array 'train_images', 'val_images' or 'test_images' among {sorted(arrays)[:6]}", where=path,
            mend="use MedMNIST's keys",
        )  # fmt: skip
    named = all(f"{split}_patients" in arrays for split in splits)
    records: list[Record] = []
    for split in splits:
        images = arrays[f"{split}_images"]
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise UserError(
                f"{split}_images has shape {images.shape}",
                where=path,
                mend="give 2-D images, (N, H, W) or (N, H, W, 3)",
            )
        labels = _texts(arrays.get(f"{split}_labels"), len(images), f"{split}_labels", path)
        patients = _texts(arrays.get(f"{split}_patients"), len(images), f"{split}_patients", path)
        for row, image in enumerate(images):
            where = f"{split} row {row}"
            if labels[row] in ("inf", "-inf"):
                quarantine.add(where, "label is not finite")
            elif named and patients[row] is None:
                quarantine.add(where, "no patient id")
            else:
                image = image[..., 0] if image.shape[2:] == (1,) else image
                records.append(Record(where, partial(plain, image), labels[row], split, patients[row]))
    return records, named


def from_folder(root: Path, reading: Reading, quarantine: Quarantine) -> list[Record]:
    """`[split/]class/…/image`; an image outside any class folder has no label. No patients: each image is its own."""
    records: list[Record] = []
    resolved = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(file for file in files if not file.startswith(".")):
            file = Path(folder) / name
            parts = list(file.relative_to(root).parts[:-1])
            split = SPLIT_NAMES[parts.pop(0).lower()] if parts and parts[0].lower() in SPLIT_NAMES else None
            load = partial(_contained, file, resolved, reading.limits)
            records.append(Record(str(file.relative_to(root)), load, parts[0] if parts else None, split, None))
    if not any(suffix(Path(record.where)) in SUFFIXES for record in records):
        raise UserError(
            "no image in the folder", where=root, mend=f"images end in {' '.join(s for s in SUFFIXES if s)}"
        )
    return records


def from_manifest(path: Path, reading: Reading, quarantine: Quarantine) -> tuple[list[Record], bool]:
    """Rows of a csv; paths are relative to its folder and may not leave it."""
    try:
        lines = pd.read_csv(
            path, dtype=str, encoding="utf-8", header=None
        )  # with a header, pandas renames a second `path`
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(
            f"not a readable csv: {error}", where=path, mend="give a UTF-8 csv with a header row"
        ) from error
    table = lines.iloc[1:].reset_index(drop=True)
    table.columns = [str(column).strip().lower() for column in lines.iloc[0]]
    if "path" not in table or table.columns.duplicated().any():
        raise UserError(
            f"columns {list(table.columns)[:8]} are not those of a manifest", where=path,
            mend=f"give each once: {', '.join(COLUMNS)} (only path is compulsory)",
        )  # fmt: skip
    if table.empty:
        raise UserError("the manifest has no rows", where=path, mend="list at least one image")
    for column in COLUMNS:
        table[column] = table[column].str.strip() if column in table else None
    named = bool(table["patient_id"].notna().any())
    table = _once(table, quarantine)
    root, records = path.parent.resolve(), []
    for row, line in zip(table.index, table[list(COLUMNS)].to_dict("records"), strict=True):
        where = f"row {row + 2}"  # as a spreadsheet counts, the header being row 1
        cells = {name: None if pd.isna(value) else str(value) for name, value in line.items()}
        split = SPLIT_NAMES.get((cells["split"] or "").lower())
        label = _label(cells["label"])
        if cells["path"] is None:
            quarantine.add(where, "no path")
        elif cells["split"] is not None and split is None:
            quarantine.add(where, "unknown split", f"'{cells['split'][:40]}'")
        elif named and cells["patient_id"] is None:
            quarantine.add(where, "no patient id")
        elif label in ("inf", "-inf"):
            quarantine.add(where, "label is not finite")
        else:
            load = partial(_contained, path.parent / cells["path"], root, reading.limits)
            records.append(Record(where, load, label, split, cells["patient_id"]))
    return records, named


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


def _contained(path: Path, root: Path, limits: Limits) -> NDArray[np.float32]:
    """Read a file that lies in `root`, links followed: a manifest must not reach other people's files."""
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a zero byte in the name
        raise Unreadable("unreadable", type(error).__name__) from error
    if not inside:
        raise Unreadable("outside the data folder")
    return read_image(path, limits)


def _label(text: str | None) -> str | None:
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


def _texts(array: NDArray | None, rows: int, name: str, path: Path) -> list[str | None]:
    """Values of an (N,) or (N, 1) array as text, None where there is none."""
    if array is None:
        return [None] * rows
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1:
        raise UserError(f"{name} has shape {array.shape}", where=path, mend="give one label an image (N,) or (N, 1)")
    if len(flat) != rows:
        raise UserError(f"{rows} images but {len(flat)} values of {name}", where=path, mend="give one value an image")
    return [_label(str(value)) for value in flat]


def _npz(path: Path) -> dict[str, NDArray]:
    """Arrays of an npz, their decoded size checked first, nothing unpickled."""
    mend = "give an npz of plain arrays, as MedMNIST's"
    try:
        with zipfile.ZipFile(path) as archive:
            largest = max((member.file_size for member in archive.infolist()), default=0)
        if largest > NPZ_BYTES:
            raise UserError(f"an array of {largest} bytes is too large", where=path, mend="split it")
        with np.load(path, allow_pickle=False) as arrays:
            wanted = [key for key in arrays.files if key.rpartition("_")[2] in KINDS]
            return {key: arrays[key] for key in wanted} or {key: np.empty(0) for key in arrays.files}
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on a damaged file
        detail = " ".join(str(error).replace(str(path), "the file").split())[:120]
        raise UserError(
            f"not a readable npz: {type(error).__name__} {detail}".strip(), where=path, mend=mend
        ) from error
