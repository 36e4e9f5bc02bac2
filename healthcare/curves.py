"""Curves and tables of the report: ROC, precision, confusion, calibration, operating points, abstention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.calibration import reliability
from core.evaluation import Section
from core.report import COLOURS, figure, svg, worded
from core.selective import risk_coverage
from core.statistics import Estimate, bootstrap
from healthcare.decisions import SENSITIVITIES, SPECIFICITIES, Decision
from healthcare.findings import columns, scores, yes
from healthcare.guesses import EvaluationConfig, Guesses, Score
from healthcare.metrics import auroc, average_precision, ece

SHOWN = 8  # questions whose curve is drawn


@dataclass(frozen=True)
class Drawn:
    """What the sections draw from: of the headline fraction, every arm's calibrated probabilities and decisions by draw.

    Attributes:
        label: of the test images, (N,) or (N, L).
        questions: names of the yes/no questions (see healthcare.findings).
    """

    classes: tuple[str, ...]
    label: NDArray
    patient: NDArray[np.int64]
    draws: Mapping[str, Sequence[Score]]
    points: Mapping[str, Sequence[Decision]]
    headline: float
    samples: int
    prevalence: float | None
    questions: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, classes: tuple[str, ...], guesses: Guesses, config: EvaluationConfig) -> Drawn:
        fraction, several = config.headline, guesses.label.ndim == 2
        return cls(
            classes, guesses.label, guesses.patient, {arm: guesses.test[arm][fraction] for arm in config.arms},
            {arm: guesses.points[arm][fraction] for arm in config.arms}, fraction, config.resamples, config.prevalence,
            columns(classes, several), several,
        )  # fmt: skip

    def lines(self) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
        """Name, truth and probability on the known rows, of each line of a curve: the arms where there is one question, else the
        questions of the pretrained encoder; of the first draw."""
        asked = yes(self.label, len(self.classes))
        found = []
        if len(self.questions) == 1:
            known = asked[:, 0] >= 0
            for arm, draws in self.draws.items():
                found.append((arm.replace("_", " "), asked[known, 0] == 1, scores(draws[0], self.several)[known, 0]))
            return found
        score = scores(self.draws["pretrained"][0], self.several)
        for column, name in enumerate(self.questions):
            known = asked[:, column] >= 0
            if len(np.unique(asked[known, column])) == 2:
                found.append((name, asked[known, column] == 1, score[known, column]))
        return found[:SHOWN]

    @property
    def words(self) -> str:
        return f"First label draw of {self.headline:.0%}" + (
            "" if len(self.questions) == 1 else f"; the pretrained encoder, the first {SHOWN} questions"
        )


def questions_section(drawn: Drawn) -> Section:
    """Auroc, average precision and calibration of each class against the others, or of each finding, with intervals by patient."""
    asked, score = yes(drawn.label, len(drawn.classes)), scores(drawn.draws["pretrained"][0], drawn.several)
    rows: list[tuple[object, ...]] = []
    for column, name in enumerate(drawn.questions):
        known = asked[:, column] >= 0
        there, p = asked[known, column].astype(np.int64), score[known, column]
        if len(np.unique(there)) < 2:
            rows.append((name, int((there == 1).sum()), int((there == 0).sum()), "one answer only", "–", "–"))
            continue
        pair, owner = np.stack([1 - p, p], 1), drawn.patient[known]
        found = [
            bootstrap(metric, there, pair, owner, draws=drawn.samples) for metric in (auroc, average_precision, ece)
        ]
        rows.append((name, int((there == 1).sum()), int((there == 0).sum()), *map(str, found)))
    kind = "Each finding" if drawn.several else "Each class against the others"
    return Section(
        "Question by question", f"{kind}: the pretrained encoder, first label draw of {drawn.headline:.0%}.",
        ("question", "there", "absent", "auroc", "average precision", "calibration error"), tuple(rows),
    )  # fmt: skip


def roc_section(drawn: Drawn) -> Section:
    """Sensitivity against 1 − specificity."""
    drawing, axes = figure(4.2, 3.6)
    for (name, there, p), colour in zip(drawn.lines(), COLOURS * 2, strict=False):
        axes.plot(*roc(there, p), color=colour, label=worded(name), linewidth=1.4)
    for goal in SPECIFICITIES:
        axes.axvline(1 - goal, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("1 − specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(frameon=False, fontsize=8)
    lines = " and ".join(f"{goal:.2f}" for goal in SPECIFICITIES)
    return Section("Sensitivity against specificity", f"{drawn.words}; dotted: specificity {lines}.", svg=svg(drawing))


def precision_section(drawn: Drawn) -> Section:
    """Precision against sensitivity."""
    drawing, axes = figure(4.2, 3.6)
    for (name, there, p), colour in zip(drawn.lines(), COLOURS * 2, strict=False):
        order = np.argsort(-p, kind="stable")
        last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
        hits = np.cumsum(there[order])[last]
        axes.plot(hits / max(1, int(there.sum())), hits / (last + 1), color=colour, label=worded(name), linewidth=1.4)
    axes.set_xlabel("sensitivity (recall)")
    axes.set_ylabel("precision")
    axes.legend(frameon=False, fontsize=8)
    return Section(
        "Precision against sensitivity", f"{drawn.words}; at the prevalence of the test images.", svg=svg(drawing)
    )


def confusion_section(drawn: Drawn) -> Section:
    """Images by true and most probable class, summed over the pretrained encoder's first draw."""
    said = drawn.draws["pretrained"][0].argmax(1)
    table = np.zeros((len(drawn.classes), len(drawn.classes)), int)
    np.add.at(table, (drawn.label, said), 1)
    rows = tuple((name, *map(int, row), f"{row[k] / max(1, row.sum()):.3f}") for k, (name, row) in enumerate(zip(drawn.classes, table, strict=True)))  # fmt: skip
    text = f"True class down, most probable class across; the pretrained encoder, first label draw of {drawn.headline:.0%}."
    return Section("Confusion", text, ("true class", *(f"said {name}" for name in drawn.classes), "found"), rows)


def calibration_section(drawn: Drawn) -> Section:
    """What was said and what was found, before and after calibration, over all label draws of the pretrained encoder."""
    drawing, axes = figure(4.2, 3.6)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    decisions = drawn.points["pretrained"]
    before = [decision.undone(score) for decision, score in zip(decisions, drawn.draws["pretrained"], strict=True)]
    rows: list[tuple[object, ...]] = []
    for name, colour, draws in (
        ("calibrated", COLOURS[0], drawn.draws["pretrained"]),
        ("before", COLOURS[1], before),
    ):
        there, p = _all_questions(drawn, draws)
        bins = reliability(there, p, 10)
        axes.plot([b.said for b in bins], [b.found for b in bins], "o-", color=colour, markersize=4, label=name)
        if name != "before":
            rows = [(f"{b.said:.3f}", f"{b.found:.3f}", b.rows) for b in bins]
    axes.set_xlabel("probability said")
    axes.set_ylabel("share found")
    axes.legend(frameon=False, fontsize=8)
    errors = [np.mean([ece(drawn.label, score) for score in draws]) for draws in (before, drawn.draws["pretrained"])]
    heat = np.mean([decision.temperature for decision in decisions])
    text = (
        f"Calibration error {errors[0]:.3f} before and {errors[1]:.3f} after dividing logits by a temperature of {heat:.2f} on average "
        f"and adding a bias a class, learned from {np.mean([d.rows for d in decisions]):.0f} held-out images a draw. Bins of equally many answers, all draws together."
    )
    return Section("Calibration", text, ("said", "found", "answers"), tuple(rows), svg(drawing))


def abstention_section(drawn: Drawn) -> Section:
    """Share of wrong answers against the share that is answered."""
    drawing, axes = figure(4.2, 3.2)
    rows: list[tuple[object, ...]] = []
    for (arm, draws), colour in zip(drawn.draws.items(), COLOURS * 2, strict=False):
        wrong, sure = _errors(drawn, draws)
        coverage, risk = risk_coverage(wrong, sure)
        axes.plot(coverage, risk, color=colour, label=arm.replace("_", " "), linewidth=1.4)
        at = [f"{risk[max(0, round(share * len(risk)) - 1)]:.3f}" for share in (0.5, 0.8, 0.9, 1.0)]
        rows.append((arm.replace("_", " "), *at, f"{risk.mean():.3f}"))
    axes.set_xlabel("share answered")
    axes.set_ylabel("share wrong of them")
    axes.legend(frameon=False, fontsize=8)
    text = "The least confident answers are withheld first. Aurc is the mean error over all shares."
    columns_ = ("arm", "wrong at 50 %", "at 80 %", "at 90 %", "all answered", "aurc")
    return Section("Saying nothing when unsure", text, columns_, tuple(rows), svg(drawing))


def point_section(drawn: Drawn, metrics: Mapping[str, Mapping[str, Estimate]]) -> Section:
    """Sensitivity and specificity on the test images at the thresholds that held-out images gave."""
    from healthcare.metrics import predictive_values

    prevalence = drawn.prevalence
    asked = yes(drawn.label, len(drawn.classes))
    share = float((asked == 1).sum() / max(1, (asked >= 0).sum())) if prevalence is None else prevalence
    rows = []
    for arm, decisions in drawn.points.items():
        for goal in (
            *(f"specificity={s:.2f}" for s in SPECIFICITIES),
            *(f"sensitivity={s:.2f}" for s in SENSITIVITIES),
        ):
            pairs = list(zip(decisions, drawn.draws[arm], strict=True))
            found = np.array([d.reached(goal, drawn.label, s) for d, s in pairs])
            if not np.isfinite(found).any():
                continue
            sensitivity, specificity = np.nanmean(found, 0)
            ppv, npv = predictive_values(sensitivity, specificity, share)
            points = [d.point(name, goal) for d in decisions for name in drawn.questions]
            kept = all(point is None or point.kept for point in points)
            shown = (f"{value:.3f}" for value in (sensitivity, specificity, ppv, npv))
            rows.append((arm.replace("_", " "), goal, *shown, "yes" if kept else "no: too few held-out images"))
    which = "their prevalence in the test images" if prevalence is None else "the declared prevalence"
    text = (
        f"Thresholds come from held-out images, set so that a new image of the same origin keeps the goal; means over label draws of "
        f"{drawn.headline:.0%}{'' if len(drawn.questions) == 1 else ' and questions'}. Where test images come from elsewhere they reach "
        f"other values: see them before trusting a threshold. Predictive values at {which}, {share:.2f}. "
        f"{f'Positive means {drawn.questions[0]}. ' if len(drawn.questions) == 1 else ''}Intervals stand in the table of figures."
    )
    columns_ = ("arm", "goal on held-out images", "sensitivity", "specificity", "ppv", "npv", "enough held out")
    return Section("Operating points", text, columns_, tuple(rows))


def roc(there: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Share of false and of true positives at every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(there[order])[last])
    misses = np.append(0, np.cumsum(~there[order])[last])
    return misses / max(1, misses[-1]), hits / max(1, hits[-1])


def _all_questions(drawn: Drawn, draws: Sequence[Score]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    asked = yes(drawn.label, len(drawn.classes))
    known = asked >= 0
    parts = [scores(score, drawn.several)[known] for score in draws]
    return np.tile(asked[known], len(draws)), np.concatenate(parts)


def _errors(drawn: Drawn, draws: Sequence[Score]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Wrong or not, and confidence, of every answer of every draw."""
    if drawn.several:
        there, p = _all_questions(drawn, draws)
        return (p > 0.5) != (there == 1), np.maximum(p, 1 - p)
    wrong = np.concatenate([score.argmax(1) != drawn.label for score in draws])
    return wrong, np.concatenate([score.max(1) for score in draws])
