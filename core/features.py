"""Features of many rows: in eval mode, without gradients, spread over the processes, and with nothing left changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from core.device import eager
from core.distributed import rank, total, world
from core.encoders.encoder import Encoder
from core.tokens import Batch, to_device

Prepare = Callable[[Batch], Batch]


@torch.no_grad()
def features(
    encoder: Encoder, batches: Iterable[Batch], device: torch.device, prepare: Prepare | None = None, bf16: bool = False
) -> Tensor:
    """Features (N, D) of all rows of `batches` in their order, fp32, on `device`, the same on every process.

    Args:
        prepare: what the encoder reads, of a batch that nothing has augmented.
    """
    modes = {module: module.training for module in encoder.modules()}
    parts: dict[int, Tensor] = {}
    rows = 0
    forked = [device] if device.type == "cuda" else []
    try:
        encoder.eval()
        with torch.random.fork_rng(forked), eager(encoder), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            for number, batch in enumerate(batches):
                if number % world() == rank():
                    given = to_device(batch, device)
                    parts[rows] = encoder.embed(given if prepare is None else prepare(given)).float()
                rows += len(next(iter(batch.values())))
    finally:
        for module, mode in modes.items():
            module.training = mode
    whole = torch.zeros(rows, encoder.dim, device=device)
    for start, part in parts.items():
        whole[start : start + len(part)] = part
    return total(whole)
