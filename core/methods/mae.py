"""Masked autoencoder (He et al. 2021): encode the visible patches alone, restore the hidden ones with a light decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Generator, Tensor, nn

from core import distributed
from core.config import SIZE, within
from core.encoders.encoder import Encoder, TokenEncoder, ValueStem, pool_tokens
from core.encoders.transformer import Transformer, TransformerConfig
from core.errors import UserError
from core.methods.base import Method, Out, need
from core.methods.masked import token_mask
from core.pretext import Masked
from core.tokens import Tokens


@dataclass(frozen=True)
class MAEConfig:
    """dim, depth, heads: of the decoder; norm_target: restore each patch's values at mean 0 and variance 1, which sharpens
    features: the paper's better figures are with it."""

    kind: Literal["mae"] = "mae"
    dim: int = 64
    depth: int = 2
    heads: int = 4
    norm_target: bool = True

    def __post_init__(self) -> None:
        within(self, dim=SIZE, depth=(0, 1000), heads=SIZE)


class MaskedAutoencoder(Method):
    """Eats `Masked` with one (B, T) mask and at most one target, the values (B, T, P) of each token, NaN where one is padding;
    without target they are the stem's own `values`.

    Args:
        encoder: a stem of values (patches of images, volumes, spectrograms, series; stacked frames) and any trunk.
    """

    def __init__(self, encoder: Encoder, config: MAEConfig = MAEConfig()) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder) or not isinstance(encoder.stem, ValueStem):
            raise UserError(
                "a masked autoencoder needs tokens that can be dropped and restored", where="encoder",
                mend="use a stem of patches and a Transformer",
            )  # fmt: skip
        self.encoder: TokenEncoder = encoder
        self.config = config
        self.project = nn.Linear(encoder.trunk.dim, config.dim)
        self.mask_token = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.decoder = Transformer(
            TransformerConfig(dim=config.dim, depth=config.depth, heads=config.heads, position="grid")
        )
        self.restore = nn.Linear(config.dim, encoder.stem.size)

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "mae")
        mask = token_mask(data, self.stem)
        tokens = self.stem(data.batch, {self.stem.key: mask})
        visible = tokens.valid() & ~mask
        seen, place = gathered(tokens, visible)
        hidden = self.encoder.trunk(seen)  # (B, V, D)
        spread = self.project(hidden.x)
        x = spread.new_zeros(*mask.shape, spread.shape[2]).scatter(1, place[..., None].expand_as(spread), spread)
        x = torch.where(visible[..., None], x, self.mask_token.to(x.dtype))  # (B, T, dim)
        decoded = self.decoder(Tokens(x, tokens.pad, tokens.pos, seen.grid)).x
        asked = tokens.valid() & data.asked()
        target = self._target(data)[asked]
        loss = distributed.mean(squared_error(self.restore(decoded[asked]), target, self.config.norm_target))
        return Out(loss, embedding=pool_tokens(hidden, "mean").detach())

    @property
    def stem(self) -> ValueStem:
        return cast(ValueStem, self.encoder.stem)

    def _target(self, data: Masked) -> Tensor:
        target = next(iter(data.target.values())) if data.target else self.stem.values(data.batch)
        if target.shape[-1] != self.stem.size:
            raise UserError(
                f"targets of {target.shape[-1]} values for patches of {self.stem.size}", where="target",
                mend="take them from the stem's values",
            )  # fmt: skip
        return target


def gathered(tokens: Tokens, keep: Tensor) -> tuple[Tokens, Tensor]:
    """The tokens that `keep` (B, T) holds, in order, with their positions; rows that keep fewer than others are padded.

    Returns:
        Tokens of (B, V, D), and the place (B, V) that each came from.
    """
    count = keep.sum(1)
    low, high = torch.stack(count.aminmax()).tolist()
    place = (~keep).long().argsort(dim=1, stable=True)[:, : max(high, 1)]
    x = tokens.x.gather(1, place[..., None].expand(-1, -1, tokens.x.shape[2]))
    pad = torch.arange(place.shape[1], device=x.device) >= count[:, None] if low < place.shape[1] else None
    return Tokens(x, pad, tokens.positions().gather(1, place), tokens.grid or (keep.shape[1],)), place


def squared_error(restored: Tensor, target: Tensor, norm: bool) -> Tensor:
    """Mean over each patch's known values of the squared error, (N, P) -> (N,), fp32; `norm` standardises the target first."""
    with torch.autocast(restored.device.type, enabled=False):
        known = ~torch.isnan(target)
        count = known.sum(1, keepdim=True).clamp(min=1)
        target = target.float().masked_fill(~known, 0.0)
        if norm:
            centred = (target - target.sum(1, keepdim=True) / count).masked_fill(~known, 0.0)
            target = centred * (centred.square().sum(1, keepdim=True) / count + 1e-6).rsqrt()
        error = (restored.float() - target).masked_fill(~known, 0.0)
        return error.square().sum(1) / count[:, 0]
