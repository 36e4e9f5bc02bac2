"""SwAV (Caron et al. 2020): views of a sample predict each other's place among prototypes that all must be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.assignments import perplexity, sinkhorn
from core.distributed import first_row, gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import swav, unit
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views
from core.queue import Queue


@dataclass(frozen=True)
class SwAVConfig:
    """Settings of SwAV.

    Attributes:
        hidden, out: widths of the projection head.
        prototypes: how many; at most about the rows of a batch (with the queue), since all of them are used evenly.
        temperature: of the predictions.
        epsilon, iterations: of Sinkhorn; a larger epsilon makes the assignments softer.
        queue: rows of past batches that assignments are balanced over too, for batches smaller than the prototypes; a multiple
            of the rows of all global views of a step; 0 for none.
        freeze: share of the training in which the prototypes stay where they are.
    """

    kind: Literal["swav"] = "swav"
    hidden: int = 256
    out: int = 64
    prototypes: int = 64
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    queue: int = 0
    freeze: float = 0.0


class SwAV(Method):
    """Eats `Views`: the global views are assigned to prototypes, and all views, of any size, predict that of the others.

    Args:
        encoder: any encoder.
    """

    batch_statistics = True
    progress: Tensor

    def __init__(self, encoder: Encoder, config: SwAVConfig = SwAVConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.out), dim=1))
        self.queue = Queue(config.queue, config.out) if config.queue else None
        self.register_buffer("progress", torch.tensor(0.0))
        self.staged: list[Tensor] = []

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "swav")
        need_rows(data.views[0], "swav")
        features = [self.encoder.embed(view) for view in data.views]  # (B, D) each
        projected = [self.projector(x) for x in features]
        with torch.autocast(features[0].device.type, enabled=False):
            z = [unit(x) for x in projected]
            moving = self.prototypes * float(self.progress >= self.config.freeze)
            prototypes = moving + (self.prototypes - moving).detach()
            scores = [x @ prototypes.T for x in z]  # (B, K) each
            if self.training:
                self.staged += [gather(x.detach()) for x in z[: data.n_global]]
            loss = swav(scores, [self.assign(x) for x in scores[: data.n_global]], self.config.temperature)
        return Out(loss, {"usage_prototypes": self.usage(scores[0])}, features[0].detach())

    @torch.no_grad()
    def assign(self, scores: Tensor) -> Tensor:
        """Assignments (B, K) of this process's rows, balanced over all processes' rows and the queue, once that is full."""
        rows = gather(scores)
        if self.queue is not None and self.queue.fresh().all():
            rows = torch.cat([rows, self.queue.rows @ self.prototypes.T])
        start = first_row(len(scores), scores.device)
        return sinkhorn(rows, self.config.epsilon, self.config.iterations)[start : start + len(scores)]

    @torch.no_grad()
    def usage(self, scores: Tensor) -> float:
        """Share of the prototypes that are the nearest of some row; Sinkhorn's assignments are even though features collapse."""
        rows = gather(scores)
        counts = rows.argmax(1).bincount(minlength=rows.shape[1])
        return float(perplexity(counts) / min(rows.shape))

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        if not self.staged:
            return
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.progress.fill_(progress)
        if self.queue is not None:
            self.queue.push(torch.cat(self.staged))
        self.staged.clear()
