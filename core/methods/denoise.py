"""The denoising autoencoder (Vincent et al. 2008): a damaged input gives the clean one back.

What is learned depends on the damage alone: noise, holes (in-painting, Pathak et al. 2016), missing colours (Zhang et al. 2016),
the several of Models Genesis (Zhou et al. 2019), exchanged values of a row's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Generator, nn

from core.config import SIZE, within
from core.decoders import Error, decoder_for
from core.encoders.encoder import Encoder, pool_tokens
from core.heads import Head
from core.methods.base import Method, Out, need
from core.pretext import Corrupted


@dataclass(frozen=True)
class DenoiseConfig:
    """error: absolute (sharper) or squared, for values; fields have their heads. width: of the decoder's layers."""

    kind: Literal["denoise"] = "denoise"
    error: Error = "l2"
    width: int = 64

    def __post_init__(self) -> None:
        within(self, width=SIZE)


class DenoisingAutoencoder(Method):
    """Eats `Corrupted`: the whole clean input is restored, without its padding.

    Args:
        encoder: a convolutional net, or a token encoder whose stem has fields or values.
        heads: a head per field, in the place of the stem's own.
        weights: how much each field counts; 1 where it is not named.

    Raises:
        UserError: an encoder that no decoder leads back from.
    """

    def __init__(
        self, encoder: Encoder, config: DenoiseConfig = DenoiseConfig(),
        heads: Mapping[str, Head] | nn.ModuleDict | None = None, weights: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.config = encoder, config
        self.decoder = decoder_for(encoder, config.width, heads, weights)
        self.batch_statistics = self.decoder.batch_statistics

    def forward(self, data: Corrupted, generator: Generator) -> Out:
        need(data, Corrupted, "denoise")
        tokens = self.encoder(data.batch)
        loss, logs = self.decoder.loss(tokens, data.clean, generator, self.config.error)
        return Out(loss, logs, pool_tokens(tokens, getattr(self.encoder, "pool", "mean")).detach())
