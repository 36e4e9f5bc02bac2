"""Tokens: the one thing that every stem hands to every trunk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Tokens:
    """A batch of token sequences.

    Attributes:
        x: hidden states (B, T, D). Stems leave positions out; the trunk adds them from `pos`, so that tokens may be
            replaced, gathered or dropped in between.
        pad: (B, T) bool, True where a token is padding; None where nothing is.
        pos: (B, T) long, each token's place; None means 0 … T-1.
        grid: the layout of the T tokens, such as (rows, columns) of patches; None for a sequence.
    """

    x: Tensor
    pad: Tensor | None = None
    pos: Tensor | None = None
    grid: tuple[int, ...] | None = None

    def with_x(self, x: Tensor) -> Tokens:
        return replace(self, x=x)

    def positions(self) -> Tensor:
        """Each token's place, (B, T) long."""
        if self.pos is not None:
            return self.pos
        return torch.arange(self.x.shape[1], device=self.x.device).expand(self.x.shape[:2])

    def valid(self) -> Tensor:
        """(B, T) bool, True where a token is real."""
        if self.pad is None:
            return torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)
        return ~self.pad


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on `device`."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
