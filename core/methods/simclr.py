"""SimCLR (Chen et al. 2020): two views of a sample attract, all other samples of the batch repel."""

from __future__ import annotations

from torch import Generator

from core.encoders.encoder import Encoder
from core.errors import UserError
from core.losses import nt_xent
from core.methods.base import Method, Out, need
from core.pretext import Views


class SimCLR(Method):
    """Eats `Views` with two global views.

    Args:
        encoder: any encoder.
        hidden, out: widths of the projection head (two layers, batch norm).
        temperature: of the softmax over cosine similarities.
    """

    def __init__(self, encoder: Encoder, hidden: int = 256, out: int = 128, temperature: float = 0.2) -> None:
        super().__init__()
        # imported here: it loads torchvision, which the domains without images can do without
        from lightly.models.modules.heads import SimCLRProjectionHead

        self.encoder, self.temperature = encoder, temperature
        self.projector = SimCLRProjectionHead(encoder.dim, hidden, out)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "simclr")
        first, second = data.views[:2]
        if len(next(iter(first.values()))) < 2:
            raise UserError(
                "a contrastive batch of one sample has no negatives", where="batch_size", mend="use 2 or more"
            )
        a, b = self.encoder.embed(first), self.encoder.embed(second)  # (B, D) each
        loss = nt_xent(self.projector(a), self.projector(b), self.temperature, data.group)
        return Out(loss, embedding=a.detach())
