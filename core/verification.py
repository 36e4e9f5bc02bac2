"""Verification: are two the same? Scores of pairs, and the rate at which both errors are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import UserError


def eer(same: ArrayLike, score: ArrayLike) -> float:
    """Equal error rate, 0 to 1: where as many different pairs are accepted as same pairs are refused.

    A pair is accepted at a threshold t where its score is t or more. Between two thresholds both rates are taken as straight lines
    (the ROC's convex steps joined), so that the rate does not depend on ties.

    Args:
        same: (N,) true where a pair is the same.
        score: (N,) higher for pairs that are more alike.

    Raises:
        UserError: pairs of one kind only, or scores that are not finite.
    """
    truth, value = np.asarray(same, dtype=bool), np.asarray(score, dtype=np.float64)
    if truth.all() or not truth.any():
        raise UserError("pairs of one kind only", where="trials", mend="give same and different pairs")
    if not np.isfinite(value).all():
        raise UserError("a score is not finite", where="trials", mend="check the features")
    order = np.argsort(-value, kind="stable")
    truth, value = truth[order], value[order]
    ends = np.append(np.flatnonzero(np.diff(value)), len(value) - 1)  # equal scores are accepted together
    accepted = np.concatenate([[0.0], np.cumsum(~truth)[ends] / (~truth).sum()])
    refused = np.concatenate([[1.0], 1 - np.cumsum(truth)[ends] / truth.sum()])
    gap = refused - accepted  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(accepted[after - 1] + share * (accepted[after] - accepted[after - 1]))


def trials(group: ArrayLike, most: int, generator: np.random.Generator) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """(left, right, same): row numbers of pairs, at most `most` of the same group and as many of different ones, none twice.

    Args:
        group: (N,) such as the speaker of each row.
    """
    _, number = np.unique(np.asarray(group).astype(str), return_inverse=True)
    left, right = np.triu_indices(len(number), 1)
    same = number[left] == number[right]
    kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
    least = min(most, *(len(kind) for kind in kinds))
    rows = np.concatenate([np.sort(generator.choice(kind, least, replace=False)) for kind in kinds])
    return left[rows], right[rows], same[rows]
