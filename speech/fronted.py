"""An encoder as it is used on recordings: behind what the recipe does to log-mel or samples first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from core.encoders import Encoder
from core.tokens import Batch, Tokens
from speech.tasks import read_as_it_is

if TYPE_CHECKING:
    from speech.presets import Recipe


class Fronted(Encoder):
    """An encoder behind the recipe's own preparation: raw log-mel with padding in, embeddings out."""

    def __init__(self, encoder: Encoder, settings: Recipe) -> None:
        super().__init__()
        self.inner, self.settings, self.dim = encoder, settings, encoder.dim

    def prepare(self, batch: Batch) -> Batch:
        """What the encoder reads: see speech.tasks.read_as_it_is."""
        return read_as_it_is(self.settings, batch)

    def forward(self, batch: Batch) -> Tokens:
        return self.inner(self.prepare(batch))

    def embed(self, batch: Batch) -> Tensor:
        return self.inner.embed(self.prepare(batch))

    def layers(self, batch: Batch) -> list[Tensor]:
        return self.inner.layers(self.prepare(batch))

    def layer_features(self, batch: Batch) -> list[Tensor]:
        return self.inner.layer_features(self.prepare(batch))
