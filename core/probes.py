"""What frozen features are worth: kNN and linear probes, and nested draws of few labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from core.encoders.encoder import Encoder
from core.errors import UserError
from core.tokens import Batch, to_device


@torch.no_grad()
def embed(encoder: Encoder, batches: Iterator[Batch], device: str = "cpu") -> NDArray[np.float32]:
    """Features (N, D) of every row, in the order of the batches."""
    encoder.to(device).eval()
    parts = [encoder.embed(to_device(batch, device)).float().cpu().numpy() for batch in batches]
    return np.concatenate(parts)


def knn(
    train_x: NDArray, train_y: ArrayLike, test_x: NDArray, k: int = 20, temperature: float = 0.1
) -> NDArray[np.float64]:
    """Class shares (M, C) of the k nearest by cosine, weighted by exp(similarity / temperature) (Wu et al. 2018)."""
    y = np.asarray(train_y)
    classes, codes = np.unique(y, return_inverse=True)
    k = min(k, len(train_x))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (test_x, train_x))
    result = np.zeros((len(test_x), len(classes)))
    for start in range(0, len(a), 1024):
        similarity = a[start : start + 1024] @ b.T
        near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp(np.take_along_axis(similarity, near, 1) / temperature)
        for c in range(len(classes)):
            result[start : start + 1024, c] = (weight * (codes[near] == c)).sum(1)
    return result / result.sum(1, keepdims=True)


def linear(
    train_x: NDArray, train_y: ArrayLike, test_x: NDArray, groups: ArrayLike | None = None,
    costs: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0), seed: int = 0,
) -> NDArray[np.float64]:  # fmt: skip
    """Class probabilities (M, C) of a logistic regression on standardised features.

    C is chosen by cross-validated log loss inside the labelled rows alone, in folds that keep `groups` together.
    """
    model = linear_model(train_x, train_y, groups, costs, seed)
    return model.predict_proba(test_x)


def linear_model(
    train_x: NDArray, train_y: ArrayLike, groups: ArrayLike | None = None,
    costs: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0), seed: int = 0,
):  # fmt: skip
    """The fitted scikit-learn pipeline behind `linear`, on one BLAS thread: several slow small fits many times over."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        return _fitted(train_x, train_y, groups, costs, seed)


def _fitted(train_x: NDArray, train_y: ArrayLike, groups: ArrayLike | None, costs: tuple[float, ...], seed: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = np.asarray(train_x), np.asarray(train_y)
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise UserError("the labels hold one class only", where="label", mend="label at least two classes")

    def model(cost: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=2000))

    smallest = counts.min()
    if groups is not None:
        smallest = min(len(np.unique(np.asarray(groups)[y == c])) for c in classes)
    folds = int(min(5, smallest))
    best = costs[len(costs) // 2]
    if folds >= 2 and len(costs) > 1:
        splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
        split = splitter(folds, shuffle=True, random_state=seed).split(x, y, groups)
        pairs = [(a, b) for a, b in split if len(np.unique(y[a])) == len(classes) and len(b)]
        if pairs:
            losses = {}
            for cost in costs:
                losses[cost] = np.mean(
                    [log_loss(y[b], model(cost).fit(x[a], y[a]).predict_proba(x[b]), labels=classes) for a, b in pairs]
                )
            best = min(losses, key=lambda cost: losses[cost])
    return model(best).fit(x, y)


def label_subset(labels: ArrayLike, fraction: float, seed: int, least: int = 2) -> NDArray[np.int64]:
    """Row numbers of a stratified draw of `fraction` of the labels, at least `least` of each class.

    Draws of one seed are nested: a larger fraction holds all of a smaller one.
    """
    y = np.asarray(labels)
    if not 0 < fraction <= 1:
        raise UserError(f"label fraction {fraction} is not in (0, 1]", where="fractions", mend="use for example 0.1")
    generator = np.random.default_rng(seed)
    rows = []
    for c in np.unique(y):
        own = generator.permutation(np.flatnonzero(y == c))
        rows.append(own[: min(len(own), max(least, round(fraction * len(own))))])
    return np.sort(np.concatenate(rows))
