"""A recurrent trunk: gated recurrent units (Cho et al. 2014) over tokens."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SIZE, within
from core.encoders.encoder import Trunk
from core.tokens import Tokens


@dataclass(frozen=True)
class GRUConfig:
    """dim: width; depth: layers, one above the other; dropout: between layers."""

    dim: int = 64
    depth: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, dim=SIZE, depth=(1, 1000), dropout=(0, 0.99))


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
        exporting = torch.compiler.is_exporting()
        run = _scanned if exporting else _run
        states: list[Tensor] = []
        with nullcontext() if exporting else torch.autocast(tokens.x.device.type, enabled=False):
            for cell in self.cells:
                states.append(run(cast(nn.GRU, cell), self.dropout(states[-1]) if states else tokens.x.float()))
        return states


def _run(cell: nn.GRU, x: Tensor) -> Tensor:
    return cell(x)[0]


def _scanned(cell: nn.GRU, x: Tensor) -> Tensor:
    """What the cell gives, (B, T, D), as one loop of torch.export, where torch's own GRU is unrolled to the example's length."""
    from torch._higher_order_ops.scan import scan  # not public yet; nothing else exports a loop

    inner, outer = cast(Tensor, cell.weight_hh_l0), cast(Tensor, cell.weight_ih_l0)
    inner_bias, outer_bias = cast(Tensor, cell.bias_hh_l0), cast(Tensor, cell.bias_ih_l0)

    def step(before: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        reset, keep, new = given.chunk(3, -1)
        r, k, n = F.linear(before, inner, inner_bias).chunk(3, -1)
        fresh = torch.tanh(new + torch.sigmoid(reset + r) * n)
        after = fresh + torch.sigmoid(keep + k) * (before - fresh)
        return after, after.clone()

    given = F.linear(x, outer, outer_bias).transpose(0, 1)  # (T, B, 3D)
    return scan(step, x.new_zeros(x.shape[0], cell.hidden_size), given)[1].transpose(0, 1)
