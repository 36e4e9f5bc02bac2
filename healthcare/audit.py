"""Leaks: copies of one image, and one patient on both sides of a split. A leak makes every later figure a lie."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from healthcare.duplicates import near_copies

SPLITS = ("train", "val", "test")
# what each count means for who reads it
MEANING = {
    "surplus_copies": "repeat another image exactly",
    "copies_across_splits": "of them set aside: the same image stands in a later split",
    "held_out_copies": "images of val or test whose copy stood in an earlier split",
    "near_copies": "repeat another image nearly; all are kept",
    "near_copies_across_splits": "images of val or test with a near copy in an earlier split: figures on them flatter",
    "conflicting_labels": "images whose exact copies carry another label",
    "patients_in_two_splits": "LEAK: give each patient one split",
    "other_shapes": "differ in height or width from most, before resizing",
    "other_spacings": "differ from the usual spacing by more than 5 %, which resizing does not keep",
    "burned_in": "text may be burned into the pixels: look at them before they are shown to anyone",
}  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """What the audit found, in images or patients.

    Attributes:
        surplus_copies: images that repeat another one of the whole data set exactly.
        copies_across_splits: images of train or val that also stand in a later split (and were set aside).
        held_out_copies: images of val or test whose copy stands in an earlier split.
        near_copies: images that repeat another one nearly: saved again, brightened, scaled, a neighbouring slice.
        near_copies_across_splits: images of val or test with a near copy in an earlier split; all are kept.
        conflicting_labels: images whose exact copies carry another label.
        patients_in_two_splits: patients that occur in more than one split.
        other_shapes: images whose sides in the file differ from those of most.
        other_spacings: images whose spacing in millimetres differs from the median by more than 5 %.
        burned_in: images whose header says that text may be burned into the pixels.
    """

    surplus_copies: int = 0
    copies_across_splits: int = 0
    held_out_copies: int = 0
    near_copies: int = 0
    near_copies_across_splits: int = 0
    conflicting_labels: int = 0
    patients_in_two_splits: int = 0
    other_shapes: int = 0
    other_spacings: int = 0
    burned_in: int = 0

    def json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Copy:
    """An image that repeats another: rows of both, and the correlation of their pixels, 1 where they are equal."""

    row: int
    of: int
    correlation: float


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
    prints: NDArray[np.int64], split: NDArray[np.str_], label: NDArray[np.int64], patient: NDArray[np.int64] | None,
    pixels: NDArray[np.float32] | None = None,
) -> tuple[Audit, list[Copy]]:  # fmt: skip
    """Counts over N images, and the copies.

    Args:
        prints: (N,) equal where all pixels are.
        split: (N,) names.
        label: (N,) codes, −1 is none.
        patient: (N,) codes, or None where unknown.
        pixels: (N, C, …); None: near copies are not looked for.
    """
    _, first, inverse = np.unique(prints, return_index=True, return_inverse=True)
    smallest, largest = np.full(len(first), np.iinfo(np.int64).max), np.full(len(first), -1)
    known = label >= 0
    np.minimum.at(smallest, inverse[known], label[known])
    np.maximum.at(largest, inverse[known], label[known])
    found = [
        Copy(row, int(first[inverse[row]]), 1.0)
        for row in np.flatnonzero(first[inverse] != np.arange(len(prints))).tolist()
    ]
    surplus, across = 0, 0
    if pixels is not None and len(first) > 1:
        alike = near_copies(pixels[first])
        earliest, latest = (_extreme(split, inverse, len(first), which) for which in (np.minimum, np.maximum))
        one, two = alike.first, alike.second
        held = np.zeros(len(first), bool)
        np.logical_or.at(held, one, latest[one] > earliest[two])
        np.logical_or.at(held, two, latest[two] > earliest[one])
        across = int(held.sum())
        graph = coo_array((np.ones(len(one), np.int8), (one, two)), shape=(len(first),) * 2)
        surplus = len(first) - int(connected_components(graph, directed=False)[0])
        found += [
            Copy(int(first[b]), int(first[a]), round(float(c), 4))
            for a, b, c in zip(one, two, alike.correlation, strict=True)
        ]
    return Audit(
        surplus_copies=len(prints) - len(first),
        copies_across_splits=int(across_splits(prints, split).sum()),
        held_out_copies=int(held_out(prints, split).sum()),
        near_copies=surplus,
        near_copies_across_splits=across,
        conflicting_labels=int((smallest != largest)[inverse[known]].sum()),
        patients_in_two_splits=0 if patient is None else in_two_splits(patient, split),
    ), found


def held_out(prints: NDArray[np.int64], split: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which images (N,) of val and test have a copy in an earlier split."""
    train, val = prints[split == "train"], prints[split == "val"]
    return ((split == "test") & np.isin(prints, np.concatenate([train, val]))) | (
        (split == "val") & np.isin(prints, train)
    )


def _extreme(split: NDArray[np.str_], inverse: NDArray[np.intp], size: int, which: np.ufunc) -> NDArray[np.int64]:
    """The earliest or latest split, as its place among `SPLITS`, in which each of `size` distinct images stands."""
    place = np.select([split == name for name in SPLITS], range(len(SPLITS)))
    made = np.full(size, len(SPLITS) if which is np.minimum else -1)
    which.at(made, inverse, place)
    return made


def unusual(shapes: Sequence[tuple[int, ...]]) -> int:
    """How many of N shapes differ from the most common one."""
    return len(shapes) - max(Counter(shapes).values(), default=0)


def unusual_spacings(spacings: Sequence[tuple[float, ...]]) -> int:
    """How many of the spacings that are given, in millimetres, differ from the median along some axis by more than 5 %."""
    count = 0
    for axes in {len(spacing) for spacing in spacings if spacing}:
        table = np.array([spacing for spacing in spacings if len(spacing) == axes])
        usual = np.median(table, axis=0)
        count += int((np.abs(table - usual) > 0.05 * usual).any(axis=1).sum())
    return count


def in_two_splits(patient: NDArray[np.int64], split: NDArray[np.str_]) -> int:
    """How many patients occur in more than one split."""
    pairs = set(zip(patient.tolist(), split.tolist(), strict=True))
    return len(pairs) - len({patient for patient, _ in pairs})
