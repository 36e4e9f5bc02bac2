"""PneumoniaMNIST, what features are used for beside classes: probabilities that mean what they say, thresholds, similar images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.bench import Row, row
from core.calibration import at_prior, estimated_prior
from core.statistics import Estimate
from healthcare.evaluation import SCREENING, SCREENING_ROC, SCREENING_THERE, figures, interval, on_rows
from healthcare.guesses import Score
from healthcare.metrics import ece
from healthcare.neighbours import similar_precision
from healthcare.pneumonia_bench import METHOD, NAMES, Bed, said

FRACTION = 0.1  # of the labels
MOST_ECE, LEAST_SPECIFICITY = 0.08, 0.75  # goals
NEIGHBOURS = 5


def calibrated(bed: Bed, seed: int) -> list[Row]:
    """With a tenth of the labels: calibrated probabilities and a threshold for sensitivity 0.95, both from images that were held out,
    and what they are worth on the test images, which come from elsewhere."""
    guesses = said(bed, seed, FRACTION, ("pretrained",))
    arm = "pretrained"
    found = figures(guesses, guesses.test[arm][FRACTION], guesses.points[arm][FRACTION], bed.config.resamples)
    there = "the threshold was chosen on held-out images, none of them a test image"
    notes = {
        SCREENING: there,
        SCREENING_THERE: there,
        SCREENING_ROC: "of the test images' own ROC curve: no threshold is chosen",
    }
    made = []
    for name in ("ece", SCREENING, SCREENING_THERE, SCREENING_ROC, "brier", "calibration_slope", "aurc"):
        if name in found:
            goal = LEAST_SPECIFICITY if name == SCREENING else None
            made.append(
                row(bed.place(FRACTION), NAMES[arm], "ours", name, found[name], goal=goal, note=notes.get(name, ""))
            )
    moved = [_at_their_prevalence(score, bed) for score in guesses.test[arm][FRACTION]]
    estimated = interval(guesses, [on_rows(ece, score) for score in moved], bed.config.resamples)
    there = "of the test images without their labels, by expectation maximisation (Saerens et al. 2002)"
    made.append(row(bed.place(FRACTION), f"{NAMES[arm]}, prevalence estimated", "ours", "ece", estimated, note=there))
    error = found["ece"]
    kept = Estimate(1 - error.value, 1 - error.high, 1 - error.low)  # goals are lower bounds
    return [row(bed.place(FRACTION), NAMES[arm], "ours", "1 - ece", kept, goal=1 - MOST_ECE), *made]


def _at_their_prevalence(score: Score, bed: Bed) -> Score:
    """Probabilities (N, K) of the test images, moved from the training labels' prevalence to the one that they tell themselves."""
    images = bed.images()
    label = images.label[images.rows("train", labelled=True)]
    old = np.bincount(label, minlength=score.shape[1]) / len(label)
    return at_prior(score, old, estimated_prior(score, old))


def similar(bed: Bed, seed: int) -> list[Row]:
    """Of the five training images nearest to a test image, the share of its class: by our features, and by raw pixels."""
    images = bed.images()
    found = similar_precision(bed.encoder(seed, images), images, NEIGHBOURS, bed.config.resamples)
    metric, note = f"precision@{NEIGHBOURS}", "by cosine, each feature standardised on the training images"
    return [
        row(bed.data, METHOD, "ours", metric, found["encoder"], note=note),
        row(bed.data, "raw pixels", "floor", metric, found["raw_pixels"], note=note),
        row(
            bed.data, f"{METHOD}, minus raw pixels", "ours", f"gain {metric}", found["difference"], goal=0.0, note=note
        ),
    ]


TESTS: dict[str, Callable[[Bed, int], list[Row]]] = {"calibration": calibrated, "similar": similar}
