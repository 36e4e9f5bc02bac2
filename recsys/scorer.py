"""How likely each item of a catalogue comes next, from an encoder's states."""

from __future__ import annotations

import torch
from torch import Tensor

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
        self._columns: Tensor | None = None
        self._of: tuple[int, int, torch.device] | None = None

    def log_probs(self, hidden: Tensor) -> Tensor:
        """States (N, D) -> (N, items) log-probabilities, fp32, without the reserved ids."""
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            asked, table = self.head.asking(hidden.float()), self._table()
            if len(asked) == 1 and table.device.type == "cpu":  # numpy's product with a vector is the faster one
                logits = torch.from_numpy(asked[0].numpy() @ table.numpy())[None]
            else:
                logits = asked @ table
            if self.head.bias is not None:
                logits += self.head.bias[self.head.first :]
            return logits.log_softmax(-1)

    def _table(self) -> Tensor:
        """(D, items)."""
        weight = self.head.table[0].weight
        of = (weight.data_ptr(), weight._version, weight.device)
        if self._columns is None or self._of != of:
            self._columns, self._of = self.head.answers()[self.head.first :].T.contiguous(), of
        return self._columns
