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
    """Labels that a logistic regression on `features` of the rows `train` gives the rows `test`; see `shares`."""
    classes, share = shares(features, label, train, test, groups, costs)
    return classes[share.argmax(1)]


def shares(
    features: NDArray,
    label: NDArray,
    train: NDArray,
    test: NDArray,
    groups: NDArray | None,
    costs: tuple[float, ...] | None = None,
) -> tuple[NDArray, NDArray[np.float64]]:
    """The classes (C,) and their probabilities (M, C) for the rows `test`, by a logistic regression on the rows `train`.

    Args:
        features: (N, D), or all layers (N, L, D), of which a weighted sum is learned with the regression.
        label: (N,) text; only that of `train` is looked at.
        train, test: boolean masks or row numbers.
        groups: (N,) kept together when the penalty is chosen inside the training rows.
    """
    from core.layers import layer_model, probabilities
    from core.probes import linear

    inside, classes = None if groups is None else groups[train], np.unique(label[train])
    if features.ndim == 3:
        return classes, probabilities(
            layer_model(features[train], label[train], inside, costs or COSTS), features[test]
        )
    return classes, linear(features[train], label[train], features[test], inside, costs or COSTS)
