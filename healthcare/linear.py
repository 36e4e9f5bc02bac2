"""The classifier on frozen features: one logistic regression, or one a finding, as plain matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from core.errors import UserError
from core.probes import label_folds, linear_model
from core.statistics import resamples
from healthcare.metrics import auroc

ABSENT = -20.0  # log-odds of a class that the labels do not hold
# C to choose from. Not below .01: with few labels the folds tie, the smallest is taken, and one of .001 was worse on the training images
# of PneumoniaMNIST that gave no label, at 1 to 10 % of the labels.
COSTS = (1e-2, 1e-1, 1.0, 10.0)
# Labelled images up to which every crop of an image is a row that the probe learns from; above, their mean is. Chosen on the training images
# of PneumoniaMNIST that gave no label (docs/methods.md): the fewer the labels the more it gains, and rows cost time.
FEW = 1000


def fit_probe(x: NDArray, label: NDArray[np.int64], groups: NDArray | None = None, seed: int = 0) -> Any:
    """A fitted scikit-learn pipeline: of the C within one standard error of the best auroc, the smallest; floors get the same rule.

    Raises:
        UserError: one class only.
    """
    return linear_model(x, label, groups, COSTS, seed, auroc)


@dataclass(frozen=True)
class Linear:
    """Logits weight·x + bias.

    Attributes:
        weight: (K, D) float64.
        bias: (K,).
        several: findings, each with a probability of its own, instead of classes that exclude each other.
        costs: C of each regression, as it was chosen; one for classes, one a finding else (0: that finding was not learned).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    several: bool
    costs: tuple[float, ...]

    def logits(self, x: NDArray) -> NDArray[np.float64]:
        """(N, K) of features (N, D)."""
        return x.astype(np.float64) @ self.weight.T + self.bias

    def predict_proba(self, x: NDArray) -> NDArray[np.float64]:
        """(N, K) of features (N, D)."""
        logits = self.logits(x)
        return expit(logits) if self.several else softmax(logits, axis=1)


def fit_linear(
    x: NDArray, target: NDArray, classes: int, groups: NDArray | None = None, seed: int = 0,
    costs: tuple[float, ...] | None = None,
) -> Linear:  # fmt: skip
    """Logistic regression on standardised features (N, D) of class codes (N,), or one for each finding of (N, L) on its known rows.

    A finding with one answer only gets its smoothed share as a constant.

    Args:
        x: features (N, D), or (V, N, D) of several views of each image: then each view is a row, as in training with augmentation, so
            that the regression learns what framing changes, and the views of an image stay in one fold.
        classes: how many there are; one that the labels do not hold is never told.
        costs: C of each regression; None: chosen inside the labels, see `fit_probe`.

    Raises:
        UserError: one class only, or no finding with both answers.
    """
    if target.ndim == 1:
        model = _fitted(x, target, groups, seed, costs[0] if costs else None)
        weight, bias = _rows(model)
        if len(model[-1].classes_) == 2:  # scikit-learn keeps the second class alone
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        whole = np.zeros((classes, x.shape[-1])), np.full(classes, ABSENT)
        whole[0][model[-1].classes_], whole[1][model[-1].classes_] = weight, bias
        return Linear(*whole, several=False, costs=(float(model[-1].C),))
    weights, biases, chosen = [], [], []
    for column, answers in enumerate(target.T):
        known = np.flatnonzero(answers >= 0)
        if len(np.unique(answers[known])) < 2:
            share = (float((answers[known] == 1).sum()) + 0.5) / (len(known) + 1)
            weights.append(np.zeros((1, x.shape[-1])))
            biases.append(np.array([np.log(share / (1 - share))]))
            chosen.append(0.0)
            continue
        cost = costs[column] if costs and costs[column] else None
        model = _fitted(
            x[..., known, :], answers[known].astype(np.int64), None if groups is None else groups[known], seed, cost
        )
        weight, bias = _rows(model)
        weights.append(weight)
        biases.append(bias)
        chosen.append(float(model[-1].C))
    if not any(chosen):
        raise UserError("no finding is there in some images and absent in others", where="label", mend="label both")
    return Linear(np.concatenate(weights), np.concatenate(biases), True, tuple(chosen))


def held_out(
    x: NDArray, target: NDArray, linear: Linear, groups: NDArray | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """Probabilities (N, K) of labelled rows from regressions that did not learn them, in up to five folds that keep `groups` together.

    Of views (V, N, D) each is learned from, as in `fit_linear`, and their mean is asked. Not a number where no fold holds a row (too few
    labels of a class). C is that of `linear`, which saw the rows.
    """
    asked = x if x.ndim == 2 else x.mean(0)
    out = np.full((len(asked), len(linear.bias)), np.nan)
    classes = len(linear.bias)
    if target.ndim == 1:
        for rows, held in label_folds(target, groups, seed):
            one = fit_linear(x[..., rows, :], target[rows], classes, None, seed, linear.costs)
            out[held] = one.predict_proba(asked[held])
        return out
    for column, cost in enumerate(linear.costs):
        known = np.flatnonzero(target[:, column] >= 0)
        answers, owners = target[known, column].astype(np.int64), None if groups is None else groups[known]
        if not cost:
            continue
        for rows, held in label_folds(answers, owners, seed):
            one = fit_linear(x[..., known[rows], :], answers[rows], 2, None, seed, (cost,))
            out[known[held], column] = one.predict_proba(asked[known[held]])[:, 1]
    return out


def replicates(
    x: NDArray, target: NDArray, linear: Linear, groups: NDArray | None, count: int, seed: int = 0
) -> list[Linear]:
    """The regression fitted again on `count` bootstrap samples of the labelled patients: what other labels would have said.

    Samples that lack a class are left out, so there may be fewer.
    """
    found = []
    for rows in resamples(len(target), groups, count, seed):
        if target.ndim == 1 and len(np.unique(target[rows])) < len(np.unique(target)):
            continue
        if target.ndim == 2 and not _both_answers(target[rows]):
            continue
        found.append(fit_linear(x[..., rows, :], target[rows], len(linear.bias), None, seed, linear.costs))
    return found


def _both_answers(target: NDArray) -> bool:
    return bool(((target == 1).any(0) & (target == 0).any(0)).any())


def _fitted(x: NDArray, y: NDArray, groups: NDArray | None, seed: int, cost: float | None) -> Any:
    if x.ndim == 3:
        views = len(x)
        x = x.reshape(-1, x.shape[-1])  # (V·N, D)
        if views > 1:
            y, groups = np.tile(y, views), np.tile(np.arange(len(y)) if groups is None else groups, views)
    return fit_probe(x, y, groups, seed) if cost is None else linear_model(x, y, costs=(cost,), seed=seed)


def _rows(model: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardisation and regression of a scikit-learn pipeline as weights (K or 1, D) and biases (K or 1,)."""
    scaler, regression = model[0], model[-1]
    weight = regression.coef_ / scaler.scale_
    return weight, regression.intercept_ - weight @ scaler.mean_
