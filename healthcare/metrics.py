"""Diagnostic metrics over class probabilities, fast enough for thousands of bootstrap samples; tested against scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPECIFICITY = 0.90
SENSITIVITY = f"sensitivity@specificity={SPECIFICITY:.2f}"


def _ranking(target: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Cumulated positives and predicted positives at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return np.cumsum(target[order])[last], last + 1


def _binary_auroc(target: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    positives = int(target.sum())
    negatives = len(target) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    hits, called = _ranking(target, score)
    misses = called - hits
    hits, misses = np.append(0, hits), np.append(0, misses)
    area = np.sum(np.diff(misses) * (hits[1:] + hits[:-1])) / 2  # trapezoids: a tie counts one half
    return float(area / (positives * negatives))


def _binary_average_precision(target: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    positives = int(target.sum())
    if positives == 0:
        return float("nan")
    hits, called = _ranking(target, score)
    return float(np.sum(np.diff(np.append(0, hits)) * hits / called) / positives)


def _each_class(metric, target: ArrayLike, probability: ArrayLike) -> float:
    target, probability = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if probability.shape[1] == 2:
        return metric(target == 1, probability[:, 1])
    return float(np.mean([metric(target == k, probability[:, k]) for k in range(probability.shape[1])]))


def auroc(target: ArrayLike, probability: ArrayLike) -> float:
    """Area under the ROC curve of (N,) classes and (N, K) probabilities; one class against the rest, averaged, for K > 2.

    Not a number where a class is absent.
    """
    return _each_class(_binary_auroc, target, probability)


def average_precision(target: ArrayLike, probability: ArrayLike) -> float:
    """Average precision (the step-wise sum, no interpolation), as `auroc` over classes."""
    return _each_class(_binary_average_precision, target, probability)


def accuracy(target: ArrayLike, probability: ArrayLike) -> float:
    """Share of images whose most probable class is right."""
    return float(np.mean(np.argmax(np.asarray(probability), axis=1) == np.asarray(target)))


def ece(target: ArrayLike, probability: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the most probable class over equally wide bins (Guo et al. 2017)."""
    probability = np.asarray(probability, dtype=np.float64)
    confidence = probability.max(axis=1)
    right = (probability.argmax(axis=1) == np.asarray(target)).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


@dataclass(frozen=True)
class OperatingPoint:
    """Probability of the positive class above which an image is called positive."""

    threshold: float

    @classmethod
    def at_specificity(
        cls, target: ArrayLike, probability: ArrayLike, specificity: float = SPECIFICITY
    ) -> OperatingPoint:
        """The lowest threshold that calls at most 1 − `specificity` of these negatives positive.

        Raises:
            ValueError: no negative image.
        """
        negatives = np.sort(np.asarray(probability)[np.asarray(target) == 0, 1])
        if len(negatives) == 0:
            raise ValueError("no negative image to choose a threshold on")
        allowed = int(np.floor((1 - specificity) * len(negatives) + 1e-9))
        return cls(float(negatives[len(negatives) - allowed - 1]))

    def called(self, probability: ArrayLike) -> NDArray[np.bool_]:
        return np.asarray(probability)[:, 1] > self.threshold

    def sensitivity(self, target: ArrayLike, probability: ArrayLike) -> float:
        """Share of positive images that are called; not a number where there is none."""
        return _share(self.called(probability)[np.asarray(target) == 1])

    def specificity(self, target: ArrayLike, probability: ArrayLike) -> float:
        """Share of negative images that are not called; not a number where there is none."""
        return _share(~self.called(probability)[np.asarray(target) == 0])


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else float("nan")
