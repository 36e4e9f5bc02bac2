"""A pre-norm Transformer trunk (Vaswani et al. 2017; Xiong et al. 2020) over torch's fused attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SIZE, within
from core.encoders.encoder import Trunk
from core.encoders.places import ConvolvedPlaces
from core.errors import UserError
from core.tokens import Tokens


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the trunk.

    Attributes:
        dim: width, a multiple of `heads`.
        depth: blocks.
        heads: attention heads.
        mlp: hidden width of a block's feed-forward part, in multiples of `dim`.
        dropout: after attention, feed-forward and the summed input.
        causal: a token sees itself and earlier ones only. Padding must then stand on the right.
        position: how a token's place is added to its input: a learned vector, sines and cosines of the place, or of its
            coordinates on the tokens' grid (`grid`; as in MAE, He et al. 2021); or what a `convolution` over the tokens tells, of
            `kernel` tokens in `groups` groups (wav2vec 2.0, Baevski et al. 2020).
        max_length: places that a learned table holds.
    """

    dim: int = 64
    depth: int = 2
    heads: int = 2
    mlp: float = 4.0
    dropout: float = 0.0
    causal: bool = False
    position: Literal["learned", "sinusoidal", "grid", "convolution", "none"] = "learned"
    max_length: int = 512
    kernel: int = 128
    groups: int = 16

    def __post_init__(self) -> None:
        within(
            self, dim=SIZE, depth=(0, 1000), heads=SIZE, mlp=(1e-3, 1e3), dropout=(0, 0.99), max_length=(1, 1e9), kernel=SIZE,
            groups=SIZE,
        )  # fmt: skip
        if self.dim % self.heads:
            raise UserError(
                f"width {self.dim} is not a multiple of {self.heads} heads", where="dim", mend="change one of them"
            )
        if self.position == "convolution" and (self.dim % self.groups or self.causal):
            raise UserError(
                f"positions by convolution of width {self.dim} in {self.groups} groups{', causal' * self.causal}", where="position",
                mend="use groups that divide the width, and no causal trunk, since it looks ahead",
            )  # fmt: skip


def sinusoids(position: Tensor, dim: int) -> Tensor:
    """Sine and cosine of each place at geometric wavelengths: (B, T) -> (B, T, dim)."""
    half = (dim + 1) // 2
    rate = torch.exp(-math.log(10_000.0) * torch.arange(half, device=position.device) / half)
    angle = position[..., None].float() * rate
    return torch.cat([angle.sin(), angle.cos()], -1)[..., :dim]


def grid_sinusoids(position: Tensor, grid: tuple[int, ...], dim: int) -> Tensor:
    """Sines and cosines of each place's coordinates, every axis with its share of the width: (B, T) -> (B, T, dim).

    Places count row by row, so that the length of the first axis, which padding makes longer, does not matter.
    """
    parts, width = [], dim // len(grid)
    for side in reversed(grid[1:]):
        parts.append(sinusoids(position % side, width))
        position = position // side
    return torch.cat([sinusoids(position, dim - width * len(parts)), *reversed(parts)], -1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, int(config.dim * config.mlp)
        self.heads, self.causal, self.p = config.heads, config.causal, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(config.dropout)

    def tail(self, x: Tensor, begin: int, seen: Tensor | None) -> Tensor:
        """What `forward` gives from place `begin` on: earlier places are looked at, but do not look themselves.

        seen: (…, T - begin or 1, T), what each of the last places looks at; None: all.
        """
        (batch, time, dim), size = x.shape, x.shape[-1] // self.heads
        normed = self.norm1(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(normed[:, begin:], weight[:dim], bias[:dim]).view(batch, time - begin, self.heads, size)
        k, v = F.linear(normed, weight[dim:], bias[dim:]).view(batch, time, 2, self.heads, size).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, H, T, D/H)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x[:, begin:] + self.out(y.transpose(1, 2).reshape(batch, time - begin, dim))
        return x + self.mlp(self.norm2(x))

    def attention(self, x: Tensor, seen: Tensor | None) -> Tensor:
        batch, time, dim = x.shape
        q, k, v = (
            self.qkv(x).view(batch, time, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        )  # (B, H, T, D/H)
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=p, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, time, dim))

    def watched(self, x: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `forward` without dropout, and beside it what each token attends to, (B, H, T, T): slower, for looking into it."""
        batch, time, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-2, -1) / math.sqrt(dim // self.heads)
        if self.causal:
            score = score.masked_fill(~torch.ones(time, time, dtype=torch.bool, device=x.device).tril(), float("-inf"))
        if seen is not None:
            score = score.masked_fill(~seen, float("-inf"))
        weight = score.softmax(-1)
        x = x + self.out((weight @ v).transpose(1, 2).reshape(batch, time, dim))
        return x + self.mlp(self.norm2(x)), weight

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), seen))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Transformer(Trunk):
    """`Tokens -> Tokens` of width `dim`. Extra padding changes no real token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.dim, self.causal = config, config.dim, config.causal
        self.place = nn.Embedding(config.max_length, config.dim) if config.position == "learned" else None
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=0.02)
        around = config.position == "convolution"
        self.around = ConvolvedPlaces(config.dim, config.kernel, config.groups) if around else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)

    def _start(self, tokens: Tokens) -> tuple[Tensor, Tensor | None]:
        x = tokens.x
        if self.place is not None:
            places = math.prod(tokens.grid) if tokens.grid else x.shape[1]  # of a grid, only some tokens may be here
            if places > self.config.max_length:
                raise UserError(
                    f"a sequence of {places} tokens is longer than the {self.config.max_length} learned places",
                    where="max_length", mend="raise max_length or use position='sinusoidal'",
                )  # fmt: skip
            x = x + self.place(tokens.positions())
        elif self.around is not None:
            if tokens.pos is not None:
                raise UserError(
                    "a convolution tells no places of tokens some of which are left out", where="position",
                    mend="use position='sinusoidal'",
                )  # fmt: skip
            x = x if tokens.pad is None else x.masked_fill(tokens.pad[..., None], 0.0)
            x = x + self.around(x)
        elif self.config.position != "none":
            grid = (tokens.grid if self.config.position == "grid" else None) or (x.shape[1],)
            x = x + grid_sinusoids(tokens.positions(), grid, self.dim).to(x.dtype)
        # a causal trunk needs no padding mask: padding stands on the right, where no real token looks
        seen = None
        if tokens.pad is not None and not self.config.causal:
            nothing = tokens.pad.all(1, keepdim=True)  # a row of padding alone looks at itself, else softmax is NaN
            seen = (~tokens.pad | nothing)[:, None, None, :]
        return self.dropout(x), seen

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(self.layers(tokens)[-1])

    def layers(self, tokens: Tokens) -> list[Tensor]:
        """Hidden states after each block, (B, T, D) each; the last one is normalised."""
        x, seen = self._start(tokens)
        states = []
        for block in self.blocks:
            x = block(x, seen)
            states.append(x)
        return [*states[:-1], self.norm(x)]

    def watched(self, tokens: Tokens) -> tuple[Tokens, list[Tensor]]:
        """What `forward` gives without dropout, and every block's attention (B, H, T, T), all with gradients."""
        x, seen = self._start(tokens)
        weights = []
        for block in self.blocks:
            x, weight = cast(Block, block).watched(x, seen)
            weights.append(weight)
        return tokens.with_x(self.norm(x)), weights

    def tail(self, tokens: Tokens, begin: int) -> Tensor:
        """As the contract says; the last block works for the last tokens alone. In training, or at depth 0, the whole is computed."""
        if self.training or not len(self.blocks):
            return super().tail(tokens, begin)
        x, seen = self._start(tokens)
        for block in list(self.blocks)[:-1]:
            x = block(x, seen)
        if self.causal:
            time = x.shape[1]
            seen = torch.ones(time, time, dtype=torch.bool, device=x.device).tril()[begin:]
        return self.norm(cast(Block, self.blocks[-1]).tail(x, begin, seen))
