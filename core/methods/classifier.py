"""A classifier on top of an encoder: supervised from scratch, or fine-tuned on few labels."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from core.encoders.encoder import Encoder
from core.methods.puzzle import PretextClassifier, PuzzleConfig
from core.tokens import Batch


class Classifier(PretextClassifier):
    """Eats `Pseudo` with one label a row, given by a person; -100 is ignored.

    Args:
        encoder: any encoder, trained further unless its parameters are frozen.
        classes: how many.
        dropout: before the linear layer.
    """

    may_collapse = False

    def __init__(self, encoder: Encoder, classes: int, dropout: float = 0.0) -> None:
        super().__init__(encoder, PuzzleConfig(classes=(("label", classes),), dropout=dropout))

    @property
    def head(self) -> nn.Sequential:
        """Dropout and the linear layer."""
        return cast(nn.Sequential, self.heads["label"])

    def logits(self, batch: Batch) -> Tensor:
        """(B, classes)."""
        return self.head(self.encoder.embed(batch)).float()
