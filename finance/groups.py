"""Peer groups: the prototypes that a run of method `swav` learned, each the middle of cards that spend alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.losses import unit
from core.methods import SwAV


class Groups(nn.Module):
    """SwAV's projection head and prototypes, which are kept with the encoder.

    Args:
        method: they are its own, not copies: what training moves, moves here.
    """

    def __init__(self, method: SwAV) -> None:
        super().__init__()
        self.projector, self.prototypes = method.projector, method.prototypes

    @torch.inference_mode()
    def nearest(self, states: Tensor) -> Tensor:
        """The number of the prototype that each embedding (N, D) lies nearest to, (N,); 0 … prototypes-1."""
        self.eval()
        return (unit(self.projector(states)) @ self.prototypes.T).argmax(1)
