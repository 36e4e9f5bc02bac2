"""BYOL (Grill et al. 2020): one view predicts what a slowly moving copy of the network says of the other; no negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, nn

from core.config import SHARE, SIZE, within
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import negative_cosine
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views
from core.teacher import Teacher


@dataclass(frozen=True)
class BYOLConfig:
    """What BYOL can be set to.

    Attributes:
        hidden, out: widths of the projection head; the prediction head has the same.
        momentum: of the teacher at the start; it rises to 1 (the paper's .996 is for hundreds of thousands of steps).
    """

    kind: Literal["byol"] = "byol"
    hidden: int = 256
    out: int = 128
    momentum: float = 0.98

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, momentum=SHARE)


class BYOL(Method):
    """Eats `Views` with two global views.

    The teacher normalises with the batch's statistics, as the student does: the batch norms of the heads are what keeps the
    features apart.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: BYOLConfig = BYOLConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out)
        self.predictor = mlp(config.out, config.hidden, config.out)
        self.teacher = Teacher(self.student, config.momentum)

    @property
    def student(self) -> nn.ModuleList:
        """What the teacher follows."""
        return nn.ModuleList([self.encoder, self.projector])

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "byol")
        need_rows(data.views[0], "byol")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        pa, pb = (self.predictor(self.projector(x)) for x in (a, b))
        with torch.no_grad():
            encoder, projector = cast(Any, self.teacher.net)
            za, zb = (projector(encoder.embed(view)) for view in data.views[:2])
        return Out((negative_cosine(pa, zb) + negative_cosine(pb, za)) / 2, embedding=a.detach())

    def after_step(self, progress: float) -> None:
        self.teacher.move(self.student, progress)
