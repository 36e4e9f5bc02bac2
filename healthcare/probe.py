"""A logistic regression on features, as simple as the labels allow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.probes import linear_model
from healthcare.metrics import auroc

COSTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def fit_probe(x: NDArray, label: NDArray[np.int64], groups: NDArray | None = None, seed: int = 0) -> Any:
    """A fitted scikit-learn pipeline: standardisation and logistic regression.

    C is the smallest whose cross-validated auroc is within one standard error of the best (Breiman et al. 1984, and
    glmnet's `lambda.1se`). New patients come from elsewhere more often than folds do, and with 47 labels the folds tie:
    both speak for the simpler model. Nothing outside the labelled rows takes part, and floors get the same rule.

    Raises:
        UserError: one class only.
    """
    return linear_model(x, label, costs=(choose_cost(x, label, groups, seed),))


def choose_cost(x: NDArray, label: NDArray[np.int64], groups: NDArray | None = None, seed: int = 0) -> float:
    """The C of `fit_probe`; 0.01 where there are too few labels, or patients, for two folds."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    classes = np.unique(label)
    people = np.arange(len(label)) if groups is None else np.asarray(groups)
    folds = min(5, *(len(np.unique(people[label == c])) for c in classes), len(label))
    if len(classes) < 2 or folds < 2:
        return 1e-2
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    split = splitter(folds, shuffle=True, random_state=seed).split(x, label, groups)
    pairs = [(a, b) for a, b in split if len(np.unique(label[a])) == len(np.unique(label[b])) == len(classes)]
    if len(pairs) < 2:
        return 1e-2
    codes = np.searchsorted(classes, label)
    values = np.array(
        [
            [auroc(codes[b], linear_model(x[a], label[a], costs=(c,)).predict_proba(x[b])) for a, b in pairs]
            for c in COSTS
        ]
    )  # (costs, folds)
    mean, best = values.mean(1), int(values.mean(1).argmax())
    error = values[best].std(ddof=1) / np.sqrt(len(pairs))
    return COSTS[int(np.argmax(mean >= mean[best] - error - 1e-12))]
