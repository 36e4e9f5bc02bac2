"""A data set that was read, checked and split once: one folder that every command opens at once, and that keeps its split."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.config import from_dict, to_dict
from core.datasets import sha256
from core.errors import UserError
from core.files import whole_folder
from core.quarantine import Quarantine
from healthcare.audit import Audit
from healthcare.readers import Reading

if TYPE_CHECKING:
    from healthcare.data import Images

MARK, PIXELS, TABLE, FINDINGS, QUARANTINE = (
    "prepared.json",
    "pixels.npy",
    "table.parquet",
    "findings.npy",
    "quarantine.csv",
)
VERSION = 1


def prepare(images: Images, reading: Reading, out: Path) -> Path:
    """Write what `data.read` gave as a folder, whole or not at all.

    It holds `pixels.npy` (N, C, …), `table.parquet` (where, label, split, codes of patient and study), `findings.npy` of multi-label
    data, `quarantine.csv`, and `prepared.json`: classes, notes, audit, how files were read, and the hash of each file. Ids of patients
    are not in it, names of files are: it is for the data's owner.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    if out.exists() and not (out.is_dir() and (is_prepared(out) or not any(out.iterdir()))):
        raise UserError("something else stands there", where=out, mend="give a new folder as --out")
    with whole_folder(out, "the prepared data") as folder:
        np.save(folder / PIXELS, images.pixels, allow_pickle=False)
        study = np.full(len(images), -1) if images.study is None else images.study
        table = pd.DataFrame(
            {
                "where": images.where.astype(str), "label": images.label, "split": images.split.astype(str),
                "patient": images.patient, "study": study,
            }
        )  # fmt: skip
        table.to_parquet(folder / TABLE, index=False)
        if images.findings is not None:
            np.save(folder / FINDINGS, images.findings, allow_pickle=False)
        images.quarantine.write(folder / QUARANTINE)
        about = {
            "version": VERSION, "images": len(images), "classes": list(images.classes), "named_patients": images.named_patients,
            "notes": list(images.notes), "audit": images.audit.json(), "set_aside": images.quarantine.records,
            "reading": to_dict(reading),
            "sha256": {file.name: sha256(file) for file in sorted(folder.iterdir())}, "data": images.sha256(),
        }  # fmt: skip
        (folder / MARK).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return out


def is_prepared(path: Path) -> bool:
    return path.is_dir() and (path / MARK).is_file()


def open_prepared(folder: Path, reading: Reading, verify: bool = False) -> Images:
    """What `prepare` wrote; pixels are mapped, not read.

    Args:
        reading: as which the caller wants files read; it must be what they were read as, limits aside.
        verify: whether every file's hash is compared.

    Raises:
        UserError: prepared by another version, with other settings, or damaged.
    """
    from healthcare.data import Images

    try:
        about = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if about["version"] != VERSION:
            raise UserError("prepared by another version", where=folder, mend="prepare it again")
        then = from_dict(Reading, about["reading"])
        names = sorted(about["sha256"]) if verify else [TABLE]
        damaged = [name for name in names if sha256(folder / name) != about["sha256"][name]]
        pixels = np.load(folder / PIXELS, mmap_mode="c", allow_pickle=False)  # written pages stay in memory alone
        _same(then, reading, pixels.ndim - 2, folder)
        table = pd.read_parquet(folder / TABLE)
        findings = np.load(folder / FINDINGS, allow_pickle=False) if FINDINGS in about["sha256"] else None
        rows = {len(pixels), len(table), about["images"], *(() if findings is None else (len(findings),))}
        if damaged or len(rows) > 1 or pixels.dtype != np.float32:
            raise ValueError(f"not as prepared: {', '.join(damaged) or PIXELS}")
        images = Images(
            pixels, table["label"].to_numpy(np.int64), table["split"].to_numpy(str), table["patient"].to_numpy(np.int64),
            tuple(about["classes"]), table["where"].to_numpy(object), bool(about["named_patients"]),
            Quarantine([(str(a), str(b), str(c)) for a, b, c in about["set_aside"]]), Audit(**about["audit"]),
            tuple(about["notes"]), findings, table["study"].to_numpy(np.int64),
        )  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # json, numpy and pyarrow raise a dozen kinds on damaged files
        raise UserError(
            f"the prepared data is damaged: {type(error).__name__} {str(error)[:100]}",
            where=folder,
            mend="prepare it again",
        ) from error
    return images


def prepared_reading(folder: Path) -> Reading | None:
    """As what a prepared folder's files were read; None of any other place."""
    if not is_prepared(folder):
        return None
    try:
        return from_dict(Reading, json.loads((folder / MARK).read_text(encoding="utf-8"))["reading"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError("the prepared data is damaged", where=folder / MARK, mend="prepare it again") from error


def _same(then: Reading, now: Reading, dims: int, folder: Path) -> None:
    different: list[tuple[str, Any]] = []
    for one in fields(Reading):
        before, wanted = getattr(then, one.name), getattr(now, one.name)
        if one.name == "dims" and before is None and wanted == dims:
            continue  # it was left to the data, which were such
        if one.name != "limits" and before != wanted:
            different.append((one.name, before))
    if different:
        changes = " ".join(f"reading.{name}={str(value).lower()}" for name, value in different)
        raise UserError(
            f"prepared with other settings: {', '.join(name for name, _ in different)}", where=folder,
            mend=f"pretrain with --set {changes}, or prepare it again as the run reads",
        )  # fmt: skip
