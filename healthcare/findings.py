"""What is asked of an image: one class of several, or several findings each of which is there or not.

Targets are class codes (N,), or findings (N, L) of 1, 0 and −1 (unknown). Probabilities are (N, K): rows that sum to one, or one
probability a finding. A column is a yes/no question made of either: of two classes the second, of more each against the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import UserError
from core.probes import label_subset
from healthcare.data import Images

EDGE = 1e-12  # probabilities are kept as far from 0 and 1, so that they have log-odds


def target_of(images: Images) -> NDArray:
    """(N,) class codes or (N, L) findings."""
    return images.label if images.findings is None else images.findings


def columns(classes: tuple[str, ...], several: bool) -> tuple[str, ...]:
    """Names of the yes/no questions."""
    return classes[1:] if len(classes) == 2 and not several else classes


def yes(target: ArrayLike, count: int) -> NDArray[np.int8]:
    """(N, F) 1, 0 or −1 (unknown) of every yes/no question, of `count` classes or findings."""
    target = np.asarray(target)
    if target.ndim == 2:
        return target.astype(np.int8)
    each = (target[:, None] == np.arange(count)[None]).astype(np.int8)
    each[target < 0] = -1
    return each[:, 1:] if count == 2 else each


def scores(probability: ArrayLike, several: bool) -> NDArray[np.float64]:
    """(N, F) probability of yes."""
    probability = np.asarray(probability, dtype=np.float64)
    return probability[:, 1:] if probability.shape[1] == 2 and not several else probability


def averaged(metric: Callable[[NDArray[np.bool_], NDArray], float], target: ArrayLike, probability: ArrayLike) -> float:
    """Mean over the yes/no questions of `metric(there (M,), probability (M,))` on the M known rows; questions without a figure are left out.

    Not a number where none has one.
    """
    target, probability = np.asarray(target), np.asarray(probability, dtype=np.float64)
    asked, score = yes(target, probability.shape[1]), scores(probability, target.ndim == 2)
    values = []
    for column in range(asked.shape[1]):
        known = asked[:, column] >= 0
        values.append(metric(asked[known, column] == 1, score[known, column]))
    finite = [value for value in values if np.isfinite(value)]
    whole = finite if target.ndim == 2 else values  # of exclusive classes none may be missing
    return float(np.mean(whole)) if whole else float("nan")


def subset(target: NDArray, fraction: float, seed: int, least: int = 2) -> NDArray[np.int64]:
    """Row numbers of a draw of `fraction` of the labels; nested over fractions, with `least` rows of every class or answer.

    Raises:
        UserError: a fraction outside (0, 1].
    """
    if target.ndim == 1:
        return label_subset(target, fraction, seed, least)
    if not 0 < fraction <= 1:
        raise UserError(f"label fraction {fraction} is not in (0, 1]", where="fractions", mend="use for example 0.1")
    order = np.random.default_rng(seed).permutation(len(target))
    first: dict[int, None] = {}  # in order, each once
    for column in target[order].T:
        for answer in (1, 0):
            first |= dict.fromkeys(order[np.flatnonzero(column == answer)[:least]].tolist())
    ranked = [*first, *(row for row in order.tolist() if row not in first)]
    return np.sort(np.array(ranked[: max(len(first), round(fraction * len(target)))], dtype=np.int64))


def fewer(target: NDArray, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of a draw of at most `most` of the validation labels: few labels must mean few labels."""
    if not len(target):
        return np.empty(0, np.int64)
    rows = subset(target, min(1.0, most / len(target)), seed, least=1)
    if len(rows) > most:  # rounding up each class
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return rows


@dataclass(frozen=True)
class Answers:
    """Where the answers of a data set stand: how many of each question are yes, no and unknown."""

    name: str
    there: int
    absent: int
    unknown: int

    @classmethod
    def of(cls, target: NDArray, classes: tuple[str, ...]) -> list[Answers]:
        asked = yes(target, len(classes))
        return [
            cls(name, int((column == 1).sum()), int((column == 0).sum()), int((column < 0).sum()))
            for name, column in zip(columns(classes, target.ndim == 2), asked.T, strict=True)
        ]


def names(found: NDArray[np.bool_], classes: tuple[str, ...]) -> list[str]:
    """Findings of each row (N, L) as a manifest writes them, `a|b`."""
    return ["|".join(name for name, here in zip(classes, row, strict=True) if here) for row in found]
