"""What every arm of an evaluation said of the held-out recordings, and the names of the arms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.statistics import Estimate, mean_interval

PRETRAINED, RANDOM, SCRATCH, TUNED = "pretrained", "random init", "scratch", "fine-tuned"
RANDOM_FLOOR, SCRATCH_FLOOR = "random init + logistic regression", "from scratch"


@dataclass
class Outcome:
    """What every arm predicted on the test recordings: `said[arm][fraction]` is (draws, M) labels.

    `labels[fraction]` counts the labelled training recordings; `rows` (M,): which recordings were tested; `sure` (M,): the probability
    of what the pretrained arm said with all labels.
    """

    truth: NDArray
    speaker: NDArray
    said: dict[str, dict[float, NDArray]] = field(default_factory=dict)
    labels: dict[float, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sure: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def hits(self, arm: str, fraction: float) -> NDArray[np.float64]:
        """Share of the draws that got each test recording right, (M,)."""
        return (self.said[arm][fraction] == self.truth).mean(0)

    def arms(self) -> list[str]:
        return list(self.said)


def metric_name(fraction: float) -> str:
    """`accuracy` with all labels, `accuracy@10%` with a tenth of them."""
    return "accuracy" if fraction == 1 else f"accuracy@{100 * fraction:g}%"


def clusters(speaker: NDArray) -> NDArray | None:
    """What intervals draw: whole speakers where there are three or more, else recordings (None)."""
    return speaker if len(set(speaker)) >= 3 else None


def interval(values: NDArray, speaker: NDArray) -> Estimate:
    """Mean with a 95 % interval, see `clusters`."""
    return mean_interval(values, clusters(speaker))


def floor_name(arm: str) -> str:
    return {RANDOM: RANDOM_FLOOR, SCRATCH: SCRATCH_FLOOR}.get(arm, arm)
