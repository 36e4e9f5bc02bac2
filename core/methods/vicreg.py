"""VICReg (Bardes et al. 2021): two views' features agree, vary from row to row, and say different things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator

from core.config import SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import vicreg
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class VICRegConfig:
    """hidden, out: widths of the projection head, which the paper calls the expander; invariance, variance, covariance: weights of
    the three terms."""

    kind: Literal["vicreg"] = "vicreg"
    hidden: int = 512
    out: int = 512
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, invariance=(0, 1e6), variance=(0, 1e6), covariance=(0, 1e6))


class VICReg(Method):
    """Eats `Views` with two global views.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: VICRegConfig = VICRegConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out, layers=3)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "vicreg")
        need_rows(data.views[0], "vicreg")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        za, zb = gather(self.projector(a)), gather(self.projector(b))
        config = self.config
        return Out(vicreg(za, zb, config.invariance, config.variance, config.covariance), embedding=a.detach())
