"""SimCLR (Chen et al. 2020): two views of a sample attract, all other samples of the batch repel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, nn

from core.config import POSITIVE, SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import nt_xent
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views


@dataclass(frozen=True)
class SimCLRConfig:
    """hidden, out: widths of the projection head, 0 for none: what is compared is what is used; temperature: of the softmax
    over cosine similarities."""

    kind: Literal["simclr"] = "simclr"
    hidden: int = 256
    out: int = 128
    temperature: float = 0.2

    def __post_init__(self) -> None:
        within(self, hidden=(0, 1e6), out=SIZE, temperature=POSITIVE)


class SimCLR(Method):
    """Eats `Views` with two global views or more: the loss is the mean over the others beside the first. Their `group` and `alike` are
    read.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: SimCLRConfig = SimCLRConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out) if config.hidden else nn.Identity()

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "simclr")
        need_rows(data.views[0], "simclr")
        features = [self.encoder.embed(view) for view in data.views[: data.n_global]]  # (B, D) each
        first, *others = (gather(self.projector(x)) for x in features)
        group, alike = (None if rows is None else gather(rows) for rows in (data.group, data.alike))
        losses = [nt_xent(first, other, self.config.temperature, group, alike) for other in others]
        return Out(torch.stack(losses).mean(), embedding=features[0].detach())
