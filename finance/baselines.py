"""The floors: strong simple methods that a pretrained encoder must beat.

Inputs are standardised on the training rows. Logistic regression and random forest have scikit-learn's defaults (with
more iterations allowed), as in chapter 3 of the Fraud Detection Handbook, whose published figures they reproduce.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def standardise(train: Array, test: Array) -> tuple[Array, Array]:
    """Both (N, F), with the training rows' mean and standard deviation; constant columns stay 0."""
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 1e-12, std, 1.0)
    return (train - mean) / std, (test - mean) / std


def logistic_regression(train: Array, label: NDArray, test: Array, seed: int = 0) -> Array:
    """Probability of fraud (N,)."""
    from sklearn.linear_model import LogisticRegression

    train, test = standardise(train, test)
    model = LogisticRegression(random_state=seed, max_iter=1000).fit(train, label)
    return model.predict_proba(test)[:, 1]


def random_forest(train: Array, label: NDArray, test: Array, seed: int = 0) -> Array:
    """Probability of fraud (N,)."""
    from sklearn.ensemble import RandomForestClassifier

    train, test = standardise(train, test)
    model = RandomForestClassifier(random_state=seed, n_jobs=1).fit(train, label)
    return model.predict_proba(test)[:, 1]


def gradient_boosting(train: Array, label: NDArray, test: Array, seed: int = 0) -> Array:
    """Probability of fraud (N,): boosted trees, slowed down a little since frauds are few."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        random_state=seed, max_iter=150, learning_rate=0.05, max_leaf_nodes=15, l2_regularization=1.0
    )
    return model.fit(train, label).predict_proba(test)[:, 1]


CLASSIFIERS: dict[str, Callable[..., Array]] = {
    "logistic_regression": logistic_regression,
    "random_forest": random_forest,
    "gradient_boosting": gradient_boosting,
}


def isolation_forest(train: Array, test: Array, seed: int = 0) -> Array:
    """Anomaly score (N,), higher = stranger (Liu et al. 2008). No labels."""
    from sklearn.ensemble import IsolationForest

    train, test = standardise(train, test)
    return -IsolationForest(random_state=seed, n_jobs=1).fit(train).score_samples(test)


def nearest_neighbours(train: Array, test: Array, seed: int = 0, k: int = 5, reference: int = 20_000) -> Array:
    """Mean distance to the k nearest of at most `reference` training rows (N,). No labels."""
    from sklearn.neighbors import NearestNeighbors

    train, test = standardise(train, test)
    if len(train) > reference:
        train = train[np.random.default_rng(seed).choice(len(train), reference, replace=False)]
    neighbours = NearestNeighbors(n_neighbors=min(k, len(train)), n_jobs=1).fit(train)
    return neighbours.kneighbors(test)[0].mean(1)


DETECTORS: dict[str, Callable[..., Array]] = {"isolation_forest": isolation_forest, "knn": nearest_neighbours}
