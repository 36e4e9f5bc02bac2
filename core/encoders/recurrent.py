"""A recurrent trunk: gated recurrent units (Cho et al. 2014) over tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.encoders.encoder import Trunk
from core.tokens import Tokens


@dataclass(frozen=True)
class GRUConfig:
    """dim: width; depth: layers, one above the other; dropout: between layers."""

    dim: int = 64
    depth: int = 1
    dropout: float = 0.0


class GRU(Trunk):
    """`Tokens -> Tokens` of width `dim`, from first to last: a token sees itself and earlier ones only.

    Padding stands on the right, where no real token looks. Order is known from the recurrence: positions are not read.
    """

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config, self.dim, self.causal = config, config.dim, True
        self.cells = nn.ModuleList(nn.GRU(config.dim, config.dim, batch_first=True) for _ in range(config.depth))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(self.layers(tokens)[-1])

    def layers(self, tokens: Tokens) -> list[Tensor]:
        """Hidden states of each layer, (B, T, D) each, in fp32: rounding errors would add up along the sequence."""
        states: list[Tensor] = []
        with torch.autocast(tokens.x.device.type, enabled=False):
            for cell in self.cells:
                states.append(cell(self.dropout(states[-1]) if states else tokens.x.float())[0])
        return states
