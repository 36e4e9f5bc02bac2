"""PneumoniaMNIST, what features are used for beside classes: probabilities that mean what they say, thresholds, similar images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.bench import Row, row
from core.calibration import Temperature
from core.probes import label_subset
from core.statistics import mean_interval
from healthcare.baselines import raw_pixels
from healthcare.evaluation import Guesses, interval, on_rows
from healthcare.metrics import OperatingPoint, ece
from healthcare.pneumonia_bench import METHOD, NAMES, Bed
from healthcare.probe import fit_probe

FRACTION = 0.1  # of the labels
SENSITIVITY = 0.95  # that a threshold is chosen for
MOST_ECE, LEAST_SPECIFICITY = 0.08, 0.75  # goals
NEIGHBOURS = 5


def calibrated(bed: Bed, seed: int) -> list[Row]:
    """With a tenth of the labels: probabilities and a threshold from validation images, never more of them than labels, and what
    both are worth on the test images, which come from elsewhere."""
    images = bed.images()
    features = bed.encoder(seed, images).transform(images)
    train, test, val = (images.rows(split, labelled=True) for split in ("train", "test", "val"))
    guesses = Guesses(images.label[test], images.patient[test])
    drawn: dict[str, list] = {}
    for draw in range(bed.config.draws):
        rows = train[label_subset(images.label[train], FRACTION, draw)]
        held = val[label_subset(images.label[val], min(1.0, 0.99 * len(rows) / len(val)), draw)]
        model = fit_probe(features[rows], images.label[rows], images.patient[rows] if images.named_patients else None)
        odds = model.decision_function(features)
        logits = np.stack([np.zeros(len(odds)), odds], 1)
        said = Temperature.fit(logits[held], images.label[held])(logits)
        point = at_sensitivity(images.label[held], said[held])
        raw = model.predict_proba(features[test])
        for name, metric, score in (
            ("ece", ece, said[test]),
            ("1 - ece", lambda target, p: 1 - ece(target, p), said[test]),
            ("ece, uncalibrated", ece, raw),
            ("specificity@validation_threshold", point.specificity, said[test]),
            ("sensitivity@validation_threshold", point.sensitivity, said[test]),
            (f"specificity@sensitivity={SENSITIVITY:.2f}", specificity_at, said[test]),
        ):
            drawn.setdefault(name, []).append(on_rows(metric, score))
    goals = {"1 - ece": 1 - MOST_ECE, "specificity@validation_threshold": LEAST_SPECIFICITY}
    notes = {
        "specificity@validation_threshold": f"threshold for sensitivity {SENSITIVITY:g} on validation images",
        f"specificity@sensitivity={SENSITIVITY:.2f}": "of the test images' ROC curve: no threshold is chosen",
    }
    return [
        row(bed.place(FRACTION), NAMES["pretrained"], "ours", name, interval(guesses, draws, bed.config.resamples), goal=goals.get(name), note=notes.get(name, ""))
        for name, draws in drawn.items()
    ]  # fmt: skip


def at_sensitivity(target: ArrayLike, probability: ArrayLike, sensitivity: float = SENSITIVITY) -> OperatingPoint:
    """The highest threshold that calls at least this share of these positives.

    Raises:
        ValueError: no positive image.
    """
    positives = np.sort(np.asarray(probability)[np.asarray(target) == 1, 1])
    if not len(positives):
        raise ValueError("no positive image to choose a threshold on")
    missed = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
    return OperatingPoint(float(np.nextafter(positives[missed], -np.inf)))


def specificity_at(target: ArrayLike, probability: ArrayLike, sensitivity: float = SENSITIVITY) -> float:
    """The ROC curve's specificity where sensitivity is at least this; not a number where a class is absent."""
    target = np.asarray(target)
    if not (target == 1).any():
        return float("nan")
    return at_sensitivity(target, probability, sensitivity).specificity(target, probability)


def similar(bed: Bed, seed: int) -> list[Row]:
    """Of the five training images nearest to a test image, the share of its class: by our features, and by raw pixels."""
    images = bed.images()
    train, test = images.rows("train", labelled=True), images.rows("test", labelled=True)
    label, patient = images.label, images.patient[test]
    found = {
        name: neighbours_alike(x[train], label[train], x[test], label[test])
        for name, x in ((METHOD, bed.encoder(seed, images).transform(images)), ("raw pixels", raw_pixels(images)))
    }
    metric, note = f"precision@{NEIGHBOURS}", "by cosine, each feature standardised on the training images"
    roles = {METHOD: "ours", "raw pixels": "floor"}
    made = [
        row(bed.data, name, roles[name], metric, mean_interval(hits, patient, draws=bed.config.resamples), note=note)
        for name, hits in found.items()
    ]
    more = mean_interval(found[METHOD] - found["raw pixels"], patient, draws=bed.config.resamples)
    return [*made, row(bed.data, f"{METHOD}, minus raw pixels", "ours", f"gain {metric}", more, goal=0.0, note=note)]


def neighbours_alike(
    archive: NDArray, archive_label: NDArray, x: NDArray, label: NDArray, count: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """(N,) share of the `count` nearest rows of an archive (M, D) that have the label (N,) of the row of x (N, D)."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler, normalize

    scaler = StandardScaler().fit(archive)
    index = NearestNeighbors(n_neighbors=min(count, len(archive))).fit(normalize(scaler.transform(archive)))
    near = index.kneighbors(normalize(scaler.transform(x)), return_distance=False)
    return (archive_label[near] == label[:, None]).mean(1)


TESTS: dict[str, Callable[[Bed, int], list[Row]]] = {"calibration": calibrated, "similar": similar}
