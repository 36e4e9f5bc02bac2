"""Units found by clustering frames, and their places at another frame rate (HuBERT, Hsu et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

FIT_ROWS = 100_000  # frames that the centres are found on


def clustered(frames: Sequence[NDArray], units: int, seed: int) -> list[NDArray[np.int64]]:
    """The unit of each frame by k-means (MiniBatchKMeans), each of the frames' numbers brought to mean 0 and variance 1 first.

    Args:
        frames: of each recording (T, D).
        units: clusters.

    Returns:
        (T,) for each recording.

    Raises:
        UserError: fewer frames than units, or a number that is not finite.
    """
    from sklearn.cluster import MiniBatchKMeans

    whole = np.concatenate(list(frames)).astype(np.float32)
    if len(whole) < units:
        raise UserError(
            f"{units} units of {len(whole)} frames", where="units", mend="use fewer units or more recordings"
        )
    if not np.isfinite(whole).all():
        raise UserError("frames that are not finite cannot be clustered", where="units", mend="lower the learning rate")
    whole = (whole - whole.mean(0)) / (whole.std(0) + 1e-6)
    drawn = np.random.default_rng(seed).permutation(len(whole))[:FIT_ROWS]
    model = MiniBatchKMeans(units, random_state=seed, batch_size=4096, n_init=3, max_iter=50).fit(whole[drawn])
    found = model.predict(whole).astype(np.int64)
    return np.split(found, np.cumsum([len(f) for f in frames])[:-1])


def aligned(units: NDArray, have: float, want: float, count: int) -> NDArray:
    """Units (T,), `have` a second, at `count` places, `want` a second: each takes the unit in which its middle lies, the last
    unit where it lies behind the end.

    Raises:
        UserError: no units, or a rate that is not above 0.
    """
    if not len(units) or min(have, want) <= 0:
        raise UserError("units without length or rate", where="units", mend="give at least one, at rates above 0")
    middle = np.floor((np.arange(count) + 0.5) * (have / want)).astype(np.int64)
    return units[np.minimum(middle, len(units) - 1)]
