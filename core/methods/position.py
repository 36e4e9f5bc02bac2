"""Position contrast (VoCo, Wu et al. 2024): a crop tells, by likeness, how much it overlaps each of the base crops of its sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from core import distributed
from core.config import SIZE, within
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.heads import mlp
from core.losses import unit
from core.methods.base import Method, Out, need
from core.pretext import Placed
from core.tokens import Batch


@dataclass(frozen=True)
class PositionConfig:
    """hidden, out: widths of the projection head; apart: weight of the likeness between a sample's base crops."""

    kind: Literal["position"] = "position"
    hidden: int = 256
    out: int = 128
    apart: float = 1.0

    def __post_init__(self) -> None:
        within(self, hidden=SIZE, out=SIZE, apart=(0, 1e3))


class Position(Method):
    """Eats `Placed`. With cosine similarity s of a crop and a base, negative ones taken for 0, and y the overlap, the loss is the mean
    of −log(1 − |y − s|) (equation 3 of the paper, where the bases get no gradient), and, weighted, that of |s| between bases (equation 4).

    Args:
        encoder: any encoder.
    """

    batch_statistics = True

    def __init__(self, encoder: Encoder, config: PositionConfig = PositionConfig()) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.projector = mlp(encoder.dim, config.hidden, config.out)

    def forward(self, data: Placed, generator: Generator) -> Out:
        need(data, Placed, "position")
        n, m = len(data.bases), len(data.crops)
        if n < 2 or m < 1 or data.overlap.shape[1:] != (m, n):
            raise UserError(
                f"overlaps of shape {tuple(data.overlap.shape)} for {m} crops and {n} bases", where="pretext",
                mend="give (rows, crops, bases), with 2 bases or more",
            )  # fmt: skip
        features = self.encoder.embed(_joined([*data.bases, *data.crops]))  # ((n + m) · B, D)
        places = self.projector(features).unflatten(0, (n + m, -1))  # (n + m, B, out)
        with torch.autocast(features.device.type, enabled=False):
            base, crop = unit(places[:n]), unit(places[n:])
            alike = torch.einsum("mbd,nbd->bmn", crop, base.detach()).clamp(min=0)
            gap = (data.overlap.float() - alike).abs()
            told = -(1 - gap).clamp(min=1e-4).log().mean((1, 2))  # (B,)
            between = torch.einsum("nbd,kbd->bnk", base, base).abs()
            one, two = torch.triu_indices(n, n, 1, device=base.device)
            loss = distributed.mean(told + self.config.apart * between[:, one, two].mean(1))
        logs = {"gap": float(gap.detach().mean())}
        return Out(loss, logs, features.unflatten(0, (n + m, -1))[:n].mean(0).detach())


def _joined(batches: list[Batch]) -> dict[str, Tensor]:
    """All rows as one batch, so that norms see all places alike."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
