"""Learned product quantisation: which code of each group a vector is nearest to in score, with a gradient (Gumbel softmax)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from core import distributed


@dataclass(frozen=True)
class Quantised:
    """What a quantiser says of N vectors.

    Attributes:
        x: (N, dim), the chosen codes of all groups side by side.
        code: (N, G) long, without noise: which code scores highest.
        shares: (G, V), the softmax of the scores without noise, mean over the N vectors of all processes.
    """

    x: Tensor
    code: Tensor
    shares: Tensor


class GumbelQuantiser(nn.Module):
    """Product quantiser (Baevski et al. 2020; Jang et al. 2016): in training a code is drawn from the softmax of the scores at a
    temperature, the gradient is that of the soft choice; otherwise the best code is taken. All in fp32.

    Args:
        dim: of the vectors; out: of what comes out, a multiple of `groups`.
        groups, codes: G books of V codes each.
    """

    def __init__(self, dim: int, groups: int, codes: int, out: int) -> None:
        super().__init__()
        self.groups, self.codes = groups, codes
        self.score = nn.Linear(dim, groups * codes)
        nn.init.normal_(self.score.weight)  # as in fairseq: scores far enough apart that codes differ from the start
        nn.init.zeros_(self.score.bias)
        self.book = nn.Parameter(torch.rand(groups, codes, out // groups))

    def forward(self, x: Tensor, temperature: float, generator: Generator) -> Quantised:
        """Quantise (N, dim); the noise is drawn for the rows of all processes, so that two equal one."""
        with torch.autocast(x.device.type, enabled=False):
            scores = self.score(x.float()).view(-1, self.groups, self.codes)
            code = scores.argmax(-1)
            choice = nn.functional.one_hot(code, self.codes).float()
            if self.training:
                soft = ((scores + gumbel(scores, generator)) / temperature).softmax(-1)
                hard = nn.functional.one_hot(soft.argmax(-1), self.codes).float()
                choice = hard - soft.detach() + soft
                code = soft.argmax(-1)
            taken = torch.einsum("ngv,gvd->ngd", choice, self.book).flatten(1)
            summed = distributed.gather(scores.softmax(-1).sum(0, keepdim=True)).sum(0)  # (G, V)
            count = distributed.total(torch.tensor(float(len(x)), device=x.device)).clamp(min=1)
            return Quantised(taken, code, summed / count)


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Standard Gumbel noise of the shape of `like` (N, …): this process's rows of what is drawn for all."""
    rows = distributed.sizes(len(like), like.device) if distributed.world() > 1 else [len(like)]
    drawn = torch.empty(sum(rows), *like.shape[1:], device=generator.device).exponential_(generator=generator)
    start = sum(rows[: distributed.rank()])
    return -drawn[start : start + len(like)].clamp(min=1e-30).log().to(like.device)


def perplexities(shares: Tensor) -> Tensor:
    """exp of the entropy of each row of shares (G, V): how many codes of each group are in use, (G,)."""
    return (-(shares * (shares + 1e-7).log()).sum(-1)).exp()
