"""Similar cases: the nearest images of an archive, and how often they share the class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.statistics import Estimate, mean_interval
from core.vectors import unit_rows
from healthcare.baselines import raw_pixels
from healthcare.data import Images
from healthcare.estimators import ImageEncoder

BLOCK = 1024  # queries compared at once


def nearest(
    query: NDArray, among: NDArray, k: int = 5, owner: NDArray | None = None, owners: NDArray | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Row numbers (N, k) of the highest cosine, nearest first, and the cosines, of features (N, D) among (M, D).

    Features are centred on the archive's mean and scaled by its standard deviations first: without, the cosine of any two images
    of one kind is near 1, and what they have in common decides.

    Args:
        owner, owners: patients (N,) and (M,): images of the same patient are passed over.

    Raises:
        UserError: k below 1, or fewer than k images to choose from.
    """
    if not 1 <= k <= len(among):
        raise UserError(f"{k} similar cases among {len(among)} images", where="--k", mend=f"ask for 1 to {len(among)}")
    mean, scale = among.mean(0, dtype=np.float64), among.std(0, dtype=np.float64)
    scale[scale < 1e-9] = 1.0
    a, b = (unit_rows((x - mean) / scale) for x in (query, among))
    rows = np.empty((len(a), k), np.int64)
    cosine = np.empty((len(a), k))
    for start in range(0, len(a), BLOCK):
        part = slice(start, start + BLOCK)
        close = a[part] @ b.T
        if owner is not None and owners is not None:
            close[owner[part][:, None] == owners[None]] = -np.inf
        order = np.argsort(-close, axis=1, kind="stable")[:, :k]
        rows[part], cosine[part] = order, np.take_along_axis(close, order, 1)
    if np.isinf(cosine).any():
        raise UserError(f"fewer than {k} images of other patients", where="k", mend="ask for fewer")
    return rows, cosine


def precision(rows: NDArray[np.int64], label: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """Share (N,) of the neighbours (N, k) that have the class of the query.

    Of findings (N, L) and (M, L): the mean Jaccard overlap of what is there, 1 where both have nothing.
    """
    if label.ndim == 1:
        return (labels[rows] == label[:, None]).mean(1)
    mine, theirs = (label == 1)[:, None], labels[rows] == 1
    either = (mine | theirs).sum(2)
    return np.where(either > 0, (mine & theirs).sum(2) / np.maximum(either, 1), 1.0).mean(1)


def similar_precision(encoder: ImageEncoder, images: Images, k: int = 5, draws: int = 1000) -> dict[str, Estimate]:
    """Precision at k of the labelled test images' neighbours among the labelled training images.

    Returns:
        `encoder`, `raw_pixels`, and `difference`, paired by query; intervals resample test patients.

    Raises:
        UserError: no labelled training or test images.
    """
    train, test = images.rows("train", labelled=True), images.rows("test", labelled=True)
    if not len(train) or not len(test):
        raise UserError("no labelled training and test images", where="data", mend="give labels and a test split")
    target = images.label if images.findings is None else images.findings
    each = {}
    for name, features in (("encoder", encoder.transform(images)), ("raw_pixels", raw_pixels(images))):
        rows, _ = nearest(features[test], features[train], k)
        each[name] = precision(rows, target[test], target[train])
    each["difference"] = each["encoder"] - each["raw_pixels"]
    return {name: mean_interval(values, images.patient[test], draws=draws) for name, values in each.items()}
