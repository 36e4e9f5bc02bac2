"""SimCLR (Chen et al. 2020): two views of a sample attract, all other samples of the batch repel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator

from core.config import POSITIVE, SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import nt_xent
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class SimCLRConfig:
    """hidden, out: widths of the projection head; temperature: of the softmax over cosine similarities."""

    kind: Literal["simclr"] = "simclr"
    hidden: int = 256
    out: int = 128
    temperature: float = 0.2

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, temperature=POSITIVE)


class SimCLR(Method):
    """Eats `Views` with two global views.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: SimCLRConfig = SimCLRConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "simclr")
        need_rows(data.views[0], "simclr")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        za, zb = gather(self.projector(a)), gather(self.projector(b))
        group = None if data.group is None else gather(data.group)
        return Out(nt_xent(za, zb, self.config.temperature, group), embedding=a.detach())
