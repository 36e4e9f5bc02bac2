"""Boosted trees with the settings that suit few frauds among many payments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.calibration import Platt
from core.errors import UserError

if TYPE_CHECKING:
    from lightgbm import Booster


class Grown(NamedTuple):
    """Trees, and the line in column `start` of their inputs that they go on from."""

    booster: Booster
    start: int | None = None
    line: Platt = Platt()

    def odds(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds (M,) of a table (M, F)."""
        raw = np.asarray(self.booster.predict(x, raw_score=True))
        return raw if self.start is None else raw + self.line.odds(x[:, self.start])


@dataclass(frozen=True)
class Trees:
    """LightGBM (Ke et al. 2017) for two classes.

    Chosen on `fdh_simulated`, on three weeks before the test weeks and on the first of them. Where they start, and how many few frauds
    make, on the two weeks to 31 July: with 1, 5 and 10 % of the labels, average precision .285, .382 and .461 from the label-free
    score, .114, .374 and .458 from nothing; with all labels .745 and .744.

    Attributes:
        count: trees, at most; each: for every fraud, beyond a tenth of `count`.
        rate: how much each tree adds.
        leaves: at most, of a tree.
        least: payments in a leaf; where there are fewer than 50 frauds, fewer.
        columns, rows: share that a tree sees.
        penalty: on squared leaf values.
    """

    count: int = 400
    each: int = 6
    rate: float = 0.03
    leaves: int = 15
    least: int = 20
    columns: float = 0.5
    rows: float = 0.8
    penalty: float = 5.0

    def fit(self, x: NDArray[np.float64], label: NDArray[np.int64], seed: int = 0, start: int | None = None) -> Grown:
        """Trees on (N, F) and labels 0 or 1 (N,).

        Args:
            start: column of a score that needed no labels. The trees go on from the log-odds that it gives, so that few labels
                correct it and do not have to find it again; None: from nothing.

        Raises:
            UserError: LightGBM's library cannot be loaded.
        """
        frauds = int((label == 1).sum())
        line = Platt() if start is None else rising(x[:, start], label)
        booster = boosted(
            x, label, min(self.count, self.count // 10 + self.each * frauds), None if start is None else line.odds(x[:, start]),
            objective="binary", learning_rate=self.rate, num_leaves=self.leaves,
            min_data_in_leaf=max(1, min(self.least, frauds * self.least // 50)), feature_fraction=self.columns,
            bagging_fraction=self.rows, bagging_freq=1, lambda_l2=self.penalty, seed=seed,
        )  # fmt: skip
        return Grown(booster, start, line)

    def odds(
        self,
        x: NDArray[np.float64],
        label: NDArray[np.int64],
        test: NDArray[np.float64],
        seed: int = 0,
        start: int | None = None,
    ) -> NDArray[np.float64]:
        """Log-odds (M,) of a table (M, F), by trees on (N, F) and labels (N,); as `fit`."""
        return self.fit(x, label, seed, start).odds(test)


def rising(score: NDArray[np.float64], label: NDArray[np.int64]) -> Platt:
    """The line from a score (N,) to log-odds of labels (N,) of both classes; flat where the score does not rise with them."""
    try:
        return Platt.fit(score, label)
    except UserError:
        return Platt(0.0, float(np.log((label == 1).sum() / (label != 1).sum())))


def boosted(
    x: NDArray[np.float64], y: NDArray, count: int, start: NDArray[np.float64] | None = None, **settings: Any
) -> Booster:
    """So many trees of LightGBM on (N, F) and (N,), the same each time.

    Args:
        start: (N,) what they add to.
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
        {**settings, "deterministic": True, "force_col_wise": True, **quiet},
        Dataset(x, y, init_score=start, params=quiet),
        count,
    )
