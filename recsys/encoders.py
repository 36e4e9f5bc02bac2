"""Which stem, trunk and head a click log gets, and why.

Sequences are short (Beauty: 9 items on average) and items many, so the item table holds nearly all parameters; one narrow block
is enough, and a wider model overfits (pilot on Beauty: width 128 peaked after 10 epochs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.codec import FIRST
from core.encoders import ItemStem, TokenEncoder, Transformer, TransformerConfig
from core.heads import SampledHead, TiedHead


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the sequence encoder.

    Attributes:
        dim: width of the trunk and of the item table.
        depth, heads, mlp: blocks, attention heads, feed-forward width in multiples of `dim`.
        dropout: in the trunk; item_dropout: on the item vectors alone.
        length: latest events that are read.
        negatives: items drawn at each step, against which the targets are scored (see `SampledHead`); 0, or a catalogue that
            is no larger, scores all items (full softmax).
        causal: no item sees a later one, as next-item prediction needs; else each sees both sides.
        pool: a sequence's embedding is the state at its last item, or the mean of all.
    """

    dim: int = 64
    depth: int = 1
    heads: int = 2
    mlp: float = 4.0
    dropout: float = 0.5
    item_dropout: float = 0.0
    length: int = 50
    negatives: int = 512
    causal: bool = True
    pool: Literal["last", "mean"] = "last"


def build_encoder(size: int, config: ModelConfig) -> TokenEncoder:
    """Item ids (B, T) -> Tokens (B, T, dim), pooled as configured: SASRec's shape (Kang & McAuley 2018), pre-norm.

    Args:
        size: ids of the catalogue, the three reserved ones counted.
    """
    trunk = TransformerConfig(
        dim=config.dim, depth=config.depth, heads=config.heads, mlp=config.mlp, dropout=config.dropout,
        causal=config.causal, max_length=config.length + 1,
    )  # fmt: skip
    return TokenEncoder(
        ItemStem(size, config.dim, config.item_dropout, norm=True), Transformer(trunk), pool=config.pool
    )


def build_heads(encoder: TokenEncoder, config: ModelConfig, counts: NDArray[np.int64]) -> nn.ModuleDict:
    """The head over items, tied to the stem's table.

    Args:
        counts: (items,) how often each item of the catalogue is a target in training.
    """
    table = encoder.stem.embedding
    assert isinstance(table, nn.Embedding)
    items = table.num_embeddings - FIRST
    if config.negatives and config.negatives < items:
        targets = torch.cat([torch.zeros(FIRST), torch.as_tensor(counts, dtype=torch.float32)])
        return nn.ModuleDict({"item": SampledHead(config.dim, table, targets, config.negatives)})
    return nn.ModuleDict({"item": TiedHead(config.dim, table)})
