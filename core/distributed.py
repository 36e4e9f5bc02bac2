"""Several processes as one: gather with gradients, sums, and means that count each row once. On one process all of it does nothing.

Every process holds a part of the batch. torch's DDP averages the processes' gradients, so a loss is written in one of two ways:

- `gather` the rows, and compute the whole batch's loss on every process (losses with negatives or batch statistics);
- `mean` over the rows of all processes (losses that are a mean over rows).

Either way the averaged gradient is that of the whole batch on one process, however unevenly the rows are spread.
`processes` joins those that torchrun started, and ends all of them when one ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from core.errors import UserError
from core.tokens import Batch

TIMEOUT = timedelta(minutes=10)  # how long one process may read, save or cluster while the others wait
LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")


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


def any_of(*mine: bool) -> list[bool]:
    """Whether each is so on any process."""
    return list(mine) if world() == 1 else [count > 0 for count in total(torch.tensor(mine, dtype=torch.int)).tolist()]


def barrier() -> None:
    """Wait for all processes."""
    if world() > 1:
        total(torch.zeros(1))


def broadcast_bytes(content: bytes | None) -> bytes | None:
    """What the first process holds: so that it alone reads a file."""
    if world() == 1:
        return content
    size = int(broadcast(torch.tensor(-1 if content is None else len(content))))
    if size < 0:
        return None
    room = torch.zeros(size, dtype=torch.uint8)
    if rank() == 0 and content:
        room = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return broadcast(room).numpy().tobytes()


def shard(batch: Batch) -> Batch:
    """This process's rows of a batch: every `world()`-th, so that sorted lengths spread evenly."""
    if world() == 1:
        return batch
    return {key: value[rank() :: world()] for key, value in batch.items()}


@contextmanager
def processes(device: str = "cpu") -> Iterator[None]:
    """Join the processes that torchrun started; does nothing where it started none.

    gloo carries what lies on the CPU, NCCL what lies on GPUs; with `cuda`, each process takes the GPU of its local number. One
    line tells what ended them: the process that fails first raises its own error, the others leave with `SystemExit`.

    Raises:
        UserError: the environment is not torchrun's, GPUs are too few, or another process has ended.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1 or dist.is_initialized():
        yield
        return
    mine, local = _number("RANK"), _number("LOCAL_RANK", 0)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise _not_torchrun(f"WORLD_SIZE is {size}, but {name} is not set")
    kind = torch.device(device).type
    if kind == "cuda":
        _take_gpu(device, local)
    try:
        store, _, _ = next(dist.rendezvous("env://", mine, size, timeout=TIMEOUT))
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=mine, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"the {size} processes cannot reach each other: {str(error).splitlines()[0]}", where=f"process {mine}",
            mend="check MASTER_ADDR, MASTER_PORT and the network",
        ) from error  # fmt: skip
    try:
        yield
        barrier()
    except BaseException as error:
        if not _is_first(store):
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from error
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST):
            raise UserError(
                "another process has ended or cannot be reached", where=f"process {mine} of {size}",
                mend="its own line or the system's log says why; the same command goes on from the last saved step",
            ) from error  # fmt: skip
        raise
    dist.destroy_process_group()


def _is_first(store: dist.Store) -> bool:
    """Whether no other process has told its end yet."""
    try:
        return store.compare_set("ended", "", str(rank())) == str(rank()).encode()
    except Exception:  # the store has ended with the process that held it
        return True


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "")
    if text.isdecimal():
        return int(text)
    if text or default is None:
        raise _not_torchrun(f"{name} is '{text}'")
    return default


def _not_torchrun(what: str) -> UserError:
    return UserError(what, where="environment", mend="start with torchrun --nproc-per-node N -m …, or unset WORLD_SIZE")


def _take_gpu(device: str, local: int) -> None:
    """Make the GPU of this process's number the current one."""
    if torch.device(device).index is not None:
        raise UserError(f"every process would train on {device}", where="--device", mend="use --device cuda")
    found = torch.cuda.device_count()
    if local >= found:
        raise UserError(
            f"process {local} of this machine has no GPU of its own: there are {found}", where="--nproc-per-node",
            mend=f"use {found} at most, or --device cpu" if found else "use --device cpu",
        )  # fmt: skip
    torch.cuda.set_device(local)
