"""From probabilities to decisions: calibration, operating points and when to say nothing, all from images that were not learned from.

Those images are the validation ones and, with cross-validated probabilities, the labelled training ones. Thresholds are
conservative: with n held-out positives, the one for sensitivity s is their floor((n + 1)(1 − s))-th lowest probability, which
a new positive of the same origin exceeds with probability s or more, whatever n is (split conformal prediction, Vovk et al. 2005);
the plain quantile would miss it half of the time. Where n is too small for that, the lowest is taken and `kept` is false.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, softmax

from core.calibration import Temperature
from core.errors import UserError
from healthcare.findings import EDGE, columns, scores, yes
from healthcare.metrics import OperatingPoint

SPECIFICITIES, SENSITIVITIES = (0.90, 0.95), (0.95,)
COVERAGES = tuple(round(0.05 * k, 2) for k in range(21))
LEAST = 10  # held-out rows, of both answers, below which probabilities stay as they are


@dataclass(frozen=True)
class Decision:
    """How calibrated probabilities are made, and what is done with them.

    Attributes:
        temperature: one for classes; one a finding. Logits are divided by it.
        bias: added to them then, one a class or finding; none where it is empty.
        points: operating points of every yes/no question (see healthcare.findings), by its name.
        confidence: what shares 0, .05, … 1 of held-out rows fall below; of findings, by question.
        rows: held-out rows that this was learned from.
        several: findings instead of classes.
    """

    temperature: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = ()
    points: dict[str, list[OperatingPoint]] | None = None
    confidence: tuple[tuple[float, ...], ...] = ()
    rows: int = 0
    several: bool = False

    @classmethod
    def fit(cls, probability: ArrayLike, target: ArrayLike, classes: tuple[str, ...]) -> Decision:
        """From probabilities (N, K) of rows that were not learned from, and their targets; rows that are not a number are left out.

        Temperature stays 1, bias 0, and points are missing, where held-out rows are too few or of one answer.
        """
        p, target = np.asarray(probability, dtype=np.float64), np.asarray(target)
        several = target.ndim == 2
        if several:
            known = np.isfinite(p) & (target >= 0)
            each = [_scaling(_pair(p[k, c]), target[k, c]) for c, k in enumerate(known.T)]
            heat, bias = tuple(one.value for one in each), tuple(one.bias[1] - one.bias[0] for one in each)
            target, rows = np.where(known, target, -1), int(known.any(1).sum())
            p = np.where(np.isfinite(p), p, 0.5)
        else:
            keep = np.isfinite(p).all(1) & (target >= 0)
            p, target, rows = p[keep], target[keep], int(keep.sum())
            scaling = _scaling(np.log(np.clip(p, EDGE, 1)), target)
            heat, bias = (scaling.value,), scaling.bias
        decision = cls(heat, bias, rows=rows, several=several)
        if not rows:
            return decision
        cool = decision(p)
        asked, score = yes(target, len(classes)), scores(cool, several)
        points: dict[str, list[OperatingPoint]] = {}
        for column, name in enumerate(columns(classes, several)):
            there, s = asked[:, column], score[:, column]
            found = []
            if (there == 0).any():
                found += [OperatingPoint.at_specificity(there, s, goal) for goal in SPECIFICITIES]
            if (there == 1).any():
                found += [OperatingPoint.at_sensitivity(there, s, goal) for goal in SENSITIVITIES]
            points[name] = found
        sure = confidence(cool, several)
        levels = tuple(tuple(np.quantile(sure[:, c], COVERAGES).tolist()) for c in range(sure.shape[1]))
        return replace(decision, points=points, confidence=levels)

    def __call__(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities (N, K)."""
        p = np.clip(np.asarray(probability, dtype=np.float64), EDGE, 1 - EDGE)
        if self.several:
            return expit(logit(p) / np.asarray(self.temperature) + np.asarray(self.bias or 0.0))
        return Temperature(self.temperature[0], self.bias)(np.log(p))

    def undone(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N, K) as they were before they were calibrated."""
        p = np.clip(np.asarray(probability, dtype=np.float64), EDGE, 1 - EDGE)
        heat, bias = np.asarray(self.temperature), np.asarray(self.bias or 0.0)
        return expit((logit(p) - bias) * heat) if self.several else softmax((np.log(p) - bias) * heat, axis=1)

    def point(self, name: str, goal: str) -> OperatingPoint | None:
        """The operating point of a question, such as `point("pneumonia", "specificity=0.90")`."""
        return next((p for p in (self.points or {}).get(name, []) if p.goal == goal), None)

    def abstains(self, probability: ArrayLike, coverage: float) -> NDArray[np.bool_]:
        """Rows (N, 1), or (N, L) of findings, of calibrated probabilities on which nothing should be said.

        `coverage`: the share of held-out rows, whose confidence was highest, that would be answered.

        Raises:
            UserError: a coverage outside (0, 1], or no held-out rows to choose on.
        """
        if not 0 < coverage <= 1:
            raise UserError(f"coverage {coverage:g} is not in (0, 1]", where="coverage", mend="give for example 0.9")
        if not self.confidence:
            raise UserError(
                "no confidence was chosen: no labels were held out", where="coverage", mend="label more images"
            )
        least = [np.interp(1 - coverage, COVERAGES, levels) if coverage < 1 else 0.0 for levels in self.confidence]
        return confidence(probability, self.several) < np.asarray(least)

    def reached(self, goal: str, target: ArrayLike, probability: ArrayLike) -> tuple[float, float]:
        """Sensitivity and specificity on calibrated probabilities (N, K) at the points of one goal, averaged over questions.

        Not a number where there is no such point, or no image of a kind.
        """
        score = scores(probability, self.several)
        asked = yes(target, np.shape(probability)[1])
        found = []
        for column, name in enumerate(self.points or {}):
            point = self.point(name, goal)
            if point is not None:
                there, s = asked[:, column], score[:, column]
                found.append((point.sensitivity(there, s), point.specificity(there, s)))
        if not found:
            return float("nan"), float("nan")
        each = np.array(found)
        means = [
            float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else float("nan")
            for column in each.T
        ]
        return means[0], means[1]

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, made: dict[str, Any]) -> Decision:
        points = made["points"]
        return cls(
            tuple(made["temperature"]), tuple(made.get("bias", ())),  # runs calibrated by a temperature alone hold none
            None if points is None else {n: [OperatingPoint(**p) for p in found] for n, found in points.items()},
            tuple(tuple(levels) for levels in made["confidence"]), int(made["rows"]), bool(made["several"]),
        )  # fmt: skip


def confidence(probability: ArrayLike, several: bool) -> NDArray[np.float64]:
    """(N, 1) probability of the most probable class; (N, L) of findings, that of the likelier answer."""
    p = np.asarray(probability, dtype=np.float64)
    return np.maximum(p, 1 - p) if several else p.max(1, keepdims=True)


def _pair(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, 2) of the probabilities (N,) of yes."""
    return np.stack([np.zeros(len(p)), logit(np.clip(p, EDGE, 1 - EDGE))], 1)


def _scaling(logits: NDArray[np.float64], label: NDArray) -> Temperature:
    enough = len(label) >= LEAST and len(np.unique(label)) > 1
    return Temperature.fit(logits, label) if enough else Temperature(bias=(0.0,) * logits.shape[1])
