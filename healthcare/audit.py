"""Leaks: copies of one image, and one patient on both sides of a split. A leak makes every later figure a lie."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Audit:
    """What the audit found.

    Attributes:
        surplus_copies: images that repeat another one of the whole data set exactly.
        copies_across_splits: images of train or val that also stand in a later split (and were set aside).
        conflicting_labels: images whose exact copies carry another label.
        patients_in_two_splits: patients that occur in more than one split.
    """

    surplus_copies: int = 0
    copies_across_splits: int = 0
    conflicting_labels: int = 0
    patients_in_two_splits: int = 0

    def json(self) -> dict[str, int]:
        return asdict(self)


def fingerprints(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """One number (N,) per image (N, C, H, W), equal where all pixels are equal."""
    digests = [hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest() for image in pixels]
    return np.unique(np.array(digests, dtype="S16") if digests else np.empty(0, "S16"), return_inverse=True)[1]


def across_splits(prints: NDArray[np.int64], split: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which images (N,) must go: a training image that also is a validation or test image, a validation one in test."""
    val, test = prints[split == "val"], prints[split == "test"]
    return ((split == "train") & np.isin(prints, np.concatenate([val, test]))) | (
        (split == "val") & np.isin(prints, test)
    )


def audit(
    prints: NDArray[np.int64], split: NDArray[np.str_], label: NDArray[np.int64], patient: NDArray[np.int64] | None
) -> Audit:
    """Counts over N images: fingerprints, split names, labels (−1 is none) and patient codes, or None where unknown."""
    size = int(prints.max()) + 1 if len(prints) else 0
    first = np.full(size, -1)
    last = np.full(size, -1)
    known = label >= 0
    first[prints[known][::-1]] = label[known][::-1]
    last[prints[known]] = label[known]
    return Audit(
        surplus_copies=len(prints) - size,
        copies_across_splits=int(across_splits(prints, split).sum()),
        conflicting_labels=int((first != last)[prints[known]].sum()),
        patients_in_two_splits=0 if patient is None else in_two_splits(patient, split),
    )


def in_two_splits(patient: NDArray[np.int64], split: NDArray[np.str_]) -> int:
    """How many patients occur in more than one split."""
    pairs = set(zip(patient.tolist(), split.tolist(), strict=True))
    return len(pairs) - len({patient for patient, _ in pairs})
