"""Train, val and test by patient: whole patients move together, every class is spread alike, and equal data gives equal splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# of ten patients in a row of one stratum seven, one and two; two of train, val or test never stand beside each other, so that
# every run of two holds a training patient and every run of five a test patient
ORDER = ("train", "test", "train", "train", "val", "train", "train", "test", "train", "train")
LEAST_FOR_VAL = 30  # of fewer training patients none is set aside for validation: a class could go with them


def divided(
    given: Sequence[str | None], groups: Sequence[str], said: Sequence[Sequence[str]], seed: int = 0
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """Split of each of N images, and what was decided.

    Args:
        given: the split that the data names, or None.
        groups: what must not part: patients.
        said: labels of each image; none, one, or several.
        seed: another one gives another division.

    Where no split is named, 70/10/20 % of the patients of each class become train/val/test (a patient counts for the rarest of its
    labels); a patient with a split keeps it for all its images. Where only validation is missing, a tenth of the training patients,
    of 30 or more, becomes it.
    """
    split = np.array([name or "" for name in given], dtype="<U5")
    notes: list[str] = []
    unnamed = int((split == "").sum())
    stratum = _strata(groups, said)
    if unnamed:
        named = {group: name for group, name in zip(groups, given, strict=True) if name}
        chosen = {**_spread({g: s for g, s in stratum.items() if g not in named}, seed), **named}
        split = np.array([name or chosen[group] for name, group in zip(given, groups, strict=True)], dtype="<U5")
        notes.append(
            f"{unnamed} images name no split: patients are divided 70/10/20 % within each class, seed {seed}; "
            "`prepare` saves the split"
        )
    people = {group for group, name in zip(groups, split.tolist(), strict=True) if name == "train"}
    if len(people) >= LEAST_FOR_VAL and not (split == "val").any():
        chosen = _spread({group: stratum[group] for group in people}, seed)
        moved = np.array([chosen.get(group) == "val" for group in groups]) & (split == "train")
        notes.append(f"no validation split: {int(moved.sum())} images of a tenth of the training patients serve as one")
        split = np.where(moved, "val", split)
    return split, tuple(notes)


def _strata(groups: Sequence[str], said: Sequence[Sequence[str]]) -> dict[str, str]:
    """The rarest label of each group, counted in groups; empty where it has none."""
    labels: dict[str, set[str]] = {group: set() for group in groups}
    for group, names in zip(groups, said, strict=True):
        labels[group].update(names)
    often = Counter(name for names in labels.values() for name in names)
    return {group: min(names, key=lambda name: (often[name], name), default="") for group, names in labels.items()}


def _spread(stratum: dict[str, str], seed: int) -> dict[str, str]:
    """A split for each group: along all groups, sorted by stratum and within it by a hash, in `ORDER`."""
    sizes = Counter(stratum.values())
    ranked = sorted(stratum, key=lambda group: (stratum[group], _hash(f"{seed} {group}")))
    # the only patient of a class is of use in training alone
    several = [group for group in ranked if sizes[stratum[group]] > 1]
    chosen = dict.fromkeys(ranked, "train")
    return chosen | {group: ORDER[place % len(ORDER)] for place, group in enumerate(several)}


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=8).digest()
