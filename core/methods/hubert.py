"""HuBERT (Hsu et al. 2021): tell the unit (the cluster, found beforehand) of each hidden place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.assignments import code_usage
from core.config import SIZE, within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.heads import CosineHead
from core.methods.base import Method, Out, need
from core.methods.masked import masked_tokens, need_tokens
from core.pretext import Masked
from core.tokens import Batch


@dataclass(frozen=True)
class HubertConfig:
    """What is told, and where.

    Attributes:
        units: how many there are; out: width in which states and units are compared.
        temperature: divides the cosines.
        masked, unmasked: weights of the losses at hidden and at seen places; each is a mean over its places.
    """

    kind: Literal["hubert"] = "hubert"
    units: int = 100
    out: int = 64
    temperature: float = 0.1
    masked: float = 1.0
    unmasked: float = 0.0

    def __post_init__(self) -> None:
        within(self, units=(2, 1e6), out=SIZE, temperature=(1e-4, 1e4), masked=(0, 1e6), unmasked=(0, 1e6))


class Hubert(Method):
    """Eats `Masked` with one (B, T) mask and the target `unit` (B, T) long, -100 where there is none.

    `usage_units` in the logs is the perplexity of the units asked for in this batch, as a share of how many could have been: it
    tells of the clustering, not of the network.

    Args:
        encoder: a token encoder.
    """

    def __init__(self, encoder: Encoder, config: HubertConfig = HubertConfig()) -> None:
        super().__init__()
        self.encoder: TokenEncoder = need_tokens(encoder, "hubert")
        self.config = config
        self.mask_token = nn.Parameter(torch.rand(self.encoder.stem.dim))
        self.head = CosineHead(self.encoder.trunk.dim, config.units, config.out, config.temperature)

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "hubert")
        tokens = self.encoder.trunk(masked_tokens(self.encoder, data, self.mask_token))
        unit, valid, mask = data.target["unit"], tokens.valid(), cast(Tensor, data.mask)
        known = valid & (unit != -100)
        loss, logs = tokens.x.sum().float() * 0.0, {}
        for name, where, weight in (
            ("masked", known & mask, self.config.masked), ("unmasked", known & ~mask, self.config.unmasked)
        ):  # fmt: skip
            if weight:
                part = self.head.loss(tokens.x[where], unit[where])
                loss, logs[name] = loss + weight * part, float(part.detach())
        logs["usage_units"] = code_usage(unit[known & mask][:, None], self.config.units)
        return Out(loss, logs, pool_tokens(tokens, "mean").detach())

    def codes(self, batch: Batch) -> tuple[Tensor, int] | None:
        """The units that are asked for, of every place that has one (batches carry them in `unit`)."""
        if "unit" not in batch:
            return None
        unit = batch["unit"].masked_fill(batch["pad"], -100) if "pad" in batch else batch["unit"]
        return unit[unit >= 0][:, None], self.config.units
