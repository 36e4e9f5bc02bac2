"""The linear probe as speech uses it: its penalty chosen across speakers, its answer a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speech.data import Recordings

COSTS = (1e-3, 1e-2, 1e-1)  # features are many and correlated, so weak penalties never win


def probe_groups(recordings: Recordings) -> NDArray | None:
    """Speakers as groups for the probe's own cross-validation, where there are enough of them."""
    named = (recordings.speaker != "").all() and len(set(recordings.speaker)) >= 2
    return recordings.speaker.astype(str) if named else None


def heard(
    features: NDArray,
    label: NDArray,
    train: NDArray,
    test: NDArray,
    groups: NDArray | None,
    costs: tuple[float, ...] | None = None,
) -> NDArray:
    """Labels that a logistic regression on `features` (N, D) of the rows `train` gives the rows `test`.

    Args:
        label: (N,) text; only that of `train` is looked at.
        train, test: boolean masks or row numbers.
        groups: (N,) kept together when the penalty is chosen inside the training rows.
    """
    from core.probes import linear

    inside = None if groups is None else groups[train]
    share = linear(features[train], label[train], features[test], inside, costs or COSTS)
    return np.unique(label[train])[share.argmax(1)]
