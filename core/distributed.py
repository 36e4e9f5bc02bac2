"""Several processes as one: gather with gradients, sums, and means that count each row once. On one process all of it does nothing.

Every process holds a part of the batch. torch's DDP averages the processes' gradients, so a loss is written in one of two ways:

- `gather` the rows, and compute the whole batch's loss on every process (losses with negatives or batch statistics);
- `mean` over the rows of all processes (losses that are a mean over rows).

Either way the averaged gradient is that of the whole batch on one process, however unevenly the rows are spread.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from core.tokens import Batch


def world() -> int:
    """How many processes train together; 1 where none were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(x: Tensor) -> Tensor:
    """Sum over processes, without gradient; `x` has one shape everywhere."""
    x = x.detach().clone()
    if world() > 1:
        dist.all_reduce(x)
    return x


def broadcast(x: Tensor) -> Tensor:
    """The first process's `x`, of one shape everywhere, without gradient."""
    x = x.detach().clone().contiguous()
    if world() > 1:
        dist.broadcast(x, 0)
    return x


def sizes(rows: int, device: torch.device) -> list[int]:
    """How many rows each process holds."""
    mine = torch.zeros(world(), dtype=torch.long, device=device)
    mine[rank()] = rows
    return total(mine).tolist()


class _Gather(torch.autograd.Function):
    """Concatenate rows over processes; the gradient is the sum of what all processes ask of these rows."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:  # type: ignore[override]
        rows = sizes(len(x), x.device)
        context.start, context.rows = sum(rows[: rank()]), len(x)
        room = x.new_zeros(max(rows), *x.shape[1:])
        room[: len(x)] = x
        parts = [torch.empty_like(room) for _ in rows]
        dist.all_gather(parts, room)
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[context.start : context.start + context.rows]


def gather(x: Tensor) -> Tensor:
    """Rows (N, …) of all processes in the order of their numbers, with gradients; processes may hold unequal numbers of rows."""
    return x if world() == 1 else _Gather.apply(x)


def first_row(rows: int, device: torch.device) -> int:
    """Where this process's rows begin in what `gather` gives."""
    return 0 if world() == 1 else sum(sizes(rows, device)[: rank()])


def mean(values: Tensor) -> Tensor:
    """Mean of `values` (N,) over all processes' rows, as DDP must see it; 0, with a gradient, where no process has any.

    Each process gives its sum over the rows of all, times the number of processes, so that the average over processes of the
    gradients is the gradient of the whole mean.
    """
    if world() == 1:
        return values.mean() if len(values) else values.sum()
    rows = total(torch.tensor(float(len(values)), device=values.device)).clamp(min=1)
    return values.sum() * world() / rows


def shard(batch: Batch) -> Batch:
    """This process's rows of a batch: every `world()`-th, so that sorted lengths spread evenly."""
    if world() == 1:
        return batch
    return {key: value[rank() :: world()] for key, value in batch.items()}
