"""How likely each item of a catalogue comes next, from an encoder's states."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.heads import TiedHead


class ItemScorer:
    """The log-probabilities of a head tied to an item table, for reading alone.

    It keeps the table's columns one after the other, a copy that takes as much memory again: of one session, a product with rows of
    64 numbers each takes two to three times as long. Half of the numbers' bits would be read in less time, but not in so much less: see
    docs/performance.md. The copy is made anew where the table was changed, but for a step of a fused
    optimizer, which leaves no trace that torch keeps: after training, make a new scorer.

    Args:
        head: of the items.
    """

    def __init__(self, head: TiedHead) -> None:
        self.head = head
        self._kept: Tensor | None = None
        self._of: tuple[int, int, torch.device] | None = None

    def log_probs(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """States (N, D) -> (N, items) log-probabilities without the reserved ids."""
        columns, head = self._columns(), self.head
        plain = len(hidden) == 1 and columns.device.type == "cpu" and isinstance(head.project, nn.Identity)
        if plain:  # what `asking` does, and a product with a vector: numpy's take less time
            asked = hidden[0]
            if head.temperature:
                asked = asked / np.float32(head.temperature * max(math.sqrt(asked @ asked), 1e-12))
            logits = torch.from_numpy(asked @ columns.numpy())[None]
        else:
            with torch.no_grad(), torch.autocast(columns.device.type, enabled=False):
                logits = head.asking(torch.from_numpy(hidden).to(columns.device)) @ columns
        if head.bias is not None:
            logits += head.bias.detach()[head.first :]
        return logits.log_softmax(-1).cpu().numpy()

    def _columns(self) -> Tensor:
        """(D, items)."""
        weight = self.head.table[0].weight
        of = (weight.data_ptr(), weight._version, weight.device)
        if self._kept is None or self._of != of:
            self._kept = self.head.answers()[self.head.first :].detach().T.contiguous()
            self._of = of
        return self._kept
