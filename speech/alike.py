"""Recordings that sound alike: nearest by cosine of their features."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from core.vectors import unit_rows
from speech.data import Recordings
from speech.estimators import AudioEncoder

ROWS = 1024  # queries compared at once


def directions(features: NDArray, mean: NDArray) -> NDArray[np.float32]:
    """Features (N, D) with `mean` taken off, each of length 1: what all recordings share says nothing of likeness."""
    return unit_rows(features - mean).astype(np.float32)


def similar(encoder: AudioEncoder, data: Recordings, queries: Recordings | None = None, k: int = 10) -> pd.DataFrame:
    """`file, rank, similar, cosine`: for each query its `k` nearest of `data`, never itself (the same samples).

    Raises:
        UserError: k below 1, or fewer than two recordings to choose from.
    """
    if k < 1:
        raise UserError(f"{k} neighbours", where="--k", mend="ask for 1 or more")
    if len(data) < 2:
        raise UserError("one recording has no like", where="--data", mend="give two or more")
    there = encoder.transform(data)
    mean = there.mean(0)
    asked = data if queries is None else queries
    left = directions(there if queries is None else encoder.transform(queries), mean)
    right = directions(there, mean)
    parts = []
    for start in range(0, len(asked), ROWS):
        names, digest = asked.names[start : start + ROWS], asked.digest[start : start + ROWS]
        cosine = left[start : start + ROWS] @ right.T
        cosine[digest[:, None] == data.digest[None]] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        value = np.take_along_axis(cosine, order, 1)
        row, rank = np.nonzero(np.isfinite(value))
        parts.append(
            pd.DataFrame(
                {
                    "file": names[row],
                    "rank": rank + 1,
                    "similar": data.names[order[row, rank]],
                    "cosine": value[row, rank].round(5),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
