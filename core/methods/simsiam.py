"""SimSiam (Chen & He 2020): one view predicts the other, whose gradient is stopped; neither negatives nor a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator

from core.config import SIZE, within
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import negative_cosine
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class SimSiamConfig:
    """hidden, out: widths of the projection head; bottleneck: inner width of the prediction head, a quarter of `out` in the paper."""

    kind: Literal["simsiam"] = "simsiam"
    hidden: int = 256
    out: int = 256
    bottleneck: int = 64

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, bottleneck=SIZE)


class SimSiam(Method):
    """Eats `Views` with two global views. The batch norms and the stopped gradient are what keeps the features apart.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: SimSiamConfig = SimSiamConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out, layers=3, last_norm=True)
        self.predictor = mlp(config.out, config.bottleneck, config.out)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "simsiam")
        need_rows(data.views[0], "simsiam")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        za, zb = self.projector(a), self.projector(b)
        pa, pb = self.predictor(za), self.predictor(zb)
        loss = (negative_cosine(pa, zb.detach()) + negative_cosine(pb, za.detach())) / 2
        return Out(loss, embedding=a.detach())
