"""Next-step prediction (GPT, Radford et al. 2018; SASRec, Kang & McAuley 2018): the past predicts what comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Generator, Tensor, nn

from core.distributed import world
from core.encoders.encoder import TokenEncoder, pool_tokens
from core.errors import UserError
from core.heads import Head, head_table
from core.methods.base import Method, Out, need
from core.pretext import Shifted


class Autoregressive(Method):
    """Eats `Shifted`: the hidden state at t predicts every field that has a head at t + horizon.

    Args:
        encoder: a token encoder with a causal trunk.
        heads: a head per predicted field; the field's name is its key in the batch.
        weights: how much each field counts; 1 where it is not named.
    """

    def __init__(
        self, encoder: TokenEncoder, heads: Mapping[str, Head] | nn.ModuleDict, weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder) or not encoder.trunk.causal:
            raise UserError("next-step prediction needs a causal trunk", where="encoder", mend="set causal=True")
        self.encoder: TokenEncoder = encoder
        self.heads = head_table(heads)
        self.weights = weights or {}

    def forward(self, data: Shifted, generator: Generator) -> Out:
        need(data, Shifted, "next-step prediction")
        tokens = self.encoder(data.batch)
        step = data.horizon
        seen = tokens.valid()[:, step:] & tokens.valid()[:, : tokens.x.shape[1] - step]
        hidden = tokens.x[:, : tokens.x.shape[1] - step]
        loss: Tensor = tokens.x.float().sum() * 0.0
        logs: dict[str, float] = {}
        for name, head in self.heads.items():
            target = data.batch[name][:, step:]
            places = seen & (~torch.isnan(target) if target.is_floating_point() else target != -100)
            if world() > 1 or places.any():
                part = cast(Head, head).loss(hidden[places], target[places], generator)
                logs[f"loss_{name}"] = float(part.detach())
                loss = loss + self.weights.get(name, 1.0) * part
        return Out(loss, logs, pool_tokens(tokens, "last").detach())
