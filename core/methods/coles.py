"""CoLES' margin loss (Babaev et al. 2022, after Hadsell et al. 2006): views of a sample attract, only those of others that are too near repel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator

from core.config import SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.losses import margin_contrast
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class CoLESConfig:
    """margin: distance, of features of length 1, at which others stop repelling; hardest: how many of the nearest others repel."""

    kind: Literal["coles"] = "coles"
    margin: float = 0.5
    hardest: int = 5

    def __post_init__(self) -> None:
        within(self, margin=(0.01, 2), hardest=SIZE)


class CoLES(Method):
    """Eats `Views` with two global views. There is no projection head: what is compared is what is used.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: CoLESConfig = CoLESConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "coles")
        need_rows(data.views[0], "coles")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        group = None if data.group is None else gather(data.group)
        loss = margin_contrast(gather(a), gather(b), self.config.margin, self.config.hardest, group)
        return Out(loss, embedding=a.detach())
