"""MoCo (He et al. 2019; v2, Chen et al. 2020): a query picks its key out of a queue of past keys, made by a slow encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.config import POSITIVE, SHARE, SIZE, within
from core.distributed import gather
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import info_nce, unit
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views
from core.queue import Queue
from core.teacher import Teacher


@dataclass(frozen=True)
class MoCoConfig:
    """What MoCo can be set to.

    Attributes:
        hidden, out: widths of the projection head.
        temperature: of the softmax over cosine similarities.
        momentum: of the key encoder, the same throughout (the paper's .999 is for hundreds of thousands of steps); where it is
            low, such as .95, the queue's older keys no longer fit the newer ones, and the loss rises.
        queue: keys kept; a multiple of the rows of a batch, those of all processes together.
        norm: batch norm in the projection head (v3 has it, v2 has not).
    """

    kind: Literal["moco"] = "moco"
    hidden: int = 256
    out: int = 128
    temperature: float = 0.2
    momentum: float = 0.99
    queue: int = 2048
    norm: bool = False

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, temperature=POSITIVE, momentum=SHARE, queue=(1, 1e9))


class MoCo(Method):
    """Eats `Views` with two global views; either is the other's query (v3), and the second one's keys join the queue.

    Batch norms leak: normalised with the same rows, a query and its key carry the mark of their batch, which the queue's keys
    do not, so that the task can be solved by the mark. The paper shuffles rows between GPUs, whose norms are separate; here
    norms are over all processes, nothing is there to shuffle, and the remedy is a head, or an encoder, without batch norms.

    Args:
        encoder: any encoder.
    """

    def __init__(self, encoder: Encoder, config: MoCoConfig = MoCoConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.batch_statistics = config.norm
        self.projector = mlp(encoder.dim, config.hidden, config.out, norm=config.norm)
        self.teacher = Teacher(self.student, config.momentum, config.momentum)
        self.queue = Queue(config.queue, config.out)
        self.staged: list[Tensor] = []

    @property
    def student(self) -> nn.ModuleList:
        """What the teacher follows."""
        return nn.ModuleList([self.encoder, self.projector])

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "moco")
        need_rows(data.views[0], "moco")
        a, b = (self.encoder.embed(view) for view in data.views[:2])  # (B, D) each
        with torch.no_grad():
            encoder, projector = cast(Any, self.teacher.net)
            ka, kb = (unit(projector(encoder.embed(view))) for view in data.views[:2])
        negatives, temperature = self.queue.rows, self.config.temperature
        loss = (
            info_nce(self.projector(a), kb, negatives, temperature)
            + info_nce(self.projector(b), ka, negatives, temperature)
        ) / 2  # fmt: skip
        if self.training:
            self.staged.append(gather(kb))
        waiting = sum(len(keys) for keys in self.staged)
        usage = min(1.0, (int(self.queue.pushed) + waiting) / len(self.queue))
        return Out(loss, {"usage_queue": usage}, a.detach())

    def after_step(self, progress: float) -> None:
        self.teacher.move(self.student, progress)
        for keys in self.staged:
            self.queue.push(keys)
        self.staged.clear()
