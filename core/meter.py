"""The losses of a run: added up without waiting for the device, and found out where they are not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core import distributed
from core.errors import UserError

UNSEEN = 16  # steps on a GPU between two looks at the losses: each look waits for the device


class Losses:
    """Losses since the last row, summed over micro-batches and processes, and looked at before they can do harm.

    On the CPU every step is looked at before the optimizer takes it; on a GPU, where a look waits for the device, every
    16 steps and before anything is saved.
    """

    def __init__(self, accumulate: int, per_epoch: int, device: torch.device, step: int = 0) -> None:
        self.accumulate, self.per_epoch = accumulate, per_epoch
        self.every = 1 if device.type == "cpu" else UNSEEN
        self.first = step * accumulate  # micro-batch, from the run's start, of the first loss that was not looked at
        self.pending: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.sum, self.steps = 0.0, 0

    def add(self, loss: Tensor) -> None:
        """A micro-batch's loss."""
        self.pending.append(loss.detach())

    def stepped(self, norm: Tensor) -> None:
        """A step's gradients are whole, and so long."""
        self.norms.append(norm)
        if len(self.norms) >= self.every:
            self.look()

    def look(self) -> None:
        """Wait for all losses.

        Raises:
            UserError: one is not finite, or a gradient is; the step and the batch are named, on every process alike.
        """
        if not self.pending:
            return
        stacked = torch.stack(self.pending)
        if distributed.world() > 1:
            stacked = distributed.total(stacked) / distributed.world()
        losses = stacked.tolist()
        norms = torch.stack(self.norms).tolist()
        for place, loss in enumerate(losses):
            self._check("loss", loss, place)
            last = place % self.accumulate == self.accumulate - 1
            if last and place // self.accumulate < len(norms):
                self._check("gradient", norms[place // self.accumulate], place)
        self.sum += sum(losses) / self.accumulate
        self.steps += len(norms)
        self.first += len(losses)
        self.pending, self.norms = [], []

    def mean(self) -> float:
        """The mean loss since it was last asked for."""
        self.look()
        mean = self.sum / max(1, self.steps)
        self.sum, self.steps = 0.0, 0
        return mean

    def _check(self, what: str, value: float, place: int) -> None:
        if math.isfinite(value):
            return
        step, (epoch, number) = (self.first + place) // self.accumulate, divmod(self.first + place, self.per_epoch)
        raise UserError(
            f"the {what} is {value} at step {step}", where=f"batch {number} of epoch {epoch}",
            mend="lower the learning rate, or look at that batch's values",
        )  # fmt: skip
