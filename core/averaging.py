"""A running mean of the weights, which takes the place of the last ones: what they swing around (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHORT = 10  # steps: at the start the mean is of a tenth of the steps so far, or it would lag behind


class Average:
    """An exponential mean of parameters over optimizer steps; buffers, such as statistics of batch norms, stay the last step's.

    Args:
        parameters: what is trained.
        decay: of the mean, in (0, 1): .998 remembers about 500 steps.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.weights = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def move(self, step: int) -> None:
        """Take in the weights of `step`, from 1."""
        keep = min(self.decay, 1 - 1 / (1 + step / SHORT))
        torch._foreach_lerp_(self.weights, [p.detach() for p in self.parameters], 1 - keep)

    @torch.no_grad()
    def put(self) -> None:
        """Write the mean into the parameters: once, at the end."""
        for parameter, weight in zip(self.parameters, self.weights, strict=True):
            parameter.copy_(weight)

    @torch.no_grad()
    def load(self, weights: Sequence[Tensor]) -> None:
        """Go on from a saved mean."""
        for mine, saved in zip(self.weights, weights, strict=True):
            mine.copy_(saved)
