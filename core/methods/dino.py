"""DINO (Caron et al. 2021): a student that sees crops gives what its own slow average, sharpened and centred, says of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.assignments import usage
from core.config import POSITIVE, SHARE, SIZE, within
from core.distributed import gather, total
from core.encoders.encoder import Encoder
from core.heads import mlp
from core.losses import dino, unit
from core.methods.base import Method, Out, need, need_rows
from core.pretext import Views
from core.teacher import Teacher
from core.tokens import Batch


@dataclass(frozen=True)
class DINOConfig:
    """Settings of DINO.

    Attributes:
        hidden, bottleneck, out: widths of the head; `out` prototypes.
        norm: batch norms in the head, also after its last layer: they keep rows apart, where small networks otherwise end with
            even outputs; False for batches too small for statistics.
        momentum: of the teacher, rising to 1.
        centre_momentum: of the mean of the teacher's logits that is subtracted from them.
        temperature: of the student.
        teacher_start, teacher_temperature, warmup: the teacher's rises from `teacher_start` over that share of the training.
    """

    kind: Literal["dino"] = "dino"
    hidden: int = 256
    bottleneck: int = 64
    out: int = 512
    norm: bool = True
    momentum: float = 0.99
    centre_momentum: float = 0.9
    temperature: float = 0.1
    teacher_start: float = 0.04
    teacher_temperature: float = 0.04
    warmup: float = 0.3

    def __post_init__(self) -> None:
        within(
            self, hidden=SIZE, bottleneck=SIZE, out=SIZE, momentum=SHARE, centre_momentum=SHARE, temperature=POSITIVE,
            teacher_start=POSITIVE, teacher_temperature=POSITIVE, warmup=SHARE,
        )  # fmt: skip


class PrototypeHead(nn.Module):
    """Features (N, D) to cosines (N, out) with prototypes, fp32; the last layer's rows have unit length whatever its weights are."""

    def __init__(self, dim: int, config: DINOConfig) -> None:
        super().__init__()
        self.project = mlp(dim, config.hidden, config.bottleneck, layers=3, last_norm=config.norm, norm=config.norm)
        self.prototypes = nn.Parameter(torch.randn(config.out, config.bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        with torch.autocast(x.device.type, enabled=False):
            return unit(x) @ unit(self.prototypes).T


class DINO(Method):
    """Eats `Views`: the teacher sees the global ones, the student all, of any size.

    Args:
        encoder: any encoder.
    """

    centre: Tensor
    teacher_temperature: Tensor

    def __init__(self, encoder: Encoder, config: DINOConfig = DINOConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.batch_statistics = config.norm
        self.head = PrototypeHead(encoder.dim, config)
        self.teacher = Teacher(self.student, config.momentum)
        self.register_buffer("centre", torch.zeros(config.out))
        self.register_buffer("teacher_temperature", torch.tensor(config.teacher_start))
        self.staged: list[Tensor] = []

    @property
    def student(self) -> nn.ModuleList:
        """What the teacher follows."""
        return nn.ModuleList([self.encoder, self.head])

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "dino")
        need_rows(data.views[0], "dino", 2 if self.config.norm else 1)
        with torch.no_grad():
            encoder, head = cast(Any, self.teacher.net)
            said = [head(encoder.embed(view)) for view in data.views[: data.n_global]]  # (B, K) each
            teacher = [((x - self.centre) / self.teacher_temperature).softmax(1) for x in said]
            if self.training:
                sums = [torch.cat([x.sum(0), x.new_tensor([len(x)])]) for x in said]
                self.staged.append(total(torch.stack(sums).sum(0)))  # over all processes
            used = float(usage(gather(teacher[0])))
        features = [self.encoder.embed(view) for view in data.views]  # (B, D) each
        loss = dino([self.head(x) for x in features], teacher, self.config.temperature)
        return Out(loss, {"usage_prototypes": used}, features[0].detach())

    def codes(self, batch: Batch) -> tuple[Tensor, int]:
        """The prototype that the teacher tells of each row."""
        encoder, head = cast(Any, self.teacher.net)
        return (head(encoder.embed(batch)) - self.centre).argmax(1, keepdim=True), self.config.out

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.teacher.move(self.student, progress)
        rise = min(1.0, progress / self.config.warmup) if self.config.warmup else 1.0
        start, end = self.config.teacher_start, self.config.teacher_temperature
        self.teacher_temperature.fill_(start + (end - start) * rise)
        if self.staged:
            sums = torch.stack(self.staged).sum(0)
            self.centre.lerp_(sums[:-1] / sums[-1], 1 - self.config.centre_momentum)
            self.staged.clear()
