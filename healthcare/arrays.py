"""An npz of images or volumes with MedMNIST's keys, or of nuclei; nothing in it is unpickled."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.labels import MARK, one_label
from healthcare.listing import Listing, Record
from healthcare.nuclei import KEYS, records_of_nuclei
from healthcare.readers import Loaded, unit

KINDS = ("images", "labels", "patients", "masks", "split", "names")  # what may serve us; the rest is not decoded
NPZ_BYTES = 8_000_000_000  # decoded size of one array


def from_npz(path: Path, quarantine: Quarantine) -> Listing:
    """Arrays `{split}_images` (N, H, W), (N, H, W, 3) or, of volumes, (N, D, H, W); `{split}_labels` (N,), (N, 1) or, of
    multi-label data, (N, L) of 0 and 1, NaN or −1 where not known; and, beyond MedMNIST's own keys, `{split}_patients` (N,) and
    `class_names` (L,); at least one split. Or, for nuclei, `images`, `instance_masks` and `split`.

    Raises:
        UserError: not a readable npz, or arrays of other names, shapes or values.
    """
    arrays = _npz(path)
    if set(arrays) >= KEYS:
        return Listing(records_of_nuclei(arrays), True)
    splits = [name for name in ("train", "val", "test") if f"{name}_images" in arrays]
    if not splits:
        raise UserError(
            f"no array 'train_images', 'val_images' or 'test_images' among {sorted(arrays)[:6]}", where=path,
            mend="use MedMNIST's keys",
        )  # fmt: skip
    named = all(f"{split}_patients" in arrays for split in splits)
    findings = _findings(arrays, splits, path)
    records: list[Record] = []
    for split in splits:
        images = arrays[f"{split}_images"]
        volumes = images.ndim == 5 or (images.ndim == 4 and images.shape[3] not in (1, 3))
        if images.ndim not in (3, 4, 5) or (images.ndim == 5 and images.shape[4] != 1):
            raise UserError(
                f"{split}_images has shape {images.shape}", where=path,
                mend="give images, (N, H, W) or (N, H, W, 3), or volumes, (N, D, H, W)",
            )  # fmt: skip
        images = images[..., 0] if images.ndim > 3 and images.shape[-1] == 1 else images
        patients = _texts(arrays.get(f"{split}_patients"), len(images), f"{split}_patients", path)
        table = arrays.get(f"{split}_labels")
        labels = _texts(table, len(images), f"{split}_labels", path) if findings is None else None
        for row, image in enumerate(images):
            where = f"{split} row {row}"
            label, unknown = (labels[row], ()) if labels else _read_row(table, row, findings or ())
            if label in ("inf", "-inf"):
                quarantine.add(where, "label is not finite")
            elif named and patients[row] is None:
                quarantine.add(where, "no patient id")
            else:
                load = partial(volume if volumes else unit, image)
                records.append(Record(where, load, label, split, patients[row], unknown=unknown))
    return Listing(records, named, findings)


def volume(array: NDArray) -> Loaded:
    """A volume (D, H, W) held in memory.

    Raises:
        Unreadable: see `unit`.
    """
    return Loaded((unit(array)[None],))


def _findings(arrays: dict[str, NDArray], splits: list[str], path: Path) -> tuple[str, ...] | None:
    """Names of the findings where labels are (N, L), L > 1; None where each image has one label."""
    tables = {name: arrays[name] for split in splits if (name := f"{split}_labels") in arrays}
    widths = {t.shape[1] if t.ndim == 2 else 1 for t in tables.values()}
    if widths <= {0, 1} or any(table.ndim > 2 for table in tables.values()):
        return None
    if len(widths) > 1:
        raise UserError(f"labels of {sorted(widths)} columns", where=path, mend="give every split the same findings")
    for name, table in tables.items():
        if len(table) != len(arrays[name.replace("labels", "images")]):
            raise UserError(f"{len(table)} rows of {name}", where=path, mend="give one row an image")
        if not np.issubdtype(table.dtype, np.number) and table.dtype != bool:
            raise UserError(f"{name} of type {table.dtype}", where=path, mend="give 0 and 1 for each finding")
        known = table[~np.isnan(table)] if np.issubdtype(table.dtype, np.floating) else table
        if not np.isin(known, (-1, 0, 1)).all():
            raise UserError(
                f"{name} has {table.shape[1]} columns and other values than 0 and 1", where=path,
                mend="give one label an image (N,) or (N, 1), or 0 and 1 for each of several findings",
            )  # fmt: skip
    width = widths.pop()
    names = arrays.get("class_names")
    if names is None or names.shape != (width,):
        return tuple(str(i) for i in range(width))
    texts = tuple(str(name) for name in names)
    if len(set(texts)) < width or any(MARK in text or not text.strip() for text in texts):
        raise UserError("class_names repeat, are empty, or hold '|'", where=path, mend="name every finding once")
    return texts


def _read_row(table: NDArray | None, row: int, names: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Findings of one image joined by `|`, and those that are not known."""
    if table is None:
        return None, names
    there = [name for name, value in zip(names, table[row], strict=True) if value == 1]
    unknown = tuple(name for name, value in zip(names, table[row], strict=True) if not value >= 0)  # NaN too
    return MARK.join(there) or None, unknown


def _texts(array: NDArray | None, rows: int, name: str, path: Path) -> list[str | None]:
    """Values of an (N,) or (N, 1) array as text, None where there is none."""
    if array is None:
        return [None] * rows
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1:
        raise UserError(f"{name} has shape {array.shape}", where=path, mend="give one label an image (N,) or (N, 1)")
    if len(flat) != rows:
        raise UserError(f"{rows} images but {len(flat)} values of {name}", where=path, mend="give one value an image")
    return [one_label(str(value)) for value in flat]


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
