"""Tables for the data's owner: one row an image, named as the owner named it. Reports never hold these names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.errors import UserError
from core.quarantine import csv_safe
from healthcare.data import Images
from healthcare.estimators import ImageClassifier, ImageEncoder
from healthcare.volumes import Volumes


def predictions(classifier: ImageClassifier, images: Images) -> pd.DataFrame:
    """`where, predicted`, a probability per class, and `positive` where the classifier has a threshold."""
    probability = classifier.predict_proba(images)
    table = pd.DataFrame({"where": images.where, "predicted": classifier.classes_[probability.argmax(1)]})
    for column, name in enumerate(classifier.classes_):
        table[f"p({name})"] = probability[:, column].round(6)
    called = classifier.called(probability)
    if called is not None:
        table["positive"] = called
    return table


def embeddings(encoder: ImageEncoder, images: Images | Volumes) -> pd.DataFrame:
    """`where`, then `f0` … one column a feature."""
    features = encoder.transform(images)
    table = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
    table.insert(0, "where", images.where)
    return table


def written(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as parquet or csv, by its suffix.

    Raises:
        UserError: another suffix, or a place that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        elif path.suffix == ".csv":
            table.map(csv_safe).to_csv(path, index=False)
        else:
            raise UserError(f"no table format '{path.suffix}'", where=path, mend="end the name in .csv or .parquet")
    except OSError as error:
        raise UserError(
            f"the table could not be written: {error.strerror}", where=path, mend="give another --out"
        ) from error
    return path
