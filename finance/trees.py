"""Boosted trees with the settings that suit few frauds among many payments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

if TYPE_CHECKING:
    from lightgbm import Booster


@dataclass(frozen=True)
class Trees:
    """LightGBM (Ke et al. 2017) for two classes.

    Chosen on `fdh_simulated`, on three weeks before the test weeks and on the first of them.

    Attributes:
        count: trees.
        rate: how much each tree adds.
        leaves: at most, of a tree.
        least: payments in a leaf; where there are fewer than 50 frauds, fewer.
        columns, rows: share that a tree sees.
        penalty: on squared leaf values.
    """

    count: int = 400
    rate: float = 0.03
    leaves: int = 15
    least: int = 20
    columns: float = 0.5
    rows: float = 0.8
    penalty: float = 5.0

    def fit(self, x: NDArray[np.float64], label: NDArray[np.int64], seed: int = 0) -> Booster:
        """Trees on (N, F) and labels 0 or 1 (N,).

        Raises:
            UserError: LightGBM's library cannot be loaded.
        """
        frauds = int((label == 1).sum())
        return boosted(
            x, label, self.count, objective="binary", learning_rate=self.rate, num_leaves=self.leaves,
            min_data_in_leaf=max(1, min(self.least, frauds * self.least // 50)), feature_fraction=self.columns,
            bagging_fraction=self.rows, bagging_freq=1, lambda_l2=self.penalty, seed=seed,
        )  # fmt: skip

    def odds(
        self, x: NDArray[np.float64], label: NDArray[np.int64], test: NDArray[np.float64], seed: int = 0
    ) -> NDArray[np.float64]:
        """Log-odds (M,) of a table (M, F), by trees on (N, F) and labels (N,); as `fit`."""
        return np.asarray(self.fit(x, label, seed).predict(test, raw_score=True))


def boosted(x: NDArray[np.float64], y: NDArray, count: int, **settings: Any) -> Booster:
    """So many trees of LightGBM on (N, F) and (N,), the same each time.

    Args:
        settings: LightGBM's own parameters, the objective among them.

    Raises:
        UserError: LightGBM's library cannot be loaded.
    """
    try:
        from lightgbm import Dataset, train
    except OSError as error:  # the wheel does not bring OpenMP
        raise UserError(
            f"LightGBM cannot be loaded: {error}", where="boosted trees", mend="install OpenMP (libgomp or libomp)"
        ) from None
    quiet = {"verbosity": -1}
    return train(
        {**settings, "deterministic": True, "force_col_wise": True, **quiet}, Dataset(x, y, params=quiet), count
    )
