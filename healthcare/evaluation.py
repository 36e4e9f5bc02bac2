"""Did pretraining help, and how many labels did it save? The protocol, and nothing that could flatter us.

Every arm sees the same labelled images; nothing is chosen on the test set; intervals resample patients and label draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.evaluation import Answer, Evaluation, answer, labels_saved
from core.statistics import Estimate, resamples
from healthcare.data import Images
from healthcare.decisions import Decision
from healthcare.estimators import ImageEncoder
from healthcare.guesses import FLOORS, MAIN, OURS, EvaluationConfig, Guesses, Score, guess
from healthcare.metrics import (
    SENSITIVITY,
    accuracy,
    aurc,
    auroc,
    average_precision,
    brier,
    calibration_slope,
    ece,
    predictive_values,
    specificity_at_sensitivity,
)
from healthcare.sections import sections

__all__ = [
    "FLOORS", "MAIN", "OURS", "EvaluationConfig", "Guesses", "conclude", "evaluate", "figures", "gain", "guess", "interval",
    "on_rows",
]  # fmt: skip

SPECIFICITY_THERE = "specificity@validation_threshold"  # of specificity 0.90
SCREENING = "specificity@sensitivity=0.95"  # the specificity that the threshold for sensitivity 0.95 turns out to have
SCREENING_THERE = "sensitivity@validation_threshold"  # and the sensitivity
SCREENING_ROC = "specificity@test_sensitivity=0.95"  # read off the test ROC curve


def evaluate(
    encoder: ImageEncoder, images: Images, config: EvaluationConfig | None = None, note: Callable[[str], None] = print
) -> Evaluation:
    """Frozen features of `encoder` with few labels, beside the floors.

    Raises:
        UserError: no labels, one class only in train or test, or no test images.
    """
    config = config or EvaluationConfig()
    return conclude(encoder, images, guess(encoder, images, config, note), config)


def conclude(encoder: ImageEncoder, images: Images, guesses: Guesses, config: EvaluationConfig) -> Evaluation:
    """Figures, floors, curve and answers from every arm's probabilities."""
    headline, classes = config.headline, images.classes
    draws = {arm: guesses.test[arm][headline] for arm in config.arms}
    points = {arm: guesses.points[arm].get(headline, []) for arm in config.arms}
    metrics = {
        arm: figures(guesses, draws[arm], points[arm], config.resamples, config.prevalence) for arm in config.arms
    }
    curve = label_curve(guesses, config)
    others = [arm for arm in config.arms if arm in FLOORS]

    def against(arms: Sequence[str], words: str) -> Answer:
        arms = [arm for arm in arms if arm in others]
        if not arms:
            raise UserError("the answers need floors", where="arms", mend="leave the arms as they are")
        best = max(arms, key=lambda arm: metrics[arm][MAIN].value)
        difference = gain(guesses, draws["pretrained"], draws[best], config.resamples)
        detail = (
            f"{MAIN} at {headline:.0%} of the labels, minus that of {best.replace('_', ' ')}, the stronger of {words}"
        )
        return answer(difference, detail)

    answers = {
        "pretraining": against(("scratch", "random_init"), "the same network from scratch and at random init"),
        "best_tool": against(
            ("raw_pixels", "self_training", "scratch"),
            "raw pixels with logistic regression, the same with self-training, and training from scratch",
        ),
        "labels_saved": labels_saved(curve, MAIN),
    }
    return Evaluation(
        task=f"Images into {len(classes)} {'classes' if images.findings is None else 'findings'} ({', '.join(classes)}) from frozen "
        "features and few labels",
        protocol=protocol(encoder, images, guesses, config),
        main=MAIN,
        metrics=metrics["pretrained"],
        floors={arm: metrics[arm] for arm in others},
        answers=answers,
        label_curve=curve,
        sections=sections(encoder, images, guesses, config, metrics),
    )


def figures(
    guesses: Guesses, draws: Sequence[Score], points: Sequence[Decision], samples: int, prevalence: float | None = None
) -> dict[str, Estimate]:
    """Every metric of calibrated probabilities, averaged over label draws, with its interval.

    Args:
        points: what held-out images decided, one a draw.
        prevalence: gives predictive values too, where sensitivity and specificity are those of the test images.
    """
    plain = {
        "auroc": auroc, "average_precision": average_precision, "accuracy": accuracy, "ece": ece, "brier": brier,
        "calibration_slope": calibration_slope, "aurc": aurc, SCREENING_ROC: specificity_at_sensitivity,
    }  # fmt: skip
    table = {
        name: interval(guesses, [on_rows(metric, score) for score in draws], samples) for name, metric in plain.items()
    }
    pairs = list(zip(points, draws, strict=True)) if points else []
    asked = {
        SENSITIVITY: ("specificity=0.90", 0), SPECIFICITY_THERE: ("specificity=0.90", 1),
        "sensitivity@specificity=0.95": ("specificity=0.95", 0), SCREENING: ("sensitivity=0.95", 1),
        SCREENING_THERE: ("sensitivity=0.95", 0),
    }  # fmt: skip
    for name, (goal, which) in asked.items():
        found = (
            interval(guesses, [_at(point, goal, which, score) for point, score in pairs], samples) if pairs else None
        )
        if found is not None and np.isfinite(found.value):
            table[name] = found
            if prevalence is not None and which == 1:
                for value, word in enumerate(("ppv", "npv")):
                    ways = [_value(point, goal, value, score, prevalence) for point, score in pairs]
                    table[f"{word}@{goal},prevalence={prevalence:g}"] = interval(guesses, ways, samples)
    return table


def _at(point: Decision, goal: str, which: int, score: Score) -> OnRows:
    return lambda label, rows: point.reached(goal, label, score[rows])[which]


def _value(point: Decision, goal: str, which: int, score: Score, prevalence: float) -> OnRows:
    return lambda label, rows: predictive_values(*point.reached(goal, label, score[rows]), prevalence)[which]


OnRows = Callable[[NDArray, NDArray], float]  # (labels of the rows, row numbers) -> figure


def on_rows(metric: Callable[[NDArray, NDArray], float], score: Score) -> OnRows:
    """A metric of one draw's probabilities, to be asked for any sample of test images."""
    return lambda label, rows: metric(label, score[rows])


def interval(guesses: Guesses, draws: Sequence[OnRows], samples: int, seed: int = 0) -> Estimate:
    """Mean over label draws; the 95 % percentile interval resamples test patients and, where there are several, draws.

    Both sources of doubt count: with few labels, which of them were drawn matters as much as who is tested.
    """
    generator = np.random.default_rng([seed, 1])
    every = np.arange(len(guesses.label))
    values = []
    for rows in resamples(len(every), guesses.patient, samples, seed):
        picked = generator.integers(0, len(draws), len(draws))
        label = guesses.label[rows]
        found = {int(d): draws[d](label, rows) for d in np.unique(picked)}
        values.append(np.mean([found[int(d)] for d in picked]))
    finite = np.array(values)[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (np.nan, np.nan)
    return Estimate(float(np.mean([draw(guesses.label, every) for draw in draws])), float(low), float(high))


def gain(guesses: Guesses, ours: Sequence[Score], other: Sequence[Score], samples: int) -> Estimate:
    """Our main metric minus another arm's on the same labels and the same resampled patients: a paired comparison."""

    def difference(a: Score, b: Score) -> OnRows:
        return lambda label, rows: auroc(label, a[rows]) - auroc(label, b[rows])

    return interval(guesses, [difference(a, b) for a, b in zip(ours, other, strict=False)], samples)


def label_curve(guesses: Guesses, config: EvaluationConfig) -> list[dict]:
    """One row per fraction, arm and draw."""
    return [
        {
            "fraction": fraction, "labels": guesses.labels[fraction], "arm": arm, "seed": seed, "metric": MAIN,
            "value": auroc(guesses.label, score),
        }
        for arm in config.arms for fraction in config.fractions for seed, score in enumerate(guesses.test[arm][fraction])
    ]  # fmt: skip


def protocol(encoder: ImageEncoder, images: Images, guesses: Guesses, config: EvaluationConfig) -> dict:
    """How it was measured, in words and numbers; no paths, no ids."""
    history = encoder.history_
    return {
        "images": images.counts(),
        "data sha256": images.sha256(),
        "patients": len(np.unique(images.patient))
        if images.named_patients
        else "not named: an image is its own patient",
        "set aside": images.quarantine.counts() or "nothing",
        "leak audit": images.audit.json(),
        "reading": list(images.notes) or "splits as given",
        "pretraining": f"{encoder.recipe_.method}, seed {encoder.recipe_.train.seed}, {history.steps} steps, "
        f"{history.seconds:.0f} s, training split without labels, last step",
        "labels": {f"{fraction:.0%}": count for fraction, count in guesses.labels.items()},
        "label draws": config.draws,
        "views": f"every network's answers are averaged over the image and four crops of {encoder.recipe_.crop:g} of its sides"
        if encoder.recipe_.crop < 1
        else "the image alone",
        "probe": "logistic regression on standardised frozen features; the smallest C within one standard error of the best "
        "cross-validated auroc inside the labelled images",
        "held out": "temperature, bias, thresholds and confidence come from validation images, never more of them than training labels, and "
        "for regressions on fixed features from the labelled images as well, cross-validated; no test label, no test image",
        "threshold": "for sensitivity s of n held-out positives their floor((n + 1)(1 − s))-th lowest probability (split conformal "
        "prediction), and so for specificity",
        "from scratch": f"same network, mild augmentation, last step, learning rate chosen inside the labels from "
        f"{', '.join(f'{rate:g}' for rate in config.supervised.rates)}; {guesses.seconds.get('scratch', 0):.0f} s in all, "
        "no more images through the network than pretraining had",
        "seconds": {arm: round(seconds, 1) for arm, seconds in guesses.seconds.items()},
        "intervals": f"95 %, {config.resamples} bootstrap samples of test patients and of label draws",
    }
