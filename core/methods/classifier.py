"""A classifier on top of an encoder: supervised from scratch, fine-tuning on few labels, and pretext labels alike."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from core.encoders.encoder import Encoder
from core.losses import masked_ce
from core.methods.base import Method, Out, need
from core.pretext import Pseudo
from core.tokens import Batch


class Classifier(Method):
    """Eats `Pseudo`; a label of -100 is ignored.

    Args:
        encoder: any encoder, trained further unless its parameters are frozen.
        classes: how many.
        dropout: before the linear layer.
    """

    def __init__(self, encoder: Encoder, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoder.dim, classes))

    def logits(self, batch: Batch) -> Tensor:
        """(B, classes)."""
        return self.head(self.encoder.embed(batch)).float()

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        need(data, Pseudo, "the classifier")
        assert isinstance(data.label, Tensor)
        features = self.encoder.embed(data.batch)
        return Out(masked_ce(self.head(features), data.label), embedding=features.detach())
