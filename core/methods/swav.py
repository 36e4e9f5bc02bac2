"""SwAV (Caron et al. 2020): views of a sample predict each other's place among prototypes that all must be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.assignments import sinkhorn, usage
from core.config import POSITIVE, SIZE, within
from core.distributed import first_row, gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import swav, unit
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views
from core.queue import Queue
from core.tokens import Batch


@dataclass(frozen=True)
class SwAVConfig:
    """Settings of SwAV.

    Attributes:
        hidden, out: widths of the projection head.
        prototypes: how many; at most about the rows of a batch (with the queue), since all of them are used evenly.
        temperature: of the predictions.
        epsilon, iterations: of Sinkhorn. A larger epsilon makes softer assignments; with the paper's .05 small networks end with
            even ones, and the loss at log(prototypes).
        queue: rows of past batches that assignments are balanced over too, for batches smaller than the prototypes; a multiple
            of the rows of all global views of a step; 0 for none.
    """

    kind: Literal["swav"] = "swav"
    hidden: int = 256
    out: int = 64
    prototypes: int = 64
    temperature: float = 0.1
    epsilon: float = 0.02
    iterations: int = 3
    queue: int = 0

    def __post_init__(self) -> None:
        within(
            self, hidden=SIZE, out=SIZE, prototypes=(2, 1e6), temperature=POSITIVE, epsilon=POSITIVE, iterations=SIZE, queue=(0, 1e9)
        )  # fmt: skip


class SwAV(Method):
    """Eats `Views`: the global views are assigned to prototypes, and all views, of any size, predict that of the others.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: SwAVConfig = SwAVConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.out), dim=1))
        self.queue = Queue(config.queue, config.out) if config.queue else None
        self.staged: list[Tensor] = []

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "swav")
        need_rows(data.views[0], "swav")
        features = [self.encoder.embed(view) for view in data.views]  # (B, D) each
        projected = [self.projector(x) for x in features]
        with torch.autocast(features[0].device.type, enabled=False):
            z = [unit(x) for x in projected]
            scores = [x @ self.prototypes.T for x in z]  # (B, K) each
            if self.training:
                self.staged += [gather(x.detach()) for x in z[: data.n_global]]
            assigned = [self.assign(x) for x in scores[: data.n_global]]
            loss = swav(scores, assigned, self.config.temperature)
            used = float(usage(gather(assigned[0])))
        return Out(loss, {"usage_prototypes": used}, features[0].detach())

    def codes(self, batch: Batch) -> tuple[Tensor, int]:
        """The prototype that each row is nearest to, without the balance that training forces on a batch."""
        z = unit(self.projector(self.encoder.embed(batch)).float())
        return (z @ self.prototypes.T).argmax(1, keepdim=True), self.config.prototypes

    @torch.no_grad()
    def assign(self, scores: Tensor) -> Tensor:
        """Assignments (B, K) of this process's rows, balanced over all processes' rows and the queue, once that is full."""
        rows = gather(scores)
        if self.queue is not None and self.queue.fresh().all():
            rows = torch.cat([rows, self.queue.rows @ self.prototypes.T])
        start = first_row(len(scores), scores.device)
        return sinkhorn(rows, self.config.epsilon, self.config.iterations)[start : start + len(scores)]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        if not self.staged:
            return
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        if self.queue is not None:
            self.queue.push(torch.cat(self.staged))
        self.staged.clear()
