"""A ring buffer of rows that outlive their batch: the negatives of MoCo, the past features of small-batch SwAV."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import UserError


class Queue(nn.Module):
    """The last `size` rows pushed, as buffers of the state, so that a resumed run has them.

    It starts with random unit vectors (He et al. 2019); `fresh` tells which rows were pushed since.

    Args:
        size: rows kept; as many as are pushed at a time, or more.
        dim: width.
    """

    rows: Tensor
    place: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"a queue of {size} rows", where="queue", mend="use the batch size or more")
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("place", torch.tensor(0))
        self.register_buffer("pushed", torch.tensor(0))

    def __len__(self) -> int:
        return len(self.rows)

    def fresh(self) -> Tensor:
        """(size,) bool: rows that were pushed, not drawn."""
        return torch.arange(len(self), device=self.rows.device) < self.pushed

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Put (N, dim) in the place of the oldest rows; N need not divide the queue's size.

        Raises:
            UserError: N rows are more than the queue holds, so that some would be replaced before they were used.
        """
        if len(rows) > len(self):
            raise UserError(
                f"{len(rows)} rows are pushed at a step into a queue of {len(self)}", where="queue",
                mend=f"use {len(rows)} or more",
            )  # fmt: skip
        at = (self.place + torch.arange(len(rows), device=self.rows.device)) % len(self)
        self.rows[at] = rows.detach().to(self.rows.dtype)
        self.place.copy_((self.place + len(rows)) % len(self))
        self.pushed.copy_((self.pushed + len(rows)).clamp(max=len(self)))
