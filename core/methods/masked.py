"""Masked prediction (BERT, Devlin et al. 2018): hide some values, predict them from the rest.

One class for transactions (fields, numbers through a mixture density), items (BERT4Rec) and quantised audio frames
(BEST-RQ, Chiu et al. 2022): the mask says what is hidden, the target what was there, the heads how likely it is. BERT's
80/10/10 is `core.masking.bert`: it says where to predict, beside what to hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.assignments import code_usage
from core.decoders import field_losses
from core.encoders.encoder import Encoder, Stem, TokenEncoder, ValueStem, pool_tokens
from core.errors import UserError
from core.heads import Head, head_table
from core.methods.base import Method, Out, need
from core.pretext import Masked
from core.tokens import Tokens


@dataclass(frozen=True)
class MaskedConfig:
    """Masked prediction has no settings of its own: the pretext says what is hidden."""

    kind: Literal["masked"] = "masked"


def need_tokens(encoder: Encoder, method: str) -> TokenEncoder:
    """The encoder, if it has tokens to mask; else raise `UserError`."""
    if not isinstance(encoder, TokenEncoder):
        raise UserError(f"{method} needs an encoder of tokens", where="encoder", mend="use a stem and a Transformer")
    return encoder


def token_mask(data: Masked, stem: Stem) -> Tensor:
    """The mask, if it is one (B, T) for the stem's tokens; else raise `UserError`."""
    mask, rows = data.mask, len(next(iter(data.batch.values())))
    count, _ = stem.layout(data.batch)
    if isinstance(mask, dict) or mask.shape != (rows, count):
        shape = "by field" if isinstance(mask, dict) else f"of {tuple(mask.shape)}"
        raise UserError(
            f"a mask {shape} does not fit {rows} rows of {count} tokens", where="mask",
            mend="draw one mask (rows, tokens) from the stem's layout",
        )  # fmt: skip
    return mask


def masked_tokens(encoder: TokenEncoder, data: Masked, token: Tensor) -> Tokens:
    """What the trunk reads: the stem's tokens, those of a (B, T) mask replaced by `token` (D,); a mask by field is the stem's to
    apply. Where tokens look at their neighbours' values, the hidden ones are first kept from them."""
    stem = encoder.stem
    if isinstance(data.mask, dict):
        tokens = stem(data.batch, data.mask)
        return tokens.with_x(tokens.x + 0.0 * token.to(tokens.x.dtype))  # DDP wants every parameter to have a gradient
    mask = token_mask(data, stem)
    tokens = stem(data.batch, {stem.key: mask} if isinstance(stem, ValueStem) else None)
    return tokens.with_x(torch.where(mask[..., None], token.to(tokens.x.dtype), tokens.x))


class MaskedPrediction(Method):
    """Eats `Masked`.

    Args:
        encoder: a token encoder; a convolutional one has no tokens to mask.
        heads: a head per target.
        weights: how much each target counts; 1 where it is not named.
        books: of targets that are codes, how many there are: `usage_targets` in the logs is then the perplexity of those asked for
            in this batch, as a share of how many could have been. It tells of the codes, not of the network.
    """

    def __init__(
        self, encoder: Encoder, heads: Mapping[str, Head] | nn.ModuleDict, weights: dict[str, float] | None = None,
        books: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder: TokenEncoder = need_tokens(encoder, "masked prediction")
        self.heads = head_table(heads)
        self.weights, self.books = weights or {}, dict(books or {})
        self.mask_token = nn.Parameter(torch.randn(self.encoder.stem.dim) * 0.02)
        self.batch_statistics = any(cast(Head, head).batch_statistics for head in self.heads.values())

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "masked prediction")
        tokens = self.encoder.trunk(masked_tokens(self.encoder, data, self.mask_token))
        target = {
            name: value.masked_fill(~data.asked(name), float("nan") if value.is_floating_point() else -100)
            for name, value in data.target.items()
        }
        loss, logs = field_losses(self.heads, self.weights, tokens.x, target, tokens.valid(), generator)
        if self.books:
            asked = [(target[name][tokens.valid()], size) for name, size in self.books.items()]
            shares = [code_usage(code[code >= 0][:, None], size) for code, size in asked]
            logs["usage_targets"] = sum(shares) / len(shares)
        return Out(loss, logs, pool_tokens(tokens, "mean").detach())
