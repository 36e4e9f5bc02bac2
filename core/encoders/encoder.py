"""The encoder contract, and the token encoder: stem + trunk + pool."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from core.tokens import Batch, Tokens

Pool = Literal["mean", "last", "max", "mean_max"]


class Encoder(nn.Module):
    """`encoder(batch) -> Tokens`; `embed(batch) -> (B, dim)`; `layers(batch)`: hidden states from first to last."""

    dim: int

    def forward(self, batch: Batch) -> Tokens:
        raise TypeError(f"{type(self).__name__} must define forward")

    def embed(self, batch: Batch) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define embed")

    def layers(self, batch: Batch) -> list[Tensor]:
        raise TypeError(f"{type(self).__name__} must define layers")

    def layer_features(self, batch: Batch) -> list[Tensor]:
        """One vector a row of each layer, from first to last: of maps (B, C, …) mean and maximum over their places, (B, 2C)."""
        maps = [x.flatten(2).float() for x in self.layers(batch)]
        return [torch.cat([x.mean(2), x.amax(2)], 1) for x in maps]


class Stem(nn.Module):
    """`stem(batch, mask=None) -> Tokens` of width `dim`; `layout(batch)`: how many tokens, and which are padding."""

    dim: int

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        raise TypeError(f"{type(self).__name__} must define forward")

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        raise TypeError(f"{type(self).__name__} must define layout")

    @property
    def latent_dim(self) -> int:
        """Width of what `latent` gives."""
        return self.dim

    def latent(self, batch: Batch) -> Tokens:
        """What the tokens are before they are brought to the trunk's width; `projected` then gives what `forward` does."""
        return self(batch)

    def projected(self, latent: Tokens) -> Tokens:
        return latent


class ValueStem(Stem):
    """A stem each of whose tokens stands for values that it alone holds: what a masked autoencoder restores.

    `values(batch) -> (B, T, size)`: those values, NaN where one is padding. `stem(batch, {key: mask})` hides them, with a (B, T)
    bool, before any token looks at its neighbours.
    """

    key: str
    size: int

    def values(self, batch: Batch) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define values")


class Trunk(nn.Module):
    """`trunk(tokens) -> Tokens` of width `dim`; `causal`: no token sees a later one."""

    dim: int
    causal: bool

    def forward(self, tokens: Tokens) -> Tokens:
        raise TypeError(f"{type(self).__name__} must define forward")

    def layers(self, tokens: Tokens) -> list[Tensor]:
        raise TypeError(f"{type(self).__name__} must define layers")

    def tail(self, tokens: Tokens, begin: int) -> Tensor:
        """What `forward` gives of the tokens from place `begin` on, (B, T - begin, D): a trunk may leave out work for the others."""
        return self(tokens).x[:, begin:]


def pool_tokens(tokens: Tokens, pool: Pool) -> Tensor:
    """One vector a row: (B, D), or (B, 2D) for `mean_max`. Padding takes no part; a row of padding alone gives zeros.

    Means are taken in fp32, since a sum over many tokens is more than half precision holds.
    """
    valid = tokens.valid()[..., None]
    x = tokens.x.masked_fill(~valid, 0.0)
    if pool == "last":
        place = (valid[..., 0].sum(1) - 1).clamp(min=0)
        return x[torch.arange(x.shape[0], device=x.device), place]
    mean = (x.float().sum(1) / valid.sum(1).clamp(min=1)).to(x.dtype)
    if pool == "mean":
        return mean
    highest = x.masked_fill(~valid, float("-inf")).amax(1)
    highest = torch.where(valid.any(1), highest, torch.zeros_like(highest))
    return highest if pool == "max" else torch.cat([mean, highest], -1)


class TokenEncoder(Encoder):
    """An encoder made of two public parts.

    Args:
        stem: `stem(batch, mask=None) -> Tokens`; knows what the batch holds.
        trunk: `trunk(Tokens) -> Tokens`; knows nothing of it.
        pool: how hidden states become one vector.
    """

    def __init__(self, stem: Stem, trunk: Trunk, pool: Pool = "mean") -> None:
        super().__init__()
        self.stem: Stem = stem
        self.trunk: Trunk = trunk
        self.pool: Pool = pool
        self.dim = trunk.dim * (2 if pool == "mean_max" else 1)

    def forward(self, batch: Batch) -> Tokens:
        return self.trunk(self.stem(batch))

    def embed(self, batch: Batch) -> Tensor:
        return pool_tokens(self(batch), self.pool)

    def layers(self, batch: Batch) -> list[Tensor]:
        return self.trunk.layers(self.stem(batch))

    def layer_features(self, batch: Batch) -> list[Tensor]:
        """(B, dim) of the stem and of each of the trunk's layers, pooled as `embed` pools the last."""
        tokens = self.stem(batch)
        return [pool_tokens(tokens.with_x(x), self.pool) for x in (tokens.x, *self.trunk.layers(tokens))]
