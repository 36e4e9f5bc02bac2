"""Barlow Twins (Zbontar et al. 2021): two views' features correlate one to one, and no feature repeats another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator

from core.config import POSITIVE, SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import barlow
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class BarlowConfig:
    """hidden, out: widths of the projection head, which the paper finds to help the wider they are; redundancy: weight of the
    correlations between different features (.005 at a width of 8192 in the paper; it falls as the width rises)."""

    kind: Literal["barlow"] = "barlow"
    hidden: int = 512
    out: int = 512
    redundancy: float = 0.02

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, redundancy=POSITIVE)


class BarlowTwins(Method):
    """Eats `Views` with two global views.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: BarlowConfig = BarlowConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out, layers=3)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "barlow")
        need_rows(data.views[0], "barlow")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        za, zb = gather(self.projector(a)), gather(self.projector(b))
        return Out(barlow(za, zb, self.config.redundancy), embedding=a.detach())
