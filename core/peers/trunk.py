"""Forward and backward of core's Transformer trunk and of torch's `nn.TransformerEncoder` (pre-norm) of the same shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.encoders import Transformer, TransformerConfig
from core.peers.rounds import Rounds
from core.tokens import Tokens


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    """Settings: batch, length, dim, depth, heads, padded (a share of the places is padding), steps (a round)."""
    s = settings
    x = torch.randn(s["batch"], s["length"], s["dim"])
    pad = padding(s["batch"], s["length"]) if s["padded"] else None
    model = ours(s) if side == "ours" else torchs(s)

    def work() -> int:
        for _ in range(s["steps"]):
            valid = model(x, pad) if pad is None else model(x, pad)[~pad]
            valid.square().mean().backward()
            model.zero_grad()
        return s["steps"]

    rounds.repeat(work)


def padding(batch: int, length: int) -> Tensor:
    """Lengths spread evenly between a half and the whole."""
    lengths = torch.linspace(length / 2, length, batch).round()
    return torch.arange(length) >= lengths[:, None]


class ours(nn.Module):
    def __init__(self, s: dict[str, Any]) -> None:
        super().__init__()
        self.trunk = Transformer(TransformerConfig(s["dim"], s["depth"], s["heads"], position="none"))

    def forward(self, x: Tensor, pad: Tensor | None) -> Tensor:
        return self.trunk(Tokens(x, pad)).x


class torchs(nn.Module):
    def __init__(self, s: dict[str, Any]) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            s["dim"], s["heads"], 4 * s["dim"], 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, s["depth"], nn.LayerNorm(s["dim"]), enable_nested_tensor=False)

    def forward(self, x: Tensor, pad: Tensor | None) -> Tensor:
        return self.trunk(x, src_key_padding_mask=pad)
