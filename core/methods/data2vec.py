"""data2vec (Baevski et al. 2022): from a masked input, predict the features that a slowly moving teacher gives to the whole input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core import distributed
from core.config import SHARE, SIZE, within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.heads import mlp
from core.methods.base import Method, Out, need
from core.methods.masked import masked_tokens, need_tokens
from core.pretext import Masked
from core.teacher import Teacher


@dataclass(frozen=True)
class Data2VecConfig:
    """What is predicted, and how.

    Attributes:
        top: the target is the mean of the last `top` blocks (of all, where there are fewer), each normalised first.
        norm: `instance` normalises each channel over a row's tokens, for data whose neighbours are alike (speech);
            `layer` each token over its channels.
        beta: where the smooth L1 loss turns from squared to absolute; 0 leaves it squared.
        layers, hidden: linear layers of the head, and the width between them.
        momentum, final: of the teacher, at the start and the end of training.
    """

    kind: Literal["data2vec"] = "data2vec"
    top: int = 4
    norm: Literal["instance", "layer"] = "instance"
    beta: float = 0.0
    layers: int = 1
    hidden: int = 256
    momentum: float = 0.99
    final: float = 0.9999

    def __post_init__(self) -> None:
        within(self, top=SIZE, beta=(0, 1e6), layers=(1, 100), hidden=SIZE, momentum=SHARE, final=SHARE)


class Data2Vec(Method):
    """Eats `Masked`, whose targets it makes itself; the mask is one for tokens or one for each field.

    `target_std` and `prediction_std` in the logs are standard deviations over the predicted places of all processes, mean over
    channels: where either comes near 0, the features have collapsed (data2vec 2.0 stops there, Baevski et al. 2022b).

    Args:
        encoder: a token encoder.
    """

    def __init__(self, encoder: Encoder, config: Data2VecConfig = Data2VecConfig()) -> None:
        super().__init__()
        self.encoder: TokenEncoder = need_tokens(encoder, "data2vec")
        self.config = config
        self.teacher = Teacher(encoder, config.momentum, config.final)
        self.mask_token = nn.Parameter(torch.randn(self.encoder.stem.dim) * 0.02)
        dim = self.encoder.trunk.dim
        self.head = mlp(dim, config.hidden, dim, config.layers, norm=False)

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "data2vec")
        tokens = self.encoder.trunk(masked_tokens(self.encoder, data, self.mask_token))
        where = data.mask if data.predict is None else data.predict
        asked = reduce(torch.logical_or, where.values()) if isinstance(where, dict) else where
        asked = asked & tokens.valid()
        prediction, target = self.head(tokens.x[asked]).float(), self.target(data)[asked]  # (N, D)
        with torch.autocast(prediction.device.type, enabled=False):
            errors = (
                F.smooth_l1_loss(prediction, target, reduction="none", beta=self.config.beta)
                if self.config.beta
                else (prediction - target).square()
            )
            loss = distributed.mean(errors.mean(1))
        logs = {"target_std": spread(target), "prediction_std": spread(prediction)}
        return Out(loss, logs, pool_tokens(tokens, "mean").detach())

    @torch.no_grad()
    def target(self, data: Masked) -> Tensor:
        """The teacher's view of the unmasked batch, (B, T, D), fp32."""
        self.teacher.eval()  # no dropout; its statistics are the student's
        teacher = cast(TokenEncoder, self.teacher.net)
        tokens = teacher.stem(data.batch)
        states = teacher.trunk.layers(tokens)[-self.config.top :]
        valid = tokens.valid()
        return torch.stack([normalised(x, valid, self.config.norm) for x in states]).mean(0)

    def after_step(self, progress: float) -> None:
        self.teacher.move(self.encoder, progress)


def normalised(x: Tensor, valid: Tensor, norm: str) -> Tensor:
    """(B, T, D) at mean 0 and variance 1: over each row's valid tokens (`instance`), or over each token's channels (`layer`)."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        if norm == "layer":
            return F.layer_norm(x, x.shape[-1:])
        real, count = valid[..., None], valid.sum(1).clamp(min=1)[:, None, None]
        mean = x.masked_fill(~real, 0.0).sum(1, keepdim=True) / count
        centred = (x - mean).masked_fill(~real, 0.0)
        return centred * (centred.square().sum(1, keepdim=True) / count + 1e-5).rsqrt()


def spread(rows: Tensor) -> float:
    """Standard deviation of rows (N, D) of all processes, mean over channels."""
    rows = rows.detach()
    moments = [torch.ones_like(rows).sum(0), rows.sum(0), rows.square().sum(0)]
    count, first, second = distributed.total(torch.stack(moments))
    count = count.clamp(min=1)
    return float((second / count - (first / count).square()).clamp(min=0).sqrt().mean())
