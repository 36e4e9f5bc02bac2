"""Contrastive predictive coding (van den Oord et al. 2018): the past tells which of many inputs comes several steps later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core import distributed
from core.config import SIZE, within
from core.encoders.encoder import TokenEncoder, pool_tokens
from core.errors import UserError
from core.methods.base import Method, Out, need
from core.pretext import Shifted

# guesses (B, T, D), and the row, place and target's place of M of them -> their scores (M,), and those of the others (M, N)
Score = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CPCConfig:
    """What is predicted, and among what.

    Attributes:
        steps: how many places ahead, counted from the pretext's horizon.
        negatives: other places of the whole batch, or of the same sequence, which asks for what changes within it.
        candidates: at most so many places of the batch, drawn anew for each batch, are the negatives of all predictions.
    """

    kind: Literal["cpc"] = "cpc"
    steps: int = 4
    negatives: Literal["batch", "sequence"] = "batch"
    candidates: int = 1024

    def __post_init__(self) -> None:
        within(self, steps=SIZE, candidates=(1, 1e9))


class CPC(Method):
    """Eats `Shifted`: the hidden state at t, through one linear map a step, picks the stem's output at t + horizon … t + horizon +
    steps − 1 among other places. Padding is never read, predicted or picked from.

    A stem whose tokens see their neighbours (frames, waveforms) wants a horizon at which targets no longer overlap with what
    was seen: 3 for `FrameStem`.

    Args:
        encoder: a token encoder with a causal trunk.
    """

    batch_statistics = True

    def __init__(self, encoder: TokenEncoder, config: CPCConfig = CPCConfig()) -> None:
        super().__init__()
        if not isinstance(encoder, TokenEncoder) or not encoder.trunk.causal:
            raise UserError("cpc needs a causal trunk", where="encoder", mend="use a GRU, or set causal=True")
        self.encoder: TokenEncoder = encoder
        self.config = config
        self.ahead = nn.ModuleList(
            nn.Linear(encoder.trunk.dim, encoder.stem.dim, bias=False) for _ in range(config.steps)
        )

    def forward(self, data: Shifted, generator: Generator) -> Out:
        need(data, Shifted, "cpc")
        stem = self.encoder.stem(data.batch)
        tokens = self.encoder.trunk(stem)
        with torch.autocast(stem.x.device.type, enabled=False):
            target, hidden, valid = stem.x.float(), tokens.x.float(), stem.valid()
            score = (
                self._batch(target, valid, generator) if self.config.negatives == "batch" else _sequence(target, valid)
            )
            losses, right = [], []
            for step, ahead in enumerate(self.ahead, data.horizon):
                t = max(valid.shape[1] - step, 0)
                row, place = (valid[:, :t] & valid[:, step:]).nonzero(as_tuple=True)  # (M,) each
                # as in attention: without the root of the width the first scores are so large that the loss is above chance
                guess = ahead(hidden) * target.shape[2] ** -0.5  # (B, T, D)
                own, others = score(guess, row, place, place + step)  # (M,), (M, candidates)
                log_p = own - torch.cat([own[:, None], others], 1).logsumexp(1)
                losses.append(-log_p)
                right.append((own[:, None] > others).all(1).float())
            loss = distributed.mean(torch.cat(losses)) + hidden.sum() * 0.0
        logs = {f"accuracy_{step}": float(r.mean()) for step, r in enumerate(right, data.horizon) if len(r)}
        return Out(loss, logs, pool_tokens(tokens, self.encoder.pool).detach())

    def _batch(self, target: Tensor, valid: Tensor, generator: Generator) -> Score:
        """Scores against the places of all processes, or `candidates` of them."""
        key = distributed.gather(target[valid])  # (N, D)
        number = valid.flatten().cumsum(0).view(valid.shape) - 1 + distributed.first_row(int(valid.sum()), valid.device)
        order = torch.rand(len(key), generator=generator, device=generator.device).to(key.device).argsort()
        drawn = distributed.broadcast(order)[: self.config.candidates]

        def score(guess: Tensor, row: Tensor, place: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
            here, itself = guess[row, place], number[row, later][:, None] == drawn
            return (here * target[row, later]).sum(1), (here @ key[drawn].T).masked_fill(itself, float("-inf"))

        return score


def _sequence(target: Tensor, valid: Tensor) -> Score:
    """Scores against the other places of the same sequence."""

    def score(guess: Tensor, row: Tensor, place: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        scores = (guess @ target.transpose(1, 2))[row, place]  # (M, T)
        itself = F.one_hot(later, target.shape[1]).bool()
        return scores.gather(1, later[:, None])[:, 0], scores.masked_fill(itself | ~valid[row], float("-inf"))

    return score
