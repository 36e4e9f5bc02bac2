"""Tables for the data's owner: one row an image, named as the owner named it. Reports never hold these names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from healthcare.classifier import ImageClassifier, Prevalence
from healthcare.data import Images
from healthcare.estimators import ImageEncoder
from healthcare.findings import names
from healthcare.volumes import Volumes


def predictions(
    classifier: ImageClassifier, images: Images, prevalence: Prevalence | None = None, coverage: float | None = None
) -> pd.DataFrame:
    """`where, predicted`, a probability with its limits per class, and decisions where labels were held out to choose them on.

    Columns: `p(NAME)`, `low(NAME)`, `high(NAME)` (of the second of two classes alone); `positive`, above the operating point of
    specificity 0.90; `screened`, above that of sensitivity 0.95; `abstain`; with `(NAME)` where there is more than one question.
    At another prevalence points and confidence are those of the labels, so they are asked of the probabilities as they were calibrated.

    Args:
        coverage: share of images that would be answered; None: no column `abstain`.
    """
    several = classifier.decision_.several
    calibrated = classifier.predict_proba(images)
    probability = classifier.at(calibrated, prevalence)
    low, high = classifier.intervals(images, prevalence)
    if several:
        predicted = np.array(names(probability > 0.5, tuple(classifier.classes_.tolist())), dtype=object)
    else:
        predicted = classifier.classes_[probability.argmax(1)]
    made: dict[str, object] = {"where": images.where, "predicted": predicted}
    for column, name in enumerate(classifier.classes_):
        made[f"p({name})"] = probability[:, column].round(6)
        if several or len(classifier.classes_) > 2 or column == 1:
            made[f"low({name})"], made[f"high({name})"] = low[:, column].round(6), high[:, column].round(6)
    for word, goal in (("positive", "specificity=0.90"), ("screened", "sensitivity=0.95")):
        found = classifier.called(calibrated, goal)
        for name, called in found.items():
            made[word if len(classifier.classes_) == 2 and not several else f"{word}({name})"] = called
    if coverage is not None:
        silent = classifier.decision_.abstains(calibrated, coverage)
        for column in range(silent.shape[1]):
            made[f"abstain({classifier.classes_[column]})" if several else "abstain"] = silent[:, column]
    return pd.DataFrame(made)


def similar_cases(encoder: ImageEncoder, images: Images, archive: Images, k: int = 5) -> pd.DataFrame:
    """`where, rank, similar, cosine`, and `label` where the archive's image has one: k rows an image, the most alike first."""
    rows, cosine = encoder.similar(images, archive, k)
    flat = rows.ravel()
    made = {
        "where": np.repeat(images.where, k), "rank": np.tile(np.arange(1, k + 1), len(images)), "similar": archive.where[flat],
        "cosine": cosine.ravel().round(6),
    }  # fmt: skip
    if archive.findings is not None:
        made["label"] = np.array(names(archive.findings[flat] == 1, archive.classes), dtype=object)
    elif (archive.label >= 0).any():
        made["label"] = np.array([archive.classes[c] if c >= 0 else "" for c in archive.label[flat]], dtype=object)
    return pd.DataFrame(made)


def embeddings(encoder: ImageEncoder, images: Images | Volumes) -> pd.DataFrame:
    """`where`, then `f0` … one column a feature."""
    features = encoder.transform(images)
    table = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
    table.insert(0, "where", images.where)
    return table
