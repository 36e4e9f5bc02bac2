"""Which stem and trunk, and why.

Stem: an event is the sum of its fields' embeddings; numbers keep their value. Trunk: a causal Transformer, so that what is said
about an event can depend on earlier ones only, by construction. It has no positions: the gap field tells the time that passed,
and a habit is a set of earlier events more than an order of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.encoders import FieldStem, TokenEncoder, Transformer, TransformerConfig
from finance.histories import EventCodec


@dataclass(frozen=True)
class Shape:
    """Size of the encoder.

    Attributes:
        dim, depth, heads: of the Transformer.
        context: events that a window holds.
        components: Gaussians in the mixture that predicts a number.
        trim: share of the worst losses of a number that do not teach: unlabelled data holds frauds.
    """

    dim: int = 64
    depth: int = 2
    heads: int = 4
    mlp: float = 2.0
    dropout: float = 0.0
    position: Literal["learned", "sinusoidal", "none"] = "none"
    context: int = 128
    components: int = 8
    trim: float = 0.02


def event_encoder(codec: EventCodec, shape: Shape = Shape()) -> TokenEncoder:
    """Fields -> causal Transformer; its embedding of a window is the state at the last event."""
    trunk = TransformerConfig(
        dim=shape.dim,
        depth=shape.depth,
        heads=shape.heads,
        mlp=shape.mlp,
        dropout=shape.dropout,
        causal=True,
        position=shape.position,
        max_length=shape.context,
    )
    return TokenEncoder(FieldStem(codec.fields, shape.dim, shape.dropout), Transformer(trunk), pool="last")
