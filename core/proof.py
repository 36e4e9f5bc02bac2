"""Does a method learn? Trained features against those of the same network untrained, by a kNN and a linear probe.

Every domain's `bench --only methods` examines its methods with this, so that the figures of all of them mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from core.bench import Row, row
from core.errors import UserError
from core.monitors import feature_std, rankme
from core.probes import knn, linear
from core.statistics import auroc, bootstrap, paired

PROBES = ("kNN", "linear")
DRAWS = 400  # bootstrap samples of the test rows


@dataclass(frozen=True)
class Exam:
    """A labelled task that features are examined on; the labels are used by the probes alone, never by pretraining.

    Attributes:
        label: (N,) classes.
        train, test: (N,) bool; nothing that is a choice is made on the test rows.
        metric: auroc of the second of two classes, or accuracy.
        groups: (N,) patient, card, speaker or user: intervals resample these, and the linear probe's folds keep them together.
        neighbours: k of the kNN probe.
    """

    label: NDArray
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    metric: Literal["auroc", "accuracy"] = "accuracy"
    groups: NDArray | None = None
    neighbours: int = 20

    def __post_init__(self) -> None:
        classes = len(np.unique(self.label[self.train]))
        if classes < 2 or (self.metric == "auroc" and classes != 2):
            raise UserError(
                f"{classes} classes among the training labels",
                where="exam",
                mend="two for auroc, two or more for accuracy",
            )
        if (self.train & self.test).any() or not self.test.any():
            raise UserError(
                "training and test rows overlap, or there is no test row",
                where="exam",
                mend="give each row to one of both",
            )


def guesses(features: NDArray, exam: Exam, probe: str, seed: int = 0) -> NDArray:
    """What a probe, fitted on the training rows of `features` (N, D), says of the test rows: a score or a class, (M,)."""
    train_x, test_x = features[exam.train], features[exam.test]
    label = exam.label[exam.train]
    if probe == "kNN":
        centre, spread = train_x.mean(0), train_x.std(0) + 1e-6
        shares = knn((train_x - centre) / spread, label, (test_x - centre) / spread, exam.neighbours)
    else:
        groups = None if exam.groups is None else exam.groups[exam.train]
        shares = linear(train_x, label, test_x, groups, costs=(1e-3, 1e-2, 1e-1, 1.0), seed=seed)
    return shares[:, 1] if exam.metric == "auroc" else np.unique(label)[shares.argmax(1)]


def examine(
    data: str, method: str, trained: NDArray, untrained: NDArray, exam: Exam, *, seed: int = 0, note: str = "",
    probes: Sequence[str] = PROBES,
) -> list[Row]:  # fmt: skip
    """Rows of the benchmark for one method on one data set with one seed.

    Args:
        trained, untrained: features (N, D) of all rows.
        note: shown beside the figures, such as the number of steps.

    Returns:
        For each probe: the figure trained (ours) and untrained (floor), and their paired difference (`gain`); two signs of
        collapse of the trained features, on the test rows: `feature_std` (1 healthy, 0 collapsed) and `rank`, the effective
        rank as a share of the dimensions (or of the rows, where they are fewer).
    """
    truth = exam.label[exam.test]
    groups = None if exam.groups is None else exam.groups[exam.test]
    target: NDArray = truth == np.unique(exam.label[exam.train])[1] if exam.metric == "auroc" else truth

    def metric(target: NDArray, said: NDArray) -> float:
        return auroc(target, said) if exam.metric == "auroc" else float((target == said).mean())

    made = []
    for probe in probes:
        ours, floor = (guesses(features, exam, probe, seed) for features in (trained, untrained))
        name = f"{exam.metric} {probe}"
        made += [
            row(data, method, "ours", name, bootstrap(metric, target, ours, groups, draws=DRAWS, seed=seed), note=note),
            row(data, f"{method}: untrained", "floor", name, bootstrap(metric, target, floor, groups, draws=DRAWS, seed=seed)),
            row(data, method, "ours", f"gain {name}", paired(metric, target, ours, floor, groups, draws=DRAWS, seed=seed), note=note),
        ]  # fmt: skip
    std, rank = collapse_signs(trained[exam.test], seed)
    return [*made, row(data, method, "ours", "feature_std", std), row(data, method, "ours", "rank", rank)]


def collapse_signs(features: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Spread of the features and their effective rank as a share of the largest possible, on at most 2,000 rows."""
    x = np.asarray(features, dtype=np.float32)
    x = x[np.random.default_rng(seed).permutation(len(x))[:2000]]
    sample = torch.from_numpy(x)
    return feature_std(sample), rankme(sample) / min(len(x) - 1, x.shape[1])


def learned(rows: Sequence[Row]) -> bool:
    """Whether every gain's interval lies above zero."""
    gains = [r for r in rows if r["metric"].startswith("gain ")]
    return bool(gains) and all(r["low"] is not None and r["low"] > 0 for r in gains)
