"""How far labels should move an encoder: the learning rate of fine-tuning that best tells labels held back, 0 for not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.probes import label_folds
from core.training import TrainConfig

RATES = (0.0, 1e-3, 4e-3)  # 0: the encoder stays as it is
LEAST_STEPS = 60  # of a training: with fewer its batch norms have not settled and it says nothing
ASKED = 50  # labels held back: asking more costs trainings and changes few choices
TEMPERATURES = np.geomspace(0.05, 20, 25)
Tell = Callable[[float, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


def shortened(train: TrainConfig) -> TrainConfig:
    """An eighth of a training, of 60 steps at least: the rates' order shows early."""
    if train.steps is None:
        return replace(train, minutes=(train.minutes or 0.0) / 8)
    return replace(train, steps=max(train.steps // 8, min(train.steps, LEAST_STEPS)))


def chosen_rate(rates: tuple[float, ...], label: NDArray, groups: ArrayLike | None, seed: int, tell: Tell) -> float:
    """The rate at which labels that were held back are told best; the first one where a class has too few rows, or groups, for two folds.

    Rates are compared by likelihood, each at its own best temperature: how sure a net is of itself, which differs between a frozen and a
    tuned one, says nothing of how often it is right (Guo et al. 2017).

    Args:
        label: (N,) text.
        groups: (N,) kept together in a fold, such as speakers.
        tell: of a rate, rows to learn from and rows to be asked: probabilities (asked, C) of the classes in order.
    """
    pairs = label_folds(label, groups, seed)
    if len(rates) == 1 or not pairs:
        return rates[0]
    enough = int(np.searchsorted(np.cumsum([len(b) for _, b in pairs]), ASKED)) + 1
    codes = np.unique(label, return_inverse=True)[1]
    asked = np.concatenate([codes[b] for _, b in pairs[:enough]])
    worth = [likelihood(np.concatenate([tell(rate, a, b) for a, b in pairs[:enough]]), asked) for rate in rates]
    return rates[int(np.argmax(worth))]


def likelihood(share: NDArray[np.float64], code: NDArray[np.int64]) -> float:
    """Mean log-likelihood of the classes `code` (N,) by probabilities (N, C), at the temperature that makes it largest."""
    logits = np.log(share + 1e-12)[None] / TEMPERATURES[:, None, None]  # (temperatures, N, C)
    logits -= logits.max(2, keepdims=True)
    logits -= np.log(np.exp(logits).sum(2, keepdims=True))
    return float(logits[:, np.arange(len(code)), code].mean(1).max())
