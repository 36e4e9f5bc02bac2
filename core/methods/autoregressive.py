"""Next-step prediction (GPT, Radford et al. 2018; SASRec, Kang & McAuley 2018): the past predicts what comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Generator, nn

from core.decoders import field_losses
from core.encoders.encoder import TokenEncoder, pool_tokens
from core.errors import UserError
from core.heads import Head, head_table
from core.methods.base import Method, Out, need
from core.pretext import Shifted


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Next-step prediction has no settings of its own: the pretext says how far ahead."""

    kind: Literal["next"] = "next"


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
        self.batch_statistics = any(cast(Head, head).batch_statistics for head in self.heads.values())

    def forward(self, data: Shifted, generator: Generator) -> Out:
        need(data, Shifted, "next-step prediction")
        tokens = self.encoder(data.batch)
        time, step = tokens.x.shape[1], data.horizon
        if step < 1:
            raise UserError(f"a horizon of {step} predicts what is seen", where="horizon", mend="use 1 or more")
        now = max(time - step, 0)  # places that have a later one to predict
        seen = tokens.valid()[:, step:] & tokens.valid()[:, :now]
        target = {name: data.batch[name][:, step:] for name in self.heads}
        loss, logs = field_losses(self.heads, self.weights, tokens.x[:, :now], target, seen, generator)
        return Out(loss, logs, pool_tokens(tokens, "last").detach())
