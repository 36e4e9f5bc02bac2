"""EASE: the linear model from item to item that has a closed form."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from recsys.neighbours import recency
from recsys.sequences import Sequences

GIB = 2.0**30
BLOCK = 1024


@dataclass
class EASE:
    """Embarrassingly shallow autoencoder (Steck 2019): least squares from a user's items to the same, no item from itself.

    With P the inverse of (items held together) + l2 · identity, the weight from item i to j is -P_ij / P_jj, and 0 where i = j. While
    it is fitted it takes 12 bytes for each pair of items (the sparse products, at worst, and the dense matrix in which all else
    happens), 4 after that; the time grows with the cube of the items.

    Attributes:
        l2: added to the diagonal.
        half_life: places back in the history at which an item counts half; infinite, as in the paper, all count one.
        memory: GiB that fitting may take.
    """

    l2: float = 200.0
    half_life: float = float("inf")
    memory: float = 4.0
    weights: NDArray[np.float32] = field(init=False, repr=False)  # (items, items)

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise UserError(f"l2 is {self.l2}", where="ease", mend="give a number above 0")

    def fit(self, train: Sequences) -> EASE:
        """Raise `UserError` where the catalogue is too large for `memory`."""
        from scipy.linalg import lapack

        items = train.n_items
        needed = 12 * items**2 / GIB
        if needed > self.memory:
            raise UserError(
                f"{items:,} items need {needed:.1f} GiB of memory, and {self.memory:.1f} are allowed", where="ease",
                mend=f"allow it with memory={np.ceil(needed):.0f}, or take item_knn, which stays sparse",
            )  # fmt: skip
        users = train.matrix()
        # the transpose of a symmetric matrix is itself, column by column, as LAPACK wants it to work in place
        gram = (users.T @ users).astype(np.float32).toarray().T
        gram[np.diag_indices(items)] += np.float32(self.l2)
        inverse, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
        if not failed:
            inverse, failed = lapack.spotri(inverse, lower=1, overwrite_c=1)
        if failed:
            raise UserError("the items' products cannot be inverted", where="ease", mend="give a larger l2")
        for start in range(0, items, BLOCK):  # only the lower half was written: mirror it, a strip at a time
            end = min(start + BLOCK, items)
            corner = np.tril(inverse[start:end, start:end], -1)
            inverse[start:end, start:end] = corner + corner.T + np.diag(inverse.diagonal()[start:end])
            inverse[start:end, end:] = inverse[end:, start:end].T
        weights = inverse.T  # row by row again
        weights /= -weights.diagonal().copy()
        np.fill_diagonal(weights, 0.0)
        self.weights = weights
        return self

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items): the weights from the history's items, added up."""
        return np.asarray(history.matrix(recency(history, self.half_life)) @ self.weights, dtype=np.float32)
