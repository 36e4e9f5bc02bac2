"""What frozen features are worth: kNN, ridge and logistic probes, and nested draws of few labels.

Whatever a probe has to choose is chosen inside the labelled rows. Features that attend over tokens: core.attentive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from core.encoders.encoder import Encoder
from core.errors import UserError
from core.tokens import Batch, to_device
from core.vectors import unit_rows

COSTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of the logistic regression: the larger, the less it is shrunk
PENALTIES = (1e-1, 1.0, 10.0, 1e2, 1e3, 1e4)  # of ridge: the larger, the more it is shrunk
Score = Callable[
    [NDArray[np.int64], NDArray[np.float64]], float
]  # class codes (N,), probabilities (N, C): higher is better
Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@torch.no_grad()
def embed(encoder: Encoder, batches: Iterator[Batch], device: str = "cpu") -> NDArray[np.float32]:
    """Features (N, D) of every row, in the order of the batches."""
    encoder.to(device).eval()
    parts = [encoder.embed(to_device(batch, device)).float().cpu().numpy() for batch in batches]
    return np.concatenate(parts)


def knn(
    train_x: NDArray, train_y: ArrayLike, test_x: NDArray, k: int = 20, temperature: float = 0.1
) -> NDArray[np.float64]:
    """Class shares (M, C) of the k nearest by cosine, weighted by exp(similarity / temperature) (Wu et al. 2018).

    Where there are fewer rows than k, all of them vote.

    Raises:
        UserError: one class only, features that are not finite or of two widths, or k below 1.
    """
    train_x, y, test_x = checked(train_x, train_y, test_x)
    classes, codes = np.unique(y, return_inverse=True)
    if k < 1 or not temperature > 0:
        raise UserError(f"{k} neighbours at temperature {temperature:g}", where="knn", mend="use 1 or more, above 0")
    k = min(k, len(train_x))
    a, b = unit_rows(test_x), unit_rows(train_x)
    result = np.zeros((len(test_x), len(classes)))
    for start in range(0, len(a), 1024):
        similarity = a[start : start + 1024] @ b.T
        near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        closeness = np.take_along_axis(similarity, near, 1)
        # relative to the nearest, so that no temperature makes all weights 0 or infinite
        weight = np.exp((closeness - closeness.max(1, keepdims=True)) / temperature)
        for c in range(len(classes)):
            result[start : start + 1024, c] = (weight * (codes[near] == c)).sum(1)
    return result / result.sum(1, keepdims=True)


def ridge(
    train_x: NDArray, train_y: ArrayLike, test_x: NDArray, groups: ArrayLike | None = None,
    penalties: tuple[float, ...] = PENALTIES, seed: int = 0,
) -> NDArray[np.float64]:  # fmt: skip
    """Scores (M, C), higher is likelier, of a linear map of standardised features to ±1 by class, in closed form.

    The penalty is that of the least squared error in folds of the labelled rows, which keep `groups` together. One
    decomposition serves all penalties, so that it is the fastest of the linear probes (big_vision's few-shot probe).

    Raises:
        UserError: one class only, or features that are not finite or of two widths.
    """
    from threadpoolctl import threadpool_limits

    x, y, test_x = checked(train_x, train_y, test_x)
    target = 2.0 * (y[:, None] == np.unique(y)[None]) - 1  # (N, C)
    with threadpool_limits(1, user_api="blas"):
        penalty = penalties[len(penalties) // 2]
        if len(penalties) > 1 and (pairs := label_folds(y, groups, seed)):
            errors = [((_ridge(x[a], target[a], x[b], penalties) - target[b]) ** 2).mean((1, 2)) for a, b in pairs]
            penalty = penalties[int(np.mean(errors, 0).argmin())]
        return _ridge(x, target, test_x, (penalty,))[0]


def _ridge(x: NDArray, target: NDArray, test_x: NDArray, penalties: tuple[float, ...]) -> NDArray[np.float64]:
    """What (x, target) predict of `test_x` at each penalty, (P, M, C)."""
    x, test_x = x.astype(np.float64), test_x.astype(np.float64)
    mean, scale = x.mean(0), x.std(0)
    scale[scale < 1e-12] = 1.0
    u, s, v = np.linalg.svd((x - mean) / scale, full_matrices=False)
    moved, centre = u.T @ (target - target.mean(0)), target.mean(0)
    shrunk = s / (s**2 + np.asarray(penalties)[:, None])  # (P, R)
    return ((test_x - mean) / scale @ v.T) @ (shrunk[:, :, None] * moved) + centre


def linear(
    train_x: NDArray, train_y: ArrayLike, test_x: NDArray, groups: ArrayLike | None = None,
    costs: tuple[float, ...] = COSTS, seed: int = 0,
) -> NDArray[np.float64]:  # fmt: skip
    """Class probabilities (M, C) of a logistic regression on standardised features; see `linear_model`."""
    train_x, _, test_x = checked(train_x, train_y, test_x)
    return linear_model(train_x, train_y, groups, costs, seed).predict_proba(test_x)


def linear_model(
    train_x: NDArray, train_y: ArrayLike, groups: ArrayLike | None = None,
    costs: tuple[float, ...] = COSTS, seed: int = 0, score: Score | None = None,
) -> Any:  # fmt: skip
    """A fitted scikit-learn pipeline: standardisation and logistic regression.

    C is that of the lowest cross-validated log loss inside the labelled rows, in folds that keep `groups` together. With `score`
    it is the smallest whose cross-validated score is within one standard error of the best (Breiman et al. 1984, and glmnet's
    `lambda.1se`): new groups come from elsewhere more often than folds do, and with few labels the folds tie; both speak for
    the simpler model.

    It runs on one BLAS thread: several slow small fits many times over.

    Raises:
        UserError: one class only, or features that are not finite.
    """
    from threadpoolctl import threadpool_limits

    x, y, _ = checked(train_x, train_y)
    with threadpool_limits(1, user_api="blas"):
        return _logistic(choose_cost(x, y, groups, costs, seed, score)).fit(x, y)


def choose_cost(
    x: NDArray, y: NDArray, groups: ArrayLike | None = None, costs: tuple[float, ...] = COSTS, seed: int = 0,
    score: Score | None = None,
) -> float:  # fmt: skip
    """The C of `linear_model`.

    Where there are too few labels, or groups, for two folds: the middle one, or with `score` the one nearest to 0.01.
    """
    from sklearn.metrics import log_loss

    if len(costs) == 1:
        return costs[0]
    classes, pairs = np.unique(y), label_folds(y, groups, seed)
    if score is None:
        if not pairs:
            return costs[len(costs) // 2]
        losses = [
            np.mean(
                [log_loss(y[b], _logistic(c).fit(x[a], y[a]).predict_proba(x[b]), labels=classes) for a, b in pairs]
            )
            for c in costs
        ]
        return costs[int(np.argmin(losses))]
    pairs = [(a, b) for a, b in pairs if len(np.unique(y[b])) == len(classes)]
    if len(pairs) < 2:
        return min(costs, key=lambda c: abs(np.log10(c) + 2))
    codes = np.searchsorted(classes, y)
    values = np.array(
        [[score(codes[b], _logistic(c).fit(x[a], y[a]).predict_proba(x[b])) for a, b in pairs] for c in costs]
    )  # (costs, folds)
    mean, best = values.mean(1), int(values.mean(1).argmax())
    error = values[best].std(ddof=1) / np.sqrt(len(pairs))
    return costs[int(np.argmax(mean >= mean[best] - error - 1e-12))]


def _logistic(cost: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=2000))


def label_folds(y: NDArray, groups: ArrayLike | None, seed: int) -> Folds:
    """Up to five stratified folds of (training rows, held-out rows) that keep groups together; those whose training rows lack
    a class are left out. None where a class has one row, or one group, only."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    owners = np.arange(len(y)) if groups is None else np.asarray(groups)
    classes = np.unique(y)
    folds = min(5, *(len(np.unique(owners[y == c])) for c in classes))
    if folds < 2:
        return []
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    split = splitter(folds, shuffle=True, random_state=seed).split(y, y, groups)
    return [(a, b) for a, b in split if len(np.unique(y[a])) == len(classes) and len(b)]


def checked(
    train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Features (N, D) and (M, D) and labels (N,) as arrays; without `test_x` the last is empty.

    Raises:
        UserError: shapes that do not fit, features that are not finite, or one class only.
    """
    x, y = np.asarray(train_x), np.asarray(train_y)
    test = np.empty((0, *x.shape[1:])) if test_x is None else np.asarray(test_x)
    if x.ndim != 2 or test.ndim != 2 or x.shape[1] != test.shape[1]:
        raise UserError(
            f"features of shapes {x.shape} and {test.shape}",
            where="probe",
            mend="give (N, D) and (M, D) of one encoder",
        )
    if y.shape != (len(x),):
        raise UserError(f"{y.size} labels for {len(x)} rows of features", where="label", mend="give one label a row")
    for name, values in (("labelled", x), ("test", test)):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(1)))
            raise UserError("a feature is NaN or infinite", where=f"{name} row {row}", mend="look at that row's input")
    if len(np.unique(y)) < 2:
        raise UserError("the labels hold one class only", where="label", mend="label at least two classes")
    return x, y, test


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
