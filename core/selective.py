"""To answer only when sure: what is wrong among the rows that are answered, by how many are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def risk_coverage(wrong: ArrayLike, confidence: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of rows answered and share of them that are wrong, (N,) each, if the most confident rows are answered first.

    Rows of equal confidence share their errors evenly, so that their order does not matter.

    Args:
        wrong: (N,) 1 where the answer is wrong.
        confidence: (N,) higher is surer.
    """
    wrong, confidence = np.asarray(wrong, dtype=float), np.asarray(confidence, dtype=float)
    _, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    shared = np.bincount(place, wrong) / counts
    answered = np.arange(1, len(wrong) + 1)
    return answered / len(wrong), np.cumsum(np.repeat(shared, counts)) / answered


def aurc(wrong: ArrayLike, confidence: ArrayLike) -> float:
    """Area under the risk-coverage curve (El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017): 0 is best."""
    return float(risk_coverage(wrong, confidence)[1].mean())
