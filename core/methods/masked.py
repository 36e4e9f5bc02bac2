"""Masked prediction (BERT, Devlin et al. 2018): hide some values, predict them from the rest.

One class for transactions (fields, numbers through a mixture density), items (BERT4Rec) and quantised audio frames
(BEST-RQ, Chiu et al. 2022): the mask says what is hidden, the target what was there, the heads how likely it is.
"""

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
from core.pretext import Masked
from core.tokens import Tokens


class MaskedPrediction(Method):
    """Eats `Masked`.

    Args:
        encoder: a token encoder; a convolutional one has no tokens to mask.
        heads: a head per target.
        weights: how much each target counts; 1 where it is not named.
    """

    def __init__(
        self, encoder: TokenEncoder, heads: Mapping[str, Head] | nn.ModuleDict, weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder):
            raise UserError(
                "masked prediction needs an encoder of tokens", where="encoder", mend="use a stem and a Transformer"
            )
        self.encoder: TokenEncoder = encoder
        self.heads = head_table(heads)
        self.weights = weights or {}
        self.mask_token = nn.Parameter(torch.randn(encoder.stem.dim) * 0.02)

    def hidden(self, data: Masked) -> Tokens:
        """Hidden states (B, T, D) of the masked batch."""
        if isinstance(data.mask, dict):
            tokens = self.encoder.stem(data.batch, data.mask)
        else:
            tokens = self.encoder.stem(data.batch)
            tokens = tokens.with_x(torch.where(data.mask[..., None], self.mask_token.to(tokens.x.dtype), tokens.x))
        return self.encoder.trunk(tokens)

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "masked prediction")
        tokens = self.hidden(data)
        loss: Tensor = tokens.x.float().sum() * 0.0
        logs: dict[str, float] = {}
        for name, target in data.target.items():
            known = ~torch.isnan(target) if target.is_floating_point() else target != -100
            places = data.asked(name) & known & tokens.valid()
            if world() > 1 or places.any():
                part = cast(Head, self.heads[name]).loss(tokens.x[places], target[places], generator)
                logs[f"loss_{name}"] = float(part.detach())
                loss = loss + self.weights.get(name, 1.0) * part
        return Out(loss, logs, pool_tokens(tokens, "mean").detach())
