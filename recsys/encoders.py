"""Which stem, trunk and head a click log gets, and why.

Sequences are short (Beauty: 9 items on average) and items many, so the item table holds nearly all parameters, and one block is enough. A wide
model of random item vectors overfits (pilot on Beauty: width 128 peaked after 10 epochs), so 64 is the default; the preset `next`, whose
vectors start from co-occurrence, is 128 wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.chunked import ChunkedHead
from core.codec import FIRST
from core.config import within
from core.encoders import GRU, GRUConfig, ItemStem, TokenEncoder, Transformer, TransformerConfig
from core.encoders.encoder import Trunk
from core.errors import UserError
from core.heads import GBCEHead, SampledHead, TiedHead
from core.tokens import Batch


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
        chunk: of the full softmax, rows whose logits are held at once (see `ChunkedHead`): less memory, and on a CPU less time too
            where so many rows fit into its cache (64 of Beauty's 12,101 items: half the time); 0 holds all.
        causal: no item sees a later one, as next-item prediction needs; else each sees both sides.
        pool: a sequence's embedding is the state at its last item, or the mean of all.
        trunk: Transformer, or gated recurrent units: from first to last only, with `dropout` between layers and no `heads` or `mlp`.
        loss: how a guess is judged: softmax over the items that are scored, or generalised binary cross-entropy (see `GBCEHead`).
        temperature: above 0, vectors are compared by cosine ÷ temperature, so that popular items gain nothing by long vectors; 0: by
            plain products.
        start: where the item table starts: drawn at random, or from what stands near each item in the training sequences
            (`recsys.cooccurrence`), which gives rarely met items a place at once; of more than 100,000 items at random, which is said.
        calibration: t of gbce: 1 for unbiased probabilities, 0 for plain binary cross-entropy.
    """

    dim: int = 64
    depth: int = 1
    heads: int = 2
    mlp: float = 4.0
    dropout: float = 0.5
    item_dropout: float = 0.0
    length: int = 50
    negatives: int = 512
    chunk: int = 0
    causal: bool = True
    pool: Literal["last", "mean"] = "last"
    trunk: Literal["transformer", "gru"] = "transformer"
    loss: Literal["softmax", "gbce"] = "softmax"
    temperature: float = 0.0
    start: Literal["random", "cooccurrence"] = "random"
    calibration: float = 0.75

    def __post_init__(self) -> None:
        within(self, calibration=(0, 1), negatives=(0, 1e9), chunk=(0, 1e9), temperature=(0, 100))


def build_encoder(size: int, config: ModelConfig) -> TokenEncoder:
    """Item ids (B, T) -> Tokens (B, T, dim), pooled as configured: SASRec's shape (Kang & McAuley 2018), pre-norm, or GRU4Rec's
    (Hidasi et al. 2016).

    Args:
        size: ids of the catalogue, the three reserved ones counted.

    Raises:
        UserError: a recurrent trunk that is to see later items.
    """
    return TokenEncoder(
        ItemStem(size, config.dim, config.item_dropout, norm=True), build_trunk(config), pool=config.pool
    )


def build_trunk(config: ModelConfig) -> Trunk:
    """See `build_encoder`."""
    if config.trunk == "gru":
        if not config.causal:
            raise UserError(
                "a GRU sees no later item", where="model.trunk", mend="use transformer, or model.causal=true"
            )
        return GRU(GRUConfig(dim=config.dim, depth=config.depth, dropout=config.dropout))
    trunk = TransformerConfig(
        dim=config.dim, depth=config.depth, heads=config.heads, mlp=config.mlp, dropout=config.dropout,
        causal=config.causal, max_length=config.length + 1,
    )  # fmt: skip
    return Transformer(trunk)


def read(encoder: TokenEncoder, batch: Batch, even: bool) -> Tensor:
    """What `encoder.embed(batch)` gives, (B, dim); of `even` sequences, that is without padding, in less time where the state at the last
    item is asked for: the trunk's last block then works for that item alone."""
    if encoder.pool != "last" or not even:
        return encoder.embed(batch)
    tokens = encoder.stem(batch)
    return encoder.trunk.tail(tokens, tokens.x.shape[1] - 1)[:, -1]


def build_heads(encoder: TokenEncoder, config: ModelConfig, counts: NDArray[np.int64]) -> nn.ModuleDict:
    """The head over items, tied to the stem's table.

    Args:
        counts: (items,) how often each item of the catalogue is a target in training.

    Raises:
        UserError: a chunk of a loss that does not score all items.
    """
    table = encoder.stem.embedding
    assert isinstance(table, nn.Embedding)
    items = table.num_embeddings - FIRST
    if config.chunk and (config.loss == "gbce" or 0 < config.negatives < items):
        raise UserError(
            "chunks are of the full softmax, and this loss scores some items alone", where="model.chunk",
            mend="use model.negatives=0 and model.loss=softmax, or model.chunk=0",
        )  # fmt: skip
    if config.loss == "gbce":
        return nn.ModuleDict(
            {"item": GBCEHead(config.dim, table, config.negatives, config.calibration, config.temperature)}
        )
    if config.negatives and config.negatives < items:
        targets = torch.cat([torch.zeros(FIRST), torch.as_tensor(counts, dtype=torch.float32)])
        return nn.ModuleDict({"item": SampledHead(config.dim, table, targets, config.negatives, config.temperature)})
    if config.chunk:
        return nn.ModuleDict({"item": ChunkedHead(config.dim, table, config.chunk, temperature=config.temperature)})
    return nn.ModuleDict({"item": TiedHead(config.dim, table, temperature=config.temperature)})
