"""Batches of images beside which stands another image of the same patient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.batches import ArrayBatches
from core.tokens import Batch


@dataclass(frozen=True)
class PatientBatches(ArrayBatches):
    """`arrays` hold `image` (N, …) and `patient` (N,); a training batch also holds `partner`, like `image`: another image of the
    patient, drawn anew each epoch, or the image itself where it is the patient's only one.
    """

    @cached_property
    def _order(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Rows patient by patient, where each row stands among them, and the first place and number of its patient's rows."""
        patient = self.arrays["patient"]
        order = np.argsort(patient, kind="stable")
        _, first, which, count = np.unique(patient[order], return_index=True, return_inverse=True, return_counts=True)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return order, place, first[which][place], count[which][place]

    def partners(self, rows: NDArray, random: np.random.Generator) -> NDArray:
        """Another row of each row's patient; the row itself where there is none."""
        order, place, first, count = self._order
        step = 1 + (random.random(len(rows)) * (count[rows] - 1)).astype(np.int64)  # 1 … count − 1
        return order[first[rows] + (place[rows] - first[rows] + step) % count[rows]]

    def batch(self, epoch: int, number: int) -> Batch:
        batch = super().batch(epoch, number)
        others = self.partners(batch["index"].numpy(), np.random.default_rng([self.seed, epoch, number]))
        return {**batch, "partner": self.at(others)["image"]}
