"""Diagnostic metrics over class probabilities, fast enough for thousands of bootstrap samples; tested against scikit-learn.

Targets are class codes (N,) or findings (N, L) of 1, 0 and −1 (unknown, left out), as healthcare.findings says; over more classes or
findings than one, figures are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core import calibration, selective, statistics
from healthcare.findings import averaged

SPECIFICITY = 0.90
SENSITIVITY = f"sensitivity@specificity={SPECIFICITY:.2f}"


def _ranking(target: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Cumulated positives and predicted positives at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return np.cumsum(target[order])[last], last + 1


def _binary_average_precision(target: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    positives = int(target.sum())
    if positives == 0:
        return float("nan")
    hits, called = _ranking(target, score)
    return float(np.sum(np.diff(np.append(0, hits)) * hits / called) / positives)


def auroc(target: ArrayLike, probability: ArrayLike) -> float:
    """Area under the ROC curve; one class against the rest, averaged, for more than two.

    Not a number where a class is absent; of findings, those without both answers are left out.
    """
    return averaged(statistics.auroc, target, probability)


def average_precision(target: ArrayLike, probability: ArrayLike) -> float:
    """Average precision (the step-wise sum, no interpolation), as `auroc` over classes."""
    return averaged(_binary_average_precision, target, probability)


def accuracy(target: ArrayLike, probability: ArrayLike) -> float:
    """Share of images whose most probable class is right; of findings, share of right answers at .5, averaged."""
    target, probability = np.asarray(target), np.asarray(probability)
    if target.ndim == 2:
        return averaged(lambda there, p: _share((p > 0.5) == there), target, probability)
    return float(np.mean(np.argmax(probability, axis=1) == target))


def brier(target: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared error of the probability (Brier 1950); 0.25 is a coin's, of two classes."""
    if np.ndim(target) == 2:
        return averaged(lambda there, p: float(((p - there) ** 2).mean()) if len(p) else np.nan, target, probability)
    return calibration.brier(target, probability)


def calibration_slope(target: ArrayLike, probability: ArrayLike) -> float:
    """Slope of label ~ log-odds (Cox 1958), 1 at best: below, probabilities are too extreme; averaged over questions."""
    return averaged(lambda there, p: calibration.calibration_slope(there, p)[0], target, probability)


def aurc(target: ArrayLike, probability: ArrayLike) -> float:
    """Area under risk against coverage, the least confident answers given last: the mean error over all coverages."""
    target, probability = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if target.ndim == 2:
        return averaged(
            lambda there, p: selective.aurc((p > 0.5) != there, np.maximum(p, 1 - p)) if len(p) else np.nan,
            target, probability,
        )  # fmt: skip
    return selective.aurc(probability.argmax(1) != target, probability.max(1))


def specificity_at_sensitivity(target: ArrayLike, probability: ArrayLike, sensitivity: float = 0.95) -> float:
    """Highest specificity among the thresholds whose sensitivity on these same images is `sensitivity` or more.

    It is read off the ROC curve: what a threshold chosen before may reach at best, not what one reached.
    """

    def one(there: NDArray[np.bool_], p: NDArray[np.float64]) -> float:
        if not there.any() or there.all():
            return float("nan")
        positives = np.sort(p[there])
        lost = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
        return float((p[~there] < positives[lost]).mean())

    return averaged(one, target, probability)


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value where `prevalence` of the patients have the finding (Bayes)."""
    hit, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    clear, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return (
        hit / (hit + false) if hit + false else float("nan"),
        clear / (clear + missed) if clear + missed else float("nan"),
    )


def ece(target: ArrayLike, probability: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the most probable class over equally wide bins (Guo et al. 2017); of findings, averaged."""
    target, probability = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if target.ndim == 2:
        return averaged(lambda there, p: _gap(np.maximum(p, 1 - p), (p > 0.5) == there, bins), target, probability)
    return _gap(probability.max(axis=1), probability.argmax(axis=1) == target, bins)


def _gap(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    if not len(right):
        return float("nan")
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


@dataclass(frozen=True)
class OperatingPoint:
    """Probability above which the answer is yes, as chosen on held-out images of n of the kind that the goal speaks of.

    Attributes:
        threshold: in (0, 1); the answer is yes above it.
        goal: such as `specificity=0.90`.
        rows: n, held-out negatives (for a specificity) or positives (for a sensitivity).
        kept: whether n is large enough for the goal to hold, for a new image of the same origin; else the extreme of the n was taken.
    """

    threshold: float
    goal: str = ""
    rows: int = 0
    kept: bool = True

    @classmethod
    def at_specificity(cls, there: ArrayLike, score: ArrayLike, specificity: float = SPECIFICITY) -> OperatingPoint:
        """The lowest threshold that a new negative exceeds with probability 1 − `specificity` at most.

        Args:
            there: (N,) 1 where the finding is there, 0 where not; others are left out.
            score: (N,) probabilities.

        Raises:
            ValueError: no negative image.
        """
        negatives = np.sort(np.asarray(score, dtype=np.float64)[np.asarray(there) == 0])
        if len(negatives) == 0:
            raise ValueError("no negative image to choose a threshold on")
        above = _allowed(len(negatives), specificity)
        threshold = float(negatives[len(negatives) - max(above, 1)])
        return cls(threshold, f"specificity={specificity:.2f}", len(negatives), above > 0)

    @classmethod
    def at_sensitivity(cls, there: ArrayLike, score: ArrayLike, sensitivity: float = 0.95) -> OperatingPoint:
        """The highest threshold that a new positive exceeds with probability `sensitivity` at least.

        Raises:
            ValueError: no positive image.
        """
        positives = np.sort(np.asarray(score, dtype=np.float64)[np.asarray(there) == 1])
        if len(positives) == 0:
            raise ValueError("no positive image to choose a threshold on")
        below = _allowed(len(positives), sensitivity)
        threshold = float(np.nextafter(positives[max(below, 1) - 1], -np.inf))
        return cls(threshold, f"sensitivity={sensitivity:.2f}", len(positives), below > 0)

    def called(self, score: ArrayLike) -> NDArray[np.bool_]:
        """Which of the probabilities (N,) are a yes."""
        return np.asarray(score) > self.threshold

    def sensitivity(self, there: ArrayLike, score: ArrayLike) -> float:
        """Share of positives (1) that are called; not a number where there is none."""
        return _share(self.called(score)[np.asarray(there) == 1])

    def specificity(self, there: ArrayLike, score: ArrayLike) -> float:
        """Share of negatives (0) that are not called; not a number where there is none."""
        return _share(~self.called(score)[np.asarray(there) == 0])


def _allowed(rows: int, goal: float) -> int:
    """Which of `rows` extremes a new one falls beyond with probability 1 − goal at most; 0: none of them."""
    return int(np.floor((rows + 1) * (1 - goal) + 1e-9))


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else float("nan")
