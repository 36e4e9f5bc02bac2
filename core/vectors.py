"""Vectors as rows of an array; numpy alone, so that what only compares them need not load torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_rows(x: NDArray) -> NDArray:
    """Rows (N, D) of length 1, whose inner products are cosines; a row of zeros stays one. See `core.losses.unit` for tensors with gradients."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
